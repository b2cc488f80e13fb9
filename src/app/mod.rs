//! The binary's own part: what each command does with the library. The one place where an exit status is chosen.

mod captures;
mod check;
mod client;
mod confine;
mod files;
mod health;
mod journal;
mod manual;
mod notify;
mod reload;
mod replay;
mod run;
mod sources;
mod state;
mod top;

use crate::cli::{Cli, Command, Refused};
use clap::Parser;
use halfopen::capture::CaptureError;
use halfopen::config::{LogFormat, Problems};
use halfopen::os_error;
use halfopen::report::logs;
use std::io::{self, Write};
use std::process::ExitCode;

/// How a command ended (contract: exit status).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Status {
    /// 0: done.
    Done,
    /// 1: failed while running; what failed has been said.
    Failed,
    /// 2: wrong usage or configuration; what is wrong has been said.
    Usage,
    /// 3: an incident was raised, and the user asked to be told this way.
    Incident,
}

/// What keeps a command from going on: one line, or one line a problem.
#[derive(Debug)]
enum Failure {
    /// Of usage.
    Usage(String),
    /// Of the configuration.
    Configuration(Problems),
    /// While running.
    Running(String),
}

impl From<CaptureError> for Failure {
    fn from(error: CaptureError) -> Self {
        // The expression is the user's words, like a flag.
        if matches!(error, CaptureError::Filter { .. }) {
            return Self::Usage(error.to_string());
        }
        Self::Running(error.to_string())
    }
}

/// Runs the command line and answers with the exit status.
pub(crate) fn main() -> ExitCode {
    let result =
        match Cli::try_parse().map_err(|error| Refused::new(&error, std::env::args().nth(1).as_deref())) {
            Ok(cli) => command(cli.command),
            Err(Refused::Asked(text)) => print(&text).map(|()| Status::Done),
            Err(Refused::Wrong(line)) => Err(Failure::Usage(line)),
        };
    let status = result.unwrap_or_else(|failure| match failure {
        Failure::Usage(line) => {
            complain([line]);
            Status::Usage
        }
        Failure::Configuration(problems) => {
            complain(problems.lines());
            Status::Usage
        }
        Failure::Running(line) => {
            complain([line]);
            Status::Failed
        }
    });
    match status {
        Status::Done => ExitCode::SUCCESS,
        Status::Failed => ExitCode::from(1),
        Status::Usage => ExitCode::from(2),
        Status::Incident => ExitCode::from(3),
    }
}

fn command(command: Command) -> Result<Status, Failure> {
    match command {
        Command::Run(args) => run::run(args),
        Command::Replay(args) => replay::replay(&args),
        Command::Journal(args) => journal::journal(&args),
        Command::Top { url, ca } => top::top(&url, ca.as_deref()),
        Command::Healthcheck { url } => health::healthcheck(&url),
        Command::Check { file } => check::check(file),
        Command::Interfaces => check::interfaces(),
        Command::Completions { shell } => manual::completions(shell),
        Command::Man { command } => manual::man(command.as_deref()),
    }
}

/// Writes to standard output. A reader that went away, as `head` does, is no failure.
fn print(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Failure::Running(format!(
            "cannot write to standard output: {}; check where it leads",
            os_error::words(&error)
        ))),
        _ => Ok(()),
    }
}

/// Writes errors to standard error, each one line under the program's name, or as the log's JSON where that was asked for and is
/// known. The one place where a user's own words reach the terminal: control characters in them, newlines too, are written as escapes.
fn complain(errors: impl IntoIterator<Item = String>) {
    if logs::format() == Some(LogFormat::Json) {
        for error in errors {
            tracing::error!(msg = os_error::one_line(&error));
        }
        return;
    }
    let mut out = io::stderr().lock();
    for error in errors {
        let line = os_error::one_line(&error);
        // Nobody is left to be told that standard error is gone.
        let _ = writeln!(out, "halfopen: {line}");
    }
}
