//! Who takes part in the demonstration between namespaces: a shop that listens, its clients, and those who attack it. Each ends by
//! itself after [`LONGEST`] at the latest, whatever becomes of the script that started it.

use halfopen::synth::Scenario;
use socket2::{Domain, Socket, Type};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Longer than scripts/demo.sh plays.
const LONGEST: Duration = Duration::from_secs(45 * 60);

/// The clients' addresses (RFC 5737), all of which are local in their namespace; the last is the scanner's.
const CLIENTS: [u8; 3] = [203, 0, 113];
const SCANNER: u8 = 251;

/// Connections that clients have at once: more are not begun.
const MAX_OPEN: usize = 400;

/// The flood, of forged sources (RFC 2544): the queue of 511 is full within seconds.
const FLOOD: &str = r#"
description = "forged SYNs"
duration = 75
seed = 11
[[traffic]]
kind = "flood"
servers = "192.0.2.10:443"
sources = "198.18.0.0/15"
rate = 285
dispersion = 1
ramp = 6
answers = "drop"
"#;

/// Hardware addresses of the clients' and the shop's end, as scripts/demo.sh sets them.
const MACS: [[u8; 6]; 2] = [[2, 0, 0, 0, 0, 0x0a], [2, 0, 0, 0, 0, 0x0b]];

type Result = std::result::Result<(), String>;

fn words(why: impl std::fmt::Display) -> String {
    why.to_string()
}

/// Answers on every `address:port/backlog`.
pub(super) fn serve(servers: &[&str]) -> Result {
    for server in servers {
        let (address, backlog) = server.split_once('/').ok_or("serve: address:port/backlog")?;
        let address: SocketAddr = address.parse().map_err(words)?;
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None).map_err(words)?;
        socket.set_reuse_address(true).map_err(words)?;
        socket.bind(&address.into()).map_err(words)?;
        socket.listen(backlog.parse().map_err(words)?).map_err(words)?;
        let listener = TcpListener::from(socket);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                std::thread::spawn(move || answer(stream));
            }
        });
    }
    std::thread::sleep(LONGEST);
    Ok(())
}

fn answer(mut stream: TcpStream) {
    let mut request = [0; 64];
    let _ = stream.set_read_timeout(Some(Duration::from_secs(2)));
    if stream.read(&mut request).is_ok_and(|length| length > 0) {
        let _ = stream.write_all(b"welcome");
    }
}

/// Opens, uses and closes connections to every `address:port/rate`, each from one of some 250 addresses.
pub(super) fn clients(servers: &[&str]) -> Result {
    let began = Instant::now();
    let open = Arc::new(AtomicUsize::new(0));
    let mut visitors = Vec::new();
    for server in servers {
        let (address, rate) = server.split_once('/').ok_or("clients: address:port/rate")?;
        let address: SocketAddr = address.parse().map_err(words)?;
        let rate: f64 = rate.parse().map_err(words)?;
        let open = Arc::clone(&open);
        visitors.push(std::thread::spawn(move || {
            for number in 0.. {
                let due = Duration::from_secs_f64(f64::from(number) / rate);
                if due >= LONGEST {
                    return;
                }
                std::thread::sleep(due.saturating_sub(began.elapsed()));
                if open.load(Ordering::Relaxed) < MAX_OPEN {
                    let open = Arc::clone(&open);
                    open.fetch_add(1, Ordering::Relaxed);
                    std::thread::spawn(move || {
                        // Spread by a step that has no common divisor with their number.
                        let _ = visit(address, (number % 250 * 137 % 250) as u8 + 1);
                        open.fetch_sub(1, Ordering::Relaxed);
                    });
                }
            }
        }));
    }
    visitors.into_iter().for_each(|visitor| drop(visitor.join()));
    Ok(())
}

fn visit(server: SocketAddr, from: u8) -> std::io::Result<()> {
    let mut stream = connect(server, from)?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.write_all(b"good day")?;
    stream.shutdown(Shutdown::Write)?;
    let mut answer = Vec::new();
    stream.take(64).read_to_end(&mut answer).map(drop)
}

