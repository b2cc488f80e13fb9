//! The binary's own part: reading the configuration again while the sensor runs. A wrong file changes nothing.

use super::{Failure, files};
use crate::cli::RunArgs;
use halfopen::config::Config;
use halfopen::pipeline::Sensor;
use halfopen::report::metrics::Metrics;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

/// What a reload needs.
pub(super) struct Reloader {
    file: Option<PathBuf>,
    args: RunArgs,
    /// What the process was started with: what only a restart can change is compared with it.
    started: Config,
    sensor: Arc<Sensor>,
    metrics: Arc<Metrics>,
    /// One reload at a time: a signal and a request may come together.
    running: Mutex<()>,
}

impl Reloader {
    pub(super) fn new(
        file: Option<PathBuf>,
        args: RunArgs,
        started: Config,
        sensor: Arc<Sensor>,
        metrics: Arc<Metrics>,
    ) -> Arc<Self> {
        Arc::new(Self { file, args, started, sensor, metrics, running: Mutex::default() })
    }

    /// Reads the file and applies what can change. Says in the log, and in the result, what came of it.
    pub(super) fn reload(&self) -> Result<String, String> {
        let _one = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(file) = &self.file else {
            let why = "no configuration file to read again; start with --config.file".to_owned();
            tracing::warn!(msg = "configuration not reloaded", error = why);
            return Err(why);
        };
        let mut config = match files::config(Some(file)) {
            Ok(config) => config,
            Err(Failure::Usage(problems) | Failure::Running(problems)) => {
                for problem in problems.lines() {
                    tracing::error!(msg = "configuration not reloaded, the old one stays", error = problem);
                }
                return Err(format!("the old configuration stays: {}", problems.replace('\n', " | ")));
            }
        };
        self.args.override_config(&mut config);
        let mut restart = self.sensor.reload(&config);
        self.metrics.limit_servers(config.web.top_servers);
        restart.extend(needs_restart(&self.started, &config));
        let restart = restart.join(", ");
        tracing::info!(msg = "configuration reloaded", file = %file.display(), servers = config.servers.len());
        if restart.is_empty() {
            return Ok("configuration reloaded".to_owned());
        }
        tracing::warn!(msg = "some changes need a restart", keys = restart);
        Ok(format!("configuration reloaded; these changes need a restart: {restart}"))
    }
}

/// The changed keys that are read only at the start.
fn needs_restart(old: &Config, new: &Config) -> Vec<&'static str> {
    let changed = [
        ("capture.interfaces", old.capture.interfaces != new.capture.interfaces),
        ("capture.filter", old.capture.filter != new.capture.filter),
        ("capture.snaplen", old.capture.snaplen != new.capture.snaplen),
        ("capture.buffer", old.capture.buffer != new.capture.buffer),
        ("capture.promiscuous", old.capture.promiscuous != new.capture.promiscuous),
        ("web.listen_address", old.web.listen != new.web.listen),
        ("web.telemetry_path", old.web.telemetry_path != new.web.telemetry_path),
        ("journal", old.journal != new.journal),
        ("evidence", old.evidence != new.evidence),
        ("log.level", old.log.level != new.log.level),
        ("log.format", old.log.format != new.log.format),
    ];
    changed.into_iter().filter_map(|(key, changed)| changed.then_some(key)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_what_only_a_restart_changes() {
        let old = Config::default();
        let text = "[capture]\nsnaplen = 256\n[web]\ntop_servers = 7\nlisten_address = \":9\"\n[table]\nentries = 4096";
        let new = Config::parse("f", text).unwrap();
        assert_eq!(needs_restart(&old, &new), ["capture.snaplen", "web.listen_address"]);
        assert!(needs_restart(&old, &old).is_empty());
    }
}
