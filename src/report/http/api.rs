//! Stage 5 of 5, report: the JSON API, version 1. Bounded answers only.

use super::{ApiError, Web, privacy};
use crate::config::Addresses;
use crate::report::snapshot::{EmbryonicView, Snapshot};
use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::sync::Arc;

/// Embryonic connections listed where `limit` is not given.
const DEFAULT_LIMIT: usize = 100;

/// Most that are listed: the table may hold a million and a listing is for eyes.
const MAX_LIMIT: usize = 1000;

type Answer = Result<Json<Value>, ApiError>;

fn time(snapshot: &Snapshot) -> Option<f64> {
    snapshot.network_time.map(|at| at.as_secs_f64())
}

pub(super) async fn servers(State(web): State<Arc<Web>>) -> Answer {
    let snapshot = web.snapshot().await?;
    Ok(Json(json!({ "network_time": time(&snapshot), "servers": snapshot.servers })))
}

pub(super) async fn incidents(State(web): State<Arc<Web>>) -> Answer {
    let snapshot = web.snapshot().await?;
    Ok(Json(json!({ "network_time": time(&snapshot), "incidents": snapshot.incidents })))
}

/// A capture file with a few frames of an incident. None is empty or half: what is not kept is 404.
pub(super) async fn pcap(State(web): State<Arc<Web>>, Path(id): Path<String>) -> Result<Response, ApiError> {
    if web.addresses != Addresses::Full {
        let why = "frames have addresses, which this sensor does not show; web.addresses = \"full\" would";
        return Err(ApiError(StatusCode::FORBIDDEN, why.to_owned()));
    }
    let wanted = id.clone();
    let Some(file) = web.blocking(move |web| web.source.pcap(&wanted)).await? else {
        let id = crate::report::text::printable(&id);
        return Err(ApiError(
            StatusCode::NOT_FOUND,
            format!(
                "no frames of an incident '{id}' are kept; /api/v1/incidents lists the incidents, [evidence] says how much is kept"
            ),
        ));
    };
    // Only letters, digits, _ and - are in an id of which frames are kept; anything else must not get into a header.
    let name: String = id.chars().filter(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-')).collect();
    let headers = [
        (header::CONTENT_TYPE, "application/vnd.tcpdump.pcap".to_owned()),
        (header::CONTENT_DISPOSITION, format!("attachment; filename=\"{name}.pcap\"")),
    ];
    Ok((headers, file).into_response())
}

pub(super) async fn half_open(State(web): State<Arc<Web>>) -> Answer {
    let both = |web: &Web| {
        let mut listing = web.source.half_open(DEFAULT_LIMIT);
        privacy::half_open(&mut listing, web.addresses);
        (web.source.snapshot(), listing)
    };
    let (snapshot, listing) = web.blocking(both).await?;
    let counts = snapshot.half_open;
    let discovered = json!({ "reconnect": counts.reconnect, "reset_on_data": counts.reset_on_data });
    Ok(Json(json!({
        "network_time": time(&snapshot),
        "discovered": discovered,
        "suspected": counts.suspected,
        "latest": listing.discovered,
        "suspects": listing.suspected,
    })))
}

pub(super) async fn embryonic(
    State(web): State<Arc<Web>>,
    query: Result<Query<Vec<(String, String)>>, axum::extract::rejection::QueryRejection>,
) -> Answer {
    let Ok(Query(pairs)) = query else {
        return Err(bad("the query is malformed; write ?server=address:port&limit=100".to_owned()));
    };
    let (server, limit) = parameters(pairs)?;
    let Ok(place) = Arc::clone(&web.listings).try_acquire_owned() else {
        let why = "other listings are being made; try again in a second".to_owned();
        return Err(ApiError(StatusCode::SERVICE_UNAVAILABLE, why));
    };
    let work = move |web: &Web| -> Result<(Option<String>, Vec<EmbryonicView>, Snapshot), ApiError> {
        let snapshot = web.shown();
        if let Some(name) = &server {
            let known = snapshot.servers.iter().any(|view| view.server == *name);
            if !known && name.parse::<SocketAddr>().is_err() {
                let name = crate::report::text::printable(name);
                return Err(bad(format!(
                    "server '{name}' is neither a known name nor address:port; /api/v1/servers lists them"
                )));
            }
        }
        let mut list = web.source.embryonic(server.as_deref(), limit);
        list.truncate(limit);
        privacy::embryonic(&mut list, web.addresses);
        drop(place);
        Ok((server, list, snapshot))
    };
    let (server, list, snapshot) = web.blocking(work).await??;
    Ok(Json(
        json!({ "network_time": time(&snapshot), "server": server, "limit": limit, "connections": list }),
    ))
}

fn bad(why: String) -> ApiError {
    ApiError(StatusCode::BAD_REQUEST, why)
}

fn parameters(pairs: Vec<(String, String)>) -> Result<(Option<String>, usize), ApiError> {
    let (mut server, mut limit) = (None, DEFAULT_LIMIT);
    for (name, value) in pairs {
        match name.as_str() {
            "server" => server = Some(value).filter(|server| !server.is_empty()),
            "limit" => match value.parse::<usize>() {
                Ok(number) if (1..=MAX_LIMIT).contains(&number) => limit = number,
                _ => {
                    let value = crate::report::text::printable(&value);
                    return Err(bad(format!(
                        "limit '{value}' is not a number from 1 to {MAX_LIMIT}; leave it out for {DEFAULT_LIMIT}"
                    )));
                }
            },
            _ => {
                let name = crate::report::text::printable(&name);
                return Err(bad(format!("unknown parameter '{name}'; there are server and limit")));
            }
        }
    }
    Ok((server, limit))
}
