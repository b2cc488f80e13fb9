//! The binary's own part: what the process still needs once everything is open, and telling what it gave up.

use super::Failure;
use halfopen::capture::privileges::{self, Files, Layer, Outcome, User};
use halfopen::config::Config;
use halfopen::os_error;
use halfopen::report::http::Guard;
use halfopen::report::unwritten;
use std::fs;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};

/// Gives up what is not needed any more. Call it when everything is open and before any thread is started. Which layers hold, by
/// their labels.
///
/// # Errors
/// The user to become does not exist: a sensor that was told to be someone else does not run as root instead.
pub(super) fn confine(config: &Config, file: Option<&Path>) -> Result<Vec<(&'static str, bool)>, Failure> {
    let directories = written(config);
    let user = privileges::user(&config.privileges, !directories.is_empty()).map_err(Failure::Usage)?;
    for directory in &directories {
        make(directory, user);
    }
    let mut read: Vec<PathBuf> = file.into_iter().map(directory_of).collect();
    read.extend(config.web.config_file.iter().flat_map(|file| Guard::directories(file)));
    // A name may be a link to a file elsewhere, as renewed certificates are; the directory of both is read.
    let again = read_again(config, file);
    read.extend(again.iter().filter_map(|file| fs::canonicalize(file).ok()).map(|file| directory_of(&file)));
    let files = Files { read, write: directories };
    let outcomes = privileges::confine(&config.privileges, user, &files);
    for file in again {
        if let Err(error) = fs::File::open(&file) {
            let (why, file) = (os_error::words(&error), file.display());
            tracing::warn!(
                msg = "cannot be read again when it changes; give it to the user the sensor becomes, or name another with --user",
                %file,
                why
            );
        }
    }
    Ok(outcomes.into_iter().map(|(layer, outcome)| (layer.as_label(), tell(layer, &outcome))).collect())
}

/// The files that are read again on a reload or when they change.
fn read_again(config: &Config, file: Option<&Path>) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = file.into_iter().map(Path::to_owned).collect();
    files.extend(config.web.config_file.iter().flat_map(|file| Guard::files(file)));
    files
}

/// Says what became of a layer; whether it holds.
fn tell(layer: Layer, outcome: &Outcome) -> bool {
    let layer = layer.as_label();
    match outcome {
        Outcome::Active(what) => tracing::info!(msg = "confined", layer, what),
        Outcome::Off => tracing::warn!(msg = "not confined: switched off in [privileges]", layer),
        Outcome::Failed(why) => tracing::warn!(msg = "not confined", layer, why),
    }
    matches!(outcome, Outcome::Active(_))
}

/// The directories that are written to.
fn written(config: &Config) -> Vec<PathBuf> {
    let files = [&config.journal.path, &config.state.path];
    let mut directories: Vec<PathBuf> = files.into_iter().flatten().map(|file| directory_of(file)).collect();
    directories.extend(config.evidence.path.clone());
    directories
}

fn directory_of(file: &Path) -> PathBuf {
    let parent = file.parent().filter(|parent| !parent.as_os_str().is_empty());
    parent.map_or_else(|| PathBuf::from("."), Path::to_owned)
}

/// Makes a directory that is not there and gives it to who will write there; one that is there stays whose it is.
fn make(directory: &Path, user: Option<User>) {
    if directory.exists() {
        return;
    }
    let made = fs::create_dir_all(directory)
        .and_then(|()| user.map_or(Ok(()), |user| chown(directory, Some(user.uid), Some(user.gid))));
    if let Err(error) = made {
        tracing::warn!(msg = "cannot make a directory", error = unwritten(directory, &error));
    }
}
