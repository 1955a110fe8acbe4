//! The local source: the server side of the replication protocol on loopback, from which the local mysqld replays
//! segments of a dead primary.
//!
//! The server then does what it does every day: it fetches, writes its relay log, applies with its own applier, and
//! survives a restart. What holds here:
//!
//! - **Events travel as the dead primary wrote them**, in its own coordinates. Only format descriptions are altered
//!   (in-use flag; `created` and end position where a replica resumes), as real servers do.
//! - **A replica may lose the connection anywhere**, inside a transaction or with temporary tables open, ask again
//!   from its read position, and end up with the same data.
//! - **Nothing is guessed**: what the identity of the primary does not tell is unknown to the replica too, and a
//!   position that is not held is refused with error 1236 and the reason.
//! - **Everything ends**: all tasks end on [`LocalSource::stop`] or when the value is dropped; memory does not
//!   depend on the size of the stream.
//!
//! The parts: `packet`, `response`, `handshake`, `auth`, `command` (the protocol); `query`, `answers` (what replicas
//! ask before a dump); `asked`, `by_gtid`, `dump`, `pump`, `made` (the dump); [`feed`] and [`chain_feed`] (where events
//! come from).

pub mod chain_feed;
pub mod fault;
pub mod feed;

mod answers;
mod asked;
mod auth;
pub mod by_gtid;
mod command;
mod connection;
mod dump;
mod handshake;
mod identity;
mod made;
mod packet;
mod progress;
mod pump;
mod query;
mod response;
#[cfg(test)]
mod tests;

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::atomic::AtomicU32;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use binlog_core::ServerId;
use thiserror::Error;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{sleep, timeout};
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::{debug, info, warn};

pub use auth::ReplayAccount;
pub use chain_feed::ChainFeed;
pub use feed::{EventFeed, Growth};
pub use identity::{Flavor, SourceIdentity};
pub use progress::SourceProgress;

use answers::Answers;
use auth::AuthPlugin;
use connection::Wire;
use fault::{FaultPlan, Faults};
use response::ErrorReply;

/// Connections served at once: one replica, its reconnects, and room for an operator.
const MAX_CONNECTIONS: usize = 32;
/// How long [`LocalSource::stop`] waits for connections to notice.
const STOP_LIMIT: Duration = Duration::from_secs(5);

/// What a local source is to be.
#[derive(Debug)]
pub struct SourceConfig {
    /// Who the dead primary was.
    pub identity: SourceIdentity,
    /// Port on 127.0.0.1; `None`: any free one. After a restart of the agent: the one the replica knows.
    pub bind_port: Option<u16>,
    /// The account the replica logs in with; `None`: a random one.
    pub account: Option<ReplayAccount>,
    /// The events.
    pub feed: Arc<dyn EventFeed>,
    /// Deadlines.
    pub limits: SourceLimits,
    /// Faults to inject; empty except in tests.
    pub faults: FaultPlan,
}

/// Deadlines of a local source. None limits how long a replay may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SourceLimits {
    /// From the connection to the end of the login.
    pub login: Duration,
    /// From the first byte of a command to its last.
    pub packet: Duration,
    /// Without a byte taken by the replica. It then reconnects, as it would from a server (`net_write_timeout`).
    pub write_stall: Duration,
    /// To open segments at a position.
    pub disk: Duration,
}

impl Default for SourceLimits {
    fn default() -> Self {
        Self {
            login: Duration::from_secs(10),
            packet: Duration::from_secs(30),
            write_stall: Duration::from_secs(60),
            disk: Duration::from_secs(60),
        }
    }
}

/// Why a local source could not be started.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SourceError {
    /// The port is taken, or the system refuses.
    #[error("cannot listen on 127.0.0.1:{port}")]
    Bind {
        /// Port asked for; 0 for any.
        port: u16,
        /// The system's reason; `AddrInUse` if the port is taken.
        #[source]
        source: std::io::Error,
    },
    /// The account does not fit into a CHANGE MASTER of the oldest server.
    #[error("account {user:?} has more than 16 bytes of name or 32 of password, or is empty")]
    Account {
        /// Its user name.
        user: String,
    },
}

/// What all connections share.
#[derive(Debug)]
struct Shared {
    server_id: ServerId,
    greeting_version: String,
    answers: Answers,
    plugin: AuthPlugin,
    account: ReplayAccount,
    feed: Arc<dyn EventFeed>,
    limits: SourceLimits,
    faults: Faults,
    progress: watch::Sender<SourceProgress>,
    /// Why an event broke off in the middle: told to whoever asks next, instead of breaking off again and again.
    broken: Mutex<Option<String>>,
    connection_ids: AtomicU32,
    stop: CancellationToken,
}

