//! Keeping a deposed server from taking writes once its mysqld runs again.
//!
//! A server that was held down by a failover is deposed: from then on, also after its hold was released and after any number
//! of restarts of agent and mysqld, it is made read-only as soon as its socket answers, and sessions of users without SUPER are
//! ended. Two things lift that: `MakeWritable` of the present epoch, and the release of the hold by the very operation that
//! held it, which undoes a failover that promoted nobody. A server whose lease was lost, or beside which another one was named
//! the primary, is deposed as well.
//!
//! Guarantees: the order is on disk before a hold is released, so a crash of the agent forgets nothing; an order that cannot be
//! read is an error of the start, never an absent one. What it cannot do: between the moment mysqld accepts connections and the
//! moment the agent's statement ran, only `read_only=1` in the server's own configuration keeps clients out.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use proto::watch::{self, Moment, Process};
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::agent::LocalServer;
use crate::error::chain;
use crate::fence::Hold;
use crate::mysqld::{Deadline, Endpoint};
use crate::state::durable::{self, DurableError};
use crate::watch::clock;

use self::shut::{Hands, Shut};

mod shut;

#[cfg(test)]
mod tests;

/// Pause between two tries of a server that does not answer yet.
const PAUSE: Duration = Duration::from_millis(10);
/// Longest wait for the server's answers to one try.
const LIMIT: Duration = Duration::from_secs(10);
/// How often open sessions are looked after: more often than any sensible `wait_timeout`.
const ALIVE_EVERY: Duration = Duration::from_secs(5);
/// Pause before sessions that could not be opened in advance are tried again.
const AGAIN_AFTER: Duration = Duration::from_millis(500);

/// Why a server is kept read-only, as it is on disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Deposed {
    /// Operation that deposed it.
    pub operation: String,
    /// Its epoch.
    pub epoch: u64,
    /// What happened.
    #[serde(default)]
    pub cause: Cause,
}

/// What deposed a server.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// An operation held it down.
    #[default]
    HeldDown,
    /// An operation named another primary.
    Succeeded,
    /// Its lease ended; the operation is the one that gave it.
    LeaseLost,
}

/// Why an order could not be stored or lifted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GuardError {
    /// The order could not be written or removed: what was in force stays so.
    #[error("the order to keep the server read-only could not be stored")]
    Store(#[from] DurableError),
    /// The task that stores it was abandoned.
    #[error("storing the order to keep the server read-only was abandoned")]
    Abandoned,
    /// The server was deposed by a newer epoch than the one that wants it writable.
    #[error("the server was deposed in epoch {deposed}, after epoch {asked}")]
    Newer {
        /// Epoch of the order.
        deposed: u64,
        /// Epoch of the call.
        asked: u64,
    },
}

/// The guard of one server.
#[derive(Debug)]
pub struct Guard {
    path: PathBuf,
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct State {
    order: Option<Deposed>,
    /// Since when this run of the agent knows of the order.
    since: Moment,
    /// While a call makes the server writable.
    suspended: bool,
    /// The process that was made read-only, and when.
    confirmed: Option<(u32, Moment)>,
}

impl Guard {
    /// Reads the order that an earlier run of the agent left in `folder`, if any. A `hold` is one as well: the agent may have
    /// ended between the two.
    ///
    /// # Errors
    /// An order that cannot be read is an error: forgetting it could let a deposed primary take writes.
    pub fn open(folder: &Path, hold: Option<&Hold>) -> Result<Self, DurableError> {
        let path = folder.join("deposed.json");
        let order = durable::read_json::<Deposed>(&path)?.or_else(|| {
            hold.map(|hold| Deposed {
                operation: hold.operation.clone(),
                epoch: hold.epoch,
                cause: Cause::HeldDown,
            })
        });
        Ok(Self {
            path,
            state: Mutex::new(State {
                order,
                since: clock::now(),
                suspended: false,
                confirmed: None,
            }),
            changed: Notify::new(),
        })
    }

    /// The order in force.
    pub fn order(&self) -> Option<Deposed> {
        self.lock().order.clone()
    }

    /// What is told of it.
    pub fn told(&self, process: &Process) -> watch::Guard {
        self.lock().told(process.running_pid())
    }

    /// Keeps the server read-only, from now on in this run of the agent, and for good when this returns; an order of a newer
    /// epoch stays.
    ///
    /// # Errors
    /// See [`GuardError`]; the order is in force until the agent ends.
    pub async fn depose(self: &Arc<Self>, order: Deposed) -> Result<(), GuardError> {
        if self.order().is_some_and(|known| known.epoch > order.epoch) {
            return Ok(());
        }
        // Before the disk, which may be what is broken.
        let stored = order.clone();
        {
            let mut state = self.lock();
            if state.order.as_ref() != Some(&order) {
                state.order = Some(order);
                (state.since, state.confirmed) = (clock::now(), None);
            }
        }
        self.changed.notify_one();
        let guard = Arc::clone(self);
        tokio::task::spawn_blocking(move || durable::write_json(&guard.path, &stored))
            .await
            .map_err(|_| GuardError::Abandoned)??;
        Ok(())
    }

    /// The operation that deposed the server undoes what it did; `false` if it was another one, or none.
    ///
    /// # Errors
    /// The order could not be removed and stays in force.
    pub async fn pardon(self: &Arc<Self>, operation: &str) -> Result<bool, GuardError> {
        let undoes =
            |order: Deposed| order.operation == operation && order.cause == Cause::HeldDown;
        if !self.order().is_some_and(undoes) {
            return Ok(false);
        }
        self.remove().await?;
        Ok(true)
    }

