//! What became of a primary: a pure judgement over evidence from the manager, the primary's agent and the replicas.
//!
//! Invariant: any sign of life decides for life. A server that only the manager cannot reach is `isolated`, never dead.

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
        /// MySQL error number.
        errno: u16,
        /// Its text.
        text: String,
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
        matches!(self, Self::Answered | Self::AnsweredError { .. })
    }
}

impl std::fmt::Display for Ping {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Answered => f.write_str("it answers SQL"),
            Self::AnsweredError { errno, text } => {
                write!(f, "it answers with error {errno}: {text}")
            }
            Self::Refused => f.write_str("its port refuses connections"),
            Self::NoAnswer { limit_ms } => write!(f, "no answer to SQL within {limit_ms} ms"),
            Self::Failed { text } => write!(f, "no connection: {text}"),
        }
    }
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
    },
    /// The agent did not answer.
    NoAnswer,
}

/// What one replica sees of the primary.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplicaEvidence {
    /// The replica.
    pub server: String,
    /// Its receiver.
    pub receiver: Receiver,
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
    /// Neither mysqld nor its host answer, and no replica is connected.
    HostDead,
    /// The manager cannot reach it, others can or may.
    Isolated,
    /// The process runs and answers nobody.
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

/// Weighs the evidence.
#[must_use]
pub fn judge(evidence: &Evidence) -> Verdict {
    if evidence.ping.is_alive() {
        return Verdict::Alive;
    }
    // A receiver may believe in a connection for as long as slave_net_timeout after a host vanished, so it counts only
    // where nobody on the host can say more.
    let somebody_connected = evidence
        .replicas
        .iter()
        .any(|r| r.receiver == Receiver::Running);
    match &evidence.agent {
        AgentEvidence::Answered {
            sql_alive: true, ..
        } => Verdict::Isolated,
        AgentEvidence::Answered {
            process: Process::NotRunning,
            ..
        } => Verdict::ServerDead,
        AgentEvidence::Answered {
            process: Process::Running,
            ..
        } => Verdict::Hung,
        AgentEvidence::Answered {
            process: Process::Unknown,
            ..
        } => match (&evidence.ping, somebody_connected) {
            (_, true) => Verdict::Isolated,
            (Ping::Refused, false) => Verdict::ServerDead,
            (_, false) => Verdict::Unknown,
        },
        AgentEvidence::NoAnswer => match (&evidence.ping, somebody_connected) {
            (_, true) => Verdict::Isolated,
            (Ping::Refused, false) => Verdict::ServerDead,
            (Ping::NoAnswer { .. } | Ping::Failed { .. }, false) => Verdict::HostDead,
            // Alive pings have returned above.
            (Ping::Answered | Ping::AnsweredError { .. }, false) => Verdict::Alive,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn evidence(ping: Ping, agent: AgentEvidence, receivers: &[Receiver]) -> Evidence {
        Evidence {
            ping,
            agent,
            replicas: receivers
                .iter()
                .enumerate()
                .map(|(i, r)| ReplicaEvidence {
                    server: format!("db{i}"),
                    receiver: *r,
                })
                .collect(),
        }
    }

    fn answered(process: Process, sql_alive: bool) -> AgentEvidence {
        AgentEvidence::Answered { process, sql_alive }
    }

    #[test]
    fn table_of_verdicts() {
        use Process::{NotRunning, Running};
        use Receiver::{Connecting, Running as Connected, Stopped};
        let no_answer = || Ping::NoAnswer { limit_ms: 1000 };
        let failed = || Ping::Failed {
            text: "no route".into(),
        };
        let denied = || Ping::AnsweredError {
            errno: 1045,
            text: "denied".into(),
        };
        let none = || AgentEvidence::NoAnswer;
        let table = [
            // A living server is alive whatever others say.
            (Ping::Answered, none(), vec![Stopped], Verdict::Alive),
            (
                Ping::Answered,
                answered(NotRunning, false),
                vec![Connecting],
                Verdict::Alive,
            ),
            (denied(), none(), vec![Connecting], Verdict::Alive),
            // The agent sees no process: dead, even if a replica has not noticed yet.
            (
                Ping::Refused,
                answered(NotRunning, false),
                vec![Connecting],
                Verdict::ServerDead,
            ),
            (
                no_answer(),
                answered(NotRunning, false),
                vec![Connected],
                Verdict::ServerDead,
            ),
            // The agent reaches it, we do not.
            (
                no_answer(),
                answered(Running, true),
                vec![Connecting],
                Verdict::Isolated,
            ),
            (
                Ping::Refused,
                answered(Running, true),
                vec![],
                Verdict::Isolated,
            ),
            // A process that answers nobody.
            (
                no_answer(),
                answered(Running, false),
                vec![Connected],
                Verdict::Hung,
            ),
            (
                Ping::Refused,
                answered(Running, false),
                vec![Connecting],
                Verdict::Hung,
            ),
            // The agent does not know the process.
            (
                Ping::Refused,
                answered(Process::Unknown, false),
                vec![Connecting],
                Verdict::ServerDead,
            ),
            (
                no_answer(),
                answered(Process::Unknown, false),
                vec![Connecting],
                Verdict::Unknown,
            ),
            (
                no_answer(),
                answered(Process::Unknown, false),
                vec![Connected],
                Verdict::Isolated,
            ),
            // No agent.
            (
                Ping::Refused,
                none(),
                vec![Connecting, Stopped],
                Verdict::ServerDead,
            ),
            (Ping::Refused, none(), vec![Connected], Verdict::Isolated),
            (
                no_answer(),
                none(),
                vec![Connecting, Connecting],
                Verdict::HostDead,
            ),
            (
                no_answer(),
                none(),
                vec![Connecting, Connected],
                Verdict::Isolated,
            ),
            (failed(), none(), vec![Stopped], Verdict::HostDead),
            (failed(), none(), vec![], Verdict::HostDead),
        ];
        for (ping, agent, receivers, expected) in table {
            let evidence = evidence(ping, agent, &receivers);
            assert_eq!(judge(&evidence), expected, "{evidence:?}");
        }
    }

    #[test]
    fn only_death_and_hanging_allow_a_failover() {
        for (verdict, allowed) in [
            (Verdict::Alive, false),
            (Verdict::ServerDead, true),
            (Verdict::HostDead, true),
            (Verdict::Isolated, false),
            (Verdict::Hung, true),
            (Verdict::Unknown, false),
        ] {
            assert_eq!(verdict.allows_failover(), allowed, "{verdict}");
        }
    }
}
