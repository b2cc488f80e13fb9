//! The binary's own part: journals read back and listed. Opens files, plain or gzip; what they say is the report's.

use super::{Failure, Status, complain, print};
use crate::cli::JournalArgs;
use flate2::bufread::MultiGzDecoder;
use halfopen::os_error;
use halfopen::report::journal::{Reader, Wanted, first_stamp};
use halfopen::time::Timestamp;
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// The path that means standard input.
const STDIN: &str = "-";

/// Lists the incidents of journals. What cannot be read is told, and the rest listed all the same.
pub(super) fn journal(args: &JournalArgs) -> Result<Status, Failure> {
    let now = now();
    let wanted = Wanted {
        since: args.since.map(|moment| moment.from(now)),
        until: args.until.map(|moment| moment.from(now)),
        servers: args.servers.clone(),
        kinds: args.kinds.clone(),
    };
    if wanted.since.zip(wanted.until).is_some_and(|(since, until)| since > until) {
        return Err(Failure::Usage("--since is later than --until; swap them".to_owned()));
    }
    let mut reader = Reader::new(wanted, args.limit as usize);
    let mut errors = Vec::new();
    for file in oldest_first(&args.files)? {
        let name = file.display().to_string();
        match open(&file) {
            Ok(input) => errors.extend(reader.read(input).told(&name)),
            Err(error) => errors.push(format!("file '{name}': {}", os_error::unreadable(&error))),
        }
    }
    let account = reader.finish();
    print(&match args.json {
        true => {
            account.document().map_err(|error| Failure::Running(format!("cannot write JSON: {error}")))?
                + "\n"
        }
        false => account.table(),
    })?;
    let failed = !errors.is_empty();
    complain(errors);
    Ok(if failed { Status::Failed } else { Status::Done })
}

/// Files in the order they were written in, whatever order a shell gives `incidents.jsonl*` in; where nothing tells, the later named
/// first, for the rotated ones come after the one that is written. Standard input cannot be looked at beforehand and comes last.
fn oldest_first(files: &[PathBuf]) -> Result<Vec<PathBuf>, Failure> {
    let is_stdin = |file: &&PathBuf| file.as_os_str() == STDIN;
    if files.iter().filter(is_stdin).count() > 1 {
        return Err(Failure::Usage("standard input is named twice; it can be read once".to_owned()));
    }
    let mut dated: Vec<_> = files
        .iter()
        .rev()
        .map(|file| {
            let first = if is_stdin(&file) { None } else { open(file).ok().and_then(first_stamp) };
            (is_stdin(&file), first, file.clone())
        })
        .collect();
    dated.sort_by_key(|&(stdin, first, _)| (stdin, first));
    Ok(dated.into_iter().map(|(_, _, file)| file).collect())
}

/// Opens a journal; gzip is told by its first bytes, never by a name.
fn open(path: &Path) -> io::Result<Box<dyn BufRead>> {
    let mut input: Box<dyn BufRead> = if path.as_os_str() == STDIN {
        Box::new(io::stdin().lock())
    } else {
        let file = File::open(path)?;
        if file.metadata()?.is_dir() {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        Box::new(BufReader::new(file))
    };
    // RFC 1952 section 2.3.1. Whether a pipe gives both bytes at once is its own business: one is no line's beginning either.
    if input.fill_buf()?.first() == Some(&0x1f) {
        return Ok(Box::new(BufReader::new(MultiGzDecoder::new(input))));
    }
    Ok(input)
}

/// What time it is, for "so long ago".
#[allow(clippy::disallowed_methods)] // on no packet's way
fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::EPOCH.plus(since)
}
