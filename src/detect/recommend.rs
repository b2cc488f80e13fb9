//! Stage 4 of 5, detect: what the configuration of a server should say, by what was learned of it in peace.
//!
//! Only reads. A threshold is recommended where the general one does not fit, with the figures behind it; one of the server's own
//! that fits is kept.

use super::ledger::Key;
use super::statistic::BINS_PER_SECOND;
use super::watch::{Watch, is_one_server};
use super::{Detector, incident::Recommendation};
use crate::config::ServerConfig;
use crate::config::detect::DetectConfig;

/// Completed handshakes that make a server of an address and port: one alone may be a stray client of a scanned host.
const SERVES: u64 = 10;

/// Seconds over which peace may add up unresolved attempts while the statistic rises and falls back.
const RISE: f64 = 10.0;

/// Deviations beyond the mean that peace stays within: with over-dispersed counts, far rarer than a rise of the statistic.
const DEVIATIONS: f64 = 4.0;

/// A flood is critical well beyond what the server leaves unresolved anyway.
const CRITICAL: f64 = 5.0;

/// Seconds in which a critical rate fills the whole queue: the reason behind the default, 100/s and a queue of 511.
const FILLED_IN: f64 = 5.0;

impl Detector {
    /// What to configure for the servers that were seen to serve, at most `top` that are not configured yet, by address.
    pub fn recommend(&self, top: usize) -> Vec<Recommendation> {
        let court = &self.court;
        let serving = |watch: &&Watch| {
            let one = watch.settings.configured.is_some_and(|(_, one)| one);
            one || (watch.totals[1] >= SERVES && watch.settings.allowance.is_none())
        };
        let mut watches: Vec<&Watch> =
            court.ledger.servers().map(|(_, watch)| watch).filter(serving).collect();
        let stranger = |watch: &Watch| watch.settings.configured.is_none_or(|(_, one)| !one);
        watches.sort_by_key(|watch| (stranger(watch), std::cmp::Reverse(watch.totals[1]), watch.key));
        watches.truncate(court.servers.iter().filter(|server| is_one_server(server)).count() + top);
        watches.sort_by_key(|watch| watch.key);
        watches.into_iter().filter_map(|watch| recommendation(watch, &court.config, &court.servers)).collect()
    }
}

fn recommendation(watch: &Watch, config: &DetectConfig, servers: &[ServerConfig]) -> Option<Recommendation> {
    let Key::Server(server) = watch.key else { return None };
    let settings = &watch.settings;
    let configured =
        watch.settings.configured.filter(|(_, one)| *one).and_then(|(index, _)| servers.get(index));
    let (unresolved, phi) = (watch.expected() * BINS_PER_SECOND, watch.baseline.phi());
    let usual = unresolved * RISE;
    let reach = usual + DEVIATIONS * (phi * usual).sqrt();
    let busy = CRITICAL * unresolved;
    let critical = settings.backlog.map_or(busy, |backlog| busy.max(backlog as f64 / FILLED_IN));
    let fits = match settings.backlog {
        // A queue of known size has a rate of its own, which may be below the default as well.
        Some(_) => (critical / settings.critical_rate - 1.0).abs() < 0.25,
        None => critical <= settings.critical_rate,
    };
    // What is hardly known is no reason to change anything: its figures are half assumed.
    let settled = !watch.baseline.is_new();
    let own = |mine: f64, general: f64| (mine != general).then_some(mine);
    let floor = if settled && reach > settings.floor {
        Some(two_figures(reach))
    } else {
        own(settings.floor, config.floor as f64)
    };
    let critical_rate = if fits || !settled {
        own(settings.critical_rate, config.critical_rate)
    } else {
        Some(two_figures(critical).clamp(1.0, 1e7))
    };
    Some(Recommendation {
        server,
        name: configured.and_then(|one| one.name.clone()),
        profile: configured.and_then(|one| one.profile.clone()),
        backlog: settings.backlog,
        attempts: watch.totals[0],
        completed: watch.totals[1],
        attempt_rate: watch.attempts.value() * BINS_PER_SECOND,
        completed_rate: watch.completed.value() * BINS_PER_SECOND,
        unresolved_rate: unresolved,
        dispersion: phi,
        reach,
        occupancy: watch.usual_occupancy,
        grace: watch.grace(config),
        settled,
        floor: floor.map(|floor| floor as u64),
        critical_rate,
    })
}

/// Rounded up to two significant figures: more would pretend.
fn two_figures(x: f64) -> f64 {
    let step = 10_f64.powf((x.max(1.0).log10().floor() - 1.0).max(0.0));
    (x / step).ceil() * step
}

#[cfg(test)]
mod tests {
    use super::two_figures;

    #[test]
    fn figures_are_round_and_never_below() {
        for (x, rounded) in
            [(0.2, 1.0), (9.1, 10.0), (20.0, 20.0), (34.2, 35.0), (101.0, 110.0), (98_765.0, 99_000.0)]
        {
            assert_eq!(two_figures(x), rounded, "{x}");
        }
    }
}
