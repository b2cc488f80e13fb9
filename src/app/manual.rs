//! The binary's own part: manual pages and shell completions, made from the definitions that parse the command line, so that none of
//! them can say something else. Reads nothing; writes to standard output only.

use super::{Failure, Status, print};
use crate::cli::{Cli, EXIT_STATUS};
use clap::CommandFactory;
use clap_complete::Shell;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};
use std::io;

/// When the pages last changed in what a reader would notice: the date at their foot. Not that of the build, which would give each
/// build other pages.
const CHANGED: &str = "2026-11-23";

/// Prints the completions of a shell.
///
/// # Errors
/// Standard output is gone.
pub(super) fn completions(shell: Shell) -> Result<Status, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "halfopen", &mut script);
    print(&String::from_utf8_lossy(&script)).map(|()| Status::Done)
}

/// Prints the page of halfopen, or that of one of its commands.
///
/// # Errors
/// Standard output is gone.
pub(super) fn man(command: Option<&str>) -> Result<Status, Failure> {
    let mut cli = Cli::command();
    // Gives the commands their names as pages: halfopen-run.
    cli.build();
    let of = command.and_then(|name| cli.find_subcommand(name)).unwrap_or(&cli).clone();
    let text = page(of, command.is_none()).map_err(|error| Failure::Running(error.to_string()))?;
    print(&text).map(|()| Status::Done)
}

/// One page; the main one also says what the exit status means, where files are, and what else to read.
fn page(command: clap::Command, main: bool) -> io::Result<String> {
    let source = concat!("halfopen ", env!("CARGO_PKG_VERSION"));
    let man = Man::new(command).manual("User Commands").source(source).date(CHANGED);
    let mut out = Vec::new();
    man.render_title(&mut out)?;
    man.render_name_section(&mut out)?;
    man.render_synopsis_section(&mut out)?;
    man.render_description_section(&mut out)?;
    man.render_options_section(&mut out)?;
    let mut rest = Roff::new();
    if main {
        man.render_subcommands_section(&mut out)?;
        rest.control("SH", ["EXIT STATUS"]);
        for (status, meaning) in EXIT_STATUS {
            rest.control("TP", []).text([bold(status)]).text([roman(meaning)]);
        }
        rest.control("SH", ["FILES"]);
        for (path, what) in [
            ("/etc/halfopen/halfopen.toml", "The configuration that run reads where no other is named."),
            (
                "/var/lib/halfopen",
                "Where the unit lets the sensor keep its state, its evidence and its journal.",
            ),
        ] {
            rest.control("TP", []).text([bold(path)]).text([roman(what)]);
        }
        rest.control("SH", ["SEE ALSO"]);
        rest.text([
            bold("tcpdump"),
            roman("(8), "),
            bold("pcap-filter"),
            roman("(7), "),
            bold("tcp"),
            roman("(7)"),
        ]);
    } else {
        rest.control("SH", ["SEE ALSO"]);
        rest.text([bold("halfopen"), roman("(1)")]);
    }
    rest.to_writer(&mut out)?;
    // A gap that clap_mangen writes as two breaks around an empty line, which mandoc takes for a mistake.
    Ok(String::from_utf8_lossy(&out).replace("\n.br\n\n.br\n", "\n.sp\n"))
}
