//! Makes traces: `cargo run --release --example generate -- flood --packets 5000000 flood.pcap`.

#![allow(clippy::print_stdout, clippy::print_stderr)] // a command line tool speaks

use clap::{Parser, Subcommand};
use halfopen::synth::kinds::{Answers, Flood, Handshakes};
use halfopen::synth::pcapfile::PcapWriter;
use halfopen::synth::scenario::Traffic;
use halfopen::synth::{Scenario, Stream};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

#[derive(Parser)]
#[command(about = "Makes traces of TCP handshakes and floods: the same bytes for the same arguments, always")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// SYNs from forged sources and nothing else
    Flood {
        /// How many
        #[arg(long, default_value_t = 5_000_000)]
        packets: u64,
        /// How many a second
        #[arg(long, default_value_t = 100_000.0)]
        rate: f64,
        /// Another seed, another trace
        #[arg(long, default_value_t = 0)]
        seed: u64,
        /// The file to write
        out: PathBuf,
    },
    /// Ordinary handshakes with data, and a flood on the same server
    Mix {
        /// How long
        #[arg(long, default_value_t = 45)]
        seconds: u64,
        /// Handshakes a second
        #[arg(long, default_value_t = 2_000.0)]
        handshakes: f64,
        /// Forged SYNs a second
        #[arg(long, default_value_t = 20_000.0)]
        flood: f64,
        /// Another seed, another trace
        #[arg(long, default_value_t = 0)]
        seed: u64,
        /// The file to write
        out: PathBuf,
    },
    /// What a scenario file says
    Scenario {
        /// The scenario, TOML
        file: PathBuf,
        /// The file to write
        out: PathBuf,
    },
}

fn main() -> ExitCode {
    match run(Arguments::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("generate: {why}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<(), String> {
    match command {
        Command::Flood { packets, rate, seed, out } => {
            if rate.is_nan() || rate <= 0.0 {
                return Err("--rate must be above 0".to_owned());
            }
            let length = Duration::from_secs_f64(packets as f64 / rate + 1.0);
            let flood = Flood { rate, count: packets, answers: Answers::Drop, ..Flood::default() };
            write(Scenario::new(seed, length).with(Traffic::Flood(flood)).stream(), &out)
        }
        Command::Mix { seconds, handshakes, flood, seed, out } => {
            let handshakes = Handshakes { rate: handshakes, ..Handshakes::default() };
            let flood = Flood { rate: flood, dispersion: 1.0, answers: Answers::Cookie, ..Flood::default() };
            let scenario = Scenario::new(seed, Duration::from_secs(seconds))
                .with(Traffic::Handshakes(handshakes))
                .with(Traffic::Flood(flood));
            write(scenario.stream(), &out)
        }
        Command::Scenario { file, out } => {
            let name = file.display();
            let text = std::fs::read_to_string(&file).map_err(|why| format!("file '{name}': {why}"))?;
            let scenario = Scenario::from_toml(&text).map_err(|why| format!("file '{name}': {why}"))?;
            write(scenario.stream(), &out)
        }
    }
}

fn write(mut stream: Stream, out: &Path) -> Result<(), String> {
    let told = |why: std::io::Error| format!("file '{}': {why}", out.display());
    let mut writer = PcapWriter::create(out).map_err(told)?;
    let mut frame = Vec::with_capacity(256);
    while let Some(at) = stream.next_frame(&mut frame) {
        writer.write(at, &frame).map_err(told)?;
    }
    writer.finish().map_err(told)?;
    println!("{}: {:#?}", out.display(), stream.tally());
    Ok(())
}
