//! Stage 5 of 5, report: sockets and the connections on them, each bounded in number, size and time.
//!
//! Knows nothing of what is served. Reads the clock of tokio, for timeouts only.

use super::door::Door;
use super::guard::Guard;
use super::hosts::Hosts;
use super::places::{ConnectionCounters, Place, Places};
use crate::config::ListenAddress;
use crate::os_error;
use axum::Router;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

/// A first request is there within this time: whoever connects to say nothing goes soon.
const FIRST_REQUEST: Duration = Duration::from_secs(2);

/// A request's header is read within this time, or the connection ends. Also bounds how long one idles between requests.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);

/// A connection is asked to end after this time: a client that never reads its answers holds its place no longer.
const LIFETIME: Duration = Duration::from_secs(60);

/// What an answer may still take when its connection is asked to end.
const FAREWELL: Duration = Duration::from_secs(1);

/// Most bytes of a request's line and headers; hyper answers 431 beyond it.
const MAX_HEADER: usize = 16 << 10;

/// Pause after an accept that failed, for want of file descriptors usually.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Why nothing can be served.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {why}")]
pub struct HttpError {
    /// The address as configured.
    pub address: String,
    /// What is wrong, and what mends it.
    pub why: String,
}

impl HttpError {
    fn new(address: &ListenAddress, error: &io::Error) -> Self {
        let text = os_error::words(error);
        let mends = [
            (io::ErrorKind::AddrInUse, "stop what listens there, or choose"),
            (io::ErrorKind::AddrNotAvailable, "this host has no such address; choose"),
            (io::ErrorKind::PermissionDenied, "ports below 1024 need a right; choose"),
        ];
        let mend = mends.iter().find(|(kind, _)| *kind == error.kind()).map_or("choose", |(_, mend)| mend);
        let mend = format!("{mend} another with --web.listen-address");
        Self { address: address.to_string(), why: format!("{text}; {mend}") }
    }
}

/// Bound sockets, not served yet.
#[derive(Debug)]
pub struct Listeners {
    sockets: Vec<(std::net::TcpListener, Hosts)>,
}

impl Listeners {
    /// Binds every address, in order; one that is named twice, once. Needs no runtime: it is done before privileges are given up.
    /// Requests for another host are refused: a loopback listener is called localhost, by its address, or by one of `hosts`; one
    /// beyond loopback by any address, the machine's name or one of `hosts`, and anything at all where there are none.
    ///
    /// # Errors
    /// The first that cannot be bound.
    pub fn bind(addresses: &[ListenAddress], hosts: &[String]) -> Result<Self, HttpError> {
        let mut sockets = Vec::new();
        for (index, address) in addresses.iter().enumerate() {
            if addresses[..index].contains(address) {
                continue;
            }
            let socket = match address {
                ListenAddress::Socket(socket) => std::net::TcpListener::bind(socket),
                ListenAddress::Name(host, port) => std::net::TcpListener::bind((host.as_str(), *port)),
                // The IPv6 wildcard takes IPv4 too, where the host has IPv6.
                ListenAddress::Any(port) => match std::net::TcpListener::bind((Ipv6Addr::UNSPECIFIED, *port))
                {
                    Err(error) if error.kind() != io::ErrorKind::AddrInUse => {
                        std::net::TcpListener::bind((Ipv4Addr::UNSPECIFIED, *port))
                    }
                    bound => bound,
                },
            };
            let ready = socket.and_then(|socket| socket.set_nonblocking(true).map(|()| socket));
            let bound = ready.and_then(|socket| Ok((socket.local_addr()?, socket)));
            let (at, socket) = bound.map_err(|error| HttpError::new(address, &error))?;
            let own = if let ListenAddress::Name(name, _) = address { Some(name.as_str()) } else { None };
            sockets.push((socket, Hosts::new(at, own, hosts)));
        }
        Ok(Self { sockets })
    }

    /// Where they listen, with the ports the system chose.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.sockets.iter().filter_map(|(socket, _)| socket.local_addr().ok()).collect()
    }

    /// Serves until `stop` changes or its sender is gone; then lets running answers end, for a second at most.
    /// `guard` says who gets in; `counters` count the connections there was no place for.
    pub async fn serve(
        self,
        router: Router,
        guard: Arc<Guard>,
        counters: Arc<ConnectionCounters>,
        stop: watch::Receiver<bool>,
    ) {
        let places = Places::new(counters);
        let mut accepting = JoinSet::new();
        for (socket, hosts) in self.sockets {
            let socket = match TcpListener::from_std(socket) {
                Ok(socket) => socket,
                Err(error) => {
                    tracing::error!(msg = "cannot serve; the host may be out of file descriptors", %error);
                    continue;
                }
            };
            let served = Served { router: router.clone(), hosts: Arc::new(hosts) };
            accepting.spawn(accept(socket, served, Arc::clone(&guard), Arc::clone(&places), stop.clone()));
        }
        while accepting.join_next().await.is_some() {}
    }
}

