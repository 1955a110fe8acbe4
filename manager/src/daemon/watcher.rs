//! What is heard: one task per server that keeps its agent's stream open, one that pings the primary, and the questions
//! of a moment. Every wait has a limit; a stream that ended is opened again after a pause that grows.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::agents::{self, AgentClient};
use crate::config::{ClusterConfig, ServerConfig};
use crate::lease::Told;
use crate::monitor::{AgentState, At};
use crate::observe::{self, Agents, Pinger, chain};
use crate::verdict::{Ping, ReplicaEvidence};

/// First pause before a stream is opened again; it doubles.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// The longest.
const LAST_PAUSE: Duration = Duration::from_secs(2);

/// Something that was seen of a cluster.
#[derive(Debug)]
pub(super) enum Seen {
    /// A ping of this server ended.
    Ping {
        server: String,
        begun: At,
        ping: Ping,
    },
    /// An agent told of its server, or fell silent.
    Agent {
        server: String,
        state: Result<Box<(AgentState, Told)>, String>,
    },
    /// Replicas' agents were asked for this server's port.
    Ports {
        server: String,
        asked: At,
        replicas: Vec<ReplicaEvidence>,
    },
    /// Who the primary is was asked again, while this one could not be replaced.
    Looked {
        instead_of: String,
        found: Option<String>,
    },
}

/// Time since the daemon began, by a clock that never goes back.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clock(Instant);

impl Clock {
    pub(super) fn start() -> Self {
        Self(Instant::now())
    }

    pub(super) fn now(self) -> At {
        self.0.elapsed()
    }
}

/// A task that ends with its owner.
#[derive(Debug)]
pub(super) struct Owned(JoinHandle<()>);

impl Owned {
    pub(super) fn spawn(task: impl Future<Output = ()> + Send + 'static) -> Self {
        Self(tokio::spawn(task))
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Connections to the agents whose streams are open.
#[derive(Debug, Clone, Default)]
pub(super) struct Connected(Arc<Mutex<BTreeMap<String, AgentClient>>>);

impl Connected {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, AgentClient>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// As the rest of the program takes them.
    pub(super) fn agents(&self) -> Agents {
        Agents::of_clients(self.lock().values().cloned())
    }
}

/// Keeps the stream of a server's agent open.
pub(super) async fn watch(
    config: Arc<ClusterConfig>,
    server: ServerConfig,
    connected: Connected,
    inbox: mpsc::Sender<Seen>,
) {
    let mut pause = FIRST_PAUSE;
    loop {
        let mut heard = false;
        let why = stream(&config, &server, &connected, &inbox, &mut heard).await;
        connected.lock().remove(&server.name);
        let lost = Seen::Agent {
            server: server.name.clone(),
            state: Err(why),
        };
        if inbox.send(lost).await.is_err() {
            return;
        }
        pause = if heard {
            FIRST_PAUSE
        } else {
            (pause * 2).min(LAST_PAUSE)
        };
        tokio::time::sleep(pause).await;
    }
}

/// One stream from its opening to its end; returns why it ended.
async fn stream(
    config: &ClusterConfig,
    server: &ServerConfig,
    connected: &Connected,
    inbox: &mpsc::Sender<Seen>,
    heard: &mut bool,
) -> String {
    let monitor = &config.monitor;
    let limit = config.failover.connect_timeout;
    let client = match agents::connect(&server.agent, &config.security, limit).await {
        Ok(client) => client,
        Err(error) => return chain(&error),
    };
    // The first state may take a moment; after it the heartbeat rules.
    let opened = client.watch(
        &config.cluster,
        &server.name,
        monitor.agent_heartbeat,
        monitor.agent_silence(),
    );
    let mut states = match opened.await {
        Ok(states) => states,
        Err(error) => {
            // It can be asked all the same.
            if error.is_lost() {
                return chain(&error);
            }
            connected.lock().insert(server.name.clone(), client);
            tokio::time::sleep(LAST_PAUSE).await;
            return chain(&error);
        }
    };
    connected.lock().insert(server.name.clone(), client);
    loop {
        match states.next().await {
            Ok(state) => {
                *heard = true;
                let seen = Seen::Agent {
                    server: server.name.clone(),
                    state: Ok(Box::new(state)),
                };
                if inbox.send(seen).await.is_err() {
                    return "nobody listens any more".to_owned();
                }
            }
            Err(error) => return chain(&error),
        }
    }
}

/// Pings a server for as long as the task lives.
pub(super) async fn ping(
    config: Arc<ClusterConfig>,
    server: ServerConfig,
    clock: Clock,
    inbox: mpsc::Sender<Seen>,
) {
    let mut pinger = Pinger::new(&server.address, &config.monitor);
    let mut turns = tokio::time::interval(config.monitor.ping_interval);
    turns.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        turns.tick().await;
        let begun = clock.now();
        let ping = pinger.ping().await;
        let seen = Seen::Ping {
            server: server.name.clone(),
            begun,
            ping,
        };
        if inbox.send(seen).await.is_err() {
            return;
        }
    }
}

/// Asks at once: a ping on a new connection, and all other agents for the server's port.
pub(super) fn ask(
    config: &Arc<ClusterConfig>,
    server: &ServerConfig,
    connected: &Connected,
    clock: Clock,
    inbox: &mpsc::Sender<Seen>,
) -> [Owned; 2] {
    let begun = clock.now();
    let (one, two) = (config.clone(), config.clone());
    let (primary, same) = (server.clone(), server.clone());
    let (out, also) = (inbox.clone(), inbox.clone());
    let agents = connected.agents();
    let ping = async move {
        let ping = observe::ping(&primary.address, &one.monitor).await;
        // Nobody listens any more: the daemon ends.
        let _ = out
            .send(Seen::Ping {
                server: primary.name,
                begun,
                ping,
            })
            .await;
    };
    let ports = async move {
        let replicas = observe::ports(&two, &same, &agents, two.monitor.probe_timeout).await;
        let _ = also
            .send(Seen::Ports {
                server: same.name,
                asked: begun,
                replicas,
            })
            .await;
    };
    [Owned::spawn(ping), Owned::spawn(ports)]
}
