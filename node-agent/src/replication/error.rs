//! Why an act of replication control did not succeed.

use std::time::Duration;

use binlog_core::{BinlogPosition, LogError};
use proto::status::AgentError;
use proto::v1::ErrorKind;

use crate::error::chain;
use crate::mysqld::{SqlError, process::ProcessError};
use crate::source::SourceError;
use crate::source::feed::FeedError;
use crate::state::durable::DurableError;

/// A failure; [`From`] turns it into the wire's.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReplicationError {
    /// SQL.
    #[error(transparent)]
    Sql(#[from] SqlError),
    /// Relay logs or segments.
    #[error(transparent)]
    Log(#[from] LogError),
    /// Segments cannot be served.
    #[error(transparent)]
    Feed(#[from] FeedError),
    /// The local source could not be started.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The channel record.
    #[error(transparent)]
    State(#[from] DurableError),
    /// The process of the server.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// The relay logs could not be kept aside, so no CHANGE was made.
    #[error("{server}: relay logs were not kept aside")]
    Protect {
        /// Server.
        server: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The server has no replication channel.
    #[error("{server}: not a replica: no replication channel is configured")]
    NotAReplica {
        /// Server.
        server: String,
    },
    /// The server is a replica and must not be one for this.
    #[error("{server}: still a replica of {source_host}:{source_port}")]
    StillAReplica {
        /// Server.
        server: String,
        /// Source of its channel.
        source_host: String,
        /// Its port.
        source_port: u16,
    },
    /// The server's binary log is off, so nobody can follow it.
    #[error("{server}: the binary log is off")]
    NoBinaryLog {
        /// Server.
        server: String,
    },
    /// The server was promoted by this operation: there is no way back.
    #[error("{server}: already promoted by operation {operation}")]
    AlreadyPromoted {
        /// Server.
        server: String,
        /// Operation that did it.
        operation: String,
    },
    /// No password for the channel was found.
    #[error("{server}: no replication credentials for user {user:?}: {looked}")]
    NoCredentials {
        /// Server.
        server: String,
        /// Account of the channel.
        user: String,
        /// Where they were looked for, and what was found there.
        looked: String,
    },
    /// The applier stopped with an error. It was left as it was.
    #[error(
        "{server}: the applier stopped at {} with error {errno}: {text}",
        at(executed)
    )]
    ApplierFailed {
        /// Server.
        server: String,
        /// Number.
        errno: u32,
        /// Text.
        text: String,
        /// Executed position.
        executed: Option<BinlogPosition>,
    },
    /// Somebody stopped the applier while it was needed.
    #[error("{server}: the applier was stopped from elsewhere at {}", at(executed))]
    ApplierStopped {
        /// Server.
        server: String,
        /// Executed position.
        executed: Option<BinlogPosition>,
    },
    /// The receiver stopped with an error or could not connect in time.
    #[error("{server}: the receiver is {state}, error {errno}: {text}")]
    ReceiverFailed {
        /// Server.
        server: String,
        /// `stopped` or `connecting`.
        state: &'static str,
        /// Number; 0 if it gave none.
        errno: u32,
        /// Text.
        text: String,
    },
    /// Nothing moved for the caller's limit.
    #[error("{server}: {doing}: no progress for {waited:?} at {}", at(executed))]
    NoProgress {
        /// Server.
        server: String,
        /// What was waited for.
        doing: &'static str,
        /// For how long nothing moved.
        waited: Duration,
        /// Executed position.
        executed: Option<BinlogPosition>,
    },
    /// The deadline passed.
    #[error("{server}: {doing}: not done within the deadline; {found}")]
    TooLate {
        /// Server.
        server: String,
        /// What was waited for.
        doing: &'static str,
        /// State at the end.
        found: String,
    },
    /// The server executed less than the act requires.
    #[error(
        "{server}: executed {} of the dead primary's stream, required {required}",
        at(executed)
    )]
    Behind {
        /// Server.
        server: String,
        /// Executed position.
        executed: Option<BinlogPosition>,
        /// What was required.
        required: BinlogPosition,
    },
    /// The segments do not hold the position from which the server must be served.
    #[error("{server}: must be served from {executed}, but the segments hold [{from}, {to})")]
    NotCovered {
        /// Server.
        server: String,
        /// Executed position.
        executed: BinlogPosition,
        /// Start of the segments.
        from: BinlogPosition,
        /// Their end.
        to: BinlogPosition,
    },
    /// The server does not say what it executed.
    #[error("{server}: the executed position is unknown")]
    ExecutedUnknown {
        /// Server.
        server: String,
    },
    /// The server changed its answer while it stood still.
    #[error("{server}: {what}: expected {expected}, found {found}")]
    Contradiction {
        /// Server.
        server: String,
        /// What was read.
        what: &'static str,
        /// What it should be.
        expected: String,
        /// What it was.
        found: String,
    },
    /// A worker of this process ended early.
    #[error("{doing} was aborted")]
    Aborted {
        /// What it did.
        doing: &'static str,
    },
}

impl ReplicationError {
    /// Kind on the wire.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Sql(SqlError::Refused { .. } | SqlError::UnexpectedAnswer { .. }) => {
                ErrorKind::Sql
            }
            Self::Sql(SqlError::Unreachable { .. } | SqlError::Poisoned { .. }) => {
                ErrorKind::MysqldDown
            }
            Self::Sql(_) => ErrorKind::OutcomeUnknown,
            Self::Log(error) => log_kind(error),
            Self::Feed(_) => ErrorKind::RangeNotHeld,
            Self::Source(_)
            | Self::State(_)
            | Self::Process(_)
            | Self::Protect { .. }
            | Self::Aborted { .. } => ErrorKind::Io,
            Self::NotAReplica { .. }
            | Self::StillAReplica { .. }
            | Self::AlreadyPromoted { .. }
            | Self::Behind { .. }
            | Self::Contradiction { .. } => ErrorKind::Conflict,
            Self::NoBinaryLog { .. } | Self::ExecutedUnknown { .. } => ErrorKind::Unsupported,
            Self::NoCredentials { .. } => ErrorKind::NoCredentials,
            Self::ApplierFailed { .. }
            | Self::ApplierStopped { .. }
            | Self::ReceiverFailed { .. } => ErrorKind::Replication,
            Self::NoProgress { .. } | Self::TooLate { .. } => ErrorKind::NoProgress,
            Self::NotCovered { .. } => ErrorKind::RangeNotHeld,
        }
    }
}

impl From<ReplicationError> for AgentError {
    fn from(error: ReplicationError) -> Self {
        Self::new(error.kind(), chain(&error))
    }
}

fn log_kind(error: &LogError) -> ErrorKind {
    match error {
        LogError::Corrupt { .. } => ErrorKind::LogCorrupt,
        LogError::NotABoundary { .. } => ErrorKind::NotABoundary,
        LogError::NotHeld { .. } | LogError::Hole { .. } | LogError::Gap { .. } => {
            ErrorKind::RangeNotHeld
        }
        LogError::BadManifest { .. } | LogError::DigestMismatch { .. } => ErrorKind::DigestMismatch,
        _ => ErrorKind::LogUnreadable,
    }
}

/// A position for people, also where there is none.
pub(super) fn at(position: &Option<BinlogPosition>) -> String {
    position
        .as_ref()
        .map_or_else(|| "an unknown position".to_owned(), ToString::to_string)
}
