//! A link with a delay and nothing else: bytes wait in a queue until they are due.
//!
//! It must not limit anything itself. A connection holds up to [`IN_FLIGHT`] bytes in each direction, which at 5 ms would
//! be 13 GB/s.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

/// Bytes on their way in one direction.
const IN_FLIGHT: usize = 64 << 20;
/// Most bytes read at once.
const PIECE: usize = 256 << 10;

/// A relay to one address, until the process ends.
pub(crate) struct Relay {
    address: SocketAddr,
}

impl Relay {
    /// Relays to `server`; `delay` is that of one direction.
    pub(crate) fn start(server: SocketAddr, delay: Duration) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        thread::spawn(move || {
            for client in listener.incoming() {
                let client = client.expect("a connection");
                let server = TcpStream::connect(server).expect("the far end listens");
                for (from, to) in [(&client, &server), (&server, &client)] {
                    let (from, to) = (twin(from), twin(to));
                    thread::spawn(move || pass(from, to, delay));
                }
            }
        });
        Self { address }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

fn twin(stream: &TcpStream) -> TcpStream {
    stream.set_nodelay(true).expect("a socket");
    stream.try_clone().expect("a file descriptor")
}

/// Passes bytes on, each after its delay, until one end closes; an end that closes early ends the test elsewhere.
fn pass(mut from: TcpStream, mut to: TcpStream, delay: Duration) {
    // Pieces are mostly whole when it matters, so their number bounds the bytes.
    let (queue, due) = mpsc::sync_channel::<(Instant, Vec<u8>)>(IN_FLIGHT / PIECE);
    let (give_back, used) = mpsc::channel::<Vec<u8>>();
    let writer = thread::spawn(move || {
        for (when, piece) in due {
            thread::sleep(when.saturating_duration_since(Instant::now()));
            if to.write_all(&piece).is_err() {
                break;
            }
            let _ = give_back.send(piece);
        }
        let _ = to.shutdown(Shutdown::Write);
    });
    loop {
        // Buffers go round, so that the kernel is not asked for new memory all the time.
        let mut piece = used.try_recv().unwrap_or_default();
        piece.resize(PIECE, 0);
        match from.read(&mut piece) {
            Ok(0) | Err(_) => break,
            Ok(count) => piece.truncate(count),
        }
        if queue.send((Instant::now() + delay, piece)).is_err() {
            break;
        }
    }
    drop(queue);
    let _ = writer.join();
}
