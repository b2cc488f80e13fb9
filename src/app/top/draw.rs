//! The binary's own part: how `top` looks. Pure: a model and a size give a screen.

use super::model::{Incident, Model, Server, TREND};
use halfopen::report::text::{bytes, grouped, short, span, utc};
use halfopen::time::Timestamp;
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style, Stylize};
use ratatui::symbols::bar;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Borders, Cell, Paragraph, Row, Sparkline, Table, TableState};

/// Incidents shown at most; the rest of the screen is the servers'.
const INCIDENTS: usize = 4;

/// Cells of a backlog bar.
const BAR: usize = 10;

/// What the terminal can show.
#[derive(Debug, Clone, Copy)]
pub(super) struct Look {
    /// Colours, of the terminal's own sixteen.
    pub(super) colours: bool,
    /// Blocks of Unicode; else ASCII.
    pub(super) blocks: bool,
}

impl Look {
    fn severity(self, severity: &str) -> Style {
        let style = Style::new().add_modifier(Modifier::BOLD);
        match (self.colours, severity) {
            (true, "critical") => style.fg(Color::Red),
            (true, "warning") => style.fg(Color::Yellow),
            (true, "quiet") => style.fg(Color::Green),
            _ => style,
        }
    }

    /// A share as a bar; above 1 it is full.
    fn bar(self, share: f64) -> String {
        let full = (share.clamp(0.0, 1.0) * BAR as f64).round() as usize;
        let (on, off) = if self.blocks { ("█", "░") } else { ("#", ".") };
        on.repeat(full) + &off.repeat(BAR - full)
    }

    /// Numbers as a curve one line high.
    fn curve(self, numbers: impl Iterator<Item = u64> + Clone) -> String {
        const BLOCKS: [&str; 8] = ["▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"];
        const LETTERS: [&str; 8] = ["_", "_", ".", ".", "-", "-", "=", "^"];
        let most = numbers.clone().max().unwrap_or(0).max(1) as f64;
        let steps = if self.blocks { BLOCKS } else { LETTERS };
        numbers.map(|number| steps[((number as f64 / most * 7.0).round() as usize).min(7)]).collect()
    }

    fn curves(self) -> bar::Set<'static> {
        if self.blocks {
            return bar::NINE_LEVELS;
        }
        let (half, full) = (".", "#");
        bar::Set {
            full,
            seven_eighths: full,
            three_quarters: full,
            five_eighths: full,
            half,
            three_eighths: half,
            one_quarter: half,
            one_eighth: half,
            empty: " ",
        }
    }
}

/// The whole screen. `place` is where the sensor is.
pub(super) fn draw(frame: &mut Frame<'_>, model: &Model, place: &str, look: Look) {
    let incidents = model.incidents().len().min(INCIDENTS) as u16;
    // A low terminal keeps the servers and loses the curves.
    let curves = if frame.area().height >= 20 { 5 } else { 0 };
    let [head, sums, above, middle, below, health, keys] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(1),
        Constraint::Length(curves),
        Constraint::Length(incidents + 1),
        Constraint::Min(3),
        Constraint::Length(1),
        Constraint::Length(1),
    ])
    .areas(frame.area());
    self::head(frame, head, model, place, look);
    self::sums(frame, sums, model);
    self::curves(frame, above, model, look);
    self::incidents(frame, middle, model, look);
    match model
        .opened
        .as_deref()
        .and_then(|name| model.servers().into_iter().find(|server| server.server == name))
    {
        Some(server) => evidence(frame, below, server, look),
        None => servers(frame, below, model, look),
    }
    self::health(frame, health, model, look);
    self::keys(frame, keys, model);
}

fn head(frame: &mut Frame<'_>, area: Rect, model: &Model, place: &str, look: Look) {
    let running = model.incidents().iter().filter(|one| one.ended_at.is_none()).count();
    let (words, severity) = match (&model.error, &model.last) {
        (Some(why), _) => (format!("no answer: {why}"), "critical"),
        (None, None) => ("asking ...".to_owned(), "info"),
        (None, Some(_)) if running == 0 => ("quiet".to_owned(), "quiet"),
        (None, Some(_)) => {
            let gravest = model.incidents().first().map_or("info", |one| one.severity.as_str());
            (format!("{running} running"), gravest)
        }
    };
    let last = model.last.as_ref();
    let version = last.map_or(String::new(), |last| format!(" {}", last.version));
    let time =
        last.and_then(|last| last.network_time).map_or(String::new(), |at| format!("{} UTC", moment(at)));
    let line = Line::from(vec![
        Span::from(format!("halfopen{version}")).bold(),
        Span::from(format!("  {place}  ")),
        Span::styled(words, look.severity(severity)),
    ]);
    let [left, right] =
        Layout::horizontal([Constraint::Min(10), Constraint::Length(time.len() as u16)]).areas(area);
    frame.render_widget(line, left);
    frame.render_widget(Line::from(time), right);
}

