//! Stage 5 of 5, report: the HTTP side: page, metrics, health, API.
//!
//! Answers from snapshots only; never sees a packet or the table. Every error is JSON with one line.

mod api;
mod door;
mod guard;
mod hosts;
mod listen;
mod live;
mod places;
mod privacy;

pub use guard::Guard;
pub use listen::{HttpError, Listeners};
pub use places::{ConnectionCounters, MAX_CONNECTIONS, MAX_PER_PEER};

use super::metrics::{CONTENT_TYPE, Metrics};
use super::snapshot::{Snapshot, SnapshotSource};
use super::text;
use crate::config::{Addresses, TelemetryPath};
use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header};
use axum::middleware::map_response;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use std::sync::Arc;
use tokio::sync::Semaphore;

/// Reads the configuration again. Gives what to say of it, or why the old one stays.
pub type Reload = Box<dyn Fn() -> Result<String, String> + Send + Sync>;

/// What the page links to, besides the metrics.
pub(super) const LINKS: [&str; 7] = [
    "/api/v1/overview",
    "/api/v1/servers",
    "/api/v1/incidents",
    "/api/v1/embryonic",
    "/api/v1/half-open",
    "/-/healthy",
    "/-/ready",
];

/// Listings of embryonic connections made at once: each may visit a million entries.
const MAX_LISTINGS: usize = 2;

/// What the handlers share.
pub struct Web {
    source: Arc<dyn SnapshotSource>,
    metrics: Arc<Metrics>,
    telemetry_path: TelemetryPath,
    reload: Reload,
    /// Each listing looks at the whole table: a few at a time.
    listings: Arc<Semaphore>,
    live: live::Live,
    addresses: Addresses,
}

impl Web {
    /// Serves what `source` knows.
    pub fn new(
        source: Arc<dyn SnapshotSource>,
        metrics: Arc<Metrics>,
        telemetry_path: TelemetryPath,
        reload: Reload,
    ) -> Arc<Self> {
        Self::showing(source, metrics, telemetry_path, reload, Addresses::Full)
    }

    /// As `new`, and shows so much of the addresses of others.
    pub fn showing(
        source: Arc<dyn SnapshotSource>,
        metrics: Arc<Metrics>,
        telemetry_path: TelemetryPath,
        reload: Reload,
        addresses: Addresses,
    ) -> Arc<Self> {
        Arc::new(Self {
            source,
            metrics,
            telemetry_path,
            reload,
            listings: Arc::new(Semaphore::new(MAX_LISTINGS)),
            live: live::Live::new(),
            addresses,
        })
    }

    /// Every route.
    pub fn router(self: &Arc<Self>) -> Router {
        Router::new()
            .route("/", get(live::index))
            .route("/style.css", get(live::style))
            .route("/page.js", get(live::script))
            .route("/icon.svg", get(live::icon))
            .route(self.telemetry_path.as_str(), get(telemetry))
            .route("/-/healthy", get(async || "halfopen is healthy.\n"))
            .route("/-/ready", get(ready))
            .route("/-/reload", post(reload))
            .route("/api/v1/overview", get(live::overview))
            .route("/api/v1/servers", get(api::servers))
            .route("/api/v1/embryonic", get(api::embryonic))
            .route("/api/v1/incidents", get(api::incidents))
            .route("/api/v1/incidents/{id}/pcap", get(api::pcap))
            .route("/api/v1/half-open", get(api::half_open))
            .method_not_allowed_fallback(wrong_method)
            .fallback(not_found)
            .layer(map_response(safe_headers))
            .with_state(Arc::clone(self))
    }

    /// A snapshot, taken where waiting for a lock holds up no other request.
    async fn snapshot(self: &Arc<Self>) -> Result<Snapshot, ApiError> {
        self.blocking(Self::shown).await
    }

