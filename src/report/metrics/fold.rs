//! Stage 5 of 5, report: which servers have series of their own, and what the rest add up to.
//!
//! The bound on label values lives here: whoever sends SYNs chooses the addresses.

use crate::detect::incident::ServerView;
use std::collections::HashMap;

/// The label under which the rest is summed.
pub(super) const OTHER: &str = "other";

/// The counters of a server, or of several together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Counters {
    pub(super) attempts: u64,
    pub(super) completed: u64,
    pub(super) unresolved: u64,
}

impl Counters {
    fn of(view: &ServerView) -> Self {
        Self { attempts: view.attempts, completed: view.completed, unresolved: view.unresolved }
    }

    fn zip(self, other: Self, with: impl Fn(u64, u64) -> u64) -> Self {
        Self {
            attempts: with(self.attempts, other.attempts),
            completed: with(self.completed, other.completed),
            unresolved: with(self.unresolved, other.unresolved),
        }
    }
}

/// What one scrape shows.
pub(super) struct Folded {
    /// Servers with series of their own; no two have one name.
    pub(super) shown: Vec<ServerView>,
    /// Embryonic connections and so on of the rest, with `other` as its name and counters that never fall.
    pub(super) other: ServerView,
}

/// Remembers the last scrape, so that `other` stays a counter while servers move in and out of it: it grows by what all servers
/// grew less what the shown ones grew.
#[derive(Debug, Default)]
pub(super) struct Fold {
    last: HashMap<String, Counters>,
    total: Counters,
    other: Counters,
}

impl Fold {
    /// Splits the servers: the configured and at most `top` others, and the rest.
    pub(super) fn fold(&mut self, views: &[ServerView], top: usize) -> Folded {
        let (mut shown, mut rest): (Vec<ServerView>, ServerView) = (Vec::new(), nobody());
        let mut places: HashMap<String, usize> = HashMap::new();
        let mut others = 0;
        for view in views {
            if let Some(&place) = places.get(&view.server) {
                add(&mut shown[place], view);
                continue;
            }
            let own = view.configured || (view.server != OTHER && others < top);
            others += usize::from(own && !view.configured);
            if own {
                places.insert(view.server.clone(), shown.len());
                shown.push(view.clone());
            } else {
                add(&mut rest, view);
            }
        }
        self.count(views, &shown);
        rest.attempts = self.other.attempts;
        rest.completed = self.other.completed;
        rest.unresolved = self.other.unresolved;
        Folded { shown, other: rest }
    }

    fn count(&mut self, views: &[ServerView], shown: &[ServerView]) {
        let plus = |sum: Counters, view: &ServerView| sum.zip(Counters::of(view), u64::saturating_add);
        let total = views.iter().fold(Counters::default(), plus);
        let mut growth = total.zip(self.total, u64::saturating_sub);
        for view in shown {
            let before = self.last.get(&view.server).copied().unwrap_or_default();
            let own = Counters::of(view).zip(before, u64::saturating_sub);
            growth = growth.zip(own, u64::saturating_sub);
        }
        self.other = self.other.zip(growth, u64::saturating_add);
        self.total = total;
        // Bounded by the detector's own bound on servers.
        self.last.clear();
        for view in views {
            let sum = self.last.entry(view.server.clone()).or_default();
            *sum = sum.zip(Counters::of(view), u64::saturating_add);
        }
    }
}

/// `other` before anything is added.
fn nobody() -> ServerView {
    ServerView { server: OTHER.to_owned(), ..ServerView::default() }
}

/// Adds the numbers of one view to another of the same label.
fn add(sum: &mut ServerView, view: &ServerView) {
    sum.attempts = sum.attempts.saturating_add(view.attempts);
    sum.completed = sum.completed.saturating_add(view.completed);
    sum.unresolved = sum.unresolved.saturating_add(view.unresolved);
    sum.embryonic_syn_sent = sum.embryonic_syn_sent.saturating_add(view.embryonic_syn_sent);
    sum.embryonic_syn_received = sum.embryonic_syn_received.saturating_add(view.embryonic_syn_received);
    sum.backlog_occupancy += view.backlog_occupancy;
    sum.distinct_sources = sum.distinct_sources.saturating_add(view.distinct_sources);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(server: &str, attempts: u64, configured: bool) -> ServerView {
        ServerView { server: server.to_owned(), attempts, configured, ..nobody() }
    }

    fn names(folded: &Folded) -> Vec<&str> {
        folded.shown.iter().map(|view| view.server.as_str()).collect()
    }

    #[test]
    fn configured_servers_do_not_use_up_the_bound() {
        let views = [
            view("a", 1, true),
            view("b", 2, true),
            view("c", 9, false),
            view("d", 8, false),
            view("other", 7, false),
        ];
        let folded = Fold::default().fold(&views, 1);
        assert_eq!(names(&folded), ["a", "b", "c"]);
        assert_eq!(folded.other.attempts, 8 + 7);
        assert_eq!(Fold::default().fold(&views, 0).other.attempts, 9 + 8 + 7);
    }

    #[test]
    fn one_name_is_one_series() {
        let folded = Fold::default().fold(&[view("a", 1, true), view("a", 2, true)], 5);
        assert_eq!((names(&folded), folded.shown[0].attempts), (vec!["a"], 3));
    }

    #[test]
    fn other_never_falls_while_servers_change_places() {
        let mut fold = Fold::default();
        let other = |fold: &mut Fold, views: &[ServerView]| fold.fold(views, 1).other.attempts;
        assert_eq!(other(&mut fold, &[view("a", 10, false), view("b", 5, false)]), 5);
        // b overtakes a: other keeps b's past, and gains nothing from a's.
        assert_eq!(other(&mut fold, &[view("b", 20, false), view("a", 10, false)]), 5);
        assert_eq!(other(&mut fold, &[view("b", 20, false), view("a", 13, false)]), 8);
        // The detector folds a into its own rest.
        assert_eq!(other(&mut fold, &[view("b", 21, false), view("other", 13, false)]), 8);
        assert_eq!(other(&mut fold, &[view("b", 21, false)]), 8, "a rest that vanishes is not a fall");
    }

    proptest::proptest! {
        #[test]
        fn other_grows_by_what_is_not_shown(growth in proptest::collection::vec([0u64..50, 0..50, 0..50, 0..50], 1..12)) {
            // Four servers grow, two are shown, the busiest first each time.
            let (mut fold, mut counts, mut before) = (Fold::default(), [0u64; 4], 0);
            for step in growth {
                for (count, by) in counts.iter_mut().zip(step) {
                    *count += by;
                }
                let mut order = [0, 1, 2, 3];
                order.sort_by_key(|&index| std::cmp::Reverse(counts[index]));
                let views = order.map(|index| view(["a", "b", "c", "d"][index], counts[index], false));
                let other = fold.fold(&views, 2).other.attempts;
                proptest::prop_assert_eq!(other - before, step[order[2]] + step[order[3]]);
                before = other;
            }
        }
    }
}
