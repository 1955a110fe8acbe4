//! The lease of a primary: it takes writes only while its agent hears the manager or a majority of the cluster's agents.
//!
//! A manager that was cut off from the primary's host cannot fence it. It waits out the lease instead: by then the agent there
//! has made its server read-only and ended the sessions of clients ([`crate::guard`]). The time is counted by a clock that runs
//! through suspend, and always from the moment the agent asked, so an agent that was stopped finds its lease over when it
//! runs again, whatever lies in its queues.
//!
//! A lease belongs to an assignment, which a manager makes with the present epoch and which is on disk before it is answered.
//! An agent that granted a newer claim vouches for the older assignment no more, also not its own. After a restart the agent
//! begins with a fresh lease: a server whose agent is not running has no one to end it in any case.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use proto::lease::{AssignOrder, FEWEST_AGENTS};
use proto::watch::{self, LeaseState, Moment};
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use self::machine::{Machine, Standing};
use crate::agent::{Agent, LocalServer};
use crate::guard::{Cause, Deposed};
use crate::state::durable::{self, DurableError};
use crate::state::epoch::StoredEpoch;
use crate::watch::clock;

mod machine;
mod vouch;

#[cfg(test)]
mod tests;

/// How often the end of a lease is looked for: timers stand still in a suspended host, the lease does not.
const LOOK: Duration = Duration::from_millis(20);

/// Who the primary is, as it is on disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Assignment {
    /// Server name of the primary.
    pub primary: String,
    /// Operation that made it.
    pub operation: String,
    /// Its epoch.
    pub epoch: u64,
    /// All agents of the cluster, this one included.
    pub agents: Vec<AgentAddress>,
}

/// An agent, as the others dial it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AgentAddress {
    /// Its name, as in its certificate.
    pub name: String,
    /// `host:port`.
    pub address: String,
}

impl From<&AssignOrder> for Assignment {
    fn from(order: &AssignOrder) -> Self {
        Self {
            primary: order.primary.clone(),
            operation: order.context.operation.to_string(),
            epoch: order.context.epoch.get(),
            agents: order
                .agents
                .iter()
                .map(|agent| AgentAddress {
                    name: agent.name.clone(),
                    address: agent.address.clone(),
                })
                .collect(),
        }
    }
}

/// The lease of one server, if it is the primary.
#[derive(Debug)]
pub struct ServerLease {
    server: String,
    agent: String,
    path: PathBuf,
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    assignment: Option<Assignment>,
    active: Option<Active>,
    /// Tells leases apart: what was heard for an earlier one counts no more.
    generation: u64,
}

#[derive(Debug)]
struct Active {
    machine: Machine,
    since: Moment,
    lost: Option<Moment>,
}

impl ServerLease {
    /// Reads the assignment that an earlier run of the agent left in `folder`, if any; `agent` is this agent's name.
    ///
    /// # Errors
    /// An assignment that cannot be read is an error: a primary without its lease could take writes beside another one.
    pub fn open(folder: &Path, server: &str, agent: &str) -> Result<Self, DurableError> {
        let path = folder.join("primary.json");
        let assignment = durable::read_json::<Assignment>(&path)?;
        let lease = Self {
            server: server.to_owned(),
            agent: agent.to_owned(),
            path,
            state: Mutex::default(),
            changed: Notify::new(),
        };
        lease.begin(assignment);
        Ok(lease)
    }

    /// The assignment in force.
    pub fn assignment(&self) -> Option<Assignment> {
        self.lock().assignment.clone()
    }

    /// Whether this server has a lease, held or lost.
    pub fn is_active(&self) -> bool {
        self.lock().active.is_some()
    }

    /// Stores who the primary is; a lease begins if it is this server. Returns the assignment before.
    ///
    /// # Errors
    /// It could not be stored; the one before stays in force.
    pub async fn assign(
        self: &Arc<Self>,
        assignment: Assignment,
    ) -> Result<Option<Assignment>, DurableError> {
        let lease = Arc::clone(self);
        let stored = assignment.clone();
        let path = self.path.clone();
        tokio::task::spawn_blocking(move || durable::write_json(&lease.path, &stored))
            .await
            .map_err(|error| DurableError::io("write", &path)(std::io::Error::other(error)))??;
        let before = self.assignment();
        self.begin(Some(assignment));
        Ok(before)
    }

    /// The server was made writable by the present epoch: its lease begins anew.
    pub fn begin_anew(&self) {
        let assignment = self.assignment();
        self.begin(assignment);
    }

    fn begin(&self, assignment: Option<Assignment>) {
        let mut state = self.lock();
        state.active = assignment
            .as_ref()
            .filter(|made| made.primary == self.server && made.agents.len() >= FEWEST_AGENTS)
            .map(|made| Active {
                machine: Machine::new(self.peers(made).map(|p| p.name.clone()), clock::boottime()),
                since: clock::now(),
                lost: None,
            });
        state.assignment = assignment;
        state.generation = state.generation.wrapping_add(1);
        drop(state);
        self.changed.notify_one();
    }

