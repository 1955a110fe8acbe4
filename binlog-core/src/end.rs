//! How the last file of a log ends.
//!
//! A log that just stops is normal: its server may run, or have been killed. Whatever follows the last whole event is
//! named with file and offset, and nothing of it is ever used.

use std::fmt;

use serde::{Deserialize, Serialize};

/// How a log ends, with the place. `file` is the name of the file without directory, `offset` is in that file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum LogEnd {
    /// Closed by its server: ends with a Rotate or Stop, or the in-use flag is cleared.
    Clean {
        /// File.
        file: String,
        /// Its size.
        offset: u64,
        /// What closes it.
        detail: String,
    },
    /// Ends at an event boundary, in-use flag set: a running or a killed server.
    InUse {
        /// File.
        file: String,
        /// Its size.
        offset: u64,
    },
    /// The last event is cut off; it starts at `offset`.
    Torn {
        /// File.
        file: String,
        /// Start of the incomplete event: everything before is whole.
        offset: u64,
        /// What is there.
        detail: String,
    },
    /// The event at `offset` is damaged.
    Corrupt {
        /// File.
        file: String,
        /// Start of the damaged event: everything before is whole.
        offset: u64,
        /// What is wrong.
        detail: String,
    },
}

impl LogEnd {
    /// File name without directory.
    #[must_use]
    pub fn file(&self) -> &str {
        match self {
            Self::Clean { file, .. }
            | Self::InUse { file, .. }
            | Self::Torn { file, .. }
            | Self::Corrupt { file, .. } => file,
        }
    }

    /// Where the usable bytes end.
    #[must_use]
    pub fn offset(&self) -> u64 {
        match self {
            Self::Clean { offset, .. }
            | Self::InUse { offset, .. }
            | Self::Torn { offset, .. }
            | Self::Corrupt { offset, .. } => *offset,
        }
    }

    /// What was found there, for people; empty if there is nothing to say.
    #[must_use]
    pub fn detail(&self) -> &str {
        match self {
            Self::Clean { detail, .. }
            | Self::Torn { detail, .. }
            | Self::Corrupt { detail, .. } => detail,
            Self::InUse { .. } => "",
        }
    }
}

impl fmt::Display for LogEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (file, offset) = (self.file(), self.offset());
        match self {
            Self::Clean { detail, .. } => write!(f, "{file}:{offset} clean ({detail})"),
            Self::InUse { .. } => write!(f, "{file}:{offset} in use"),
            Self::Torn { detail, .. } => write!(f, "{file}:{offset} torn: {detail}"),
            Self::Corrupt { detail, .. } => write!(f, "{file}:{offset} corrupt: {detail}"),
        }
    }
}
