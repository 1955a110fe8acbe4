//! Observation: all servers in parallel, into one immutable value.
//!
//! What could not be learnt is an explicit [`Unknown`], never a default. Reads only; nothing is retried here but the
//! connection itself.

mod ping;

use std::collections::BTreeMap;
use std::time::Duration;

use futures::future::join_all;
use serde::{Deserialize, Serialize};

pub use ping::{Pinger, ping};

use crate::agents::{self, AgentClient};
use crate::config::{AgentEndpoint, BinlogServerConfig, ClusterConfig, ServerConfig};
use crate::facts::ServerFacts;
use crate::record::Seen;
use crate::verdict::{Ping, Port, ReplicaEvidence, Stalled};

/// Why nothing is known of a server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "unknown", rename_all = "snake_case")]
pub enum Unknown {
    /// Its agent does not answer.
    AgentUnreachable {
        /// What the tries said.
        why: String,
    },
    /// Its agent answers, but does not know the server in this cluster.
    NotAtAgent,
    /// Its agent answered, but not this question.
    NotObserved {
        /// What the call said.
        why: String,
    },
}

impl std::fmt::Display for Unknown {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::AgentUnreachable { why } => write!(f, "its agent does not answer: {why}"),
            Self::NotAtAgent => f.write_str("its agent does not know it in this cluster"),
            Self::NotObserved { why } => write!(f, "its agent could not tell: {why}"),
        }
    }
}

/// Who holds a cluster at an agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredClaim {
    /// Agent.
    pub agent: String,
    /// Highest epoch stored there.
    pub epoch: u64,
    /// Operation and manager, unless released.
    pub holder: Option<(String, String)>,
    /// Manager of record: the one that claimed it last.
    #[serde(default)]
    pub of_record: Option<String>,
}

impl StoredClaim {
    /// What it says of the manager of record.
    #[must_use]
    pub fn seen(&self) -> Seen<'_> {
        Seen {
            agent: &self.agent,
            epoch: self.epoch,
            manager: self.of_record.as_deref(),
        }
    }
}

/// One server as seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerView {
    /// Name.
    pub server: String,
    /// What is known.
    pub facts: Result<ServerFacts, Unknown>,
}

/// The cluster as seen at one moment, servers in configured order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// Servers.
    pub servers: Vec<ServerView>,
    /// Ping of the server that is said to be dead.
    pub ping: Ping,
    /// What that server's port answered to the agents of the others, where they were asked.
    #[serde(default)]
    pub ports: Vec<(String, Port)>,
    /// Its data disk stands still, as the monitor saw it.
    #[serde(default)]
    pub stalled: Option<Stalled>,
    /// Claims stored at the agents that answered.
    pub claims: Vec<StoredClaim>,
}

impl Snapshot {
    /// The server of this name.
    pub fn server(&self, name: &str) -> Option<&ServerView> {
        self.servers.iter().find(|s| s.server == name)
    }

    /// Facts of the server of this name, if known.
    pub fn facts(&self, name: &str) -> Option<&ServerFacts> {
        self.server(name).and_then(|s| s.facts.as_ref().ok())
    }
}

/// Longest wait for the agent of a binlog server: a failover goes on without it.
const BINLOG_SERVER_LIMIT: Duration = Duration::from_secs(2);

/// Connections to the agents that answered, by address; several servers may share one.
#[derive(Debug, Clone, Default)]
pub struct Agents {
    clients: BTreeMap<AgentEndpoint, Result<AgentClient, String>>,
    /// Those of binlog servers, where they are no server's: whoever speaks of the cluster's agents does not mean them.
    beside: BTreeMap<AgentEndpoint, Result<AgentClient, String>>,
}

impl Agents {
    /// Connects to all agents at once.
    pub async fn connect(config: &ClusterConfig) -> Self {
        Self::connect_within(config, |_| config.failover.connect_timeout).await
    }

    /// The same, with a limit of its own for the agent of a host that is known to be silent.
    pub async fn connect_beside(
        config: &ClusterConfig,
        silent: &ServerConfig,
        limit: Duration,
    ) -> Self {
        let usual = config.failover.connect_timeout;
        Self::connect_within(config, |endpoint| {
            if *endpoint == silent.agent {
                limit.min(usual)
            } else {
                usual
            }
        })
        .await
    }

    /// Connections that are open already.
    pub fn of_clients(clients: impl IntoIterator<Item = AgentClient>) -> Self {
        Self {
            clients: clients
                .into_iter()
                .map(|client| (client.endpoint().clone(), Ok(client)))
                .collect(),
            beside: BTreeMap::new(),
        }
    }

    /// Connects to the agents of the binlog servers, at once, and only to these.
    pub async fn of_binlog_servers(config: &ClusterConfig) -> Self {
        let of_servers: Vec<&AgentEndpoint> = config.servers.iter().map(|s| &s.agent).collect();
        let endpoints = config.binlog_servers.iter().map(|b| &b.agent);
        let limit = config.failover.connect_timeout.min(BINLOG_SERVER_LIMIT);
        Self {
            clients: BTreeMap::new(),
            beside: dial(
                config,
                endpoints.filter(|endpoint| !of_servers.contains(endpoint)),
                |_| limit,
            )
            .await,
        }
    }

    /// These, and those of the binlog servers that `beside` is connected to.
    #[must_use]
    pub fn with(mut self, beside: Self) -> Self {
        self.beside = beside.beside;
        self
    }

