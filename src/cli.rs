//! The command line: the contract's commands and flags, and nothing that they do.

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::error::ErrorKind;
use clap::{Args, CommandFactory, Parser, Subcommand};
use clap_complete::Shell;
use halfopen::config::{Config, ListenAddress, LogFormat, LogLevel, TelemetryPath};
use halfopen::detect::incident::IncidentKind;
use halfopen::report::journal::{INCIDENTS, Moment};
use std::path::PathBuf;

/// What each exit status means (contract).
pub(crate) const EXIT_STATUS: [(&str, &str); 4] = [
    ("0", "done"),
    ("1", "failed while running"),
    ("2", "wrong usage or configuration"),
    ("3", "an incident was raised (replay --exit-code)"),
];

/// SYN flood detector and embryonic-connection monitor.
#[derive(Debug, Parser)]
#[command(
    name = "halfopen",
    version,
    about = "SYN flood detector and embryonic-connection monitor",
    disable_help_subcommand = true,
    after_help = exit_status()
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Watch interfaces, serve metrics, raise incidents
    Run(RunArgs),
    /// Run the same pipeline over capture files and summarise
    Replay(ReplayArgs),
    /// List the incidents that journals tell of
    Journal(JournalArgs),
    /// Watch a running sensor in this terminal
    Top {
        /// Where the sensor is, http or https; user:password@ may stand before the host
        #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:10793")]
        url: String,

        /// The authorities to believe behind https, a file of certificates [default: those that browsers believe]
        #[arg(long, value_name = "FILE")]
        ca: Option<PathBuf>,
    },
    /// Ask a running sensor whether it lives, as containers do: exit status 0 or 1
    Healthcheck {
        /// Where the sensor is; with http:// or nothing before the host it is asked with TLS where it does not understand
        #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:10793")]
        url: String,
    },
    /// Check a configuration file: each problem with its line, exit status 0 or 2
    Check {
        /// The file [default: /etc/halfopen/halfopen.toml]
        #[arg(value_name = "FILE")]
        file: Option<PathBuf>,
    },
    /// List what can be captured on, with link type and state
    Interfaces,
    /// Print a shell's completions, from the same definitions as this help
    Completions {
        /// The shell
        #[arg(value_name = "SHELL")]
        shell: Shell,
    },
    /// Print a manual page, from the same definitions as this help: halfopen man | man -l -
    Man {
        /// The command whose page is wanted [default: the page of halfopen itself]
        #[arg(value_name = "COMMAND", value_parser = commands())]
        command: Option<String>,
    },
}

#[derive(Debug, Clone, Args)]
pub(crate) struct RunArgs {
    /// Interface to capture on; several share one table, as a tap's two directions need [default: that of the default route]
    #[arg(short, long = "interface", value_name = "IFACE")]
    pub(crate) interfaces: Vec<String>,

    #[command(flatten)]
    pub(crate) filter: FilterArg,

    /// Configuration file [default: /etc/halfopen/halfopen.toml where it exists]
    #[arg(long = "config.file", value_name = "FILE")]
    pub(crate) config_file: Option<PathBuf>,

    /// Address to serve the page, the API and the metrics on; may be repeated [default: 127.0.0.1:10793]
    #[arg(long = "web.listen-address", value_name = "ADDRESS:PORT")]
    pub(crate) listen: Vec<ListenAddress>,

    /// Path of the metrics [default: /metrics]
    #[arg(long = "web.telemetry-path", value_name = "PATH")]
    pub(crate) telemetry_path: Option<TelemetryPath>,

    /// TLS and passwords, a file in the exporter-toolkit's format [default: none]
    #[arg(long = "web.config.file", value_name = "FILE")]
    pub(crate) web_config_file: Option<PathBuf>,

    /// User to become once everything is open, where started as root: a name, or UID:GID [default: nobody, unless files are written]
    #[arg(long, value_name = "USER")]
    pub(crate) user: Option<String>,