    fn peers<'a>(&'a self, assignment: &'a Assignment) -> impl Iterator<Item = &'a AgentAddress> {
        assignment
            .agents
            .iter()
            .filter(|agent| agent.name != self.agent)
    }

    /// The manager received what this agent sent at `seen`. A call of another epoch is refused by the handler.
    pub fn manager_heard(&self, seen: Duration) {
        if let Some(active) = &mut self.lock().active {
            active.machine.heard_manager(seen, clock::boottime());
        }
    }

    fn peer_heard(&self, generation: u64, peer: &str, asked: Duration) {
        let mut state = self.lock();
        if state.generation == generation
            && let Some(active) = &mut state.active
        {
            active.machine.heard_peer(peer, asked, clock::boottime());
        }
    }

    /// Looks whether the lease has ended: the assignment if that is news.
    fn ended(&self, own: bool) -> Option<Assignment> {
        let mut state = self.lock();
        let active = state.active.as_mut()?;
        let standing = active.machine.look(clock::boottime(), own);
        let news = matches!(standing, Standing::Lost { .. }) && active.lost.is_none();
        if news {
            active.lost = Some(clock::now());
        }
        news.then(|| state.assignment.clone()).flatten()
    }

    /// What is told of it; `own`: this agent itself vouches.
    pub fn told(&self, own: bool) -> watch::Lease {
        let now = clock::boottime();
        let mut state = self.lock();
        let Some(active) = &mut state.active else {
            return watch::Lease {
                state: LeaseState::Off,
                vouching: 0,
                agents: 0,
                manager_heard: false,
            };
        };
        let count = |number| u32::try_from(number).unwrap_or(u32::MAX);
        let told = match (active.lost, active.machine.look(now, own)) {
            (None, Standing::Held { remaining }) => LeaseState::Held {
                since: active.since,
                remaining,
            },
            (lost, _) => LeaseState::Lost {
                since: lost.unwrap_or_else(clock::now),
            },
        };
        watch::Lease {
            state: told,
            vouching: count(active.machine.vouching(now, own)),
            agents: count(active.machine.agents()),
            manager_heard: active.machine.manager_heard(now),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change is complete within the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether an agent vouches for `primary` by its assignment of `epoch`: it granted no newer claim and knows no other primary.
///
/// # Errors
/// Why it does not, as a sentence.
pub fn vouches(
    stored: &StoredEpoch,
    known: Option<&Assignment>,
    primary: &str,
    epoch: u64,
) -> Result<(), String> {
    if stored.epoch > epoch {
        return Err(format!(
            "epoch {} was claimed here, the assignment is of epoch {epoch}",
            stored.epoch
        ));
    }
    match known {
        Some(known) if known.epoch > epoch => Err(format!(
            "{} was made the primary in epoch {}",
            known.primary, known.epoch
        )),
        Some(known) if known.epoch == epoch && known.primary != primary => {
            Err(format!("{} is the primary of epoch {epoch}", known.primary))
        }
        _ => Ok(()),
    }
}

/// Whether this agent vouches for its own server.
pub fn vouches_for_itself(agent: &Agent, server: &LocalServer) -> bool {
    let Some(known) = server.lease.assignment() else {
        return false;
    };
    agent
        .epochs
        .stored(&server.config.cluster)
        .is_ok_and(|stored| vouches(&stored, Some(&known), &known.primary, known.epoch).is_ok())
}

/// Keeps the lease of a server, and ends its writing when the lease has ended, until `stop`.
pub async fn run(agent: Arc<Agent>, server: Arc<LocalServer>, stop: CancellationToken) {
    let mut look = interval(LOOK);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut vouching: Option<(u64, CancellationToken)> = None;
    let mut last = None;
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            () = server.lease.changed.notified() => {}
            _ = look.tick() => {}
        }
        let (generation, active) = {
            let state = server.lease.lock();
            (state.generation, state.active.is_some())
        };
        if vouching.as_ref().map(|(of, _)| *of) != Some(generation) {
            if let Some((_, old)) = vouching.take() {
                old.cancel();
            }
            let token = stop.child_token();
            if active {
                vouch::start(&agent, &server, generation, &token);
            }
            vouching = Some((generation, token));
        }
        let own = vouches_for_itself(&agent, &server);
        if let Some(made) = server.lease.ended(own) {
            tracing::error!(
                server = server.config.name,
                epoch = made.epoch,
                "the lease is lost: neither the manager nor a majority of the agents is heard; the server is made read-only"
            );
            let order = Deposed {
                operation: made.operation,
                epoch: made.epoch,
                cause: Cause::LeaseLost,
            };
            // In force at once; a disk that does not take it must not stop this task.
            let guard = Arc::clone(&server.guard);
            tokio::spawn(async move {
                if let Err(error) = guard.depose(order).await {
                    tracing::error!(
                        error = crate::error::chain(&error),
                        "in force until the agent ends"
                    );
                }
            });
        }
        let told = server.lease.told(own);
        let facts = (
            std::mem::discriminant(&told.state),
            told.vouching,
            told.agents,
            told.manager_heard,
        );
        if last.replace(facts) != Some(facts) {
            server.watch.nudge();
        }
    }
    if let Some((_, token)) = vouching {
        token.cancel();
    }
}
