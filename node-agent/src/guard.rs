//! Keeping a deposed server from taking writes once its mysqld runs again.
//!
//! A server that was held down by a failover is deposed: from then on, also after its hold was released and after any number
//! of restarts of agent and mysqld, it is made read-only as soon as its socket answers, and sessions of users without SUPER are
//! ended. Two things lift that: `MakeWritable` of the present epoch, and the release of the hold by the very operation that
//! held it, which undoes what this operation did: an order of an earlier operation is in force again then. A server whose
//! lease was lost, or beside which another one was named the primary, is deposed as well; the first only until its lease is
//! held again ([`crate::lease`]).
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
    /// The order of another operation that was in force before, and is again if this one is undone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub earlier: Option<Box<Deposed>>,
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
    /// Held over each change on disk, so that the last one there is the order in force.
    writer: tokio::sync::Mutex<()>,
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
    /// Number of orders given so far: who lifts one must have seen the last.
    given: u64,
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
                earlier: None,
            })
        });
        Ok(Self {
            path,
            state: Mutex::new(State {
                order,
                since: clock::now(),
                suspended: false,
                confirmed: None,
                given: 0,
            }),
            writer: tokio::sync::Mutex::default(),
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

    /// Whether the process that runs was made read-only by the order in force.
    pub fn is_carried_out(&self, process: &Process) -> bool {
        let state = self.lock();
        let running = process.running_pid();
        state.order.is_some()
            && state
                .confirmed
                .is_some_and(|(of, _)| running.is_some_and(|pid| pid == of))
    }

    /// Keeps the server read-only: in this run of the agent from the call on, for good when the answer is there. An order of a
    /// newer epoch stays, and one that a lease cannot lift is not replaced by the loss of a lease.
    ///
    /// # Errors
    /// See [`GuardError`]; the order is in force until the agent ends.
    #[must_use = "the order is not on disk yet"]
    pub fn depose(
        self: &Arc<Self>,
        order: Deposed,
    ) -> impl Future<Output = Result<(), GuardError>> + Send + use<> {
        let guard = Arc::clone(self);
        // Before the disk, which may be what is broken.
        let changed = self.lock().put(order);
        if changed {
            self.changed.notify_one();
        }
        async move { guard.store().await }
    }

    /// The operation that deposed the server undoes what it did; `false` if it was another one, or none.
    ///
    /// # Errors
    /// The order could not be removed and stays in force.
    pub async fn pardon(self: &Arc<Self>, operation: &str) -> Result<bool, GuardError> {
        let given = {
            let state = self.lock();
            let undoes = state.order.as_ref().is_some_and(|order| {
                order.operation == operation && order.cause == Cause::HeldDown
            });
            if !undoes {
                return Ok(false);
            }
            state.given
        };
        self.lift(given, true).await
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
        Ok(Aside {
            given: state.given,
            guard: Arc::clone(self),
        })
    }

    /// Makes the disk hold what is in force.
    async fn store(self: &Arc<Self>) -> Result<(), GuardError> {
        let _writer = self.writer.lock().await;
        self.write(self.order()).await
    }

    /// Lifts the order that was given as this number, back to an earlier one if `undo`; `false` if there was a newer one.
    async fn lift(self: &Arc<Self>, given: u64, undo: bool) -> Result<bool, GuardError> {
        let _writer = self.writer.lock().await;
        let left = {
            let state = self.lock();
            if state.given != given {
                return Ok(false);
            }
            let order = state.order.as_ref().filter(|_| undo);
            order.and_then(|order| order.earlier.as_deref().cloned())
        };
        self.write(left.clone()).await?;
        let is_last = {
            let mut state = self.lock();
            let is_last = state.given == given;
            if is_last {
                state.order = left;
            }
            is_last
        };
        if !is_last {
            self.write(self.order()).await?;
        }
        Ok(is_last)
    }

    async fn write(self: &Arc<Self>, order: Option<Deposed>) -> Result<(), GuardError> {
        let guard = Arc::clone(self);
        tokio::task::spawn_blocking(move || match order {
            Some(order) => durable::write_json(&guard.path, &order),
            None => durable::remove(&guard.path).map(drop),
        })
        .await
        .map_err(|_| GuardError::Abandoned)??;
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change is complete within the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Puts an order in force, if nothing stronger is; `true` if that changes anything.
    fn put(&mut self, mut order: Deposed) -> bool {
        if let Some(known) = &self.order {
            let lease_only = order.cause == Cause::LeaseLost && known.cause != Cause::LeaseLost;
            if known.epoch > order.epoch || lease_only {
                return false;
            }
            order.earlier = if known.operation == order.operation {
                known.earlier.clone()
            } else {
                Some(Box::new(Deposed {
                    earlier: None,
                    ..known.clone()
                }))
            };
            // Given again while somebody makes the server writable, it is news for him, and has to be carried out again.
            if *known == order && !self.suspended {
                return false;
            }
        }
        self.order = Some(order);
        (self.since, self.confirmed) = (clock::now(), None);
        self.given += 1;
        true
    }

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
pub struct Aside {
    guard: Arc<Guard>,
    given: u64,
}

impl Aside {
    /// The server is writable: the order that was in force when the guard stood aside is lifted. `false` if a newer one came
    /// meanwhile: it is carried out.
    ///
    /// # Errors
    /// It could not be removed from the disk and is in force again: the call is to be repeated.
    pub async fn for_good(self) -> Result<bool, GuardError> {
        let (given, ordered) = {
            let state = self.guard.lock();
            (state.given, state.order.is_some())
        };
        if given != self.given {
            return Ok(false);
        }
        if !ordered {
            return Ok(true);
        }
        self.guard.lift(self.given, false).await
    }
}

impl Drop for Aside {
    fn drop(&mut self) {
        self.guard.lock().suspended = false;
        self.guard.changed.notify_one();
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
                server.watch.is_read_only(true);
                tracing::warn!(
                    server = server.config.name,
                    pid,
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
