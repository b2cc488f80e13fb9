//! What the parties inside the namespaces do.

use super::*;

/// Takes connections, each on a thread of its own, and does what their first byte says.
pub(crate) fn serve(address: &str, signs: &Path) {
    let listener = TcpListener::bind(address).unwrap();
    println!("{}{}", helper::LISTENING, listener.local_addr().unwrap());
    for stream in listener.incoming() {
        let (mut stream, signs) = (stream.unwrap(), signs.to_owned());
        std::thread::spawn(move || -> std::io::Result<()> {
            let mut request = [0; 8];
            stream.read_exact(&mut request)?;
            stream.write_all(&request)?;
            match request[0] {
                // The client closes first.
                b'c' => drop(stream.read(&mut request)?),
                // The server does.
                b's' => {}
                // The server says something more when it is told to.
                _ => {
                    let port = stream.peer_addr()?.port();
                    wait_for_sign(&signs, &port.to_string());
                    stream.write_all(b"are you there?")?;
                    stream.read_exact(&mut request)?;
                }
            }
            Ok(())
        });
    }
}

/// Opens three connections; forgets them all when told to, and comes back from the port of the first.
pub(crate) fn crash(server: SocketAddr, signs: &Path) {
    let streams: Vec<TcpStream> = [BACK, ASKED, SILENT].map(|port| open(server, Some(port))).into();
    for stream in &streams {
        exchange(stream, b'w');
    }
    println!("client: connected");
    wait_for_sign(signs, "forget");
    streams.into_iter().for_each(abort);
    println!("client: forgot");
    wait_for_sign(signs, "back");
    let stream = open(server, Some(BACK));
    exchange(&stream, b'w');
    println!("client: back");
    // Held until the end of the test.
    let _ = (&stream).read(&mut [0]);
}

/// Makes its share of connections on each of several threads.
pub(crate) fn ordinary(server: SocketAddr) {
    std::thread::scope(|scope| {
        for client in 0..CLIENTS {
            scope.spawn(move || {
                for number in 0..ORDINARY / CLIENTS {
                    let again = 20_000 + (client * PORTS + number % PORTS) as u16;
                    match number % 5 {
                        0 | 1 => {
                            let stream = open(server, None);
                            exchange(&stream, b'c');
                        }
                        2 => {
                            let stream = open(server, None);
                            exchange(&stream, b's');
                            assert_eq!((&stream).read(&mut [0]).unwrap(), 0);
                        }
                        3 => {
                            let stream = open(server, Some(again));
                            exchange(&stream, b's');
                            assert_eq!((&stream).read(&mut [0]).unwrap(), 0);
                        }
                        _ => {
                            let stream = open(server, None);
                            exchange(&stream, b'c');
                            abort(stream);
                        }
                    }
                }
            });
        }
    });
}

/// A connection, from a port of choice where one is given.
fn open(server: SocketAddr, port: Option<u16>) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_reuse_address(true).unwrap();
    if let Some(port) = port {
        let own: SocketAddr = format!("{ORIGINATOR}:{port}").parse().unwrap();
        socket.bind(&own.into()).unwrap();
    }
    socket.connect_timeout(&server.into(), PATIENCE).unwrap();
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Eight bytes there and back.
fn exchange(mut stream: &TcpStream, first: u8) {
    let mut request = *b"halfopen";
    request[0] = first;
    stream.write_all(&request).unwrap();
    let mut answer = [0; 8];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(answer, request);
}

/// Closes at once: the kernel sends a reset if it can, and keeps nothing.
fn abort(stream: TcpStream) {
    let socket = Socket::from(stream);
    socket.set_linger(Some(Duration::ZERO)).unwrap();
}
