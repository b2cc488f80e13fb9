//! A record put through the sensor's own tracker and the model, and the model's count beside the kernel's.

use super::truth::{Moment, Truth};
use halfopen::config::TableConfig;
use halfopen::detect::backlog::BacklogModel;
use halfopen::detect::backlog::profile::Profile;
use halfopen::time::Timestamp;
use halfopen::track::event::HandshakeEvent;
use halfopen::track::table::HalfOpenTable;
use halfopen::track::tracker::Tracker;
use std::sync::Arc;

/// One sample: what the kernel held and what the model said.
#[derive(Debug, Clone, Copy)]
pub struct Point {
    /// Seconds since the first sample.
    pub second: f64,
    pub kernel: u32,
    pub model: u64,
    pub mode: &'static str,
    /// Seconds to full, as foreseen.
    pub time_to_full: Option<f64>,
}

/// The points of a record. `configured`: the model is told the backlog.
pub fn points(truth: &Truth, configured: bool) -> Vec<Point> {
    let config = TableConfig { entries: 1 << 19, remembered: 1 << 12, ..TableConfig::default() };
    let table = Arc::new(HalfOpenTable::new(&config, 1));
    let mut tracker = Tracker::new(table, &config, usize::MAX);
    let backlog = truth.about["backlog"].as_u64().filter(|_| configured);
    let profile =
        if truth.about["cookies"] == 0 { Profile::LinuxNoCookies } else { Profile::Linux };
    let mut model = BacklogModel::new(profile, backlog, 1);
    let mut events: Vec<HandshakeEvent> = Vec::new();
    let mut points = Vec::new();
    let mut first = Timestamp::EPOCH;
    for moment in truth.moments() {
        let now = match moment {
            Moment::Packet(packet) => packet.at,
            Moment::Sample(sample) => sample.at,
        };
        tracker.advance(now, &mut events);
        if let Moment::Packet(packet) = moment {
            tracker.on_segment(&packet.segment(), &mut events);
        }
        for event in events.drain(..) {
            model.on_event(&event);
        }
        if let Moment::Sample(sample) = moment {
            model.advance(sample.at);
            if points.is_empty() {
                first = sample.at;
            }
            points.push(Point {
                second: sample.at.since(first).as_secs_f64(),
                kernel: sample.entries,
                model: model.occupancy(),
                mode: model.mode().mode.as_label(),
                time_to_full: model.time_to_full().map(|time| time.as_secs_f64()),
            });
        }
    }
    points
}

/// How far the model was off.
#[derive(Debug, Clone, Copy)]
pub struct Agreement {
    pub samples: usize,
    /// Share of samples within max(3, 5 % of the backlog).
    pub within: f64,
    /// Mean and largest difference, entries, and the mean with its sign.
    pub mean: f64,
    pub largest: u64,
    pub bias: f64,
}

impl Agreement {
    pub fn of(points: &[Point], backlog: u64) -> Self {
        let allowed = (backlog as f64 * 0.05).max(3.0);
        let off = |point: &Point| point.model as f64 - f64::from(point.kernel);
        let count = points.len() as f64;
        Self {
            samples: points.len(),
            within: points.iter().filter(|point| off(point).abs() <= allowed).count() as f64 / count,
            mean: points.iter().map(|point| off(point).abs()).sum::<f64>() / count,
            largest: points.iter().map(|point| off(point).abs() as u64).max().unwrap_or(0),
            bias: points.iter().map(off).sum::<f64>() / count,
        }
    }
}
