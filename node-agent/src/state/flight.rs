//! Work in progress: one at a time per lane, watched to its end, stopped when a newer epoch takes over.
//!
//! A mutating call's work runs in a task of its own that holds its lane. If the caller goes away the work goes on to
//! its end, so nothing is left half-done and unobserved; a repeated call waits for the lane and then finds the facts as
//! the first one left them, which is why all work is written to be repeatable. Lanes keep apart what must not
//! happen at once and nothing more: a survivor's logs are cut while its applier drains.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedMutexGuard, watch};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// What excludes what.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lane {
    /// Replication control of one server.
    Replication(String),
    /// Fencing of one server.
    Fence(String),
    /// The virtual IP of one server: it goes down while mysqld is being stopped.
    Address(String),
    /// One segment of one operation.
    Segment {
        /// Operation id.
        operation: String,
        /// Segment id.
        id: String,
    },
}

/// For whom work is done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// Cluster.
    pub cluster: String,
    /// Epoch of the operation.
    pub epoch: u64,
    /// The call, for messages.
    pub call: &'static str,
}

/// The lane was not free in time.
#[derive(Debug, thiserror::Error)]
#[error("{running} is still running here; waited {waited:?} for its end")]
pub struct LaneBusy {
    /// The call that runs.
    pub running: &'static str,
    /// How long its end was waited for.
    pub waited: Duration,
}

/// All work in progress of an agent.
#[derive(Debug, Default)]
pub struct Flights {
    lanes: Mutex<BTreeMap<Lane, Arc<LaneState>>>,
    running: Arc<Mutex<Running>>,
}

#[derive(Debug, Default)]
struct LaneState {
    turn: Arc<tokio::sync::Mutex<()>>,
    occupant: Mutex<&'static str>,
}

#[derive(Debug, Default)]
struct Running {
    next: u64,
    entries: BTreeMap<u64, Entry>,
}

#[derive(Debug)]
struct Entry {
    owner: Owner,
    cancel: CancellationToken,
    ended: watch::Receiver<()>,
}

/// The right to work in a lane; ends when dropped.
#[derive(Debug)]
pub struct Flight {
    number: u64,
    cancel: CancellationToken,
    running: Arc<Mutex<Running>>,
    _turn: OwnedMutexGuard<()>,
    /// Closing it tells [`Flights::supersede`] that the work has ended.
    _ended: watch::Sender<()>,
}

impl Flights {
    /// Waits for the lane, at most `limit`. Waiters get it in the order they came.
    ///
    /// # Errors
    /// [`LaneBusy`] naming the call that holds the lane.
    pub async fn enter(
        &self,
        lane: Lane,
        owner: Owner,
        limit: Duration,
    ) -> Result<Flight, LaneBusy> {
        let state = {
            let mut lanes = lock(&self.lanes);
            // Lanes nobody holds or waits for are forgotten, so that segment ids do not pile up.
            lanes.retain(|_, state| Arc::strong_count(state) > 1 || state.turn.try_lock().is_err());
            Arc::clone(lanes.entry(lane).or_default())
        };
        let Ok(turn) = timeout(limit, Arc::clone(&state.turn).lock_owned()).await else {
            return Err(LaneBusy {
                running: *lock(&state.occupant),
                waited: limit,
            });
        };
        *lock(&state.occupant) = owner.call;
        let cancel = CancellationToken::new();
        let (sender, ended) = watch::channel(());
        let mut running = lock(&self.running);
        let number = running.next;
        running.next = running.next.wrapping_add(1);
        running.entries.insert(
            number,
            Entry {
                owner,
                cancel: cancel.clone(),
                ended,
            },
        );
        drop(running);
        Ok(Flight {
            number,
            cancel,
            running: Arc::clone(&self.running),
            _turn: turn,
            _ended: sender,
        })
    }