fn moment(at: f64) -> String {
    utc(Timestamp::from_nanos((at * 1e9) as i64)).chars().take(19).collect()
}

fn sums(frame: &mut Frame<'_>, area: Rect, model: &Model) {
    let Some(last) = &model.last else { return };
    let newest = |rates: Vec<u64>| rates.last().copied().unwrap_or(0);
    let open = last.handshakes.open.syn_sent.saturating_add(last.handshakes.open.syn_received);
    let text = format!(
        "attempts {}/s  completed {}/s  embryonic {} of {}  in all {} attempts, {} completed",
        grouped(newest(last.history.rates(&last.history.attempts))),
        grouped(newest(last.history.rates(&last.history.completed))),
        grouped(open),
        grouped(last.table.limit),
        grouped(last.handshakes.attempts),
        grouped(last.handshakes.completed),
    );
    frame.render_widget(Line::from(text), area);
}

/// The last minutes, as many of them as there are columns; the newest on the right.
fn curves(frame: &mut Frame<'_>, area: Rect, model: &Model, look: Look) {
    let Some(last) = model.last.as_ref().filter(|_| area.height > 0) else { return };
    let halves = Layout::horizontal([Constraint::Fill(1), Constraint::Length(2), Constraint::Fill(1)]);
    let [left, _, right] = halves.areas(area);
    let figures = [
        (left, "attempts a second", last.history.rates(&last.history.attempts), Color::Yellow),
        (right, "embryonic connections", last.history.embryonic(), Color::Blue),
    ];
    for (area, title, values, colour) in figures {
        let width = area.width as usize;
        let shown = values.get(values.len().saturating_sub(width)..).unwrap_or_default();
        let most = shown.iter().copied().max().unwrap_or(0);
        let title = format!("{title}, at most {}, last {}", short(most as f64), span(shown.len() as f64));
        let padded: Vec<u64> =
            std::iter::repeat_n(0, width - shown.len()).chain(shown.iter().copied()).collect();
        let style = if look.colours { Style::new().fg(colour) } else { Style::new() };
        let block = Block::new().borders(Borders::TOP).border_set(border(look)).title(title);
        let curve = Sparkline::default().block(block).data(padded).bar_set(look.curves()).style(style);
        frame.render_widget(curve, area);
    }
}

fn border(look: Look) -> ratatui::symbols::border::Set<'static> {
    let mut set = ratatui::symbols::border::PLAIN;
    if !look.blocks {
        set.horizontal_top = "-";
    }
    set
}

fn incidents(frame: &mut Frame<'_>, area: Rect, model: &Model, look: Look) {
    let all = model.incidents();
    let block = Block::new().borders(Borders::TOP).border_set(border(look)).title(match all.len() {
        0 => "no incident so far".to_owned(),
        count => format!("incidents: {}", grouped(count as u64)),
    });
    let now = model.last.as_ref().and_then(|last| last.network_time).unwrap_or(0.0);
    let lines: Vec<Line<'_>> = all.into_iter().take(INCIDENTS).map(|one| incident(one, now, look)).collect();
    frame.render_widget(Paragraph::new(lines).block(block), area);
}

fn incident<'a>(one: &'a Incident, now: f64, look: Look) -> Line<'a> {
    let since = |from: f64, to: f64| span((to - from).max(0.0));
    let (when, style) = match one.ended_at {
        None => (format!("for {}", since(one.onset, now)), look.severity(&one.severity)),
        Some(end) => {
            (format!("over, lasted {}", since(one.onset, end)), Style::new().add_modifier(Modifier::DIM))
        }
    };
    let figures = format!(
        "{when}: {} attempts, {} completed, {} embryonic at most, peak {}/s, {} sources",
        grouped(one.attempts),
        grouped(one.completed),
        grouped(one.embryonic_peak),
        short(one.syn_rate_peak),
        grouped(one.distinct_sources),
    );
    Line::from(vec![
        Span::styled(format!("{:<8} {} on {} ", one.severity, one.kind.replace('_', " "), one.server), style),
        Span::from(figures),
    ])
}

/// A column of the servers: its name, its width (the first is as wide as the names are), whether it holds numbers, and how wide a
/// terminal must be to show it.
const COLUMNS: [(&str, u16, bool, u16); 10] = [
    ("server", 8, false, 0),
    ("SYN queue", BAR as u16, false, 0),
    ("", 11, false, 0),
    ("embryonic", 9, true, 0),
    ("unres./s", 8, true, 0),
    ("attempts/s", 10, true, 66),
    ("compl./s", 8, true, 76),
    ("sources", 8, true, 86),
    ("mode", 15, false, 102),
    ("attempts/s", TREND as u16, false, 120),
];

