//! What a scenario file demands in its `[expect]`.
//!
//! ```toml
//! [expect]
//! seeds = 20                  # so many traces, each with its own seed; default 1
//! full = true                 # only in the full run; default false
//! threads = true              # two capture threads must say what one does; default false
//! allow = ["flash_crowd"]     # may be raised as well; whatever else is raised is a false alarm
//!
//! [[expect.found]]
//! kind = ["spoofed_flood"]    # any of these
//! server = "192.0.2.10:80"
//! scope = "server"            # default: any
//! onset = 60                  # seconds from the start of the trace; default 0
//! within = 2.5                # the latest, seconds from the onset, grace age and all
//! mean = 2.0                  # the latest on average over the seeds; default: as `within`
//! mode = "cookie"             # the server's mode when the incident was last told; default: any
//! times = 1                   # incidents that may be raised for it; default 1: one for an episode
//! ```

use halfopen::config::Config;
use halfopen::detect::incident::IncidentKind;
use halfopen::synth::Scenario;
use serde::Deserialize;

/// The demands.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Expect {
    pub(crate) seeds: Option<u64>,
    pub(crate) full: bool,
    pub(crate) threads: bool,
    pub(crate) allow: Vec<String>,
    pub(crate) found: Vec<Found>,
    /// Configuration other than the defaults.
    config: String,
}

/// One incident that must be raised.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Found {
    pub(crate) kind: Vec<String>,
    pub(crate) server: Option<String>,
    pub(crate) scope: Option<String>,
    #[serde(default)]
    pub(crate) onset: f64,
    pub(crate) within: f64,
    pub(crate) mean: Option<f64>,
    pub(crate) mode: Option<String>,
    pub(crate) times: Option<usize>,
}

impl Expect {
    /// Those of a scenario; an error in words where they make no sense.
    pub(crate) fn of(scenario: &Scenario) -> Result<Self, String> {
        let expect: Self = scenario.expect.clone().try_into().map_err(|why| why.to_string())?;
        let kinds = expect.allow.iter().chain(expect.found.iter().flat_map(|found| &found.kind));
        for kind in kinds {
            if !IncidentKind::ALL.iter().any(|known| known.as_label() == kind) {
                return Err(format!("expect: there is no kind '{kind}'"));
            }
        }
        Config::parse("expect.config", &expect.config).map_err(|why| why.to_string())?;
        Ok(expect)
    }

    /// The sensor's configuration.
    pub(crate) fn config(&self) -> Config {
        Config::parse("expect.config", &self.config).unwrap()
    }
}
