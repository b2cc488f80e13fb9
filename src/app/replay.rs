//! The binary's own part: a replay, its progress bar, and what is written when it is over.

use super::files::{self, Output};
use super::sources::{Seen, Watched};
use super::{Failure, Status, complain, print};
use crate::cli::ReplayArgs;
use crate::shutdown::{Asked, Signals};
use halfopen::detect::incident::{JournalEntry, Severity};
use halfopen::os_error;
use halfopen::pipeline::Sensor;
use halfopen::report::journal::SightingLine;
use halfopen::report::logs;
use halfopen::report::metrics::Metrics;
use halfopen::report::page;
use halfopen::report::snapshot::{Snapshot, SnapshotSource};
use halfopen::report::summary::{self, Performance, Replay};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// A replay shorter than this shows no bar.
const QUIET: Duration = Duration::from_secs(1);

/// How often the bar moves.
const REDRAW: Duration = Duration::from_millis(100);

/// How long a replay that was told to stop may take: it looks before every frame, but a pipe may never give one.
const PATIENCE: Duration = Duration::from_millis(1500);

/// What the journal has told so far.
#[derive(Default)]
struct Journal {
    output: Option<Output>,
    /// An incident above severity info was raised.
    raised: bool,
    /// The first error of writing; the rest of the journal is not tried.
    failed: Option<String>,
}

impl Journal {
    fn take(&mut self, entry: &JournalEntry) {
        self.raised |= entry.incident.severity > Severity::Info;
        self.write(entry);
    }

    fn write(&mut self, line: &impl serde::Serialize) {
        let Some(output) = &mut self.output else {
            return;
        };
        let written = serde_json::to_vec(line).map_err(std::io::Error::from).and_then(|mut line| {
            line.push(b'\n');
            output.write(&line)
        });
        if let Err(error) = written {
            self.failed = Some(output.failure(&error));
            self.output = None;
        }
    }

    /// Writes what is left; the first error of all.
    fn finish(&mut self) -> Option<String> {
        let last = self.output.take().and_then(|mut output| output.finish().err());
        self.failed.take().or(last)
    }
}

/// Replays files and summarises.
pub(super) fn replay(args: &ReplayArgs) -> Result<Status, Failure> {
    let mut config = files::config(args.config_file.as_deref(), &args.log)?;
    args.filter.override_config(&mut config);
    args.log.override_config(&mut config);
    logs::start(config.log);

    spare_inputs(args)?;
    let source = Watched::open(&args.files, config.capture.filter.as_deref())?;
    let mut page = args.report.as_deref().map(Output::create).transpose()?;
    let mut metrics = args.metrics.as_deref().map(Output::create).transpose()?;
    let output = args.events.as_deref().map(Output::create).transpose()?;
    let journal = Arc::new(Mutex::new(Journal { output, ..Journal::default() }));
    let for_sensor = Arc::clone(&journal);
    let sensor = Sensor::repeatable(
        &config,
        Box::new(move |entry| for_sensor.lock().unwrap_or_else(PoisonError::into_inner).take(entry)),
    );

    if page.is_some() {
        sensor.follow_servers();
    }
    let for_discoveries = Arc::clone(&journal);
    sensor.on_discovery(Box::new(move |found| {
        let mut journal = for_discoveries.lock().unwrap_or_else(PoisonError::into_inner);
        journal.write(&SightingLine::from(found));
    }));

    // A measurement: its result stands under "performance" and nowhere else.
    #[allow(clippy::disallowed_methods)]
    let started = Instant::now();
    let seen = drive(&sensor, source)?;
    let snapshot = sensor.snapshot();
    let performance = Performance { wall: started.elapsed(), peak_rss: summary::peak_rss() };
    let mut errors = seen.errors;

    let files = args.files.iter().map(|file| file.display().to_string()).collect();
    let replay =
        Replay { files, link_types: seen.link_types, first: seen.first, last: seen.last, performance };
    if let Some(output) = &mut page {
        let text = page::report(&snapshot, &sensor.history(), &replay, &command_line());
        let written = output.write(text.as_bytes()).map_err(|error| output.failure(&error));
        errors.extend(written.and_then(|()| output.finish()).err());
    }
    if let Some(output) = &mut metrics {
        let text = Metrics::new(config.web.top_servers).render(&snapshot);
        let written = output.write(text.as_bytes()).map_err(|error| output.failure(&error));
        errors.extend(written.and_then(|()| output.finish()).err());
    }
    let raised = {
        let mut journal = journal.lock().unwrap_or_else(PoisonError::into_inner);
        errors.extend(journal.finish());
        journal.raised
    };
    print(&match args.recommend {
        true => summary::recommended(&sensor.recommend(), &snapshot, &replay, config.detect.initial_grace),
        false => summarised(args, &snapshot, &replay)?,
    })?;
    let failed = !errors.is_empty();
    complain(errors);
    Ok(match () {
        () if failed => Status::Failed,
        () if args.exit_code && raised => Status::Incident,
        () => Status::Done,
    })
}