fn servers(frame: &mut Frame<'_>, area: Rect, model: &Model, look: Look) {
    let shown = model.servers();
    let title = match (model.filter.as_str(), model.typing) {
        ("", false) => format!("servers by {}", model.sort.label()),
        (filter, _) => format!("servers with '{filter}' by {}", model.sort.label()),
    };
    let columns = COLUMNS.iter().filter(|column| column.3 <= area.width);
    let names = shown.iter().map(|server| server.server.chars().count() as u16).max().unwrap_or(0);
    // What the others leave; names longer than an IPv6 address and its port are cut.
    let others: u16 = columns.clone().skip(1).map(|column| column.1 + 1).sum();
    let first = names.clamp(COLUMNS[0].1, 47).min(area.width.saturating_sub(others).max(COLUMNS[0].1));
    let widths = columns.clone().enumerate().map(|(index, column)| if index == 0 { first } else { column.1 });
    let headers = columns.clone().map(|(name, _, number, _)| {
        let line = Line::from(*name);
        Cell::from(if *number { line.right_aligned() } else { line })
    });
    let count = columns.clone().count();
    let rows = shown.iter().map(|server| Row::new(cells(server, model, look).into_iter().take(count)));
    let table = Table::new(rows, widths.map(Constraint::Length))
        .header(Row::new(headers).add_modifier(Modifier::DIM))
        .row_highlight_style(Style::new().add_modifier(Modifier::REVERSED))
        .block(Block::new().borders(Borders::TOP).border_set(border(look)).title(title));
    let mut state = TableState::default().with_selected((!shown.is_empty()).then_some(model.selected));
    frame.render_stateful_widget(table, area, &mut state);
}

fn cells<'a>(server: &'a Server, model: &Model, look: Look) -> [Cell<'a>; COLUMNS.len()] {
    let rates = model.rates(&server.server);
    let held = server.backlog_occupancy;
    let (drawn, queue, share) = match server.backlog_limit {
        Some(limit) => {
            let share = held / limit.max(1) as f64;
            (look.bar(share), format!("{held:.0}/{limit}"), share)
        }
        None => (String::new(), String::new(), 0.0),
    };
    let grave = match share {
        s if s >= 0.9 => look.severity("critical"),
        s if s >= 0.6 => look.severity("warning"),
        _ => Style::new(),
    };
    let name = if model.flagged(&server.server) { look.severity("critical") } else { Style::new() };
    let right = |text: String| Cell::from(Line::from(text).right_aligned());
    [
        Cell::from(Span::styled(server.server.as_str(), name)),
        Cell::from(Span::styled(drawn, grave)),
        Cell::from(queue),
        right(grouped(server.embryonic())),
        right(short(rates.unresolved)),
        right(short(rates.attempts)),
        right(short(rates.completed)),
        right(grouped(server.distinct_sources)),
        Cell::from(server.mode.as_str()),
        Cell::from(look.curve(rates.trend.iter().copied())),
    ]
}

/// One server with every signal.
fn evidence(frame: &mut Frame<'_>, area: Rect, server: &Server, look: Look) {
    let block = Block::new().borders(Borders::TOP).border_set(border(look)).title(format!(
        "{}: {} attempts, {} completed, {} unresolved, mode {}",
        server.server,
        grouped(server.attempts),
        grouped(server.completed),
        grouped(server.unresolved),
        server.mode
    ));
    let rows = server.evidence.iter().map(|one| {
        let right = |number: f64| Cell::from(Line::from(short(number)).right_aligned());
        Row::new(vec![
            Cell::from(one.signal.as_str()),
            right(one.value),
            right(one.threshold),
            Cell::from(one.text.as_str()),
        ])
    });
    let widths = [Constraint::Length(18), Constraint::Length(9), Constraint::Length(9), Constraint::Min(20)];
    let words = ["signal", "value", "against", "which means"].map(Line::from);
    let [signal, value, against, means] = words;
    let header =
        Row::new([signal, value.right_aligned(), against.right_aligned(), means]).add_modifier(Modifier::DIM);
    frame.render_widget(Table::new(rows, widths).header(header).block(block), area);
}