/// What is behind one socket.
#[derive(Clone)]
struct Served {
    router: Router,
    hosts: Arc<Hosts>,
}

async fn accept(
    socket: TcpListener,
    served: Served,
    guard: Arc<Guard>,
    places: Arc<Places>,
    mut stop: watch::Receiver<bool>,
) {
    let mut connections = JoinSet::new();
    let for_connections = stop.clone();
    loop {
        tokio::select! {
            () = told(&mut stop) => break,
            Some(_) = connections.join_next() => {}
            accepted = socket.accept() => match accepted {
                Ok((stream, peer)) => {
                    let Some(place) = places.enter(peer.ip()) else { continue };
                    let (served, guard, stop) = (served.clone(), Arc::clone(&guard), for_connections.clone());
                    connections.spawn(enter(stream, served, guard, place, stop));
                }
                Err(error) => {
                    tracing::warn!(msg = "cannot accept a connection", %error);
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
    while connections.join_next().await.is_some() {}
}

/// Waits until serving is to end.
async fn told(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|&stop| stop).await;
}

/// Lets a connection in: encrypted where the files say so, within the time a first request has.
async fn enter(
    stream: TcpStream,
    served: Served,
    guard: Arc<Guard>,
    place: Place,
    stop: watch::Receiver<bool>,
) {
    let Ok(door) = tokio::task::spawn_blocking(move || guard.door()).await else { return };
    let Some(tls) = door.tls() else { return connection(stream, served, door, place, stop).await };
    let handshake = TlsAcceptor::from(tls).accept(stream);
    let stream = tokio::select! {
        shaken = tokio::time::timeout(FIRST_REQUEST, handshake) => shaken,
        () = place.lost() => return,
    };
    match stream {
        Ok(Ok(stream)) => {
            let certificate = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
            if door.admits(certificate) {
                connection(stream, served, door, place, stop).await;
            } else {
                tracing::debug!(msg = "connection refused: its certificate has none of client_allowed_sans");
            }
        }
        Ok(Err(error)) => tracing::debug!(msg = "connection refused", %error),
        Err(_) => {}
    }
}

async fn connection<S>(
    stream: S,
    served: Served,
    door: Arc<Door>,
    place: Place,
    mut stop: watch::Receiver<bool>,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT).max_buf_size(MAX_HEADER);
    let place = Arc::new(place);
    let Served { router, hosts } = served;
    let (inner, told_of) = (TowerToHyperService::new(router), Arc::clone(&place));
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        told_of.asked();
        let (inner, told_of) = (inner.clone(), Arc::clone(&told_of));
        let (door, hosts) = (Arc::clone(&door), Arc::clone(&hosts));
        async move {
            // Before the password: another site's page shall not even be asked for one.
            let allowed = match hosts.check(&request) {
                Ok(()) => door.check(request.uri().path(), request.headers(), told_of.peer()).await,
                refused => refused,
            };
            let mut answer = match allowed {
                Ok(()) => inner.call(request).await,
                Err(refusal) => Ok(*refusal),
            };
            if let Ok(answer) = &mut answer {
                door.dress(answer.headers_mut());
            }
            told_of.answered();
            answer
        }
    });
    let mut serving = pin!(builder.serve_connection(TokioIo::new(stream), service));
    let silent = async {
        tokio::time::sleep(FIRST_REQUEST).await;
        if place.has_asked() {
            std::future::pending::<()>().await;
        }
    };
    let ended = tokio::select! {
        ended = serving.as_mut() => Some(ended),
        // Nobody waits for an answer here: no farewell.
        () = place.lost() => return,
        () = silent => return,
        () = tokio::time::sleep(LIFETIME) => None,
        () = told(&mut stop) => None,
    };
    let ended = match ended {
        Some(ended) => ended,
        None => {
            serving.as_mut().graceful_shutdown();
            tokio::time::timeout(FAREWELL, serving).await.unwrap_or(Ok(()))
        }
    };
    // A client that went away or was too slow is no concern of the log.
    if let Err(error) = ended {
        tracing::debug!(msg = "connection ended", %error);
    }
}
