//! The journal of an operation: what was about to be done, and what came of it, durable before the next act.
//!
//! One record per line: `LENGTH CRC32 JSON\n`, length and checksum of the JSON in hex. A crash can leave a torn last
//! line, which reading tolerates and reports; damage anywhere else is an error. The file is locked for as long as its
//! operation runs, so that a later manager can tell an interrupted operation from a running one.
//!
//! Path: `<state>/journal/CLUSTER/OPERATION.journal`, folders 0700, file 0600.

pub mod fault;
mod late;
mod read;
mod record;
mod write;

use std::path::{Path, PathBuf};

pub use late::append_after_end;
pub use read::{Journaled, is_running, operations, read};
pub use record::{Begin, Record, StepOutcome};
pub use write::{Hook, Journal, NoHook, reopen};

/// Why a journal cannot be written or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JournalError {
    /// A file operation failed.
    #[error("{}", path.display())]
    Io {
        /// File or folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A record cannot be written as JSON.
    #[error("{}: record", path.display())]
    Encode {
        /// File.
        path: PathBuf,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// A record before the last one is damaged.
    #[error("{}: damaged record at offset {offset}: expected {expected}", path.display())]
    Damaged {
        /// File.
        path: PathBuf,
        /// Where the record starts.
        offset: u64,
        /// What should be there.
        expected: &'static str,
    },
    /// A test's hook stopped the run here, or an earlier write failed.
    #[error("{}: the journal is closed after an earlier failure", path.display())]
    Closed {
        /// File.
        path: PathBuf,
    },
}

impl JournalError {
    fn io(path: &Path, source: std::io::Error) -> Self {
        Self::Io {
            path: path.to_owned(),
            source,
        }
    }
}

/// Folder of a cluster's journals.
#[must_use]
pub fn folder(state_dir: &Path, cluster: &str) -> PathBuf {
    state_dir.join("journal").join(cluster)
}

#[cfg(test)]
mod tests;
