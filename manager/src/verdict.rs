//! What became of a primary: a pure judgement over evidence from the manager, the primary's agent and the replicas.
//!
//! Invariant: any sign of life decides for life, with one exception: a server whose data disk completes no write is hung,
//! whatever it answers from memory. A server that only the manager cannot reach is `isolated`, never dead. The table of
//! cases is in the tests and in `deploy/OPERATIONS.md`; a test compares the two. How long the evidence must last is not
//! judged here: the monitor's limits say that.

use serde::{Deserialize, Serialize};

use crate::facts::{Process, Receiver};

/// What the manager's own SQL ping saw.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "ping", rename_all = "snake_case")]
pub enum Ping {
    /// It answered a query.
    Answered,
    /// It refused, in a way that only a living server does (too many connections, access denied, ..).
    AnsweredError {
        /// MySQL error number; 0 if the server spoke a login that this program does not.
        errno: u16,
        /// Its text.
        text: String,
    },
    /// The write of an INSERT ping had no answer within the limit, a query beside it had: somebody holds a lock.
    AnsweredQuery {
        /// The limit, milliseconds.
        limit_ms: u64,
    },
    /// Nobody listens on the port: the host answers, mysqld does not.
    Refused,
    /// No answer within the limit.
    NoAnswer {
        /// The limit, milliseconds.
        limit_ms: u64,
    },
    /// Another failure: no route, a name that does not resolve, a broken handshake.
    Failed {
        /// What was seen.
        text: String,
    },
}

impl Ping {
    /// Only a living mysqld answers like this.
    pub fn is_alive(&self) -> bool {
        matches!(
            self,
            Self::Answered | Self::AnsweredError { .. } | Self::AnsweredQuery { .. }
        )
    }
}

impl std::fmt::Display for Ping {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Answered => f.write_str("it answers SQL"),
            Self::AnsweredError { errno, text } => {
                write!(f, "it answers with error {errno}: {text}")
            }
            Self::AnsweredQuery { limit_ms } => write!(
                f,
                "it answers a query, and no write within {limit_ms} ms: is it locked?"
            ),
            Self::Refused => f.write_str("its port refuses connections"),
            Self::NoAnswer { limit_ms } => write!(f, "no answer to SQL within {limit_ms} ms"),
            Self::Failed { text } => write!(f, "no connection: {text}"),
        }
    }
}

/// A directory of mysqld in which a small write and fsync does not complete.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stalled {
    /// The directory.
    pub directory: String,
    /// For how long, milliseconds.
    pub silent_ms: u64,
}

/// What the primary's own agent says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "agent", rename_all = "snake_case")]
pub enum AgentEvidence {
    /// The agent answered.
    Answered {
        /// The mysqld process.
        process: Process,
        /// SQL answered through the local socket.
        sql_alive: bool,
        /// The data disk completes no write, for longer than the limit; `None` if it does, or nobody looked.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        stalled: Option<Stalled>,
    },
    /// The agent did not answer.
    NoAnswer,
}

/// What the primary's MySQL port answered to a replica's agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Port {
    /// A handshake or an error packet: a MySQL server.
    Answered,
    /// The connection was refused.
    Refused,
    /// Nothing within the limit, or no route.
    NoAnswer,
    /// Something that is no MySQL server, or the connection was closed.
    Unclear,
}

/// What one replica sees of the primary.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplicaEvidence {
    /// The replica.
    pub server: String,
    /// Its receiver; `None` if it could not be told.
    pub receiver: Option<Receiver>,
    /// What the primary's port answered to its agent; `None` if the agent was not asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<Port>,
}

/// Everything that is known of a primary's life.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evidence {
    /// Manager's ping.
    pub ping: Ping,
    /// Its agent.
    pub agent: AgentEvidence,
    /// Replicas that could be asked.
    pub replicas: Vec<ReplicaEvidence>,
}

/// What became of a primary.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It lives.
    Alive,
    /// mysqld is down, its host answers.
    ServerDead,
    /// Neither mysqld nor its host answer anybody.
    HostDead,
    /// The manager cannot reach it, others can or may.
    Isolated,
    /// The process runs and answers nobody, or its data disk stands still.
    Hung,
    /// The evidence does not tell.
    Unknown,
}

impl Verdict {
    /// Whether a failover may go on, given that the fence will be confirmed or the majority rule holds.
    pub fn allows_failover(self) -> bool {
        match self {
            Self::ServerDead | Self::HostDead | Self::Hung => true,
            Self::Alive | Self::Isolated | Self::Unknown => false,
        }
    }
}

impl std::fmt::Display for Verdict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Alive => "alive",
            Self::ServerDead => "server dead",
            Self::HostDead => "host dead",
            Self::Isolated => "isolated",
            Self::Hung => "hung",
            Self::Unknown => "unknown",
        })
    }
}

/// Why a verdict was reached; one verdict may have several reasons.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// It answered the manager.
    AnswersManager,
    /// Its data disk completes no write.
    DiskStalled,
    /// It answers its own agent.
    AnswersAgent,
    /// Its agent sees that no process runs.
    ProcessGone,
    /// Its agent sees a process that answers nobody.
    ProcessSilent,
    /// Its port answers a replica's agent.
    AnswersReplica,
    /// A replica says that it is connected, and its agent could not be asked to try.
    ReplicaConnected,
    /// Its port refuses, and nobody is connected.
    PortClosed,
    /// Neither it nor its agent answer, and no replica's agent can connect.
    NobodyReaches,
    /// Nobody else could be asked.
    NobodyToAsk,
    /// Its agent answers and cannot see the process.
    AgentBlind,
    /// Its port answered something that is no MySQL.
    PortUnclear,
}

