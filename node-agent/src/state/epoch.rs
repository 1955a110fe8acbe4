//! Which operation may change a cluster: the agent's memory of granted claims.
//!
//! Invariants: the stored epoch of a cluster never goes down; a grant is on disk before it is answered; of two
//! claims with one epoch at most one operation is granted. A claim is granted only if its epoch is greater than the
//! stored one, or equal with the same operation. A release clears the operation and keeps the epoch, so a released
//! operation cannot come back with its old epoch.
//!
//! Whoever was granted a claim last is the manager of record, also after a release. Another manager is refused until it says
//! that it takes the cluster over: the word of the one before may hold up a lease that a second one believes to be over.
//!
//! A file that is there but unreadable closes its cluster: guessing an epoch could let a deposed operation act.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use proto::convert::Context;
use serde::{Deserialize, Serialize};

use super::durable::{self, DurableError};
use super::names;

/// What is stored of a cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoredEpoch {
    /// Highest epoch ever granted here; 0 if none.
    pub epoch: u64,
    /// Who holds the cluster; `None` after a release.
    pub holder: Option<Holder>,
    /// Who held it last, after a release: a claim that comes too late learns from whom.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<Holder>,
}

impl StoredEpoch {
    /// The last claim, held or released: its manager is the one of record.
    #[must_use]
    pub fn of_record(&self) -> Option<&Holder> {
        self.holder.as_ref().or(self.last.as_ref())
    }
}

/// Who holds a cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Holder {
    /// Operation id.
    pub operation: String,
    /// Name of its manager.
    pub manager: String,
}

/// Why a claim or a call was refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EpochError {
    /// No server of this agent belongs to the cluster.
    #[error("this agent has no server of cluster {cluster:?}")]
    UnknownCluster {
        /// What was asked for.
        cluster: String,
    },
    /// A field of the call is missing or malformed.
    #[error("{field} {found:?} is not allowed: expected {expected}")]
    BadField {
        /// Which field.
        field: &'static str,
        /// What it must look like.
        expected: &'static str,
        /// What it was.
        found: String,
    },
    /// The epoch is lower than the stored one, or equal and not held by this operation.
    #[error("epoch {asked} of operation {operation} is not the stored one")]
    Stale {
        /// Epoch of the call.
        asked: u64,
        /// Operation of the call.
        operation: String,
        /// What is stored.
        stored: StoredEpoch,
    },
    /// The epoch is right, but another operation holds the cluster with it.
    #[error("another operation holds the cluster with epoch {asked}")]
    Held {
        /// Epoch of the call.
        asked: u64,
        /// What is stored.
        stored: StoredEpoch,
    },
    /// The epoch is right, but another manager is the one of record, and the claim does not take over from it.
    #[error(
        "the cluster is of manager {of}, which claimed it last: unless it is taken over, no other one acts on it"
    )]
    OfAnother {
        /// Epoch of the call.
        asked: u64,
        /// Manager of record.
        of: String,
        /// What is stored.
        stored: StoredEpoch,
    },
    /// The stored epoch could not be read at the start; the cluster stays closed until an operator decides.
    #[error("the stored epoch of the cluster is unreadable: {reason}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the reader said.
        reason: String,
    },
    /// The new state could not be written: not granted.
    #[error("the epoch could not be stored")]
    Store(#[from] DurableError),
}

/// The stored epochs of all clusters of this agent.
#[derive(Debug)]
pub struct EpochStore {
    clusters: BTreeMap<String, Arc<Cluster>>,
}

#[derive(Debug)]
struct Cluster {
    path: PathBuf,
    /// Held over the write to disk; claims of one cluster come one after the other.
    writer: Mutex<()>,
    /// What was last made durable; readers never wait for the disk.
    current: Mutex<Result<StoredEpoch, String>>,
}