fn health(frame: &mut Frame<'_>, area: Rect, model: &Model, look: Look) {
    let Some(last) = &model.last else { return };
    let open = last.handshakes.open.syn_sent.saturating_add(last.handshakes.open.syn_received);
    let drops: u64 =
        last.interfaces.iter().map(|one| one.drops_kernel.saturating_add(one.drops_interface)).sum();
    let down: Vec<&str> =
        last.interfaces.iter().filter(|one| !one.up).map(|one| one.interface.as_str()).collect();
    let mut spans = vec![Span::from(format!(
        "sensor: table {:.1} % full, expiry {} behind, CPU {:.1} %, memory {}, ",
        100.0 * open as f64 / last.table.limit.max(1) as f64,
        span(last.table.expiry_lag_seconds),
        last.process.cpu_share * 100.0,
        bytes(last.process.resident_bytes),
    ))];
    let lost = format!("{} frames lost before us", grouped(drops));
    spans.push(if drops > 0 { Span::styled(lost, look.severity("warning")) } else { Span::from(lost) });
    if last.table.emergency {
        spans.push(Span::styled(", table nearly full", look.severity("critical")));
    }
    if !down.is_empty() {
        spans
            .push(Span::styled(format!(", not capturing on {}", down.join(", ")), look.severity("critical")));
    }
    frame.render_widget(Line::from(spans), area);
}

fn keys(frame: &mut Frame<'_>, area: Rect, model: &Model) {
    let text = if model.typing {
        format!("filter: {}_   Enter keeps it, Esc drops it", model.filter)
    } else if model.opened.is_some() {
        "Esc or Enter: back   q: quit".to_owned()
    } else {
        "up/down: choose   Enter: why   s: sort   /: filter   q: quit".to_owned()
    };
    frame.render_widget(Line::from(text).add_modifier(Modifier::DIM), area);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::top::model::{Key, tests::answer};
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    fn screen(model: &Model, width: u16, height: u16, blocks: bool) -> Vec<String> {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| draw(frame, model, "http://sensor", Look { colours: true, blocks })).unwrap();
        let buffer = terminal.backend().buffer();
        let line = |y| (0..width).map(|x| buffer[(x, y)].symbol()).collect::<String>();
        (0..height).map(|y| line(y).trim_end().to_owned()).collect()
    }

    fn model() -> Model {
        let mut model = Model::new();
        model.hear(Ok(answer(0.0, 100)));
        model.hear(Ok(answer(2.0, 160)));
        model
    }

    #[test]
    fn a_wide_screen_shows_everything() {
        let lines = screen(&model(), 130, 24, true);
        let has = |text: &str| {
            assert!(lines.iter().any(|line| line.contains(text)), "{text}:\n{}", lines.join("\n"))
        };
        has("halfopen 1.2.3  http://sensor  1 running");
        has("2025-06-15 15:06:42 UTC");
        has("attempts 10/s  completed 3/s  embryonic 403 of 1,048,576");
        has("critical spoofed flood on shop for 2 s: 1,234 attempts");
        has("warning  port scan on 198.18.0.1 over, lasted 1 s");
        has(
            "shop     ██████████ 500/511             3       15         30        0       77 queue           █",
        );
        has(
            "sensor: table 0.0 % full, expiry 2 ms behind, CPU 4.2 %, memory 20 MiB, 7 frames lost before us",
        );
        let place = |text: &str| lines.iter().position(|line| line.starts_with(text)).unwrap();
        assert!(place("shop") < place("calm"), "trouble first");
        assert!(!lines.iter().any(|line| line.starts_with("other")), "nothing is in it");
    }

    #[test]
    fn a_server_is_opened_and_the_screen_may_be_small_or_plain() {
        let mut model = model();
        model.key(Key::Enter);
        let lines = screen(&model, 100, 24, false).join("\n");
        assert!(lines.contains("shop: 160 attempts, 5 completed, 80 unresolved, mode queue"), "{lines}");
        let words = lines.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(words.contains("cusum 30.5 19.9 log\\u{1b}[2J-likelihood"), "{lines}");
        assert!(lines.is_ascii(), "{lines}");
        model.key(Key::Escape);
        for (width, height) in [(80, 24), (60, 12), (40, 10), (10, 3), (1, 1), (300, 100)] {
            let lines = screen(&model, width, height, false);
            assert!(lines.join("\n").is_ascii());
            let whole = lines
                .iter()
                .any(|line| line.starts_with("shop     ########## 500/511             3       15"));
            assert_eq!(whole, width >= 60, "{width}: {}", lines.join("\n"));
        }
    }

    #[test]
    fn silence_is_told_and_what_was_known_stays() {
        let mut model = Model::new();
        assert!(screen(&model, 80, 24, true)[0].contains("asking"));
        model.hear(Ok(answer(0.0, 1)));
        model.hear(Err("connection refused".to_owned()));
        let lines = screen(&model, 100, 24, true);
        assert!(lines[0].contains("no answer: connection refused"), "{}", lines[0]);
        assert!(lines.iter().any(|line| line.starts_with("shop")));
    }
}
