//! Failures of calls: one function each way between the typed error and the gRPC status.
//!
//! Guarantee: a caller can tell *refused or failed, and nothing else will happen* ([`CallError::Agent`]) from *the
//! answer was lost* ([`CallError::Lost`]), where the outcome of a mutating call is unknown until the facts are read
//! again.

use prost::Message;
use tonic::{Code, Status};

use crate::v1::{ErrorDetail, ErrorKind};

/// A failure reported by an agent.
#[derive(Debug, Clone, PartialEq)]
pub struct AgentError {
    /// Kind; decides what the manager does.
    pub kind: ErrorKind,
    /// One sentence.
    pub message: String,
    /// Agent or host where it happened.
    pub host: String,
    /// Server concerned; empty if none.
    pub server: String,
    /// File concerned; empty if none.
    pub file: String,
    /// Offset in that file.
    pub offset: Option<u64>,
    /// What was expected.
    pub expected: String,
    /// What was found.
    pub found: String,
    /// Epoch stored by the agent; 0 if the kind has none.
    pub stored_epoch: u64,
    /// Holder stored by the agent; empty if none.
    pub holder: String,
}

/// What came of a call that did not succeed.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum CallError {
    /// The agent answered: it refused or failed.
    #[error(transparent)]
    Agent(#[from] AgentError),
    /// No answer: deadline, connection lost, or a status that no agent of ours makes.
    #[error("{peer}: no answer to the call ({code:?}: {message})")]
    Lost {
        /// Who was called.
        peer: String,
        /// gRPC code.
        code: Code,
        /// Text of the status.
        message: String,
    },
}

// === impl AgentError ===

impl AgentError {
    /// An error of this kind with its sentence; fill in the rest with the `with_` methods.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            host: String::new(),
            server: String::new(),
            file: String::new(),
            offset: None,
            expected: String::new(),
            found: String::new(),
            stored_epoch: 0,
            holder: String::new(),
        }
    }

    /// Names the host.
    #[must_use]
    pub fn with_host(mut self, host: impl Into<String>) -> Self {
        self.host = host.into();
        self
    }

    /// Names the server.
    #[must_use]
    pub fn with_server(mut self, server: impl Into<String>) -> Self {
        self.server = server.into();
        self
    }

    /// Names the place in a file.
    #[must_use]
    pub fn with_place(mut self, file: impl Into<String>, offset: Option<u64>) -> Self {
        self.file = file.into();
        self.offset = offset;
        self
    }

    /// Says what was expected and what was found.
    #[must_use]
    pub fn with_found(mut self, expected: impl Into<String>, found: impl Into<String>) -> Self {
        self.expected = expected.into();
        self.found = found.into();
        self
    }

    /// Names the stored epoch and its holder.
    #[must_use]
    pub fn with_holder(mut self, stored_epoch: u64, holder: impl Into<String>) -> Self {
        self.stored_epoch = stored_epoch;
        self.holder = holder.into();
        self
    }
}

impl std::fmt::Display for AgentError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if !self.host.is_empty() {
            write!(f, "{}: ", self.host)?;
        }
        if !self.server.is_empty() {
            write!(f, "{}: ", self.server)?;
        }
        f.write_str(&self.message)?;
        if !self.file.is_empty() {
            write!(f, ", {}", self.file)?;
            if let Some(offset) = self.offset {
                write!(f, ":{offset}")?;
            }
        }
        if !self.expected.is_empty() || !self.found.is_empty() {
            write!(f, " (expected {}, found {})", self.expected, self.found)?;
        }
        if !self.holder.is_empty() {
            write!(f, " (held by {}, epoch {})", self.holder, self.stored_epoch)?;
        }
        Ok(())
    }
}

impl std::error::Error for AgentError {}

impl From<AgentError> for Status {
    fn from(e: AgentError) -> Self {
        let text = e.to_string();
        let code = code_of(e.kind);
        let detail = ErrorDetail {
            kind: e.kind.into(),
            message: e.message,
            host: e.host,
            server: e.server,
            file: e.file,
            offset: e.offset,
            expected: e.expected,
            found: e.found,
            stored_epoch: e.stored_epoch,
            holder: e.holder,
        };
        Self::with_details(code, text, detail.encode_to_vec().into())
    }
}

