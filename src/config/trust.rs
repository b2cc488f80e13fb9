//! Configuration: what the process gives up, and what it remembers over a restart.
//!
//! Values with their defaults and reasons, and the keys they come from.

use super::parse::{boolean, duration, string};
use super::reader::Section;
use super::sections::path;
use std::path::PathBuf;
use std::time::Duration;

/// Stage 1: what is given up once the captures and sockets are open. Everything by default.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PrivilegesConfig {
    /// The user to become where started as root: a name of /etc/passwd, or numbers `UID` or `UID:GID`. None: 65534 (nobody), unless
    /// a journal, evidence or state is written: then the sensor stays who it is, and says so.
    pub user: Option<String>,
    /// Give up every capability but that of capturing.
    pub capabilities: bool,
    /// Keep CAP_NET_RAW, without which an interface that went away cannot be opened again.
    pub keep_capture: bool,
    /// Never gain a privilege again by executing a file.
    pub no_new_privs: bool,
    /// Refuse the system calls a sensor has no use for.
    pub seccomp: bool,
    /// Refuse the files a sensor has no use for, and every new TCP connection.
    pub landlock: bool,
}

impl Default for PrivilegesConfig {
    fn default() -> Self {
        Self {
            user: None,
            capabilities: true,
            keep_capture: true,
            no_new_privs: true,
            seccomp: true,
            landlock: true,
        }
    }
}

/// Stage 5: what a restart must not lose: running incidents, baselines, learned grace ages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateConfig {
    /// The file; none: nothing is kept. Default none: a sensor writes nowhere it was not told to.
    pub path: Option<PathBuf>,
    /// How often it is written. Default 5 s: so much of an incident's figures a crash may cost.
    pub every: Duration,
    /// State older than this is started without: the traffic of last month is no baseline. Default 7 days.
    pub max_age: Duration,
}

impl Default for StateConfig {
    fn default() -> Self {
        Self { path: None, every: Duration::from_secs(5), max_age: Duration::from_secs(7 * 86_400) }
    }
}

/// The `[privileges]` section.
pub(super) fn privileges(mut section: Section<'_, '_, '_, '_>) -> PrivilegesConfig {
    let mut privileges = PrivilegesConfig::default();
    section.set(&mut privileges.user, "user", "\"halfopen\"", |value| {
        let name = string(value)?;
        if name.chars().any(|c| c.is_control() || c.is_whitespace()) {
            return Err("must be a user name, or UID:GID".to_owned());
        }
        Ok(Some(name).filter(|name| !name.is_empty()))
    });
    section.set(&mut privileges.capabilities, "capabilities", "true", boolean);
    section.set(&mut privileges.keep_capture, "keep_capture", "true", boolean);
    section.set(&mut privileges.no_new_privs, "no_new_privs", "true", boolean);
    section.set(&mut privileges.seccomp, "seccomp", "true", boolean);
    section.set(&mut privileges.landlock, "landlock", "true", boolean);
    section.finish();
    privileges
}

/// The `[state]` section.
pub(super) fn state(mut section: Section<'_, '_, '_, '_>) -> StateConfig {
    let mut state = StateConfig::default();
    section.set(&mut state.path, "path", "\"/var/lib/halfopen/state.json\"", path);
    // Twice a second is as often as anything changes; a loss of more than ten minutes would make a new incident of an old one.
    section.set(&mut state.every, "every", "\"5s\"", |value| {
        duration(value, Duration::from_millis(500)..=Duration::from_secs(600))
    });
    // Shorter than a restart takes it would never be used; what is a year old says nothing.
    section.set(&mut state.max_age, "max_age", "\"7d\"", |value| {
        duration(value, Duration::from_secs(60)..=Duration::from_secs(366 * 86_400))
    });
    section.finish();
    state
}