    /// Stands aside while a call of this epoch makes the server writable; takes up again when the answer is dropped, unless
    /// [`Aside::for_good`] was reached.
    ///
    /// # Errors
    /// [`GuardError::Newer`].
    pub fn stand_aside(self: &Arc<Self>, epoch: u64) -> Result<Aside, GuardError> {
        let mut state = self.lock();
        if let Some(order) = &state.order
            && order.epoch > epoch
        {
            return Err(GuardError::Newer {
                deposed: order.epoch,
                asked: epoch,
            });
        }
        state.suspended = true;
        Ok(Aside(Arc::clone(self)))
    }

    async fn remove(self: &Arc<Self>) -> Result<(), GuardError> {
        let guard = Arc::clone(self);
        tokio::task::spawn_blocking(move || durable::remove(&guard.path))
            .await
            .map_err(|_| GuardError::Abandoned)??;
        self.lock().order = None;
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change is complete within the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// The process that must be made read-only now.
    fn due(&self, process: &Process, read_only: Option<bool>) -> Option<u32> {
        let pid = process.running_pid()?;
        let confirmed = self.confirmed.is_some_and(|(of, _)| of == pid);
        (self.order.is_some() && !self.suspended && (!confirmed || read_only == Some(false)))
            .then_some(pid)
    }

    fn told(&self, running: Option<u32>) -> watch::Guard {
        let Some(order) = &self.order else {
            return watch::Guard::None;
        };
        let Deposed {
            operation, epoch, ..
        } = order;
        let reason = match order.cause {
            Cause::HeldDown => format!("held down by operation {operation} in epoch {epoch}"),
            Cause::Succeeded => {
                format!("operation {operation} named another primary in epoch {epoch}")
            }
            Cause::LeaseLost => format!("its lease of epoch {epoch} was lost"),
        };
        match self.confirmed {
            Some((pid, since)) if Some(pid) == running => watch::Guard::ReadOnly { reason, since },
            _ => watch::Guard::Enforcing {
                reason,
                since: self.since,
            },
        }
    }
}

/// The guard stands aside as long as this lives.
#[derive(Debug)]
pub struct Aside(Arc<Guard>);

impl Aside {
    /// The server is writable: the order is lifted.
    ///
    /// # Errors
    /// It could not be removed from the disk and is in force again: the call is to be repeated.
    pub async fn for_good(self) -> Result<(), GuardError> {
        if self.0.order().is_some() {
            self.0.remove().await?;
        }
        Ok(())
    }
}

impl Drop for Aside {
    fn drop(&mut self) {
        self.0.lock().suspended = false;
        self.0.changed.notify_one();
    }
}

/// Enforces the order for each mysqld that runs, until `stop`.
pub async fn enforce(server: Arc<LocalServer>, stop: CancellationToken) {
    let mut news = server.watch.subscribe();
    // One line per kind of trouble, not one per try.
    let mut last_trouble = String::new();
    let mut hands: Option<Hands> = None;
    loop {
        let facts = news.borrow_and_update().clone();
        let due = server.guard.lock().due(&facts.process, facts.read_only);
        let Some(pid) = due else {
            // Who may lose its lease any moment has the sessions for it open: there may be no place for new ones then.
            let wanted = server.lease.is_active() && facts.process.running_pid().is_some();
            tokio::select! {
                () = stop.cancelled() => return,
                () = server.guard.changed.notified() => {}
                changed = news.changed() => if changed.is_err() { return },
                () = keep_open(&server, &mut hands), if wanted => {}
            }
            continue;
        };
        let began = Instant::now();
        let done = tokio::select! {
            () = stop.cancelled() => return,
            done = shut(&server, &mut hands) => done,
        };
        match done {
            Ok(done) => {
                last_trouble.clear();
                server.guard.lock().confirmed = Some((pid, clock::now()));
                server.watch.is_read_only();
                tracing::warn!(
                    server = server.config.name,
                    pid,
                    was_read_only = done.was_read_only,
                    sessions_ended = done.ended,
                    took_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX),
                    "deposed server kept read-only"
                );
            }
            Err(trouble) => {
                if trouble != last_trouble {
                    tracing::warn!(
                        server = server.config.name,
                        pid,
                        error = trouble,
                        "a deposed server is to be read-only and cannot be reached yet"
                    );
                    last_trouble = trouble;
                }
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = sleep(PAUSE) => {}
                }
            }
        }
    }
}

/// Makes the server read-only through the sessions that are open, or through new ones.
async fn shut(server: &LocalServer, hands: &mut Option<Hands>) -> Result<Shut, String> {
    let deadline = Deadline::after(LIMIT);
    // Taken: a session that did not finish is never used again.
    if let Some(mut open) = hands.take()
        && let Ok(done) = open.shut(deadline).await
    {
        *hands = Some(open);
        return Ok(done);
    }
    let mut fresh = open(server, deadline).await?;
    fresh.shut(deadline).await.map_err(|error| chain(&error))
}

async fn open(server: &LocalServer, deadline: Deadline) -> Result<Hands, String> {
    let endpoint = Endpoint::from_config(&server.config).map_err(|error| chain(&error))?;
    Hands::open(&endpoint, deadline)
        .await
        .map_err(|error| chain(&error))
}

/// Keeps sessions open and alive; returns after each look. Dropped in the middle, it drops what it was asking.
async fn keep_open(server: &LocalServer, hands: &mut Option<Hands>) {
    if hands.is_some() {
        sleep(ALIVE_EVERY).await;
    }
    let deadline = Deadline::after(LIMIT);
    let kept = match hands.take() {
        Some(mut open) => open.are_alive(deadline).await.then_some(open),
        None => None,
    };
    *hands = match kept {
        Some(kept) => Some(kept),
        None => open(server, deadline).await.ok(),
    };
    if hands.is_none() {
        // The server is not there, or full.
        sleep(AGAIN_AFTER).await;
    }
}
