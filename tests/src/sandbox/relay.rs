//! One public address whose connections are passed on to a hidden one, as the network's state allows at each moment.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::Instant;

use super::error::SandboxError;
use super::links::{Flow, Host, State};
use super::owner::Owners;

/// Most bytes read at once.
const PIECE: usize = 16 << 10;
/// Pieces on their way in one direction; then the sender waits, as behind a full window.
const IN_FLIGHT: usize = 256;

/// Where a relay listens, and for whom.
#[derive(Debug, Clone)]
pub(super) struct Door {
    pub(super) public: SocketAddr,
    pub(super) target: SocketAddr,
    pub(super) host: Host,
    pub(super) owners: Arc<Owners>,
    pub(super) seed: u64,
}

/// Listens; the connections end with the task.
pub(super) async fn start(
    door: Door,
    state: watch::Receiver<State>,
) -> Result<JoinHandle<()>, SandboxError> {
    let listener = bind(door.public).await?;
    Ok(tokio::spawn(serve(door, listener, state)))
}

async fn bind(address: SocketAddr) -> Result<TcpListener, SandboxError> {
    TcpListener::bind(address)
        .await
        .map_err(|source| SandboxError::Io {
            action: "listen on",
            path: address.to_string().into(),
            source,
        })
}

async fn serve(door: Door, first: TcpListener, mut state: watch::Receiver<State>) {
    let mut listener = Some(first);
    let mut connections = JoinSet::new();
    let mut count = 0_u64;
    loop {
        let closed = state.borrow_and_update().is_closed(door.public);
        if closed {
            listener = None;
            connections.abort_all();
        } else if listener.is_none() {
            // Nobody else takes the address: the network is ours. A failure shows as refused connections.
            listener = bind(door.public).await.ok();
        }
        tokio::select! {
            changed = state.changed() => if changed.is_err() { return },
            accepted = accept(listener.as_ref()) => {
                let Some((client, peer)) = accepted else { continue };
                count += 1;
                let seed = door.seed ^ (u64::from(door.public.port()) << 32) ^ count;
                connections.spawn(connection(door.clone(), client, peer, state.clone(), seed));
            }
            // Collects those that have ended.
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn accept(listener: Option<&TcpListener>) -> Option<(TcpStream, SocketAddr)> {
    match listener {
        Some(listener) => listener.accept().await.ok(),
        None => std::future::pending().await,
    }
}

/// One direction of one connection.
struct Way {
    from: Host,
    to: Host,
    state: watch::Receiver<State>,
    chance: StdRng,
    /// When the piece before is due: nothing overtakes.
    last: Instant,
}

impl Way {
    fn new(from: Host, to: Host, state: watch::Receiver<State>, seed: u64) -> Self {
        Self {
            from,
            to,
            state,
            chance: StdRng::seed_from_u64(seed),
            last: Instant::now(),
        }
    }

    /// When something that is sent now arrives at the earliest.
    fn due(&mut self) -> Instant {
        let flow = self.state.borrow().flow(self.from, self.to);
        let delay = match flow {
            Flow::Pass | Flow::Lost => Duration::ZERO,
            Flow::Delayed { least, jitter } => least + jitter.mul_f64(self.chance.random()),
        };
        self.last = self.last.max(Instant::now() + delay);
        self.last
    }
}

/// Waits while no bytes arrive at the other host.
async fn open(state: &mut watch::Receiver<State>, from: Host, to: Host) {
    // An error means that the network is gone, and this task with it.
    let _ = state.wait_for(|state| state.carries(from, to)).await;
}

async fn connection(
    door: Door,
    mut client: TcpStream,
    peer: SocketAddr,
    mut state: watch::Receiver<State>,
    seed: u64,
) {
    let (owners, public) = (Arc::clone(&door.owners), door.public);
    // A task that was abandoned means the end of the runtime.
    let Ok(from) = tokio::task::spawn_blocking(move || owners.of(peer, public)).await else {
        return;
    };
    let mut refusing = state.clone();
    let refused = async move {
        // See `open`.
        let _ = refusing
            .wait_for(|state| state.refuses(from, door.host))
            .await;
    };
    let mut forward = Way::new(from, door.host, state.clone(), seed);
    let backward = Way::new(door.host, from, state.clone(), !seed);
    let passed = async {
        tokio::time::sleep_until(forward.due()).await;
        // See `open`.
        let _ = state
            .wait_for(|state| state.connects(from, door.host))
            .await;
        let Ok(mut server) = TcpStream::connect(door.target).await else {
            open(&mut state, door.host, from).await;
            return false;
        };
        let _ = (client.set_nodelay(true), server.set_nodelay(true));
        let (client_read, client_write) = client.split();
        let (server_read, server_write) = server.split();
        tokio::join!(
            pump(client_read, server_write, forward),
            pump(server_read, client_write, backward)
        );
        true
    };
    let politely = tokio::select! {
        politely = passed => politely,
        () = refused => false,
    };
    if !politely {
        // Without it the end looks like a polite one.
        let _ = client.set_zero_linger();
    }
}

/// Carries bytes, each when it is due and while packets pass, and then the end.
async fn pump(mut from: ReadHalf<'_>, mut to: WriteHalf<'_>, mut way: Way) {
    let mut state = way.state.clone();
    let (one, other) = (way.from, way.to);
    let (queue, mut due) = mpsc::channel::<(Instant, Vec<u8>)>(IN_FLIGHT);
    let reading = async {
        loop {
            let mut piece = vec![0; PIECE];
            // An error is an end as well: a relay cannot say more.
            let count = from.read(&mut piece).await.unwrap_or(0);
            piece.truncate(count);
            let ends = count == 0;
            if queue.send((way.due(), piece)).await.is_err() || ends {
                return;
            }
        }
    };
    let writing = async {
        while let Some((when, piece)) = due.recv().await {
            tokio::time::sleep_until(when).await;
            open(&mut state, one, other).await;
            if piece.is_empty() {
                // Gone already: nobody is left to be told.
                let _ = to.shutdown().await;
                return;
            }
            if to.write_all(&piece).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = writing => {}
        () = async { reading.await; std::future::pending().await } => {}
    }
}

#[cfg(test)]
mod tests {
    use super::super::links::Links;
    use super::super::network::Network;
    use super::*;

    const PASSED: Duration = Duration::from_secs(20);
    const SILENCE: Duration = Duration::from_millis(150);

    /// A server that sends back what it gets, behind a relay; the test itself is [`Host::Client`].
    async fn echo(links: &Links, network: &Network) -> SocketAddr {
        let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let target = server.local_addr().unwrap();
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = server.accept().await.unwrap();
                tokio::spawn(async move {
                    let (mut read, mut write) = stream.split();
                    let _ = tokio::io::copy(&mut read, &mut write).await;
                });
            }
        });
        // Below the ephemeral range: nobody who dials it can get the port itself.
        let address = network.host(1);
        let public = SocketAddr::from((address, network.port(address).unwrap()));
        links.relay(public, target, Host::Server(0)).await.unwrap();
        public
    }

    async fn says(stream: &mut TcpStream, byte: u8) {
        stream.write_all(&[byte]).await.unwrap();
        let read = tokio::time::timeout(PASSED, stream.read_u8()).await;
        assert_eq!(read.unwrap().unwrap(), byte);
    }

    #[tokio::test]
    async fn what_is_lost_in_either_direction_arrives_when_the_link_heals() {
        let links = Links::new(std::path::Path::new("/nowhere"), 1);
        let network = Network::take().unwrap();
        let public = echo(&links, &network).await;
        let mut stream = TcpStream::connect(public).await.unwrap();
        says(&mut stream, 1).await;
        for (number, (from, to)) in [
            (Host::Client, Host::Server(0)),
            (Host::Server(0), Host::Client),
        ]
        .into_iter()
        .enumerate()
        {
            links.set(from, to, Flow::Lost);
            // The acknowledgements of the other direction are missed soon.
            tokio::time::sleep(super::super::links::UNACKNOWLEDGED).await;
            let byte = 2 + u8::try_from(number).unwrap();
            stream.write_all(&[byte]).await.unwrap();
            let silent = tokio::time::timeout(SILENCE, stream.read_u8()).await;
            assert!(silent.is_err(), "{silent:?}");
            links.heal();
            let read = tokio::time::timeout(PASSED, stream.read_u8()).await;
            assert_eq!(read.unwrap().unwrap(), byte);
        }
        // Another pair is not concerned.
        links.cut(Host::Manager, Host::Server(0));
        says(&mut stream, 9).await;
    }

    #[tokio::test]
    async fn a_refusing_link_resets_and_a_closed_address_refuses() {
        let links = Links::new(std::path::Path::new("/nowhere"), 1);
        let network = Network::take().unwrap();
        let public = echo(&links, &network).await;
        let mut stream = TcpStream::connect(public).await.unwrap();
        says(&mut stream, 1).await;
        links.refuse(Host::Client, Host::Server(0));
        let read = tokio::time::timeout(PASSED, stream.read_u8()).await;
        let error = read.unwrap().unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
        links.heal();
        says(&mut TcpStream::connect(public).await.unwrap(), 2).await;
        links.listening(public, false);
        let refused = async {
            loop {
                match TcpStream::connect(public).await {
                    Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => return,
                    // Still there, or just closed.
                    _ => tokio::task::yield_now().await,
                }
            }
        };
        tokio::time::timeout(PASSED, refused).await.unwrap();
        links.listening(public, true);
        let again = async {
            loop {
                if let Ok(stream) = TcpStream::connect(public).await {
                    return stream;
                }
                tokio::task::yield_now().await;
            }
        };
        says(&mut tokio::time::timeout(PASSED, again).await.unwrap(), 3).await;
    }

    #[tokio::test]
    async fn delayed_bytes_keep_their_order() {
        let links = Links::new(std::path::Path::new("/nowhere"), 1);
        let network = Network::take().unwrap();
        let public = echo(&links, &network).await;
        let least = Duration::from_millis(20);
        links.everywhere(Flow::Delayed {
            least,
            jitter: Duration::from_millis(30),
        });
        let mut stream = TcpStream::connect(public).await.unwrap();
        let begun = Instant::now();
        for byte in 0..20_u8 {
            stream.write_all(&[byte]).await.unwrap();
            tokio::task::yield_now().await;
        }
        let mut all = [0; 20];
        let read = tokio::time::timeout(PASSED, stream.read_exact(&mut all)).await;
        read.unwrap().unwrap();
        assert!(begun.elapsed() >= least * 2);
        assert_eq!(all.to_vec(), (0..20).collect::<Vec<u8>>());
    }
}
