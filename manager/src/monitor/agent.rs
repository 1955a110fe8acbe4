//! What a primary's own agent says of it, as far as a verdict depends on it.

use std::time::Duration;

use crate::facts::Process;
use crate::verdict::{AgentEvidence, Stalled};

/// The agent's SQL ping through the local socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LocalSql {
    /// Answered, if only by an error.
    Alive,
    /// No answer, or no connection.
    Silent,
    /// The agent cannot tell: no credentials, or not tried yet.
    NotKnown,
}

/// A small write and fsync in a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disk {
    /// The directory.
    pub directory: String,
    /// For how long none has completed; `None` if the last one did, or nobody looked.
    pub silent: Option<Duration>,
}

/// One message of the agent's stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentState {
    /// The mysqld process.
    pub process: Process,
    /// How it ended, in words, if it was seen to end.
    pub ended: Option<String>,
    /// SQL through the socket.
    pub sql: LocalSql,
    /// The data directory.
    pub datadir: Option<Disk>,
}

impl AgentState {
    /// The data directory's disk stands still for at least `limit`.
    pub(super) fn stalled(&self, limit: Duration) -> Option<Stalled> {
        let disk = self.datadir.as_ref()?;
        let silent = disk.silent.filter(|s| *s >= limit)?;
        Some(Stalled {
            directory: disk.directory.clone(),
            silent_ms: u64::try_from(silent.as_millis()).unwrap_or(u64::MAX),
        })
    }

    /// As evidence. An agent that cannot ask the server does not see whether a process that runs also answers.
    pub(super) fn evidence(&self, hang: Duration) -> AgentEvidence {
        AgentEvidence::Answered {
            process: match (self.process, &self.sql) {
                (Process::Running, LocalSql::NotKnown) => Process::Unknown,
                (process, _) => process,
            },
            sql_alive: self.sql == LocalSql::Alive,
            stalled: self.stalled(hang),
        }
    }
}
