//! Stage 1 of 5, capture: giving up, once the captures and sockets are open, every right that capturing does not need.
//!
//! Called once, before any thread is started, so that every later thread inherits it. Each layer stands alone: one that the host
//! refuses is told with its reason, and the others still hold. Looks into no frame and opens none.

mod calls;

use crate::config::PrivilegesConfig;
use crate::os_error;
use landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, Ruleset, RulesetAttr, RulesetCreated,
    RulesetCreatedAttr, RulesetError, RulesetStatus, Scope, path_beneath_rules,
};
use rustix::io::Errno;
use rustix::process::{Gid, Uid, geteuid, getuid};
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, clear_ambient_capability_set,
    remove_capability_from_bounding_set, set_capabilities, set_keep_capabilities, set_no_new_privs,
    set_thread_groups, set_thread_res_gid, set_thread_res_uid,
};
use std::fs;
use std::io;
use std::path::PathBuf;

/// Who owns nothing: the kernel's overflow user, called nobody on every distribution.
const NOBODY: User = User { uid: 65_534, gid: 65_534 };

/// A way in which the process is confined, by its name in the metrics and in the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layer {
    /// Not root.
    User,
    /// No capability but that of capturing.
    Capabilities,
    /// No file executed gives a right.
    NoNewPrivs,
    /// The files it needs, and no TCP connection of its own.
    Landlock,
    /// The system calls it needs.
    Seccomp,
}

impl Layer {
    /// Its label.
    pub const fn as_label(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Capabilities => "capabilities",
            Self::NoNewPrivs => "no_new_privs",
            Self::Landlock => "landlock",
            Self::Seccomp => "seccomp",
        }
    }
}

/// What became of a layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// In force; what that means here.
    Active(String),
    /// Switched off in the configuration.
    Off,
    /// Not in force though it should be: why, and what mends it.
    Failed(String),
}

/// A user by its numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct User {
    /// User.
    pub uid: u32,
    /// Its only group.
    pub gid: u32,
}

/// The files the process still needs once it is confined.
#[derive(Debug, Clone, Default)]
pub struct Files {
    /// Directories and files that are read: where the configuration is.
    pub read: Vec<PathBuf>,
    /// Directories that are written to: of the journal, the evidence, the state.
    pub write: Vec<PathBuf>,
}

/// What the system itself is asked while running: our own figures for the metrics, interfaces and their names for libpcap, names of
/// hosts, services and protocols for a filter expression that is checked on a reload.
const SYSTEM: [&str; 13] = [
    "/proc/self",
    "/proc/stat",
    "/proc/net",
    "/proc/sys/net",
    "/proc/sys/kernel/osrelease",
    "/sys/class",
    "/sys/devices",
    "/etc/hosts",
    "/etc/services",
    "/etc/protocols",
    "/etc/ethers",
    "/etc/nsswitch.conf",
    "/etc/resolv.conf",
];

/// The user to become: none where the process is not root, or has places to write to that nobody said whom to give to.
///
/// # Errors
/// The configured user does not exist.
pub fn user(config: &PrivilegesConfig, writes: bool) -> Result<Option<User>, String> {
    let Some(name) = &config.user else {
        return Ok(Some(NOBODY).filter(|_| geteuid().is_root() && !writes));
    };
    let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
    find_user(name, &passwd).map(Some).ok_or_else(|| {
        format!("user '{name}' is not in /etc/passwd; make it ('useradd --system {name}'), or write its numbers as UID:GID")
    })
}

/// Confines the calling thread, and with it every thread it starts. One outcome a layer, in the order in which they are applied.
pub fn confine(config: &PrivilegesConfig, user: Option<User>, files: &Files) -> Vec<(Layer, Outcome)> {
    // Opened while every path can still be reached.
    let rules = config.landlock.then(|| ruleset(files));
    let outcome = |wanted: bool, apply: &mut dyn FnMut() -> Result<String, String>| match wanted {
        false => Outcome::Off,
        true => apply().map_or_else(Outcome::Failed, Outcome::Active),
    };
    vec![
        (Layer::User, outcome(true, &mut || become_user(user))),
        (Layer::Capabilities, outcome(config.capabilities, &mut || drop_capabilities(config.keep_capture))),
        (
            Layer::NoNewPrivs,
            outcome(config.no_new_privs, &mut || {
                set_no_new_privs(true).map_err(refused)?;
                Ok("executing a file gains nothing".to_owned())
            }),
        ),
        (
            Layer::Landlock,
            rules.map_or(Outcome::Off, |rules| landlock(rules).map_or_else(Outcome::Failed, Outcome::Active)),
        ),
        (Layer::Seccomp, outcome(config.seccomp, &mut || calls::restrict())),
    ]
}

/// The words of the kernel and what mends it: what refuses these calls is nearly always a container's own filter.
fn refused(error: Errno) -> String {
    let words = os_error::words(&io::Error::from(error));
    format!("{words}; the kernel or a container's own filter refuses it")
}