    /// Tells work of `cluster` with an epoch below `epoch` to stop and waits for its end, at most `limit`. Returns
    /// the calls that had not ended by then.
    pub async fn supersede(&self, cluster: &str, epoch: u64, limit: Duration) -> Vec<&'static str> {
        let older: Vec<_> = lock(&self.running)
            .entries
            .values()
            .filter(|entry| entry.owner.cluster == cluster && entry.owner.epoch < epoch)
            .map(|entry| (entry.owner.call, entry.cancel.clone(), entry.ended.clone()))
            .collect();
        for (call, cancel, _) in &older {
            tracing::warn!(cluster, call, epoch, "stopped: a newer epoch was granted");
            cancel.cancel();
        }
        let deadline = tokio::time::Instant::now() + limit;
        let mut unfinished = Vec::new();
        for (call, _, mut ended) in older {
            let end = async { while ended.changed().await.is_ok() {} };
            if tokio::time::timeout_at(deadline, end).await.is_err() {
                unfinished.push(call);
            }
        }
        unfinished
    }

    /// Calls whose work is in progress, for the shutdown's report.
    pub fn in_progress(&self) -> Vec<&'static str> {
        lock(&self.running)
            .entries
            .values()
            .map(|entry| entry.owner.call)
            .collect()
    }
}

impl Flight {
    /// Fires when a newer epoch has taken the cluster over.
    pub fn cancelled(&self) -> CancellationToken {
        self.cancel.clone()
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        lock(&self.running).entries.remove(&self.number);
    }
}

/// The maps stay consistent over a panic: every change is one insertion or removal.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner(epoch: u64) -> Owner {
        Owner {
            cluster: "app1".to_owned(),
            epoch,
            call: "ApplyLogs",
        }
    }

    fn lane() -> Lane {
        Lane::Replication("db1:3306".to_owned())
    }

    const SOON: Duration = Duration::from_millis(20);

    #[tokio::test(start_paused = true)]
    async fn a_lane_takes_one_and_names_it_to_the_others() {
        let flights = Flights::default();
        let first = flights.enter(lane(), owner(1), SOON).await.unwrap();
        let busy = flights.enter(lane(), owner(1), SOON).await.unwrap_err();
        assert_eq!(busy.running, "ApplyLogs");
        // Another server, and another kind of work on the same one, are not in the way.
        let other = Lane::Replication("db2:3306".to_owned());
        flights.enter(other, owner(1), SOON).await.unwrap();
        let segment = Lane::Segment {
            operation: "o".to_owned(),
            id: "s".to_owned(),
        };
        flights.enter(segment, owner(1), SOON).await.unwrap();
        drop(first);
        flights.enter(lane(), owner(1), SOON).await.unwrap();
        assert!(flights.in_progress().is_empty());
        // The last entry cleans up after the earlier ones.
        flights.enter(lane(), owner(1), SOON).await.unwrap();
        assert_eq!(lock(&flights.lanes).len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_newer_epoch_stops_the_older_work_and_waits_for_its_end() {
        let flights = Arc::new(Flights::default());
        let flight = flights.enter(lane(), owner(1), SOON).await.unwrap();
        let equal = flights
            .enter(Lane::Fence("db1:3306".to_owned()), owner(2), SOON)
            .await
            .unwrap();
        let cancelled = flight.cancelled();
        let work = tokio::spawn(async move {
            cancelled.cancelled().await;
            tokio::time::sleep(SOON / 2).await;
            drop(flight);
        });
        assert!(flights.supersede("app2", 2, SOON).await.is_empty());
        assert!(!work.is_finished());
        assert!(flights.supersede("app1", 2, SOON).await.is_empty());
        work.await.unwrap();
        assert!(!equal.cancelled().is_cancelled());
    }

    #[tokio::test(start_paused = true)]
    async fn work_that_does_not_stop_is_named() {
        let flights = Flights::default();
        let flight = flights.enter(lane(), owner(1), SOON).await.unwrap();
        assert_eq!(flights.supersede("app1", 2, SOON).await, ["ApplyLogs"]);
        assert_eq!(flights.in_progress(), ["ApplyLogs"]);
        drop(flight);
    }
}
