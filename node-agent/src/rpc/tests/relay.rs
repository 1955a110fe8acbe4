//! A TCP relay between two agents that misbehaves on demand.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
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
}

impl Relay {
    pub(super) async fn start(server: SocketAddr, fault: Fault, seed: u64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let relay = Self {
            address: listener.local_addr().unwrap(),
            bytes: Arc::default(),
            connections: Arc::default(),
        };
        let random = Arc::new(Mutex::new(StdRng::seed_from_u64(seed)));
        let (bytes, connections) = (Arc::clone(&relay.bytes), Arc::clone(&relay.connections));
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let number = connections.fetch_add(1, Ordering::SeqCst);
                let at = {
                    let mut random = random.lock().unwrap();
                    match fault {
                        Fault::CutWithin(limit) => random.random_range(0..limit),
                        Fault::FlipWithin { bytes, .. } => random.random_range(0..bytes),
                        Fault::None | Fault::Mute => 0,
                    }
                };
                let bytes = Arc::clone(&bytes);
                tokio::spawn(async move {
                    // Errors are what this relay is for.
                    let _ = pass(client, server, fault, number, at, &bytes).await;
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
) -> std::io::Result<()> {
    let server = TcpStream::connect(server).await?;
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let up = tokio::spawn(async move { tokio::io::copy(&mut from_client, &mut to_server).await });
    let mut passed: u64 = 0;
    let mut buffer = vec![0; 16 << 10];
    loop {
        let count = from_server.read(&mut buffer).await?;
        let mut count_u64 = count as u64;
        if count == 0 {
            break;
        }
        match fault {
            Fault::Mute => continue,
            Fault::CutWithin(_) if passed + count_u64 > at => count_u64 = at - passed,
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
        if matches!(fault, Fault::CutWithin(_)) && passed >= at {
            break;
        }
    }
    up.abort();
    Ok(())
}