    #[command(flatten)]
    pub(crate) log: LogArgs,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct FilterArg {
    /// BPF expression, as of pcap-filter(7), ANDed with our own
    #[arg(short, long, value_name = "EXPRESSION")]
    pub(crate) filter: Option<String>,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct LogArgs {
    /// How much is logged [default: info]
    #[arg(long = "log.level", value_name = "LEVEL", value_parser = levels())]
    pub(crate) level: Option<LogLevel>,

    /// The form of a log line [default: logfmt]
    #[arg(long = "log.format", value_name = "FORMAT", value_parser = formats())]
    pub(crate) format: Option<LogFormat>,
}

#[derive(Debug, Args)]
pub(crate) struct ReplayArgs {
    /// pcap or pcapng files, plain, gzip or zstd; several are merged by time; - is standard input
    #[arg(value_name = "FILE", required = true)]
    pub(crate) files: Vec<PathBuf>,

    #[command(flatten)]
    pub(crate) filter: FilterArg,

    /// Configuration file [default: none]
    #[arg(long = "config.file", value_name = "FILE")]
    pub(crate) config_file: Option<PathBuf>,

    /// Print one JSON document instead of the table
    #[arg(long)]
    pub(crate) json: bool,

    /// Print the configuration to use for what was seen, with the figures behind it, instead of the table
    #[arg(long, conflicts_with = "json")]
    pub(crate) recommend: bool,

    /// Write every change of an incident to FILE, one JSON object a line
    #[arg(long, value_name = "FILE")]
    pub(crate) events: Option<PathBuf>,

    /// Write one HTML page with plots to FILE, which needs nothing else to be read
    #[arg(long, value_name = "FILE")]
    pub(crate) report: Option<PathBuf>,

    /// Write the final metrics to FILE, in the text format
    #[arg(long, value_name = "FILE")]
    pub(crate) metrics: Option<PathBuf>,

    /// Exit with status 3 where an incident above severity info was raised
    #[arg(long)]
    pub(crate) exit_code: bool,

    #[command(flatten)]
    pub(crate) log: LogArgs,
}

#[derive(Debug, Args)]
pub(crate) struct JournalArgs {
    /// Journals, rotated ones too, plain or gzip, in any order; - is standard input and counts as the latest
    #[arg(value_name = "FILE", required = true)]
    pub(crate) files: Vec<PathBuf>,

    /// Incidents that went on then or later: 2026-11-22, '2026-11-22 17:30' (UTC), seconds since 1970; 24h or 7d is so long ago
    #[arg(long, value_name = "TIME", value_parser = clap::value_parser!(Moment))]
    pub(crate) since: Option<Moment>,

    /// Incidents that had begun by then
    #[arg(long, value_name = "TIME", value_parser = clap::value_parser!(Moment))]
    pub(crate) until: Option<Moment>,

    /// Incidents on this server, prefix or source, as the journal names it, or on this address; may be repeated
    #[arg(long = "server", value_name = "SERVER")]
    pub(crate) servers: Vec<String>,

    /// Incidents of this kind; may be repeated
    #[arg(long = "kind", value_name = "KIND", value_parser = kinds())]
    pub(crate) kinds: Vec<IncidentKind>,

    /// Incidents to keep in memory, of which 64 MiB hold as many as they do; where there are more, those that ended longest ago go first
    #[arg(long, value_name = "NUMBER", default_value_t = INCIDENTS as u32, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) limit: u32,

    /// Print one JSON document instead of the table
    #[arg(long)]
    pub(crate) json: bool,
}

impl RunArgs {
    /// What the command line says goes before what the file says.
    pub(crate) fn override_config(&self, config: &mut Config) {
        if !self.interfaces.is_empty() {
            config.capture.interfaces.clone_from(&self.interfaces);
        }
        if !self.listen.is_empty() {
            config.web.listen.clone_from(&self.listen);
        }
        if let Some(path) = &self.telemetry_path {
            config.web.telemetry_path.clone_from(path);
        }
        if self.web_config_file.is_some() {
            config.web.config_file.clone_from(&self.web_config_file);
        }
        if self.user.is_some() {
            config.privileges.user.clone_from(&self.user);
        }
        self.filter.override_config(config);
        self.log.override_config(config);
    }
}

impl FilterArg {
    pub(crate) fn override_config(&self, config: &mut Config) {
        if let Some(filter) = &self.filter {
            config.capture.filter = Some(filter.clone()).filter(|filter| !filter.trim().is_empty());
        }
    }
}

impl LogArgs {
    pub(crate) fn override_config(&self, config: &mut Config) {
        config.log.level = self.level.unwrap_or(config.log.level);
        config.log.format = self.format.unwrap_or(config.log.format);
    }
}

fn exit_status() -> String {
    let meanings = EXIT_STATUS.map(|(status, meaning)| format!("{status} {meaning}"));
    format!("Exit status: {}.", meanings.join("; "))
}

/// The commands that have a page of their own: all but this one.
fn commands() -> PossibleValuesParser {
    PossibleValuesParser::new([
        "run",
        "replay",
        "journal",
        "top",
        "healthcheck",
        "check",
        "interfaces",
        "completions",
    ])
}

fn kinds() -> impl TypedValueParser<Value = IncidentKind> {
    let parser = PossibleValuesParser::new(IncidentKind::ALL.map(IncidentKind::as_label));
    parser.try_map(|name| {
        IncidentKind::ALL.into_iter().find(|kind| kind.as_label() == name).ok_or("no kind of incident")
    })
}

fn levels() -> impl TypedValueParser<Value = LogLevel> {
    let parser = PossibleValuesParser::new(LogLevel::ALL.map(LogLevel::as_label));
    parser.map(|name| LogLevel::ALL.into_iter().find(|level| level.as_label() == name).unwrap_or_default())
}

fn formats() -> impl TypedValueParser<Value = LogFormat> {
    let parser = PossibleValuesParser::new(LogFormat::ALL.map(LogFormat::as_label));
    parser.map(|name| LogFormat::ALL.into_iter().find(|format| format.as_label() == name).unwrap_or_default())
}

/// Why there is nothing to run.
pub(crate) enum Refused {
    /// Help or version was asked for: this text.
    Asked(String),
    /// Wrong usage: this line.
    Wrong(String),
}

impl Refused {
    /// From what clap says; `first` is the first argument, which may name a command.
    pub(crate) fn new(error: &clap::Error, first: Option<&str>) -> Self {
        if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
            return Self::Asked(error.to_string());
        }
        if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
            return Self::Wrong("no command given; try 'halfopen --help'".to_owned());
        }
        let command = first.filter(|word| Cli::command().find_subcommand(word).is_some());
        Self::Wrong(one_line(&error.to_string(), command))
    }
}

