//! The segment store: `<state>/segments/OPERATION/ID`, each with its manifest beside it.
//!
//! Guarantees: a segment with a manifest is whole (the manifest appears last); ids from the wire cannot leave the
//! store; an operation's folder belongs to one cluster and is not handed to another; nothing is begun that the disk
//! has no room for.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use binlog_core::Manifest;
use serde::{Deserialize, Serialize};

use crate::state::durable::{self, DurableError};
use crate::state::names;

#[cfg(test)]
mod tests;

/// Space that is left alone, bytes: the agent's own small files must always find room.
const RESERVE_BYTES: u64 = 16 << 20;
/// Whose folder it is. Hidden, so that it can never be a segment id.
const OWNER_FILE: &str = ".operation.json";
/// What the manifest adds to the segment's name.
const MANIFEST_SUFFIX: &str = ".manifest.json";
/// What an unfinished transfer adds to it.
const PART_SUFFIX: &str = ".part";
/// Largest manifest read, bytes: far above what thousands of extents need.
const LARGEST_MANIFEST_BYTES: u64 = 4 << 20;

/// Why the store refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// An operation or segment id that is no plain name.
    #[error("{field} {found:?} is not a plain name")]
    BadName {
        /// Which id.
        field: &'static str,
        /// What it was, shortened.
        found: String,
    },
    /// No such segment, or not yet whole.
    #[error("no segment {id} of operation {operation}")]
    Unknown {
        /// Operation.
        operation: String,
        /// Segment id.
        id: String,
    },
    /// The operation's folder belongs to another cluster.
    #[error("operation {operation} belongs to another cluster")]
    OtherCluster {
        /// Operation.
        operation: String,
        /// Cluster of the call.
        asked: String,
    },
    /// Not enough space.
    #[error("no space in {}: {needed_bytes} bytes needed, {free_bytes} free", path.display())]
    DiskFull {
        /// The store.
        path: PathBuf,
        /// What is needed.
        needed_bytes: u64,
        /// What is there, the reserve already taken off.
        free_bytes: u64,
    },
    /// The sidecar is not what this program wrote, or does not match its segment.
    #[error("manifest {}: {reason}", path.display())]
    BadManifest {
        /// The sidecar.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The file system refused.
    #[error(transparent)]
    Durable(#[from] DurableError),
}

/// A whole segment of the store.
#[derive(Debug, Clone)]
pub struct Stored {
    /// Segment id.
    pub id: String,
    /// The file.
    pub path: PathBuf,
    /// What it holds.
    pub manifest: Manifest,
    /// The sidecar, byte for byte.
    pub manifest_json: Vec<u8>,
}

/// The store of one agent.
#[derive(Debug, Clone)]
pub struct SegmentStore {
    root: PathBuf,
    keep: Duration,
}

#[derive(Debug, Serialize, Deserialize)]
struct OwnerRecord {
    cluster: String,
}

impl SegmentStore {
    /// Opens the store at `root`, which is created if needed; segments older than `keep` are dropped by
    /// [`SegmentStore::age_out`].
    pub fn open(root: PathBuf, keep: Duration) -> Result<Self, DurableError> {
        durable::create_private_directory(&root)?;
        Ok(Self { root, keep })
    }

    /// The folder of an operation, created and marked as the cluster's if needed.
    pub fn prepare(&self, cluster: &str, operation: &str) -> Result<PathBuf, StoreError> {
        // Segments of one operation arrive at the same time, and each wants the mark to be there.
        static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
        let folder = self.folder(operation)?;
        let _marking = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        durable::create_private_directory(&folder)?;
        let owner = folder.join(OWNER_FILE);
        match durable::read_json::<OwnerRecord>(&owner)? {
            Some(record) if record.cluster == cluster => {}
            Some(_) => return Err(other_cluster(cluster, operation)),
            None => durable::write_json(
                &owner,
                &OwnerRecord {
                    cluster: cluster.to_owned(),
                },
            )?,
        }
        Ok(folder)
    }

    /// Where a segment of an operation is or will be; says nothing about its existence.
    pub fn path(&self, operation: &str, id: &str) -> Result<PathBuf, StoreError> {
        if !names::is_safe(id) || id.ends_with(PART_SUFFIX) || id.ends_with(MANIFEST_SUFFIX) {
            return Err(StoreError::BadName {
                field: "segment id",
                found: id.chars().take(80).collect(),
            });
        }
        Ok(self.folder(operation)?.join(id))
    }

    /// A whole segment of the cluster's operation.
    pub fn get(&self, cluster: &str, operation: &str, id: &str) -> Result<Stored, StoreError> {
        let path = self.path(operation, id)?;
        let unknown = || StoreError::Unknown {
            operation: operation.to_owned(),
            id: id.to_owned(),
        };
        let owner = self.folder(operation)?.join(OWNER_FILE);
        let record = durable::read_json::<OwnerRecord>(&owner)?.ok_or_else(unknown)?;
        if record.cluster != cluster {
            return Err(other_cluster(cluster, operation));
        }
        let sidecar = Manifest::path_for(&path);
        let Ok(metadata) = fs::metadata(&sidecar) else {
            return Err(unknown());
        };
        let bad = |reason: String| StoreError::BadManifest {
            path: sidecar.clone(),
            reason,
        };
        if metadata.len() > LARGEST_MANIFEST_BYTES {
            return Err(bad(format!("{} bytes are no manifest", metadata.len())));
        }
        let manifest_json = fs::read(&sidecar).map_err(DurableError::io("read", &sidecar))?;
        let manifest = Manifest::from_json(&manifest_json, &sidecar)
            .map_err(|error| bad(crate::error::chain(&error)))?;
        let size = match fs::metadata(&path) {
            Ok(metadata) => metadata.len(),
            // A manifest alone: somebody took the segment away.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Err(unknown()),
            Err(error) => return Err(DurableError::io("read", &path)(error).into()),
        };
        if size != manifest.size {
            return Err(bad(format!(
                "the segment has {size} bytes, the manifest says {}",
                manifest.size
            )));
        }
        Ok(Stored {
            id: id.to_owned(),
            path,
            manifest,
            manifest_json,
        })
    }

    /// Refuses if the disk cannot take `bytes` more.
    pub fn require_space(&self, bytes: u64) -> Result<(), StoreError> {
        let free = free_bytes(&self.root)?.saturating_sub(RESERVE_BYTES);
        if bytes <= free {
            return Ok(());
        }
        Err(StoreError::DiskFull {
            path: self.root.clone(),
            needed_bytes: bytes,
            free_bytes: free,
        })
    }

    /// Drops operations whose youngest file is older than the limit, except those `in_use`. Returns their names.
    pub fn age_out(
        &self,
        now: SystemTime,
        in_use: impl Fn(&str) -> bool,
    ) -> Result<Vec<String>, DurableError> {
        let mut dropped = Vec::new();
        for entry in fs::read_dir(&self.root).map_err(DurableError::io("read", &self.root))? {
            let entry = entry.map_err(DurableError::io("read", &self.root))?;
            let folder = entry.path();
            let Some(operation) = entry.file_name().to_str().map(str::to_owned) else {
                continue;
            };
            if !names::is_safe(&operation) || !folder.is_dir() || in_use(&operation) {
                continue;
            }
            let age = now
                .duration_since(youngest(&folder)?)
                .unwrap_or(Duration::ZERO);
            if age > self.keep {
                fs::remove_dir_all(&folder).map_err(DurableError::io("remove", &folder))?;
                dropped.push(operation);
            }
        }
        Ok(dropped)
    }

    fn folder(&self, operation: &str) -> Result<PathBuf, StoreError> {
        if names::is_safe(operation) {
            return Ok(self.root.join(operation));
        }
        Err(StoreError::BadName {
            field: "operation",
            found: operation.chars().take(80).collect(),
        })
    }
}

/// The unfinished form of a segment file that is being received.
pub(super) fn part_path(segment: &Path) -> PathBuf {
    with_suffix(segment, PART_SUFFIX)
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_os_string();
    name.push(suffix);
    PathBuf::from(name)
}

fn other_cluster(cluster: &str, operation: &str) -> StoreError {
    StoreError::OtherCluster {
        operation: operation.to_owned(),
        asked: cluster.to_owned(),
    }
}

/// Bytes an unprivileged process may still write to the file system of `path`.
pub(super) fn free_bytes(path: &Path) -> Result<u64, DurableError> {
    let stat = statvfs(path)?;
    Ok(stat.blocks_available().saturating_mul(stat.fragment_size()))
}

/// Size of the file system of `path`, bytes.
pub(super) fn file_system_bytes(path: &Path) -> Result<u64, DurableError> {
    let stat = statvfs(path)?;
    Ok(stat.blocks().saturating_mul(stat.fragment_size()))
}

fn statvfs(path: &Path) -> Result<nix::sys::statvfs::Statvfs, DurableError> {
    nix::sys::statvfs::statvfs(path)
        .map_err(|errno| DurableError::io("measure", path)(errno.into()))
}

/// When the folder or a file in it was last changed.
fn youngest(folder: &Path) -> Result<SystemTime, DurableError> {
    let changed = |path: &Path| {
        fs::symlink_metadata(path)
            .and_then(|metadata| metadata.modified())
            .map_err(DurableError::io("read", path))
    };
    let mut youngest = changed(folder)?;
    for entry in fs::read_dir(folder).map_err(DurableError::io("read", folder))? {
        let path = entry.map_err(DurableError::io("read", folder))?.path();
        youngest = youngest.max(changed(&path)?);
    }
    Ok(youngest)
}