impl Reason {
    /// The verdict that follows.
    #[must_use]
    pub fn verdict(self) -> Verdict {
        match self {
            Self::AnswersManager => Verdict::Alive,
            Self::DiskStalled | Self::ProcessSilent => Verdict::Hung,
            Self::AnswersAgent
            | Self::AnswersReplica
            | Self::ReplicaConnected
            | Self::NobodyToAsk => Verdict::Isolated,
            Self::ProcessGone | Self::PortClosed => Verdict::ServerDead,
            Self::NobodyReaches => Verdict::HostDead,
            Self::AgentBlind | Self::PortUnclear => Verdict::Unknown,
        }
    }

    /// What to tell an operator, after "SERVER is VERDICT: ".
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Self::AnswersManager => "it answers the manager",
            Self::DiskStalled => "its data disk completes no write, whatever it still answers",
            Self::AnswersAgent => "its own agent reaches it; only the manager cannot",
            Self::ProcessGone => "its agent sees that mysqld does not run",
            Self::ProcessSilent => "mysqld runs and answers neither its agent nor the manager",
            Self::AnswersReplica => {
                "it answers a replica's agent; only the manager cannot reach it"
            }
            Self::ReplicaConnected => "a replica says that it is still connected",
            Self::PortClosed => "its port is closed and nobody is connected",
            Self::NobodyReaches => "neither it nor its agent answer, and no replica reaches it",
            Self::NobodyToAsk => "the manager reaches nobody: it may be cut off itself",
            Self::AgentBlind => "its agent cannot see the process, and nothing answers",
            Self::PortUnclear => {
                "its port answers a replica's agent with something that is no MySQL"
            }
        }
    }
}

/// Weighs the evidence.
#[must_use]
pub fn judge(evidence: &Evidence) -> Verdict {
    weigh(evidence).verdict()
}

/// Weighs the evidence, and says what decided.
#[must_use]
pub fn weigh(evidence: &Evidence) -> Reason {
    if let AgentEvidence::Answered {
        process: Process::Running,
        stalled: Some(_),
        ..
    } = &evidence.agent
    {
        return Reason::DiskStalled;
    }
    if evidence.ping.is_alive() {
        return Reason::AnswersManager;
    }
    match &evidence.agent {
        AgentEvidence::Answered {
            sql_alive: true, ..
        } => Reason::AnswersAgent,
        AgentEvidence::Answered {
            process: Process::NotRunning,
            ..
        } => Reason::ProcessGone,
        AgentEvidence::Answered {
            process: Process::Running,
            ..
        } => Reason::ProcessSilent,
        AgentEvidence::Answered {
            process: Process::Unknown,
            ..
        } => from_outside(evidence, Reason::AgentBlind),
        AgentEvidence::NoAnswer if evidence.replicas.is_empty() => {
            from_outside(evidence, Reason::NobodyToAsk)
        }
        AgentEvidence::NoAnswer => from_outside(evidence, Reason::NobodyReaches),
    }
}

/// Where nobody on the host can tell: what the port says to others, then to the manager.
fn from_outside(evidence: &Evidence, otherwise: Reason) -> Reason {
    let port = |wanted| evidence.replicas.iter().any(|r| r.port == Some(wanted));
    // A receiver may believe in a connection for as long as slave_net_timeout after a host vanished, so it counts only
    // where its agent did not try to connect.
    let connected = evidence
        .replicas
        .iter()
        .any(|r| r.port.is_none() && r.receiver == Some(Receiver::Running));
    if port(Port::Answered) {
        Reason::AnswersReplica
    } else if connected {
        Reason::ReplicaConnected
    } else if port(Port::Unclear) {
        Reason::PortUnclear
    } else if evidence.ping == Ping::Refused || port(Port::Refused) {
        Reason::PortClosed
    } else {
        otherwise
    }
}

/// Everything that was seen, in one line.
#[must_use]
pub fn seen(evidence: &Evidence) -> String {
    let agent = match &evidence.agent {
        AgentEvidence::NoAnswer => "its agent does not answer".to_owned(),
        AgentEvidence::Answered {
            stalled: Some(stalled),
            ..
        } => format!(
            "its agent cannot complete a write in {} for {} ms",
            stalled.directory, stalled.silent_ms
        ),
        AgentEvidence::Answered {
            sql_alive: true, ..
        } => "its agent reaches it by SQL".to_owned(),
        AgentEvidence::Answered { process, .. } => match process {
            Process::Running => "its process runs".to_owned(),
            Process::NotRunning => "its process does not run".to_owned(),
            Process::Unknown => "its agent cannot see the process".to_owned(),
        },
    };
    let replicas = evidence.replicas.iter().map(|r| {
        let receiver = match r.receiver {
            Some(Receiver::Running) => "connected",
            Some(Receiver::Connecting) => "trying to connect",
            Some(Receiver::Stopped) => "stopped",
            None => "unknown",
        };
        let port = match r.port {
            None => "",
            Some(Port::Answered) => ", its agent is answered",
            Some(Port::Refused) => ", its agent is refused",
            Some(Port::NoAnswer) => ", its agent gets no answer",
            Some(Port::Unclear) => ", its agent is answered by something that is no MySQL",
        };
        format!("{} is {receiver}{port}", r.server)
    });
    let mut parts = vec![evidence.ping.to_string(), agent];
    parts.extend(replicas);
    parts.join("; ")
}

/// The sentence for an operator.
#[must_use]
pub fn sentence(server: &str, evidence: &Evidence) -> String {
    let reason = weigh(evidence);
    format!(
        "{server} is {}: {} ({})",
        reason.verdict(),
        reason.words(),
        seen(evidence)
    )
}

#[cfg(test)]
mod tests;
