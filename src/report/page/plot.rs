//! Stage 5 of 5, report: lines and areas over time as inline SVG, for the live page and the replay's report.
//!
//! No script, no style attribute: the page's content policy allows neither. Labels are HTML beside the drawing, so that they keep
//! their size on a phone and on a wall. Every word is escaped here.

use crate::report::history::Sample;
use crate::report::text::{html, short};
use std::fmt::Write;

/// The drawing's own units; it is stretched to whatever the page gives it.
const WIDTH: f64 = 1000.0;
const HEIGHT: f64 = 240.0;

/// Points so many seconds before the axis are drawn on its beginning: a line may begin a sample before it.
const BEFORE: f64 = 1.0;

/// One line, or a filled area, of a plot.
pub(super) struct Series<'a> {
    /// Its name in the legend.
    pub(super) name: &'a str,
    /// The class its colour comes from.
    pub(super) class: &'static str,
    /// Time and value, in order of time.
    pub(super) points: Vec<(f64, f64)>,
    /// Filled down to zero.
    pub(super) filled: bool,
}

/// A stretch of time to mark behind the lines.
pub(super) struct Band<'a> {
    /// From here.
    pub(super) from: f64,
    /// To here.
    pub(super) to: f64,
    /// What it is.
    pub(super) title: &'a str,
    /// The class its colour comes from.
    pub(super) class: &'static str,
}

/// A figure.
pub(super) struct Plot<'a> {
    /// What it shows, with the unit.
    pub(super) title: &'a str,
    /// Where the axis begins and ends, in the unit of the points.
    pub(super) range: (f64, f64),
    /// Words under the axis, evenly spread.
    pub(super) ticks: Vec<String>,
    /// What is drawn, the last on top.
    pub(super) series: Vec<Series<'a>>,
    /// What is marked.
    pub(super) bands: Vec<Band<'a>>,
    /// The figure beside a name: the last value where the plot ends now, else the highest.
    pub(super) live: bool,
}

impl Plot<'_> {
    /// The figure as HTML.
    pub(super) fn write(&self, out: &mut String) {
        let highest = self.series.iter().flat_map(|series| &series.points).map(|point| point.1);
        let top = nice(highest.fold(0.0, f64::max));
        let _ = write!(out, "<figure class=\"plot\"><figcaption><b>{}</b>", html(self.title));
        for series in &self.series {
            let mut values = series.points.iter().map(|point| point.1);
            let (words, value) =
                if self.live { ("", values.next_back()) } else { (", at most", values.reduce(f64::max)) };
            let _ = write!(
                out,
                " <span class=\"key {}\">{}{words} <output>{}</output></span>",
                series.class,
                html(series.name),
                short(value.unwrap_or(0.0))
            );
        }
        out.push_str("</figcaption>\n<div class=\"chart\"><div class=\"ys\" aria-hidden=\"true\">");
        for share in [1.0, 0.5, 0.0] {
            let _ = write!(out, "<span>{}</span>", short(top * share));
        }
        let _ = write!(
            out,
            "</div>\n<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" preserveAspectRatio=\"none\" role=\"img\" aria-label=\"{}\">\n",
            html(self.title)
        );
        for share in [0.0, 0.5, 1.0] {
            let y = share * HEIGHT;
            let _ = writeln!(out, "<line class=\"grid\" x1=\"0\" x2=\"{WIDTH}\" y1=\"{y}\" y2=\"{y}\"/>");
        }
        for band in &self.bands {
            self.band(out, band);
        }
        for series in &self.series {
            self.line(out, series, top);
        }
        out.push_str("</svg>\n<div class=\"xs\" aria-hidden=\"true\">");
        for tick in &self.ticks {
            let _ = write!(out, "<span>{}</span>", html(tick));
        }
        out.push_str("</div></div></figure>\n");
    }

    fn x(&self, at: f64) -> f64 {
        let (from, to) = self.range;
        if to > from { ((at - from) / (to - from)).clamp(0.0, 1.0) * WIDTH } else { 0.0 }
    }

    fn band(&self, out: &mut String, band: &Band<'_>) {
        let (from, to) = (self.x(band.from), self.x(band.to));
        // One that lasts less than a pixel is still seen.
        let width = (to - from).max(2.0);
        let _ = writeln!(
            out,
            "<rect class=\"band {}\" x=\"{from:.1}\" y=\"0\" width=\"{width:.1}\" height=\"{HEIGHT}\"><title>{}</title></rect>",
            band.class,
            html(band.title)
        );
    }

    fn line(&self, out: &mut String, series: &Series<'_>, top: f64) {
        let mut path = String::with_capacity(series.points.len() * 12);
        let inside = || series.points.iter().filter(|(at, _)| *at >= self.range.0 - BEFORE);
        for (index, &(at, value)) in inside().enumerate() {
            let letter = if index == 0 { 'M' } else { 'L' };
            let y = HEIGHT - (value / top).clamp(0.0, 1.0) * HEIGHT;
            let _ = write!(path, "{letter}{:.1} {y:.1}", self.x(at));
        }
        if path.is_empty() {
            return;
        }
        if series.filled {
            let first = inside().next().map_or(0.0, |point| point.0);
            let last = series.points.last().map_or(0.0, |point| point.0);
            let _ = writeln!(
                out,
                "<path class=\"area {}\" d=\"{path}L{:.1} {HEIGHT}L{:.1} {HEIGHT}Z\"/>",
                series.class,
                self.x(last),
                self.x(first)
            );
        }
        let _ = writeln!(out, "<path class=\"line {}\" d=\"{path}\"/>", series.class);
    }
}