impl EpochStore {
    /// Reads what is stored for `clusters` in `folder`, which is created if needed.
    ///
    /// # Errors
    /// Only if the folder cannot be created; an unreadable file closes its own cluster.
    pub fn open<'a>(
        folder: &Path,
        clusters: impl IntoIterator<Item = &'a str>,
    ) -> Result<Self, DurableError> {
        durable::create_private_directory(folder)?;
        let clusters = clusters
            .into_iter()
            .map(|cluster| {
                let path = folder.join(format!("{cluster}.json"));
                let current = durable::read_json::<StoredEpoch>(&path)
                    .map(Option::unwrap_or_default)
                    .map_err(|error| crate::error::chain(&error));
                let cluster_state = Cluster {
                    path,
                    writer: Mutex::new(()),
                    current: Mutex::new(current),
                };
                (cluster.to_owned(), Arc::new(cluster_state))
            })
            .collect();
        Ok(Self { clusters })
    }

    /// What is stored for `cluster`.
    ///
    /// # Errors
    /// [`EpochError::UnknownCluster`] or [`EpochError::Unreadable`].
    pub fn stored(&self, cluster: &str) -> Result<StoredEpoch, EpochError> {
        self.cluster(cluster)?.current()
    }

    /// Grants `cluster` to `holder` with `epoch`, or says why not; `take_over`: also if another manager is the one of
    /// record. Blocks until the grant is on disk; returns what is stored now and what was stored before.
    ///
    /// # Errors
    /// See [`EpochError`]; nothing is changed then.
    pub fn claim(
        &self,
        cluster: &str,
        epoch: u64,
        holder: Holder,
        take_over: bool,
    ) -> Result<Grant, EpochError> {
        let state = self.cluster(cluster)?;
        names::check("operation", &holder.operation)?;
        names::check("manager", &holder.manager)?;
        if epoch == 0 {
            return Err(EpochError::BadField {
                field: "epoch",
                expected: "a number greater than 0",
                found: epoch.to_string(),
            });
        }
        let _writer = lock(&state.writer);
        let before = state.current()?;
        let same_operation = before
            .holder
            .as_ref()
            .is_some_and(|held| held.operation == holder.operation);
        if epoch == before.epoch && same_operation {
            return Ok(Grant {
                stored: before.clone(),
                before,
            });
        }
        if epoch <= before.epoch {
            return Err(refusal(epoch, &holder.operation, before));
        }
        match before.of_record() {
            Some(record) if record.manager != holder.manager && !take_over => {
                return Err(EpochError::OfAnother {
                    asked: epoch,
                    of: record.manager.clone(),
                    stored: before,
                });
            }
            _ => {}
        }
        let stored = StoredEpoch {
            epoch,
            holder: Some(holder),
            last: None,
        };
        durable::write_json(&state.path, &stored)?;
        *lock(&state.current) = Ok(stored.clone());
        Ok(Grant { stored, before })
    }

    /// Clears the operation if it holds `cluster` with `epoch`; `false` if it does not. Blocks until that is on disk.
    ///
    /// # Errors
    /// See [`EpochError`]; nothing is changed then.
    pub fn release(&self, cluster: &str, epoch: u64, operation: &str) -> Result<bool, EpochError> {
        let state = self.cluster(cluster)?;
        let _writer = lock(&state.writer);
        let before = state.current()?;
        let held = before
            .holder
            .as_ref()
            .is_some_and(|held| held.operation == operation);
        if before.epoch != epoch || !held {
            return Ok(false);
        }
        let stored = StoredEpoch {
            epoch,
            holder: None,
            last: before.holder,
        };
        durable::write_json(&state.path, &stored)?;
        *lock(&state.current) = Ok(stored);
        Ok(true)
    }

    /// Refuses a mutating call unless its (epoch, operation) is the stored pair.
    ///
    /// # Errors
    /// See [`EpochError`].
    pub fn check(&self, context: &Context) -> Result<(), EpochError> {
        let stored = self.cluster(&context.cluster)?.current()?;
        let operation = context.operation.as_str();
        let holds = stored
            .holder
            .as_ref()
            .is_some_and(|held| held.operation == operation);
        if holds && stored.epoch == context.epoch.get() {
            return Ok(());
        }
        Err(refusal(context.epoch.get(), operation, stored))
    }

    fn cluster(&self, cluster: &str) -> Result<&Arc<Cluster>, EpochError> {
        self.clusters
            .get(cluster)
            .ok_or_else(|| EpochError::UnknownCluster {
                cluster: cluster.to_owned(),
            })
    }
}

/// A granted claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// What is stored now.
    pub stored: StoredEpoch,
    /// What was stored before; equal to `stored` if the claim was a repetition.
    pub before: StoredEpoch,
}

impl Grant {
    /// The manager of record before, if it was another one.
    #[must_use]
    pub fn taken_over_from(&self) -> Option<&str> {
        let (before, now) = (self.before.of_record()?, self.stored.of_record()?);
        (before.manager != now.manager).then_some(before.manager.as_str())
    }
}

impl Cluster {
    fn current(&self) -> Result<StoredEpoch, EpochError> {
        lock(&self.current)
            .clone()
            .map_err(|reason| EpochError::Unreadable {
                path: self.path.clone(),
                reason,
            })
    }
}

/// Held by another with this very epoch, or stale.
fn refusal(asked: u64, operation: &str, stored: StoredEpoch) -> EpochError {
    match &stored.holder {
        Some(holder) if stored.epoch == asked && holder.operation != operation => {
            EpochError::Held { asked, stored }
        }
        _ => EpochError::Stale {
            asked,
            operation: operation.to_owned(),
            stored,
        },
    }
}

/// A panic elsewhere does not make the stored value wrong: it is replaced in one assignment.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