/// Refuses to write over a capture that is about to be read, and to write two things into one file.
fn spare_inputs(args: &ReplayArgs) -> Result<(), Failure> {
    let outputs = [("--events", &args.events), ("--report", &args.report), ("--metrics", &args.metrics)];
    let mut taken: Vec<PathBuf> = args.files.iter().filter_map(|file| file.canonicalize().ok()).collect();
    for (flag, path) in outputs.into_iter().filter_map(|(flag, path)| Some((flag, path.as_ref()?))) {
        let place = place(path);
        if taken.contains(&place) && (place.is_file() || !place.exists()) {
            let path = path.display();
            return Err(Failure::Usage(format!(
                "{flag} {path}: this file is named twice; name another to write to"
            )));
        }
        taken.push(place);
    }
    Ok(())
}

/// Where a path leads, whether or not there is a file yet: its directory then tells.
fn place(path: &Path) -> PathBuf {
    if let Ok(place) = path.canonicalize() {
        return place;
    }
    let directory = path.parent().filter(|directory| !directory.as_os_str().is_empty());
    let directory = directory.unwrap_or(Path::new(".")).canonicalize();
    match (directory, path.file_name()) {
        (Ok(directory), Some(name)) => directory.join(name),
        _ => path.to_owned(),
    }
}

/// The command as it could be typed again. A word with anything but harmless characters in it is put in quotes.
fn command_line() -> String {
    let quoted = |word: String| {
        let harmless = |c: char| c.is_ascii_alphanumeric() || "-_./=:,+@%".contains(c);
        if !word.is_empty() && word.chars().all(harmless) {
            word
        } else {
            format!("'{}'", word.replace('\'', "'\\''"))
        }
    };
    let words = std::env::args_os().skip(1).map(|word| quoted(word.to_string_lossy().into_owned()));
    std::iter::once("halfopen".to_owned()).chain(words).collect::<Vec<_>>().join(" ")
}

fn summarised(args: &ReplayArgs, snapshot: &Snapshot, replay: &Replay) -> Result<String, Failure> {
    if !args.json {
        return Ok(summary::table(snapshot, replay));
    }
    let document = summary::document(snapshot, replay);
    document.map(|text| text + "\n").map_err(|error| Failure::Running(format!("cannot write JSON: {error}")))
}

/// Runs the source on a thread of its own, so that signals are heard and a bar is drawn meanwhile.
fn drive(sensor: &Arc<Sensor>, mut source: Watched) -> Result<Seen, Failure> {
    let failed = |error: std::io::Error| {
        Failure::Running(format!("cannot start: {}; the host may be out of threads", os_error::words(&error)))
    };
    let (progress, stop) = (source.progress(), source.stop_handle());
    let (tell, mut ended) = oneshot::channel::<Seen>();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
    let mut signals = runtime.block_on(async { Signals::listen() }).map_err(failed)?;
    let for_thread = Arc::clone(sensor);
    let work = move || {
        let result = for_thread.run_source(&mut source);
        let _ = tell.send(source.into_seen(result));
    };
    std::thread::Builder::new().name("replay".to_owned()).spawn(work).map_err(failed)?;

    runtime.block_on(async {
        // Fed from the beginning, so that its rate is right when it is shown.
        let bar = hidden(progress.total());
        let mut redraw = tokio::time::interval(REDRAW);
        let show = tokio::time::sleep(QUIET);
        tokio::pin!(show);
        let mut shown = !std::io::stderr().is_terminal();
        let seen = loop {
            tokio::select! {
                seen = &mut ended => break seen.ok(),
                asked = signals.next() => if asked == Asked::Stop {
                    stop.stop();
                    break tokio::time::timeout(PATIENCE, &mut ended).await.ok().and_then(Result::ok);
                },
                _ = redraw.tick() => bar.set_position(progress.bytes_read()),
                () = &mut show, if !shown => {
                    shown = true;
                    bar.set_draw_target(ProgressDrawTarget::stderr());
                }
            }
        };
        bar.finish_and_clear();
        let interrupted = stop.is_stopped().then(|| "interrupted; what was read before it counts".to_owned());
        let Some(mut seen) = seen else {
            let broken = "the replay thread ended early; please report this with the file".to_owned();
            return Err(Failure::Running(interrupted.unwrap_or(broken)));
        };
        seen.errors.extend(interrupted);
        Ok(seen)
    })
}

/// A bar where the end is known, else a spinner; not drawn yet.
fn hidden(total: Option<u64>) -> ProgressBar {
    let (bar, template) = match total {
        Some(total) => (
            ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::hidden()),
            "{bar:40} {percent:>3} %  {binary_bytes_per_sec}  {eta} left",
        ),
        None => (
            ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden()),
            "{spinner} {binary_bytes} read  {binary_bytes_per_sec}",
        ),
    };
    match ProgressStyle::with_template(template) {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_place_written_two_ways_is_one() {
        assert_eq!(place(Path::new("./no-such-file-yet")), place(Path::new("no-such-file-yet")));
        assert_ne!(place(Path::new("no-such-file-yet")), place(Path::new("nor-this")));
    }
}