/// The rate of a counter between samples, a second; `since` is what a point's time is counted from.
pub(super) fn rate(samples: &[Sample], since: f64, of: fn(&Sample) -> u64) -> Vec<(f64, f64)> {
    let pairs = samples.windows(2).filter_map(|two| {
        let [before, after] = two else { return None };
        let seconds = after.at.since(before.at).as_secs_f64();
        let grown = of(after).saturating_sub(of(before)) as f64;
        (seconds > 0.0).then(|| (after.at.as_secs_f64() - since, grown / seconds))
    });
    pairs.collect()
}

/// A gauge at each sample.
pub(super) fn gauge(samples: &[Sample], since: f64, of: fn(&Sample) -> u64) -> Vec<(f64, f64)> {
    samples.iter().map(|sample| (sample.at.as_secs_f64() - since, of(sample) as f64)).collect()
}

/// The next of 1, 2, 5, 10, 20 ... that holds this; at least 1, so that an idle link is a flat line.
pub(super) fn nice(highest: f64) -> f64 {
    let mut step = 1.0;
    for factor in [2.0, 2.5, 2.0].iter().cycle() {
        if step >= highest || step > 1e15 {
            break;
        }
        step *= factor;
    }
    step
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_axis_ends_on_a_round_number() {
        let ends = [0.0, 1.0, 1.1, 2.0, 3.0, 5.0, 6.0, 11.0, 49.0, 99.0, 101.0, 2100.0];
        assert_eq!(ends.map(nice), [1.0, 1.0, 2.0, 2.0, 5.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 5000.0]);
        assert!(nice(f64::INFINITY).is_finite());
    }

    #[test]
    fn points_are_where_their_values_put_them_and_words_are_escaped() {
        let plot = Plot {
            title: "<b>",
            range: (0.0, 10.0),
            ticks: vec!["\"now\"".to_owned()],
            series: vec![Series {
                name: "&",
                class: "a",
                points: vec![(0.0, 0.0), (5.0, 5.0), (10.0, 10.0)],
                filled: true,
            }],
            bands: vec![Band { from: 2.0, to: 4.0, title: "<x>", class: "critical" }],
            live: true,
        };
        let mut out = String::new();
        plot.write(&mut out);
        assert!(out.contains("d=\"M0.0 240.0L500.0 120.0L1000.0 0.0\""), "{out}");
        assert!(out.contains("d=\"M0.0 240.0L500.0 120.0L1000.0 0.0L1000.0 240L0.0 240Z\""), "{out}");
        assert!(out.contains("x=\"200.0\" y=\"0\" width=\"200.0\""), "{out}");
        assert!(
            out.contains("&lt;b&gt;") && out.contains("&amp;") && out.contains("&quot;now&quot;"),
            "{out}"
        );
        assert!(out.contains("&lt;x&gt;") && !out.contains("style="), "{out}");
    }
}