    /// The agent of a binlog server, or why there is none.
    ///
    /// # Errors
    /// What the tries said.
    pub fn of_binlog_server(&self, server: &BinlogServerConfig) -> Result<&AgentClient, String> {
        let connected = self.clients.get(&server.agent);
        match connected.or_else(|| self.beside.get(&server.agent)) {
            Some(Ok(client)) => Ok(client),
            Some(Err(why)) => Err(format!("its agent does not answer: {why}")),
            None => Err("its agent was never dialled".to_owned()),
        }
    }

    /// Agents of binlog servers that answered and are no server's.
    pub fn beside(&self) -> impl Iterator<Item = &AgentClient> {
        self.beside.values().filter_map(|c| c.as_ref().ok())
    }

    async fn connect_within(
        config: &ClusterConfig,
        limit: impl Fn(&AgentEndpoint) -> Duration,
    ) -> Self {
        Self {
            clients: dial(config, config.servers.iter().map(|s| &s.agent), limit).await,
            beside: BTreeMap::new(),
        }
    }

    /// The agent of a server, if it answered.
    pub fn of(&self, server: &ServerConfig) -> Option<&AgentClient> {
        self.clients.get(&server.agent)?.as_ref().ok()
    }

    /// All agents that answered.
    pub fn reachable(&self) -> impl Iterator<Item = &AgentClient> {
        self.clients.values().filter_map(|c| c.as_ref().ok())
    }

    /// Claims stored at the agents that answered, as of their first call.
    pub fn claims(&self, config: &ClusterConfig) -> Vec<StoredClaim> {
        self.reachable()
            .filter_map(|client| {
                let server = client
                    .servers()
                    .iter()
                    .find(|s| s.cluster == config.cluster)?;
                Some(StoredClaim {
                    agent: client.endpoint().name.clone(),
                    epoch: server.stored_epoch,
                    holder: server.holder.clone(),
                    of_record: server.of_record.clone(),
                })
            })
            .collect()
    }
}

async fn dial<'c>(
    config: &ClusterConfig,
    endpoints: impl Iterator<Item = &'c AgentEndpoint>,
    limit: impl Fn(&AgentEndpoint) -> Duration,
) -> BTreeMap<AgentEndpoint, Result<AgentClient, String>> {
    let mut endpoints: Vec<&AgentEndpoint> = endpoints.collect();
    endpoints.sort_unstable();
    endpoints.dedup();
    join_all(endpoints.into_iter().map(|endpoint| {
        let limit = limit(endpoint);
        async move {
            let client = agents::connect(endpoint, &config.security, limit)
                .await
                .map_err(|e| chain(&e));
            (endpoint.clone(), client)
        }
    }))
    .await
    .into_iter()
    .collect()
}

/// Observes all servers and pings the one said to be dead. If its agent does not answer, the agents of the others try its
/// port, for no longer than `quick` where that is given.
pub async fn observe(
    config: &ClusterConfig,
    dead: &ServerConfig,
    agents: &Agents,
    quick: Option<Duration>,
) -> Snapshot {
    let mut monitor = config.monitor.clone();
    if let Some(quick) = quick {
        monitor.ping_timeout = monitor.ping_timeout.min(quick);
        monitor.probe_timeout = monitor.probe_timeout.min(quick);
    }
    let ports = async {
        if agents.of(dead).is_some() {
            return Vec::new();
        }
        ports(config, dead, agents, monitor.probe_timeout)
            .await
            .into_iter()
            .filter_map(|seen| Some((seen.server, seen.port?)))
            .collect()
    };
    let (ping, servers, ports) = futures::join!(
        ping(&dead.address, &monitor),
        observe_servers(config, agents),
        ports
    );
    Snapshot {
        servers,
        ping,
        ports,
        stalled: None,
        claims: agents.claims(config),
    }
}

/// Observes all servers, in configured order.
pub async fn observe_servers(config: &ClusterConfig, agents: &Agents) -> Vec<ServerView> {
    let limit = config.failover.call_timeout;
    let views = config
        .servers
        .iter()
        .map(|server| observe_server(config, server, agents, limit));
    join_all(views).await
}

/// What the agents of all other servers see of this one's port. Those that do not answer are absent.
pub async fn ports(
    config: &ClusterConfig,
    primary: &ServerConfig,
    agents: &Agents,
    limit: Duration,
) -> Vec<ReplicaEvidence> {
    let asked = config
        .servers
        .iter()
        .filter(|server| server.name != primary.name && server.agent != primary.agent)
        .filter_map(|server| Some((server, agents.of(server)?)))
        .map(async |(server, client)| {
            client
                .probe(&config.cluster, &server.name, &primary.address, limit)
                .await
                .inspect_err(|error| {
                    tracing::debug!(server = %server.name, error = %chain(error), "no answer to a probe");
                })
                .ok()
        });
    join_all(asked).await.into_iter().flatten().collect()
}

async fn observe_server(
    config: &ClusterConfig,
    server: &ServerConfig,
    agents: &Agents,
    limit: Duration,
) -> ServerView {
    let facts = match agents.clients.get(&server.agent) {
        None => Err(Unknown::AgentUnreachable {
            why: "it was never dialled".to_owned(),
        }),
        Some(Err(why)) => Err(Unknown::AgentUnreachable { why: why.clone() }),
        Some(Ok(client)) => {
            let known = client
                .servers()
                .iter()
                .any(|s| s.name == server.name && s.cluster == config.cluster);
            if known {
                client
                    .observe(&config.cluster, &server.name, limit)
                    .await
                    .map_err(|e| Unknown::NotObserved { why: chain(&e) })
            } else {
                Err(Unknown::NotAtAgent)
            }
        }
    };
    ServerView {
        server: server.name.clone(),
        facts,
    }
}

pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