/// The gRPC code of a kind, for clients that know nothing of ours.
fn code_of(kind: ErrorKind) -> Code {
    match kind {
        ErrorKind::Unspecified => Code::Unknown,
        ErrorKind::InvalidArgument => Code::InvalidArgument,
        ErrorKind::NotAuthorised => Code::PermissionDenied,
        ErrorKind::UnknownServer | ErrorKind::UnknownSegment => Code::NotFound,
        ErrorKind::StaleEpoch | ErrorKind::Held => Code::Aborted,
        ErrorKind::MysqldRunning
        | ErrorKind::MysqldDown
        | ErrorKind::NoCredentials
        | ErrorKind::Conflict => Code::FailedPrecondition,
        ErrorKind::LogUnreadable | ErrorKind::LogCorrupt | ErrorKind::DigestMismatch => {
            Code::DataLoss
        }
        ErrorKind::NotABoundary | ErrorKind::RangeNotHeld => Code::OutOfRange,
        ErrorKind::DiskFull => Code::ResourceExhausted,
        ErrorKind::Sql | ErrorKind::Replication | ErrorKind::Io => Code::Internal,
        // Not DEADLINE_EXCEEDED: that one is made by transports and means "no answer".
        ErrorKind::NoProgress | ErrorKind::OutcomeUnknown => Code::Unknown,
        ErrorKind::Unsupported => Code::Unimplemented,
        ErrorKind::PeerUnreachable => Code::Unavailable,
    }
}

// === impl CallError ===

impl CallError {
    /// Reads a status: an agent's own answer carries our detail, anything else is a lost answer.
    pub fn from_status(peer: &str, status: &Status) -> Self {
        if let Ok(detail) = ErrorDetail::decode(status.details())
            && detail.kind() != ErrorKind::Unspecified
        {
            return Self::Agent(AgentError {
                kind: detail.kind(),
                message: detail.message,
                host: detail.host,
                server: detail.server,
                file: detail.file,
                offset: detail.offset,
                expected: detail.expected,
                found: detail.found,
                stored_epoch: detail.stored_epoch,
                holder: detail.holder,
            });
        }
        Self::Lost {
            peer: peer.to_owned(),
            code: status.code(),
            message: status.message().to_owned(),
        }
    }

    /// The kind an agent reported, `None` if the answer was lost.
    pub fn kind(&self) -> Option<ErrorKind> {
        match self {
            Self::Agent(e) => Some(e.kind),
            Self::Lost { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_survives_the_wire() {
        for number in 1..64 {
            let Ok(kind) = ErrorKind::try_from(number) else {
                break;
            };
            let error = AgentError::new(kind, "it broke")
                .with_host("db1")
                .with_server("db1:3306")
                .with_place("mysql-bin.000001", Some(452))
                .with_found("a boundary", "the middle of an event")
                .with_holder(7, "op-1 of m1");
            let status = Status::from(error.clone());
            assert_ne!(status.code(), Code::Ok);
            assert_ne!(status.code(), Code::DeadlineExceeded, "{kind:?}");
            let CallError::Agent(back) = CallError::from_status("db1", &status) else {
                panic!("{kind:?} came back as a lost answer");
            };
            assert_eq!(back, error);
        }
    }

    #[test]
    fn a_status_without_our_detail_is_a_lost_answer() {
        for status in [
            Status::deadline_exceeded("too late"),
            Status::unavailable("connection reset"),
            Status::with_details(Code::Aborted, "junk", vec![0xff, 0xff].into()),
        ] {
            let error = CallError::from_status("db1", &status);
            assert!(matches!(error, CallError::Lost { .. }), "{error}");
            assert_eq!(error.kind(), None);
        }
    }

    #[test]
    fn the_sentence_names_host_file_and_offset() {
        let error = AgentError::new(ErrorKind::LogCorrupt, "checksum differs")
            .with_host("db1")
            .with_place("mysql-bin.000002", Some(99))
            .with_found("0x1", "0x2");
        assert_eq!(
            error.to_string(),
            "db1: checksum differs, mysql-bin.000002:99 (expected 0x1, found 0x2)"
        );
    }
}
