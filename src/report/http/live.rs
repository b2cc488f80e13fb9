//! Stage 5 of 5, report: the overview of this second, made once however many look at it.
//!
//! Makes nothing while nobody looks. Reads the clock of tokio, to know how old it is.

use super::{ApiError, Web};
use crate::config::Addresses;
use crate::report::overview::{Overview, Process};
use crate::report::page;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::time::Instant;

/// How old an overview may be. A little less than the pause between two looks of the page, so that each look is a new one.
const FRESH: Duration = Duration::from_millis(900);

/// What was made last.
pub(super) struct Live {
    last: Mutex<Option<Arc<Made>>>,
    /// When it began, and the CPU time used by then: what the first look is held against.
    begun: (Instant, f64),
}

impl Live {
    pub(super) fn new() -> Self {
        Self { last: Mutex::default(), begun: (Instant::now(), Process::now().cpu) }
    }
}

struct Made {
    at: Instant,
    overview: Overview,
    page: OnceLock<Bytes>,
    document: OnceLock<Bytes>,
}

impl Web {
    /// Everything as it is now, or was a moment ago. While one makes it the others wait: nobody makes it twice.
    async fn overview(self: &Arc<Self>) -> Result<Arc<Made>, ApiError> {
        let mut last = self.live.last.lock().await;
        if let Some(made) = last.as_ref().filter(|made| made.at.elapsed() < FRESH) {
            return Ok(Arc::clone(made));
        }
        let at = Instant::now();
        let before = last.as_ref().map_or(self.live.begun, |made| (made.at, made.overview.process.cpu));
        let overview = self.blocking(move |web| web.look(at, before)).await?;
        let made = Arc::new(Made { at, overview, page: OnceLock::new(), document: OnceLock::new() });
        *last = Some(Arc::clone(&made));
        Ok(made)
    }

    fn look(&self, at: Instant, before: (Instant, f64)) -> Overview {
        let mut process = Process::now();
        let seconds = (at - before.0).as_secs_f64();
        if seconds > 0.0 {
            process.cpu_share = (process.cpu - before.1).max(0.0) / seconds;
        }
        Overview { snapshot: self.shown(), history: self.source.history(), process }
    }
}

pub(super) async fn index(State(web): State<Arc<Web>>) -> Result<impl IntoResponse, ApiError> {
    let made = web.overview().await?;
    let body = web
        .blocking(move |web| {
            let keeps = |id: &str| web.addresses == Addresses::Full && web.source.has_pcap(id);
            let make = || Bytes::from(page::page(&made.overview, web.telemetry_path.as_str(), &keeps));
            made.page.get_or_init(make).clone()
        })
        .await?;
    Ok(([(header::CONTENT_TYPE, "text/html; charset=utf-8")], body))
}

pub(super) async fn overview(State(web): State<Arc<Web>>) -> Result<impl IntoResponse, ApiError> {
    let made = web.overview().await?;
    let make = move |_: &Web| {
        made.document.get_or_init(|| Bytes::from(made.overview.document().to_string())).clone()
    };
    let body = web.blocking(make).await?;
    Ok(([(header::CONTENT_TYPE, "application/json")], body))
}

pub(super) async fn style() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "text/css; charset=utf-8")], page::STYLE)
}

pub(super) async fn script() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "text/javascript; charset=utf-8")], page::SCRIPT)
}

pub(super) async fn icon() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "image/svg+xml")], page::ICON)
}