impl Shared {
    fn new(config: SourceConfig, account: ReplayAccount, stop: CancellationToken) -> Self {
        Self {
            server_id: config.identity.server_id,
            greeting_version: config.identity.greeting_version(),
            answers: Answers::of(&config.identity),
            plugin: AuthPlugin::of(&config.identity),
            account,
            feed: config.feed,
            limits: config.limits,
            faults: Faults::new(config.faults),
            progress: watch::Sender::new(SourceProgress::default()),
            broken: Mutex::new(None),
            connection_ids: AtomicU32::new(1),
            stop,
        }
    }

    fn fail(&self, reason: &str, for_good: bool) {
        if for_good {
            *self.broken.lock().unwrap_or_else(PoisonError::into_inner) = Some(reason.to_owned());
        }
        self.progress
            .send_modify(|progress| progress.last_error = Some(reason.to_owned()));
    }

    fn broken(&self) -> Option<String> {
        self.broken
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

/// A running local source.
#[derive(Debug)]
pub struct LocalSource {
    port: u16,
    account: ReplayAccount,
    progress: watch::Receiver<SourceProgress>,
    accepting: JoinHandle<()>,
    stop: DropGuard,
}

impl LocalSource {
    /// Listens, and serves whoever logs in with the account.
    ///
    /// # Errors
    /// If the port cannot be bound or the account is unusable.
    pub async fn start(mut config: SourceConfig) -> Result<Self, SourceError> {
        let account = config
            .account
            .take()
            .unwrap_or_else(ReplayAccount::generate);
        if account.user.is_empty() || account.user.len() > 16 || account.password.len() > 32 {
            return Err(SourceError::Account { user: account.user });
        }
        let port = config.bind_port.unwrap_or(0);
        let bind = |source| SourceError::Bind { port, source };
        let address = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, port));
        let listener = TcpListener::bind(address).await.map_err(bind)?;
        let port = listener.local_addr().map_err(bind)?.port();
        if !config.faults.faults.is_empty() {
            warn!(faults = ?config.faults.faults, "this local source is told to fail, for a test");
        }
        let stop = CancellationToken::new();
        let shared = Arc::new(Shared::new(config, account.clone(), stop.clone()));
        let progress = shared.progress.subscribe();
        info!(port, user = account.user, range = %shared.feed.range(), "local source listens");
        let accepting = tokio::spawn(accept(listener, shared));
        Ok(Self {
            port,
            account,
            progress,
            accepting,
            stop: stop.drop_guard(),
        })
    }

    /// Port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The account to log in with.
    pub fn account(&self) -> &ReplayAccount {
        &self.account
    }

    /// What has been done so far; changes are notified.
    pub fn progress(&self) -> watch::Receiver<SourceProgress> {
        self.progress.clone()
    }

    /// Closes the port and all connections. Returns when they are closed, after at most five seconds.
    pub async fn stop(self) {
        drop(self.stop);
        let mut accepting = self.accepting;
        if timeout(STOP_LIMIT, &mut accepting).await.is_err() {
            accepting.abort();
        }
    }
}

/// Accepts until stopped; owns the connections, which end with it.
async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let accepted = tokio::select! {
            biased;
            () = shared.stop.cancelled() => break,
            Some(_ended) = connections.join_next() => continue,
            accepted = listener.accept() => accepted,
        };
        let Ok((stream, peer)) = accepted else {
            // Out of file descriptors, or the peer is gone already. Not to be tried a million times a second.
            tokio::select! {
                () = shared.stop.cancelled() => break,
                () = sleep(Duration::from_millis(100)) => continue,
            }
        };
        shared
            .progress
            .send_modify(|progress| progress.connections += 1);
        let place = Arc::clone(&places).try_acquire_owned();
        let shared = Arc::clone(&shared);
        connections.spawn(async move {
            let served = match place {
                Ok(_place) => serve(stream, shared).await,
                Err(_full) => {
                    let refusal = ErrorReply::too_many_connections().payload();
                    Wire::new(stream, shared).send(&[refusal]).await
                }
            };
            match served {
                Ok(()) => debug!(%peer, "connection to the local source ended"),
                Err(error) => debug!(%peer, error = feed::chain(&error), "connection to the local source ended"),
            }
        });
    }
    drop(listener);
    // Each connection watches the stop signal wherever it waits.
    while connections.join_next().await.is_some() {}
}

async fn serve(stream: TcpStream, shared: Arc<Shared>) -> Result<(), connection::ConnectionError> {
    // Heartbeats and the last events are small, and the applier waits for them.
    let _best_effort = stream.set_nodelay(true);
    connection::serve(stream, shared).await
}
