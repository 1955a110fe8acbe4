//! Observation: all servers in parallel, into one immutable value.
//!
//! What could not be learnt is an explicit [`Unknown`], never a default. Reads only; nothing is retried here but the
//! connection itself.

mod ping;

use std::collections::BTreeMap;
use std::time::Duration;

use futures::future::join_all;
use serde::{Deserialize, Serialize};

use crate::agents::{self, AgentClient};
use crate::config::{AgentEndpoint, ClusterConfig, ServerConfig};
use crate::facts::ServerFacts;
use crate::verdict::Ping;

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

/// Connections to the agents that answered, by address; several servers may share one.
#[derive(Debug, Clone, Default)]
pub struct Agents {
    clients: BTreeMap<AgentEndpoint, Result<AgentClient, String>>,
}

impl Agents {
    /// Connects to all agents at once.
    pub async fn connect(config: &ClusterConfig) -> Self {
        let mut endpoints: Vec<&AgentEndpoint> = config.servers.iter().map(|s| &s.agent).collect();
        endpoints.sort_unstable();
        endpoints.dedup();
        let limit = config.failover.connect_timeout;
        let clients = join_all(endpoints.into_iter().map(async |endpoint| {
            let client = agents::connect(endpoint, &config.security, limit)
                .await
                .map_err(|e| chain(&e));
            (endpoint.clone(), client)
        }))
        .await
        .into_iter()
        .collect();
        Self { clients }
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
                })
            })
            .collect()
    }
}

/// Observes all servers and pings the one said to be dead.
pub async fn observe(config: &ClusterConfig, dead: &ServerConfig, agents: &Agents) -> Snapshot {
    let limit = config.failover.call_timeout;
    let views = join_all(
        config
            .servers
            .iter()
            .map(|server| observe_server(config, server, agents, limit)),
    );
    let (ping, servers) = futures::join!(ping::ping(&dead.address, &config.monitor), views);
    Snapshot {
        servers,
        ping,
        claims: agents.claims(config),
    }
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