    /// A snapshot as whoever looks may see it, with so much of the addresses of others as may be shown; the one place where the page
    /// and the API get theirs.
    fn shown(&self) -> Snapshot {
        let mut snapshot = self.source.snapshot();
        privacy::snapshot(&mut snapshot, self.addresses);
        snapshot
    }

    async fn blocking<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Self) -> T + Send + 'static,
    ) -> Result<T, ApiError> {
        let web = Arc::clone(self);
        let result = tokio::task::spawn_blocking(move || work(&web)).await;
        result.map_err(|error| {
            ApiError(StatusCode::INTERNAL_SERVER_ERROR, format!("request failed: {error}; see the log"))
        })
    }
}

/// A refusal, as `{"error": "one line"}`.
struct ApiError(StatusCode, String);

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = (self.0, axum::Json(serde_json::json!({ "error": self.1 }))).into_response();
        if self.0 == StatusCode::SERVICE_UNAVAILABLE {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

/// No page loads, frames or guesses anything it should not.
async fn safe_headers(mut response: Response) -> Response {
    const HEADERS: [(HeaderName, &str); 4] = [
        (
            header::CONTENT_SECURITY_POLICY,
            "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; \
             form-action 'none'; frame-ancestors 'none'",
        ),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-store"),
    ];
    for (name, value) in HEADERS {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

async fn telemetry(State(web): State<Arc<Web>>) -> Result<impl IntoResponse, ApiError> {
    let body = web.blocking(|web| web.metrics.render(&web.source.snapshot())).await?;
    Ok(([(header::CONTENT_TYPE, CONTENT_TYPE)], body))
}

/// Ready: every capture is open. A silent link is ready; a failed one is not. Names nothing: it is asked without a password.
async fn ready(State(web): State<Arc<Web>>) -> Result<&'static str, ApiError> {
    let snapshot = web.snapshot().await?;
    let why = if snapshot.interfaces.is_empty() {
        "no capture is open yet; try again in a moment"
    } else if snapshot.interfaces.iter().all(|view| view.up) {
        return Ok("halfopen is ready.\n");
    } else {
        "not capturing on every interface; halfopen_capture_up and the log say which and why"
    };
    Err(ApiError(StatusCode::SERVICE_UNAVAILABLE, why.to_owned()))
}

async fn reload(State(web): State<Arc<Web>>, headers: HeaderMap) -> Result<String, ApiError> {
    // A page on another site may not make a browser do this.
    let foreign = headers.get("sec-fetch-site").is_some_and(|site| site != "same-origin" && site != "none");
    // Browsers leave that header out towards an unencrypted origin elsewhere, but never this one.
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let origin = headers.get(header::ORIGIN).map(|origin| origin.to_str().unwrap_or_default());
    let elsewhere = origin.is_some_and(|origin| origin.split_once("://").map(|(_, host)| host) != host);
    if foreign || elsewhere {
        let why = "another site's page may not reload the configuration; use curl -X POST".to_owned();
        return Err(ApiError(StatusCode::FORBIDDEN, why));
    }
    match web.blocking(|web| (web.reload)()).await? {
        Ok(said) => Ok(format!("{said}\n")),
        Err(why) => Err(ApiError(StatusCode::INTERNAL_SERVER_ERROR, why)),
    }
}

async fn wrong_method(method: Method, uri: Uri) -> ApiError {
    let mend = if uri.path() == "/-/reload" { "use POST" } else { "use GET" };
    let path = text::printable(uri.path());
    ApiError(StatusCode::METHOD_NOT_ALLOWED, format!("{method} is not possible on {path}; {mend}"))
}

async fn not_found(State(web): State<Arc<Web>>, uri: Uri) -> ApiError {
    let known = ["/", web.telemetry_path.as_str()].into_iter().chain(LINKS).collect::<Vec<_>>().join(", ");
    let path = text::printable(uri.path());
    ApiError(StatusCode::NOT_FOUND, format!("nothing at {path}; there are {known} and POST /-/reload"))
}