/// clap's several paragraphs as one line: what is wrong, its tips, and where help is.
fn one_line(text: &str, command: Option<&str>) -> String {
    let text = text.strip_prefix("error: ").unwrap_or(text);
    let mut line = String::new();
    let mut after_usage = false;
    for part in text.lines().map(str::trim).filter(|part| !part.is_empty()) {
        if part.starts_with("Usage: ") {
            after_usage = true;
        } else if !after_usage && !part.starts_with("For more information") {
            let glue = match line.chars().last() {
                None => "",
                Some(':') => " ",
                Some(_) if part.starts_with(['<', '-']) => " ",
                Some(_) => "; ",
            };
            line.push_str(glue);
            line.push_str(part.strip_prefix("tip: ").unwrap_or(part));
        }
    }
    let command = command.map(|command| format!("{command} ")).unwrap_or_default();
    format!("{line}; try 'halfopen {command}--help'")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_has_a_page() {
        let cli = Cli::command();
        let all: Vec<&str> = cli.get_subcommands().map(clap::Command::get_name).collect();
        let paged: Vec<_> =
            commands().possible_values().unwrap().map(|value| value.get_name().to_owned()).collect();
        assert_eq!(paged, all[..all.len() - 1]);
        assert_eq!(all.last(), Some(&"man"));
    }

    #[test]
    fn the_hint_names_the_command_whatever_the_binary_is_called() {
        for (arguments, hint) in [
            (&["ho-1.2", "replay", "--jsno", "x"][..], "try 'halfopen replay --help'"),
            (&["ho-1.2", "run", "--web.listen-address", "nowhere"], "try 'halfopen run --help'"),
            (&["ho-1.2", "rnu"], "try 'halfopen --help'"),
        ] {
            let error = Cli::try_parse_from(arguments).unwrap_err();
            let Refused::Wrong(line) = Refused::new(&error, arguments.get(1).copied()) else {
                panic!("{arguments:?}")
            };
            assert!(line.ends_with(hint) && !line.contains('\n'), "{line}");
        }
    }

    #[test]
    fn flags_go_before_the_file() {
        let cli = Cli::try_parse_from([
            "halfopen",
            "run",
            "-i",
            "a",
            "-i",
            "b",
            "-f",
            "port 80",
            "--web.listen-address",
            ":9",
            "--log.level",
            "debug",
        ]);
        let Command::Run(args) = cli.unwrap().command else { panic!("not run") };
        let mut config = Config::parse(
            "",
            "[capture]\ninterfaces = \"c\"\n[log]\nformat = \"json\"\n[web]\ntop_servers = 3",
        )
        .unwrap();
        args.override_config(&mut config);
        assert_eq!(config.capture.interfaces, ["a", "b"]);
        assert_eq!(config.capture.filter.as_deref(), Some("port 80"));
        assert_eq!(config.web.listen, [ListenAddress::Any(9)]);
        assert_eq!((config.log.level, config.log.format), (LogLevel::Debug, LogFormat::Json));
        assert_eq!(config.web.top_servers, 3);
    }
}