/// `name`, `uid` or `uid:gid`, by the lines of a passwd(5) file.
fn find_user(name: &str, passwd: &str) -> Option<User> {
    let lines = || {
        passwd.lines().filter_map(|line| {
            let mut fields = line.split(':');
            let (name, _, uid, gid) = (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
            Some((name, User { uid: uid.parse().ok()?, gid: gid.parse().ok()? }))
        })
    };
    if let Some((_, user)) = lines().find(|(known, _)| *known == name) {
        return Some(user);
    }
    let (uid, gid) = match name.split_once(':') {
        Some((uid, gid)) => (uid.parse().ok()?, Some(gid.parse().ok()?)),
        None => (name.parse().ok()?, None),
    };
    let gid =
        gid.or_else(|| lines().find(|(_, user)| user.uid == uid).map(|(_, user)| user.gid)).unwrap_or(uid);
    // -1 means "leave as it is" to setresuid(2).
    Some(User { uid, gid }).filter(|user| user.uid != u32::MAX && user.gid != u32::MAX)
}

/// Becomes `user` with all its groups; the capabilities permitted stay, for [`drop_capabilities`] to choose from.
fn become_user(user: Option<User>) -> Result<String, String> {
    let Some(user) = user else {
        let uid = getuid();
        if !uid.is_root() {
            return Ok(format!("uid {}, as started", uid.as_raw()));
        }
        return Err("still root, for the journal, the evidence or the state would change hands; \
                    name their owner with --user or privileges.user"
            .to_owned());
    };
    if user.uid == 0 {
        return Err("the user named is root; name another with --user or privileges.user".to_owned());
    }
    if getuid().as_raw() == user.uid && !geteuid().is_root() {
        return Ok(format!("uid {}, as started", user.uid));
    }
    let (uid, gid) = (Uid::from_raw(user.uid), Gid::from_raw(user.gid));
    let change = || {
        set_keep_capabilities(true)?;
        set_thread_groups(&[])?;
        set_thread_res_gid(gid, gid, gid)?;
        set_thread_res_uid(uid, uid, uid)
    };
    change().map_err(|error| {
        let words = os_error::words(&io::Error::from(error));
        format!("{words}: cannot become uid {}; start as root, or as that user", user.uid)
    })?;
    Ok(format!("uid {}, gid {}, no other group", user.uid, user.gid))
}

/// Gives up every capability but, where asked, that of opening a capture again.
fn drop_capabilities(keep_capture: bool) -> Result<String, String> {
    let permitted = capabilities(None).map_err(refused)?.permitted;
    let kept = if keep_capture { permitted & CapabilitySet::NET_RAW } else { CapabilitySet::empty() };
    // A change of user took the effective ones away; those permitted come back for the next step, which needs CAP_SETPCAP.
    let all = CapabilitySets { effective: permitted, permitted, inheritable: CapabilitySet::empty() };
    set_capabilities(None, all).map_err(refused)?;
    // Where that is not permitted the bounding set stays; no_new_privs makes it a matter of form.
    for bit in 0..u64::BITS {
        let one = CapabilitySet::from_bits_retain(1 << bit);
        if !kept.contains(one) && remove_capability_from_bounding_set(one) == Err(Errno::INVAL) {
            break;
        }
    }
    let _ = clear_ambient_capability_set();
    let sets = CapabilitySets { effective: kept, permitted: kept, inheritable: CapabilitySet::empty() };
    set_capabilities(None, sets).map_err(refused)?;
    Ok(if kept.is_empty() { "none left".to_owned() } else { "CAP_NET_RAW only".to_owned() })
}

/// The newest rules asked for; an older kernel enforces those it knows.
const RULES: ABI = ABI::V6;

fn ruleset(files: &Files) -> Result<RulesetCreated, RulesetError> {
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    let write = read
        | AccessFs::WriteFile
        | AccessFs::Truncate
        | AccessFs::MakeReg
        | AccessFs::MakeDir
        | AccessFs::RemoveFile;
    Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(RULES))?
        .handle_access(AccessNet::from_all(RULES))?
        .scope(Scope::from_all(RULES))?
        .create()?
        .add_rules(path_beneath_rules(SYSTEM, read))?
        .add_rules(path_beneath_rules(&files.read, read))?
        .add_rules(path_beneath_rules(&files.write, write))
}

fn landlock(rules: Result<RulesetCreated, RulesetError>) -> Result<String, String> {
    let status = rules
        .and_then(RulesetCreated::restrict_self)
        .map_err(|error| format!("{error}; see the kernel's log"))?;
    match status.ruleset {
        RulesetStatus::FullyEnforced => {
            Ok("only the configuration is read, only the places it names are written; no TCP connection out"
                .to_owned())
        }
        RulesetStatus::PartiallyEnforced => Ok("as far as this kernel knows the rules".to_owned()),
        RulesetStatus::NotEnforced => {
            Err("this kernel has no Landlock; start it with lsm=landlock,... (Linux 5.13 or later)"
                .to_owned())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_found_by_name_and_by_number() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\nbad line\nsensor:x:991:990::/:/sbin/nologin\n";
        let user = |uid, gid| Some(User { uid, gid });
        for (name, found) in [
            ("sensor", user(991, 990)),
            ("991", user(991, 990)),
            ("4242", user(4242, 4242)),
            ("7:8", user(7, 8)),
            ("nosuch", None),
            ("-1", None),
            ("4294967295", None),
            ("7:", None),
        ] {
            assert_eq!(find_user(name, passwd), found, "{name}");
        }
    }

    #[test]
    fn a_user_that_is_not_there_is_an_error_with_a_mend() {
        let config =
            PrivilegesConfig { user: Some("no such user".to_owned()), ..PrivilegesConfig::default() };
        let why = user(&config, false).unwrap_err();
        assert!(why.contains("'no such user'") && why.contains("; "), "{why}");
    }
}
