//! A TCP relay between two agents that misbehaves on demand.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};

/// What happens to what the server sends.
#[derive(Debug, Clone, Copy)]
pub(super) enum Fault {
    /// Nothing.
    None,
    /// The connection is cut after a random number of bytes up to this.
    CutWithin(u64),
    /// One random byte among so many is flipped, on the first so many connections.
    FlipWithin { bytes: u64, connections: u64 },
    /// The first connection is cut after exactly so many bytes.
    CutOnceAt(u64),
    /// The first connection passes nothing on, either way, behind so many bytes, and stays open.
    SilentAfter(u64),
    /// Nothing is passed on at all.
    Mute,
}

/// A running relay.
pub(super) struct Relay {
    pub(super) address: SocketAddr,
    /// Bytes that the server sent and that were passed on.
    pub(super) bytes: Arc<AtomicU64>,
    /// Connections made.
    pub(super) connections: Arc<AtomicU64>,
    /// Connections that the server has closed.
    pub(super) closed_by_server: Arc<AtomicU64>,
}

impl Relay {
    pub(super) async fn start(server: SocketAddr, fault: Fault, seed: u64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let relay = Self {
            address: listener.local_addr().unwrap(),
            bytes: Arc::default(),
            connections: Arc::default(),
            closed_by_server: Arc::default(),
        };
        let random = Arc::new(Mutex::new(StdRng::seed_from_u64(seed)));
        let (bytes, connections) = (Arc::clone(&relay.bytes), Arc::clone(&relay.connections));
        let closed = Arc::clone(&relay.closed_by_server);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let number = connections.fetch_add(1, Ordering::SeqCst);
                let at = {
                    let mut random = random.lock().unwrap();
                    match fault {
                        Fault::CutWithin(limit) => random.random_range(0..limit),
                        Fault::FlipWithin { bytes, .. } => random.random_range(0..bytes),
                        Fault::CutOnceAt(at) | Fault::SilentAfter(at) => at,
                        Fault::None | Fault::Mute => 0,
                    }
                };
                let fault = match fault {
                    Fault::CutOnceAt(_) | Fault::SilentAfter(_) if number > 0 => Fault::None,
                    _ => fault,
                };
                let (bytes, closed) = (Arc::clone(&bytes), Arc::clone(&closed));
                tokio::spawn(async move {
                    // Errors are what this relay is for.
                    let _ = pass(client, server, fault, number, at, &bytes, &closed).await;
                });
            }
        });
        relay
    }
}

async fn pass(
    client: TcpStream,
    server: SocketAddr,
    fault: Fault,
    number: u64,
    at: u64,
    bytes: &AtomicU64,
    closed: &AtomicU64,
) -> std::io::Result<()> {
    let server = TcpStream::connect(server).await?;
    let (from_client, mut to_client) = client.into_split();
    let (mut from_server, to_server) = server.into_split();
    let silent = Arc::new(AtomicBool::new(false));
    tokio::spawn(up(from_client, to_server, Arc::clone(&silent)));
    let mut passed: u64 = 0;
    let mut buffer = vec![0; 16 << 10];
    loop {
        let count = match from_server.read(&mut buffer).await {
            Ok(count) if count > 0 => count,
            ended => {
                closed.fetch_add(1, Ordering::SeqCst);
                if silent.load(Ordering::SeqCst) {
                    // Even the end is not passed on.
                    std::future::pending::<()>().await;
                }
                return ended.map(drop);
            }
        };
        let mut count_u64 = count as u64;
        match fault {
            Fault::Mute => continue,
            Fault::SilentAfter(_) if passed + count_u64 > at => {
                // For good: a smaller piece that would still fit must not slip through behind a gap.
                passed = at;
                silent.store(true, Ordering::SeqCst);
                continue;
            }
            Fault::CutWithin(_) | Fault::CutOnceAt(_) if passed + count_u64 > at => {
                count_u64 = at - passed;
            }
            Fault::FlipWithin { connections, .. }
                if number < connections && (passed..passed + count_u64).contains(&at) =>
            {
                buffer[usize::try_from(at - passed).unwrap()] ^= 0x10;
            }
            _ => {}
        }
        to_client
            .write_all(&buffer[..usize::try_from(count_u64).unwrap()])
            .await?;
        bytes.fetch_add(count_u64, Ordering::SeqCst);
        passed += count_u64;
        if matches!(fault, Fault::CutWithin(_) | Fault::CutOnceAt(_)) && passed >= at {
            return Ok(());
        }
    }
}

/// Takes what the client sends until it closes, also when the server is gone: closing a socket with bytes unread would reset
/// the connection, and what was passed on before would be lost in the client's kernel.
async fn up(
    mut from_client: OwnedReadHalf,
    mut to_server: OwnedWriteHalf,
    silent: Arc<AtomicBool>,
) {
    let mut buffer = vec![0; 16 << 10];
    while let Ok(count @ 1..) = from_client.read(&mut buffer).await {
        if !silent.load(Ordering::SeqCst) {
            let _ = to_server.write_all(&buffer[..count]).await;
        }
    }
    if silent.load(Ordering::SeqCst) {
        std::future::pending::<()>().await;
    }
}
