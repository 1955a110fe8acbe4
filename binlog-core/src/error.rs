//! Why a log could not be read, cut or joined.
//!
//! Every variant names the file (and the offset where there is one), what was expected and what was found, so that an
//! operator can go and look. The end of data is never an error here: see [`crate::LogEnd`].

use std::path::PathBuf;

use crate::position::{BinlogPosition, ServerId, StreamRange};

/// A log cannot serve what was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LogError {
    /// The operating system refused.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried: `open`, `read`, `write`, `sync`, ..
        action: &'static str,
        /// File or directory.
        path: PathBuf,
        /// Its answer.
        #[source]
        source: std::io::Error,
    },
    /// A file that must be there is not.
    #[error("{} is missing{}", path.display(), context)]
    Missing {
        /// The file.
        path: PathBuf,
        /// How it is known that it must be there; empty or starts with `: `.
        context: String,
    },
    /// No file of this log exists.
    #[error("no log file {}.NNNNNN exists", basename.display())]
    NoFiles {
        /// Directory and base name.
        basename: PathBuf,
    },
    /// The file does not start with the magic number of a binary log.
    #[error("{} is no binary log: it starts with {found} instead of fe62696e", path.display())]
    NotABinlog {
        /// The file.
        path: PathBuf,
        /// First bytes in hex.
        found: String,
    },
    /// The file is encrypted; without the keyring it cannot be read.
    #[error("{} is encrypted (offset {offset}, binlog_encryption or encrypt_binlog is on); it cannot be read without the server's keyring", path.display())]
    Encrypted {
        /// The file.
        path: PathBuf,
        /// Where that was seen.
        offset: u64,
    },
    /// The binary log is in pages of InnoDB (`binlog_storage_engine=innodb`, MariaDB 12.3), not in files of events.
    #[error("{} is a part of an InnoDB-based binary log (binlog_storage_engine=innodb), which can be read by its server only", path.display())]
    InnoDb {
        /// One of its files.
        path: PathBuf,
    },
    /// A directory of copies holds other servers' logs.
    #[error("{} holds no binary log of the server with server_id {wanted} there; its newest files: {found}", directory.display())]
    OtherWriter {
        /// The directory.
        directory: PathBuf,
        /// The server whose log is wanted.
        wanted: ServerId,
        /// What is there.
        found: String,
    },
    /// An event is damaged and what was asked lies behind it.
    #[error("{} is corrupt at offset {offset}: expected {expected}, found {found}", path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// Offset of the event.
        offset: u64,
        /// What should be there.
        expected: String,
        /// What is there.
        found: String,
    },
    /// The position is inside an event.
    #[error("{position} is no event boundary (neighbours: {before} and {after})")]
    NotABoundary {
        /// The position asked for.
        position: BinlogPosition,
        /// Nearest boundary before it.
        before: BinlogPosition,
        /// Nearest boundary after it.
        after: BinlogPosition,
    },
    /// The position lies outside of what this provider holds.
    #[error("{position} is not held: {}", describe_ranges(held))]
    NotHeld {
        /// The position asked for.
        position: BinlogPosition,
        /// What is held.
        held: Vec<StreamRange>,
    },
    /// A part of the range is missing here.
    #[error("{missing} is missing in {} (at offset {offset})", path.display())]
    Hole {
        /// The part.
        missing: StreamRange,
        /// File in which the gap is.
        path: PathBuf,
        /// Offset in that file of the first event behind the gap.
        offset: u64,
    },
    /// A range whose end lies before its start.
    #[error("the range {range} is the wrong way round")]
    BadRange {
        /// The range.
        range: StreamRange,
    },
    /// The range ends inside a transaction.
    #[error(
        "{position} is inside a transaction that starts at {start}; a segment ends only between transactions"
    )]
    InsideTransaction {
        /// The position asked for.
        position: BinlogPosition,
        /// Where the transaction starts.
        start: BinlogPosition,
    },
    /// No format description of the primary is held for this file.
    #[error("no format description of the primary's {file} is held")]
    NoFormatDescription {
        /// The primary's file.
        file: crate::position::BinlogFileName,
    },
    /// Two segments do not meet.
    #[error("segment {} starts at {found}, the one before it ends at {expected}", path.display())]
    Gap {
        /// The later segment.
        path: PathBuf,
        /// Where it must start.
        expected: BinlogPosition,
        /// Where it starts.
        found: BinlogPosition,
    },
    /// A file without manifest does not say where in the primary's stream it stands.
    #[error(
        "nothing in {} tells from which of the primary's files its first event is: that file must be named",
        path.display()
    )]
    UnknownFile {
        /// The file.
        path: PathBuf,
    },
    /// A file without manifest is of another one of the primary's files than was said.
    #[error("{} begins in the primary's {found}, not in {told}", path.display())]
    OtherFile {
        /// The file.
        path: PathBuf,
        /// What was said.
        told: crate::position::BinlogFileName,
        /// What the file says.
        found: crate::position::BinlogFileName,
    },
    /// A file that was taken for a part of a stream holds nothing of one.
    #[error("{} holds no event of a primary", path.display())]
    NoEvents {
        /// The file.
        path: PathBuf,
    },
    /// A manifest cannot be used.
    #[error("manifest {} is unusable: {reason}", path.display())]
    BadManifest {
        /// The manifest.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// A segment's content is not what its manifest says.
    #[error("{} has {what} {found}, its manifest says {expected}", path.display())]
    DigestMismatch {
        /// The segment.
        path: PathBuf,
        /// `sha256`, `size`, `range`, ..
        what: &'static str,
        /// By the manifest.
        expected: String,
        /// In the file.
        found: String,
    },
    /// A file that the server wrote (`*.index`, `relay-log.info`, `master.info`) is malformed.
    #[error("{} line {line} is malformed: expected {expected}, found {found:?}", path.display())]
    BadInfoFile {
        /// The file.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
        /// What should be there.
        expected: &'static str,
        /// What is there.
        found: String,
    },
}

impl LogError {
    /// For `map_err` on file operations.
    pub(crate) fn io(
        action: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io {
            action,
            path,
            source,
        }
    }
}

fn describe_ranges(held: &[StreamRange]) -> String {
    if held.is_empty() {
        return "nothing is held".to_owned();
    }
    let mut text = String::from("held is ");
    for (i, range) in held.iter().take(8).enumerate() {
        if i > 0 {
            text.push_str(", ");
        }
        text.push_str(&range.to_string());
    }
    if held.len() > 8 {
        text.push_str(", ..");
    }
    text
}
