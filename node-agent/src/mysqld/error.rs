//! What can go wrong between the agent and its mysqld, so that callers can tell *no* from *unknown*.

use std::time::Duration;

/// A statement or connection that did not succeed.
///
/// `what` is a fixed description of the statement (`CHANGE MASTER TO`), never its text, which may hold a password.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SqlError {
    /// The server answered with an error: nothing else will happen.
    #[error("{server}: {what}: ERROR {errno}: {text}")]
    Refused {
        /// Server.
        server: String,
        /// Statement.
        what: String,
        /// The server's error number.
        errno: u16,
        /// The server's text.
        text: String,
    },
    /// No connection could be made; no statement was sent.
    #[error("{server}: no connection: {reason}")]
    Unreachable {
        /// Server.
        server: String,
        /// Why: the socket's error, or that it took too long.
        reason: String,
    },
    /// A statement was sent and its answer was lost or did not come in time: read the facts again.
    #[error("{server}: {what}: sent, but no answer within {waited:?}: {reason}")]
    OutcomeUnknown {
        /// Server.
        server: String,
        /// Statement.
        what: String,
        /// How long the answer was waited for.
        waited: Duration,
        /// What happened to the connection.
        reason: String,
    },
    /// The answer lacks a column or has a value of another kind than documented.
    #[error("{server}: {what}: unexpected answer: {column}: expected {expected}, found {found}")]
    UnexpectedAnswer {
        /// Server.
        server: String,
        /// Statement.
        what: String,
        /// Column, or `rows`.
        column: String,
        /// What was expected.
        expected: &'static str,
        /// What was found, shortened.
        found: String,
    },
    /// The session was used after a statement had not finished; a caller's mistake, answered without harm.
    #[error("{server}: {what}: the connection was given up after an unfinished statement")]
    Poisoned {
        /// Server.
        server: String,
        /// Statement that was not sent.
        what: String,
    },
}

impl SqlError {
    /// The server's error number, if it answered.
    pub fn errno(&self) -> Option<u16> {
        match self {
            Self::Refused { errno, .. } => Some(*errno),
            _ => None,
        }
    }

    /// True if the connection is gone (or never was): a new session is needed.
    pub fn lost_connection(&self) -> bool {
        matches!(
            self,
            Self::Unreachable { .. } | Self::OutcomeUnknown { .. } | Self::Poisoned { .. }
        )
    }
}
