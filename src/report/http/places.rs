//! Stage 5 of 5, report: who has a connection, and whose ends where there are too many.
//!
//! Opens and closes nothing itself: it tells the task of a connection to end. Reads the clock of tokio, to log seldom.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;

/// Connections served at once. A few Prometheus servers, browsers and terminals need a dozen.
pub const MAX_CONNECTIONS: usize = 128;

/// Of these for one peer, so that no peer keeps the others out. An IPv6 peer is its /64, all of which one host may use.
pub const MAX_PER_PEER: usize = 64;

/// Full pools are logged at most so often.
const LOG_PAUSE: Duration = Duration::from_secs(10);

/// What became of connections that there was no place for.
#[derive(Debug, Default)]
pub struct ConnectionCounters {
    /// New ones closed at once, because every other was being answered.
    pub refused: AtomicU64,
    /// Idle ones closed to make room for a new one.
    pub evicted: AtomicU64,
}

/// Every connection.
pub(super) struct Places {
    counters: Arc<ConnectionCounters>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    taken: HashMap<u64, Taken>,
    next: u64,
    logged: Option<Instant>,
}

struct Taken {
    peer: IpAddr,
    doing: Doing,
    /// Counts up with everything that happens: the smallest has been idle longest.
    since: u64,
    end: Arc<Notify>,
}

/// In the order in which they have to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Doing {
    /// Has not sent a whole request yet.
    Nothing,
    /// Has been answered and may ask again.
    Answered,
    /// Is being answered: stays.
    Asking,
}

impl Places {
    pub(super) fn new(counters: Arc<ConnectionCounters>) -> Arc<Self> {
        Arc::new(Self { counters, state: Mutex::default() })
    }

    /// A place for one more connection of this peer, given back when it is dropped. Where there is none, the connection goes that
    /// has been idle longest, first of those that never asked for anything; none where all are being answered.
    pub(super) fn enter(self: &Arc<Self>, peer: IpAddr) -> Option<Place> {
        let peer = group(peer);
        let mut state = self.lock();
        let of_peer = state.taken.values().filter(|taken| taken.peer == peer).count();
        let crowd = (of_peer >= MAX_PER_PEER).then_some(peer);
        if crowd.is_some() || state.taken.len() >= MAX_CONNECTIONS {
            let evicted = state.evict(crowd);
            let counter = if evicted { &self.counters.evicted } else { &self.counters.refused };
            counter.fetch_add(1, Ordering::Relaxed);
            self.log(&mut state, peer);
            if !evicted {
                return None;
            }
        }
        let since = state.tick();
        let end = Arc::new(Notify::new());
        state.taken.insert(since, Taken { peer, doing: Doing::Nothing, since, end: Arc::clone(&end) });
        Some(Place { places: Arc::clone(self), peer, id: since, end })
    }

    fn log(&self, state: &mut State, peer: IpAddr) {
        let now = Instant::now();
        if state.logged.is_some_and(|last| now - last < LOG_PAUSE) {
            return;
        }
        state.logged = Some(now);
        tracing::warn!(
            msg = "too many connections; idle ones are closed for new ones",
            %peer,
            limit = MAX_CONNECTIONS,
            limit_per_peer = MAX_PER_PEER,
            evicted = self.counters.evicted.load(Ordering::Relaxed),
            refused = self.counters.refused.load(Ordering::Relaxed),
        );
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn tick(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// Ends one connection, of this peer where one is given. At most [`MAX_CONNECTIONS`] are looked at.
    fn evict(&mut self, peer: Option<IpAddr>) -> bool {
        let idle = self
            .taken
            .iter()
            .filter(|(_, taken)| taken.doing != Doing::Asking && peer.is_none_or(|peer| taken.peer == peer));
        let Some((&id, _)) = idle.min_by_key(|(_, taken)| (taken.doing, taken.since)) else { return false };
        if let Some(taken) = self.taken.remove(&id) {
            taken.end.notify_one();
        }
        true
    }
}

/// A connection's place.
pub(super) struct Place {
    places: Arc<Places>,
    peer: IpAddr,
    id: u64,
    end: Arc<Notify>,
}

impl Place {
    /// Waits until another connection needs the place more.
    pub(super) async fn lost(&self) {
        self.end.notified().await;
    }

    /// Whom it counts for.
    pub(super) fn peer(&self) -> IpAddr {
        self.peer
    }

    /// Whether it ever sent a whole request.
    pub(super) fn has_asked(&self) -> bool {
        self.places.lock().taken.get(&self.id).is_some_and(|taken| taken.doing != Doing::Nothing)
    }

    pub(super) fn asked(&self) {
        self.now(Doing::Asking);
    }

    pub(super) fn answered(&self) {
        self.now(Doing::Answered);
    }

    fn now(&self, doing: Doing) {
        let mut state = self.places.lock();
        let since = state.tick();
        if let Some(taken) = state.taken.get_mut(&self.id) {
            (taken.doing, taken.since) = (doing, since);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.lock().taken.remove(&self.id);
    }
}

/// Whom an address counts for.
fn group(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX))),
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn evicted(places: &Places) -> u64 {
        places.counters.evicted.load(Ordering::Relaxed)
    }

    #[tokio::test]
    async fn the_longest_idle_that_never_asked_goes_first() {
        let places = Places::new(Arc::default());
        let mut held: Vec<Place> =
            (0..MAX_PER_PEER).map(|_| places.enter(peer("198.18.0.1")).unwrap()).collect();
        held[0].asked();
        held[0].answered();
        held[1].asked();
        held.push(places.enter(peer("198.18.0.1")).unwrap());
        // The third is told; a wait for it ends at once.
        held[2].lost().await;
        assert_eq!(evicted(&places), 1);
        assert!(held[0].has_asked() && held[1].has_asked() && !held[3].has_asked());
        // Other peers are not concerned.
        assert!(places.enter(peer("198.18.0.2")).is_some());
        assert_eq!(evicted(&places), 1);
        // Once all have asked, the one answered longest ago goes, and while all are being answered, none.
        held.iter().for_each(Place::asked);
        assert!(places.enter(peer("198.18.0.1")).is_none());
        assert_eq!(places.counters.refused.load(Ordering::Relaxed), 1);
        held[7].answered();
        held[5].answered();
        let _new = places.enter(peer("198.18.0.1")).unwrap();
        held[7].lost().await;
    }

    #[tokio::test]
    async fn several_peers_cannot_keep_another_out() {
        let places = Places::new(Arc::default());
        let held: Vec<Place> = (0..MAX_CONNECTIONS)
            .map(|n| places.enter(peer(if n % 2 == 0 { "198.18.0.1" } else { "198.18.0.2" })).unwrap())
            .collect();
        let _new = places.enter(peer("198.18.0.3")).unwrap();
        held[0].lost().await;
    }

    #[test]
    fn an_ipv6_peer_is_its_64() {
        assert_eq!(group(peer("2001:db8::1:2")), group(peer("2001:db8::3")));
        assert_ne!(group(peer("2001:db8:0:1::1")), group(peer("2001:db8::1")));
        assert_eq!(group(peer("::ffff:198.18.0.1")), peer("198.18.0.1"));
    }

    #[test]
    fn a_place_given_back_is_free() {
        let places = Places::new(Arc::default());
        for _ in 0..1000 {
            drop(places.enter(peer("198.18.0.1")).unwrap());
        }
        assert_eq!(evicted(&places), 0);
    }
}