fn connect(server: SocketAddr, from: u8) -> std::io::Result<TcpStream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    let [a, b, c] = CLIENTS;
    socket.bind(&SocketAddr::from((Ipv4Addr::new(a, b, c, from), 0)).into())?;
    socket.connect_timeout(&server.into(), Duration::from_secs(10))?;
    Ok(socket.into())
}

/// Sends forged SYNs on a link for so many seconds.
pub(super) fn flood(link: &str, seconds: &str) -> Result {
    let mut scenario = Scenario::from_toml(FLOOD).map_err(words)?;
    scenario.duration = Duration::from_secs(seconds.parse().map_err(words)?).min(LONGEST);
    let mut stream = scenario.stream();
    stream.set_link(MACS[0], MACS[1]);
    let link = pcap::Capture::from_device(link).map_err(words)?.snaplen(64);
    let mut link = link.immediate_mode(true).open().map_err(words)?;
    let (began, mut frame) = (Instant::now(), Vec::new());
    while let Some(at) = stream.next_frame(&mut frame) {
        std::thread::sleep(at.since(scenario.start()).saturating_sub(began.elapsed()));
        // A queue that is full for a moment loses a SYN, as any link does.
        let _ = link.sendpacket(frame.as_slice());
    }
    Ok(())
}

/// Looks for so many seconds which ports of a host are open, 200 a second.
pub(super) fn scan(host: &str, seconds: &str) -> Result {
    let (host, seconds): (Ipv4Addr, u16) = (host.parse().map_err(words)?, seconds.parse().map_err(words)?);
    let began = Instant::now();
    for port in 1..=seconds.saturating_mul(200) {
        std::thread::sleep(Duration::from_millis(u64::from(port) * 5).saturating_sub(began.elapsed()));
        let _ = connect(SocketAddr::from((host, port)), SCANNER);
    }
    Ok(())
}

/// Leads connections from one place to another, of which one is `address:port` and the other the path of a socket, which is the same
/// in every namespace.
pub(super) fn door(from: &str, to: &str) -> Result {
    std::thread::spawn(|| {
        std::thread::sleep(LONGEST);
        std::process::exit(0);
    });
    if from.contains('/') {
        for stream in UnixListener::bind(from).map_err(words)?.incoming().flatten() {
            if let Ok(inner) = TcpStream::connect(to) {
                join(&stream, &inner);
            }
        }
    } else {
        let listener = TcpListener::bind(from).map_err(|why| format!("{from}: {why}"))?;
        let address = listener.local_addr().map_err(words)?;
        println!("the page:      http://{address}/");
        println!("in a terminal: cargo run --quiet -- top --url http://{address}");
        for stream in listener.incoming().flatten() {
            let inner = UnixStream::connect(to).map_err(|why| format!("the sensor is gone: {why}"))?;
            join(&stream, &inner);
        }
    }
    Ok(())
}

/// One end of a connection.
trait End: Read + Write + Send + Sized + 'static {
    fn twin(&self) -> std::io::Result<Self>;
    fn say_no_more(&self);
}

impl End for TcpStream {
    fn twin(&self) -> std::io::Result<Self> {
        self.try_clone()
    }

    fn say_no_more(&self) {
        let _ = self.shutdown(Shutdown::Write);
    }
}

impl End for UnixStream {
    fn twin(&self) -> std::io::Result<Self> {
        self.try_clone()
    }

    fn say_no_more(&self) {
        let _ = self.shutdown(Shutdown::Write);
    }
}

fn join(a: &impl End, b: &impl End) {
    lead(a, b);
    lead(b, a);
}

fn lead(from: &impl End, to: &impl End) {
    let (Ok(mut from), Ok(mut to)) = (from.twin(), to.twin()) else { return };
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut from, &mut to);
        to.say_no_more();
    });
}
