//! The binary's own part: files that are read and written around a run.

use super::{Failure, sources};
use crate::cli::LogArgs;
use halfopen::config::{Config, DEFAULT_FILE, Problems};
use halfopen::report::{logs, unwritten};
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

/// The configuration of this file; the defaults where none is named. What is wrong with it is told in the form that the command line
/// asks for, as the file's own is not known then.
pub(super) fn config(file: Option<&Path>, log: &LogArgs) -> Result<Config, Failure> {
    let Some(file) = file else {
        return Ok(Config::default());
    };
    load(file).map_err(|problems| {
        let mut without = Config::default();
        log.override_config(&mut without);
        logs::start(without.log);
        Failure::Configuration(problems)
    })
}

/// Reads a configuration file, its filter compiled to see whether it does.
pub(super) fn load(file: &Path) -> Result<Config, Problems> {
    Config::load(file, &sources::check_filter)
}

/// The file the sensor is configured by: the named one, else the default one where it exists.
pub(super) fn config_file(named: Option<PathBuf>) -> Option<PathBuf> {
    named.or_else(|| Some(PathBuf::from(DEFAULT_FILE)).filter(|file| file.exists()))
}

/// A file that is written, with its name for errors.
pub(super) struct Output {
    path: PathBuf,
    writer: BufWriter<File>,
}

impl Output {
    /// Creates or empties a file, before anything runs, so that a wrong path costs no replay.
    pub(super) fn create(path: &Path) -> Result<Self, Failure> {
        let file = File::create(path).map_err(|error| Failure::Running(unwritten(path, &error)))?;
        Ok(Self { path: path.to_owned(), writer: BufWriter::new(file) })
    }

    /// Writes some of it.
    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.writer.write_all(bytes)
    }

    /// What an error of `write` means to the user.
    pub(super) fn failure(&self, error: &io::Error) -> String {
        unwritten(&self.path, error)
    }

    /// Writes the rest.
    pub(super) fn finish(&mut self) -> Result<(), String> {
        self.writer.flush().map_err(|error| unwritten(&self.path, &error))
    }
}
