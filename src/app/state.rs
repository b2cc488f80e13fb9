//! The binary's own part: what an earlier process knew, brought back at the start and kept while running.

use halfopen::config::StateConfig;
use halfopen::os_error;
use halfopen::pipeline::Sensor;
use halfopen::report::state::{Found, StateCounts, StateFile, StateWriter};
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Brings back what the state file has, and keeps it written from now on; none where no file is named. A file that cannot be used
/// is set aside, named, and started without.
///
/// # Errors
/// The host has no thread left.
pub(super) fn keep(
    config: &StateConfig,
    sensor: &Arc<Sensor>,
    counts: &Arc<StateCounts>,
) -> io::Result<Option<StateWriter>> {
    let Some(path) = config.path.clone() else { return Ok(None) };
    let file = StateFile::new(path);
    let name = os_error::one_line(&file.path().display().to_string());
    match file.read() {
        Found::Nothing => tracing::info!(msg = "no state yet; starting afresh", file = name),
        Found::State(_, age) if age > config.max_age => {
            tracing::warn!(
                msg = "state too old to go by; starting afresh",
                file = name,
                age_seconds = age.as_secs()
            );
        }
        Found::State(bytes, age) => match sensor.recall(&bytes) {
            Ok((baselines, incidents)) => {
                tracing::info!(
                    msg = "state brought back",
                    file = name,
                    age_seconds = age.as_secs(),
                    baselines,
                    incidents
                );
            }
            Err(why) => set_aside(&file, &name, &why, counts),
        },
        Found::Unusable(why) => set_aside(&file, &name, &why, counts),
    }
    let remembering = Arc::clone(sensor);
    StateWriter::start(file, config, Box::new(move || remembering.remembered()), counts).map(Some)
}

fn set_aside(file: &StateFile, name: &str, why: &str, counts: &StateCounts) {
    counts.set_aside.fetch_add(1, Ordering::Relaxed);
    match file.set_aside() {
        Ok(aside) => {
            let aside = os_error::one_line(&aside.display().to_string());
            tracing::error!(msg = "state file set aside; starting afresh", file = name, why, aside);
        }
        Err(error) => {
            let error = os_error::unwritable(&error);
            tracing::error!(
                msg = "state file cannot be used, nor set aside; starting afresh",
                file = name,
                why,
                error
            );
        }
    }
}
