//! What operators have said of a cluster, durable: `<state>/journal/CLUSTER/standing.json`, mode 0600.
//!
//! Written as temporary file, fsync, rename, fsync of the folder. A file that cannot be read is an error, never "nothing
//! was said": a pause must not be forgotten.

use std::collections::BTreeSet;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::journal;

const FILE: &str = "standing.json";

/// Who paused a cluster, and when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pause {
    /// Who.
    pub by: String,
    /// When, milliseconds since the Unix epoch.
    pub unix_ms: u64,
}

/// What operators have said.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Standing {
    /// No failover by the daemon.
    pub paused: Option<Pause>,
    /// Operations that somebody has looked at: they no longer stand in the way.
    #[serde(default)]
    pub acknowledged: BTreeSet<String>,
}

/// Why it cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StandingError {
    /// A file operation failed.
    #[error("{}", path.display())]
    Io {
        /// File or folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The file is not what this program writes.
    #[error("{}: not as this program writes it", path.display())]
    Format {
        /// File.
        path: PathBuf,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
}

impl Standing {
    /// Reads it; nothing was said where there is no file.
    ///
    /// # Errors
    /// [`StandingError`].
    pub fn load(state_dir: &Path, cluster: &str) -> Result<Self, StandingError> {
        let path = journal::folder(state_dir, cluster).join(FILE);
        match std::fs::read(&path) {
            Ok(text) => serde_json::from_slice(&text)
                .map_err(|source| StandingError::Format { path, source }),
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(Self::default()),
            Err(source) => Err(StandingError::Io { path, source }),
        }
    }

    /// Writes it; durable when this returns.
    ///
    /// # Errors
    /// [`StandingError`].
    pub fn save(&self, state_dir: &Path, cluster: &str) -> Result<(), StandingError> {
        let folder = journal::folder(state_dir, cluster);
        let path = folder.join(FILE);
        let io = |source| StandingError::Io {
            path: path.clone(),
            source,
        };
        let text = serde_json::to_vec_pretty(self).map_err(|source| StandingError::Format {
            path: path.clone(),
            source,
        })?;
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&folder)
            .map_err(io)?;
        let temporary = folder.join("standing.json.new");
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&temporary)
            .map_err(io)?;
        file.write_all(&text).map_err(io)?;
        file.sync_all().map_err(io)?;
        std::fs::rename(&temporary, &path).map_err(io)?;
        File::open(&folder).and_then(|f| f.sync_all()).map_err(io)
    }
}
