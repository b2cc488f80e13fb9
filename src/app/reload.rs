//! The binary's own part: reading the configuration again while the sensor runs. A wrong file changes nothing.

use super::files;
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
    /// Captures that run: the memory they take is not the table's.
    sources: usize,
    sensor: Arc<Sensor>,
    metrics: Arc<Metrics>,
    /// One reload at a time: a signal and a request may come together.
    running: Mutex<()>,
}

impl Reloader {
    pub(super) fn new(
        file: Option<PathBuf>,
        args: RunArgs,
        (started, sources): (Config, usize),
        sensor: Arc<Sensor>,
        metrics: Arc<Metrics>,
    ) -> Arc<Self> {
        Arc::new(Self { file, args, started, sources, sensor, metrics, running: Mutex::default() })
    }

    /// Reads the file and applies what can change. Says in the log, and in the result, what came of it.
    pub(super) fn reload(&self) -> Result<String, String> {
        let _one = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(file) = &self.file else {
            let why = "no configuration file to read again; start with --config.file".to_owned();
            tracing::warn!(msg = "configuration not reloaded", error = why);
            return Err(why);
        };
        let mut config = match files::load(file) {
            Ok(config) => config,
            Err(problems) => {
                let problems: Vec<String> = problems.lines().collect();
                for problem in &problems {
                    tracing::error!(msg = "configuration not reloaded, the old one stays", error = problem);
                }
                return Err(format!("the old configuration stays: {}", problems.join(" | ")));
            }
        };
        self.args.override_config(&mut config);
        // As at the start, so that what the ceiling changed is no change of the file. What no longer fits needs a restart anyway.
        let _ = config.fit(self.sources);
        self.sensor.reload(&config);
        self.metrics.limit_servers(config.web.top_servers);
        let restart = needs_restart(&self.started, &config).join(", ");
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
        ("table.entries", old.table.entries != new.table.entries),
        ("table.remembered", old.table.remembered != new.table.remembered),
        ("established.memory", old.table.established.memory != new.table.established.memory),
        ("established.sample", old.table.established.sample != new.table.established.sample),
        ("detect.max_servers", old.detect.max_servers != new.detect.max_servers),
        ("detect.max_hosts", old.detect.max_hosts != new.detect.max_hosts),
        ("detect.max_prefixes", old.detect.max_prefixes != new.detect.max_prefixes),
        ("detect.max_incidents", old.detect.max_incidents != new.detect.max_incidents),
        ("web.listen_address", old.web.listen != new.web.listen),
        ("web.telemetry_path", old.web.telemetry_path != new.web.telemetry_path),
        ("web.hosts", old.web.hosts != new.web.hosts),
        ("web.config_file", old.web.config_file != new.web.config_file),
        ("web.addresses", old.web.addresses != new.web.addresses),
        ("journal.path", old.journal.path != new.journal.path),
        ("journal.max_bytes", old.journal.max_bytes != new.journal.max_bytes),
        ("journal.keep", old.journal.keep != new.journal.keep),
        ("evidence.path", old.evidence.path != new.evidence.path),
        ("evidence.incident_bytes", old.evidence.incident_bytes != new.evidence.incident_bytes),
        ("evidence.memory_bytes", old.evidence.memory_bytes != new.evidence.memory_bytes),
        ("evidence.disk_bytes", old.evidence.disk_bytes != new.evidence.disk_bytes),
        ("limits.memory", old.limits != new.limits),
        ("state", old.state != new.state),
        ("privileges", old.privileges != new.privileges),
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
        assert_eq!(needs_restart(&old, &new), ["capture.snaplen", "table.entries", "web.listen_address"]);
        assert!(needs_restart(&old, &old).is_empty());
    }
}
