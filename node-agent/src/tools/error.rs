//! Why a command on files failed, and the exit code of each reason.

use std::path::PathBuf;

use binlog_core::{BinlogPosition, LogEnd, LogError, StreamRange};
use serde_json::{Map, Value, json};

use crate::error::{Exit, chain};
use crate::replication::ReplicationError;

/// Why a command on files failed; nothing was changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ToolError {
    /// A log or a segment cannot serve what was asked.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The output is there already.
    #[error("{} exists; an existing file is never replaced", path.display())]
    OutputExists {
        /// The output, or its manifest.
        path: PathBuf,
    },
    /// The output cannot be written where it was asked for.
    #[error("cannot {action} {}", path.display())]
    Output {
        /// What was tried.
        action: &'static str,
        /// File or directory.
        path: PathBuf,
        /// Why it was refused.
        #[source]
        source: std::io::Error,
    },
    /// A position of another log.
    #[error("{option} {position} is of another log: {} holds {held}", path.display())]
    OtherLog {
        /// The option that gave it.
        option: &'static str,
        /// The position.
        position: BinlogPosition,
        /// Where the logs are.
        path: PathBuf,
        /// What they hold.
        held: StreamRange,
    },
    /// The agent's configuration, or the state it names, cannot be used.
    #[error(transparent)]
    Agent(#[from] crate::error::Error),
    /// The replica, or a statement on it.
    #[error(transparent)]
    Replication(#[from] ReplicationError),
    /// The configuration has no such server.
    #[error("{} has no server {server}", config.display())]
    UnknownServer {
        /// The name.
        server: String,
        /// The configuration.
        config: PathBuf,
    },
    /// The files do not continue what the replica executed.
    #[error("{server} has executed up to {executed}; the files start at {from}")]
    NotContiguous {
        /// The replica.
        server: String,
        /// What it executed.
        executed: BinlogPosition,
        /// Where the files start.
        from: BinlogPosition,
    },
    /// The replica is in no state to be replayed on.
    #[error("{server}: {reason}")]
    NotReady {
        /// The replica.
        server: String,
        /// Why, and what helps.
        reason: String,
    },
}

impl ToolError {
    /// The exit code this error ends the command with.
    #[must_use]
    pub fn exit(&self) -> Exit {
        match self {
            Self::Log(LogError::Corrupt { .. } | LogError::DigestMismatch { .. }) => {
                Exit::CorruptLog
            }
            Self::Replication(ReplicationError::Log(
                LogError::Corrupt { .. } | LogError::DigestMismatch { .. },
            )) => Exit::CorruptLog,
            Self::UnknownServer { .. } => Exit::Usage,
            Self::Agent(error) => error.exit(),
            Self::Log(_)
            | Self::OutputExists { .. }
            | Self::Output { .. }
            | Self::OtherLog { .. }
            | Self::Replication(_)
            | Self::NotContiguous { .. }
            | Self::NotReady { .. } => Exit::Failed,
        }
    }

    /// The error as data: `message` always; `kind`, and `file`, `offset`, `expected`, `found`, `position`, `before`,
    /// `after`, `missing`, `held` where the kind has them. Positions are objects with `file` and `offset`.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let (kind, mut fields) = match self {
            Self::Log(error) => details(error),
            Self::OutputExists { path } => ("output_exists", object(json!({ "file": path }))),
            Self::Output { path, .. } => ("io", object(json!({ "file": path }))),
            Self::OtherLog { position, held, .. } => (
                "other_log",
                object(json!({ "position": position, "held": [held] })),
            ),
            Self::UnknownServer { server, config } => (
                "unknown_server",
                object(json!({ "server": server, "file": config })),
            ),
            Self::Agent(_) => ("agent", Map::new()),
            Self::Replication(_) => ("replication", Map::new()),
            Self::NotContiguous { executed, from, .. } => (
                "not_contiguous",
                object(json!({ "executed": executed, "from": from })),
            ),
            Self::NotReady { server, .. } => ("not_ready", object(json!({ "server": server }))),
        };
        fields.insert("kind".to_owned(), kind.into());
        fields.insert("message".to_owned(), chain(self).into());
        Value::Object(fields)
    }
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(fields) => fields,
        _ => Map::new(),
    }
}

fn details(error: &LogError) -> (&'static str, Map<String, Value>) {
    let (kind, fields) = match error {
        LogError::Io { path, .. } => ("io", json!({ "file": path })),
        LogError::Missing { path, .. } => ("missing_file", json!({ "file": path })),
        LogError::NoFiles { basename } => ("no_files", json!({ "file": basename })),
        LogError::InnoDb { path } => ("innodb_based", json!({ "file": path })),
        LogError::NotABinlog { path, found } => {
            ("not_a_binary_log", json!({ "file": path, "found": found }))
        }
        LogError::Encrypted { path, offset } => {
            ("encrypted", json!({ "file": path, "offset": offset }))
        }
        LogError::Corrupt {
            path,
            offset,
            expected,
            found,
        } => (
            "corrupt",
            json!({ "file": path, "offset": offset, "expected": expected, "found": found }),
        ),
        LogError::NotABoundary {
            position,
            before,
            after,
        } => (
            "not_a_boundary",
            json!({ "position": position, "before": before, "after": after }),
        ),
        LogError::NotHeld { position, held } => {
            ("not_held", json!({ "position": position, "held": held }))
        }
        LogError::Hole {
            missing,
            path,
            offset,
        } => (
            "hole",
            json!({ "missing": missing, "file": path, "offset": offset }),
        ),
        LogError::BadRange { range } => ("bad_range", json!({ "range": range })),
        LogError::InsideTransaction { position, start } => (
            "inside_transaction",
            json!({ "position": position, "start": start }),
        ),
        LogError::NoFormatDescription { file } => {
            ("no_format_description", json!({ "primary_file": file }))
        }
        LogError::Gap {
            path,
            expected,
            found,
        } => (
            "gap",
            json!({ "file": path, "expected": expected, "found": found }),
        ),
        LogError::UnknownFile { path } => ("unknown_primary_file", json!({ "file": path })),
        LogError::OtherFile { path, told, found } => (
            "other_primary_file",
            json!({ "file": path, "expected": told, "found": found }),
        ),
        LogError::NoEvents { path } => ("no_events", json!({ "file": path })),
        LogError::BadManifest { path, .. } => ("bad_manifest", json!({ "file": path })),
        LogError::DigestMismatch {
            path,
            what,
            expected,
            found,
        } => (
            "digest_mismatch",
            json!({ "file": path, "what": what, "expected": expected, "found": found }),
        ),
        LogError::BadInfoFile {
            path,
            line,
            expected,
            found,
        } => (
            "bad_info_file",
            json!({ "file": path, "line": line, "expected": expected, "found": found }),
        ),
        _ => ("log", json!({})),
    };
    (kind, object(fields))
}

/// A damaged end as an error: what lies behind the damage is unknown.
#[must_use]
pub(super) fn damaged(end: &LogEnd, path: PathBuf) -> Option<ToolError> {
    let LogEnd::Corrupt { offset, detail, .. } = end else {
        return None;
    };
    let detail = detail.strip_prefix("expected ").unwrap_or(detail);
    let (expected, found) = detail
        .split_once(", found ")
        .unwrap_or(("a whole event", detail));
    Some(ToolError::Log(LogError::Corrupt {
        path,
        offset: *offset,
        expected: expected.to_owned(),
        found: found.to_owned(),
    }))
}
