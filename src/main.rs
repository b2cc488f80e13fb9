//! The binary: parses the command line, runs, chooses the exit status; nothing else.

mod app;
mod cli;
mod shutdown;

fn main() -> std::process::ExitCode {
    app::main()
}
