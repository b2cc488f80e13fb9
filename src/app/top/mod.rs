//! The binary's own part: `halfopen top`, a terminal's view of a sensor that runs, here or elsewhere.
//!
//! Three threads tell one loop what happens: answers of the sensor, keys, signals. Asks the sensor for nothing but its overview.

mod draw;
mod model;

use super::client::{Trust, agent, place, without_password};
use super::{Failure, Status};
use crate::shutdown::{Asked, Signals};
use draw::{Look, draw};
use halfopen::os_error;
use model::{Key, Model, Overview};
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use std::io::{self, IsTerminal};
use std::path::Path;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::Duration;

/// How often the sensor is asked: it makes a new overview each second.
const PAUSE: Duration = Duration::from_secs(1);

/// Most bytes of an answer: a thousand incidents with their evidence are two megabytes.
const LONGEST: u64 = 16 << 20;

/// What the loop is told.
enum Told {
    Answer(Box<Result<Overview, String>>),
    Key(Key),
    /// The size changed: draw again.
    Resized,
    Stop,
}

/// Runs until it is quit.
pub(super) fn top(url: &str, ca: Option<&Path>) -> Result<Status, Failure> {
    let place = place(url).map_err(Failure::Usage)?;
    let agent = agent(Trust::of(ca)?);
    if !io::stdout().is_terminal() || !io::stdin().is_terminal() {
        let place = without_password(&place);
        return Err(Failure::Usage(format!(
            "top needs a terminal; for a script there is {place}/api/v1/overview"
        )));
    }
    let failed =
        |error: io::Error| Failure::Running(format!("terminal: {}; check TERM", os_error::words(&error)));
    let (tell, told) = channel();
    ask(agent, &place, tell.clone()).map_err(failed)?;
    signals(tell.clone()).map_err(failed)?;
    let mut terminal = ratatui::try_init().map_err(failed)?;
    let read = keys(tell);
    let look = look(|name| std::env::var(name).ok());
    let mut model = Model::new();
    let shown = without_password(&place);
    let ended = read.and_then(|()| {
        loop {
            terminal.draw(|frame| draw(frame, &model, &shown, look))?;
            match told.recv_timeout(PAUSE) {
                Ok(Told::Answer(answer)) => model.hear(*answer),
                Ok(Told::Key(key)) => {
                    if model.key(key) {
                        return Ok(());
                    }
                }
                Ok(Told::Resized) | Err(RecvTimeoutError::Timeout) => {}
                Ok(Told::Stop) | Err(RecvTimeoutError::Disconnected) => return Ok(()),
            }
        }
    });
    let restored = ratatui::try_restore();
    ended.and(restored).map(|()| Status::Done).map_err(failed)
}

/// What the terminal can show, by the variables every program looks at.
fn look(variable: impl Fn(&str) -> Option<String>) -> Look {
    let set = |name: &str| variable(name).filter(|value| !value.is_empty());
    let locale =
        ["LC_ALL", "LC_CTYPE", "LANG"].iter().find_map(|name| set(name)).unwrap_or_default().to_lowercase();
    Look { colours: set("NO_COLOR").is_none(), blocks: locale.contains("utf-8") || locale.contains("utf8") }
}

/// Asks for the overview every second, for ever; a sensor that is started again is simply asked again.
fn ask(agent: ureq::Agent, place: &str, tell: Sender<Told>) -> io::Result<()> {
    let url = format!("{place}/api/v1/overview");
    let asking = std::thread::Builder::new().name("ask".to_owned());
    let work = move || {
        loop {
            let answer = overview(&agent, &url);
            if tell.send(Told::Answer(Box::new(answer))).is_err() {
                return;
            }
            std::thread::sleep(PAUSE);
        }
    };
    asking.spawn(work).map(drop)
}

fn overview(agent: &ureq::Agent, url: &str) -> Result<Overview, String> {
    let mut answer = agent.get(url).call().map_err(|error| {
        let old = matches!(error, ureq::Error::StatusCode(404));
        if old { "not a sensor of this version (404)".to_owned() } else { error.to_string() }
    })?;
    answer
        .body_mut()
        .with_config()
        .limit(LONGEST)
        .read_json()
        .map_err(|error| format!("not a sensor: {error}"))
}

fn keys(tell: Sender<Told>) -> io::Result<()> {
    let reading = std::thread::Builder::new().name("keys".to_owned());
    // Of dozens of keys and events these mean something.
    #[allow(clippy::wildcard_enum_match_arm)]
    let work = move || {
        while let Ok(event) = event::read() {
            let told = match event {
                Event::Key(key) if key.kind != KeyEventKind::Release => match key.code {
                    KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => Some(Told::Stop),
                    KeyCode::Char(c) => Some(Told::Key(Key::Char(c))),
                    KeyCode::Enter => Some(Told::Key(Key::Enter)),
                    KeyCode::Esc => Some(Told::Key(Key::Escape)),
                    KeyCode::Backspace => Some(Told::Key(Key::Backspace)),
                    KeyCode::Up => Some(Told::Key(Key::Up)),
                    KeyCode::Down => Some(Told::Key(Key::Down)),
                    _ => None,
                },
                Event::Resize(..) => Some(Told::Resized),
                _ => None,
            };
            if told.is_some_and(|told| tell.send(told).is_err()) {
                return;
            }
        }
        // The terminal is gone.
        let _ = tell.send(Told::Stop);
    };
    reading.spawn(work).map(drop)
}

/// A signal ends it in order, so that the terminal is given back as it was.
fn signals(tell: Sender<Told>) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut signals = runtime.block_on(async { Signals::listen() })?;
    let waiting = std::thread::Builder::new().name("signals".to_owned());
    let work = move || {
        runtime.block_on(async { while signals.next().await != Asked::Stop {} });
        let _ = tell.send(Told::Stop);
    };
    waiting.spawn(work).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_terminal_says_what_it_can_show() {
        let of = |pairs: &'static [(&str, &str)]| {
            look(|name| pairs.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned()))
        };
        let plain = of(&[("LANG", "C"), ("NO_COLOR", "1")]);
        assert!(!plain.blocks && !plain.colours);
        let rich = of(&[("LC_ALL", ""), ("LC_CTYPE", "C.UTF-8"), ("LANG", "C")]);
        assert!(rich.blocks && rich.colours);
    }
}
