//! The network between the hosts of a cluster: what becomes of the packets from one host to another, switched at run time.
//!
//! Every connection to a server's port or an agent's port passes a relay in this process ([`super::relay`]), which knows the
//! host that opened it ([`super::owner`]). A direction can pass, delay or lose packets: lost ones are held and delivered when the
//! link heals, as TCP would by sending them again, and nobody sees a connection end meanwhile. A link can also refuse, as a
//! firewall does that answers with a reset.
//!
//! Acknowledgements are packets, too. Where one direction loses everything, the other carries what is sent within the first
//! [`UNACKNOWLEDGED`] and then stands still, as a sender does that hears no acknowledgement; and no connection comes about.
//!
//! What differs from a real network: a connection to a host that loses everything is accepted by this machine's kernel and
//! then silent, where a real one would be waited for.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::error::SandboxError;
use super::owner::Owners;
use super::relay;

/// A host of a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Host {
    /// The manager's.
    Manager,
    /// The one of the server with this number: mysqld and agent.
    Server(usize),
    /// Everybody else's: clients of the tests.
    Client,
}

/// What becomes of packets in one direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Flow {
    /// They arrive.
    #[default]
    Pass,
    /// They arrive in order, each between `least` and `least + jitter` later.
    Delayed {
        /// Shortest delay.
        least: Duration,
        /// What chance adds at most.
        jitter: Duration,
    },
    /// None arrives, and nobody is told.
    Lost,
}

/// How long a sender goes on that hears no acknowledgement: about the shortest time after which Linux sends again.
pub const UNACKNOWLEDGED: Duration = Duration::from_millis(200);

/// All that is not as it should be.
#[derive(Debug, Clone, Default)]
pub(super) struct State {
    everywhere: Flow,
    flows: BTreeMap<(Host, Host), (Flow, Instant)>,
    refusing: BTreeSet<(Host, Host)>,
    /// Addresses where nobody listens at present.
    closed: BTreeSet<SocketAddr>,
}

impl State {
    /// Packets from one host to another; those of one host to itself do not pass its network.
    pub(super) fn flow(&self, from: Host, to: Host) -> Flow {
        if from == to {
            return Flow::Pass;
        }
        self.flows
            .get(&(from, to))
            .map_or(self.everywhere, |(flow, _)| *flow)
    }

    /// Whether bytes of an existing connection arrive if they are sent now.
    pub(super) fn carries(&self, from: Host, to: Host) -> bool {
        let acknowledged = self.flow(to, from) != Flow::Lost
            || self
                .flows
                .get(&(to, from))
                .is_some_and(|(_, since)| since.elapsed() < UNACKNOWLEDGED);
        self.flow(from, to) != Flow::Lost && acknowledged
    }

    /// Whether a connection can come about.
    pub(super) fn connects(&self, from: Host, to: Host) -> bool {
        self.flow(from, to) != Flow::Lost && self.flow(to, from) != Flow::Lost
    }

    pub(super) fn refuses(&self, from: Host, to: Host) -> bool {
        self.refusing.contains(&(from, to))
    }

    pub(super) fn is_closed(&self, address: SocketAddr) -> bool {
        self.closed.contains(&address)
    }
}

/// The network of a cluster. Its relays end with the last clone.
#[derive(Debug, Clone)]
pub struct Links(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    state: watch::Sender<State>,
    owners: Arc<Owners>,
    relays: Mutex<Vec<JoinHandle<()>>>,
    seed: u64,
}

impl Drop for Inner {
    fn drop(&mut self) {
        let relays = self.relays.get_mut();
        for relay in relays.unwrap_or_else(PoisonError::into_inner) {
            relay.abort();
        }
    }
}

impl Links {
    /// A network in which everything passes; `dir` is the cluster's folder, `seed` decides about chance.
    pub fn new(dir: &Path, seed: u64) -> Self {
        Self(Arc::new(Inner {
            state: watch::Sender::new(State::default()),
            owners: Arc::new(Owners::new(dir)),
            relays: Mutex::default(),
            seed,
        }))
    }

    /// Lets what is for `public` pass to `target`, a port of `host`.
    pub async fn relay(
        &self,
        public: SocketAddr,
        target: SocketAddr,
        host: Host,
    ) -> Result<(), SandboxError> {
        let door = relay::Door {
            public,
            target,
            host,
            owners: Arc::clone(&self.0.owners),
            seed: self.0.seed,
        };
        let task = relay::start(door, self.0.state.subscribe()).await?;
        let relays = &self.0.relays;
        relays
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(task);
        Ok(())
    }

    /// Packets from `from` to `to` fare like this from now on, those on their way included.
    pub fn set(&self, from: Host, to: Host, flow: Flow) {
        self.0.state.send_modify(|state| {
            state.flows.insert((from, to), (flow, Instant::now()));
        });
    }

    /// Nothing passes between the two, in either direction.
    pub fn cut(&self, one: Host, other: Host) {
        self.set(one, other, Flow::Lost);
        self.set(other, one, Flow::Lost);
    }

    /// Connections of `from` to `to` are reset and refused.
    pub fn refuse(&self, from: Host, to: Host) {
        self.0.state.send_modify(|state| {
            state.refusing.insert((from, to));
        });
    }

    /// How packets fare on all links of which nothing else was said.
    pub fn everywhere(&self, flow: Flow) {
        self.0.state.send_modify(|state| state.everywhere = flow);
    }

    /// Takes back all cuts, delays and refusals of single links.
    pub fn heal(&self) {
        self.0.state.send_modify(|state| {
            state.flows.clear();
            state.refusing.clear();
        });
    }

    /// Whether anybody listens at this public address: without, connections are refused by the kernel.
    pub fn listening(&self, public: SocketAddr, listens: bool) {
        self.0.state.send_modify(|state| {
            if listens {
                state.closed.remove(&public);
            } else {
                state.closed.insert(public);
            }
        });
    }
}
