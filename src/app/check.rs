//! The binary's own part: the two commands that only look: `check` and `interfaces`.

use super::{Failure, Status, complain, files, print, sources};
use halfopen::config::DEFAULT_FILE;
use halfopen::os_error;
use std::fmt::Write;
use std::path::PathBuf;

/// Prints each problem of a configuration file on standard output, as linters do, so that it can be piped.
/// Without a file it checks what `run` would read.
pub(super) fn check(file: Option<PathBuf>) -> Result<Status, Failure> {
    let Some(file) = files::config_file(file) else {
        print(&format!("{DEFAULT_FILE}: there is no such file, so the defaults apply\n"))?;
        return Ok(Status::Done);
    };
    match files::load(&file) {
        Ok(mut config) => {
            // As 'run' would refuse it; of the interface of the default route where none is named.
            let fit = match config.fit(config.capture.interfaces.len().max(1)) {
                Ok(fit) => fit,
                Err(why) => {
                    print(&format!("{}: {why}\n", os_error::one_line(&file.display().to_string())))?;
                    return Ok(Status::Usage);
                }
            };
            let servers = config.servers.len();
            let noun = if servers == 1 { "server" } else { "servers" };
            let file = os_error::one_line(&file.display().to_string());
            if let Some(asked) = fit.table_was {
                let (entries, ceiling) = (config.table.entries, config.limits.memory >> 20);
                print(&format!(
                    "{file}: table.entries of {asked} will be {entries}, to stay within limits.memory of {ceiling} MiB; raise that\n"
                ))?;
            }
            print(&format!("{file}: no problem found, {servers} {noun} to protect\n"))?;
            Ok(Status::Done)
        }
        Err(problems) if problems.list.iter().all(|problem| problem.line.is_none()) => {
            complain(problems.lines());
            Ok(Status::Usage)
        }
        Err(problems) => {
            print(&format!("{problems}\n"))?;
            Ok(Status::Usage)
        }
    }
}

/// Prints what can be captured on.
pub(super) fn interfaces() -> Result<Status, Failure> {
    let list = sources::interfaces()?;
    let width = |of: fn(&sources::Interface) -> &str, header: &str| {
        list.iter().map(|one| of(one).chars().count()).chain([header.len()]).max().unwrap_or(0)
    };
    let name = width(|one| &one.name, "INTERFACE");
    let link = width(|one| &one.link_type, "LINK TYPE");
    let state = width(|one| &one.state, "STATE");
    let mut text = String::new();
    let _ = writeln!(text, "{:<name$}  {:<link$}  {:<state$}  ADDRESSES", "INTERFACE", "LINK TYPE", "STATE");
    for one in &list {
        let line = format!(
            "{:<name$}  {:<link$}  {:<state$}  {}",
            one.name, one.link_type, one.state, one.addresses
        );
        let _ = writeln!(text, "{}", line.trim_end());
    }
    print(&text)?;
    Ok(Status::Done)
}
