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
//!
//! A lost lease that is regained opens what its loss closed ([`reopen`]); the same rules open a primary that was restarted
//! with `read_only=1` in its configuration, with or without a lease.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use proto::lease::{AssignOrder, Assigned, FEWEST_AGENTS, LeaseAgent};
use proto::watch::{self, LeaseState, Moment};
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

use self::machine::{Machine, Standing};
use self::reopen::SeenProcess;
use crate::agent::{Agent, LocalServer};
use crate::state::durable::{self, DurableError};
use crate::state::epoch::StoredEpoch;
use crate::watch::clock;

mod ask;
mod keep;
mod machine;
mod reopen;
mod vouch;
mod vouched;

#[cfg(test)]
mod tests;

pub use keep::run;
pub use vouched::Vouched;

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
    /// The manager whose word holds the lease up; empty where nobody's does.
    #[serde(default)]
    pub manager: String,
    /// With a lease, where there are enough agents for one.
    #[serde(default = "with_lease")]
    pub lease: bool,
    /// The process of the primary's mysqld that was seen last, while this server was the primary.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    seen: Option<SeenProcess>,
}

fn with_lease() -> bool {
    true
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
            manager: order.manager.clone(),
            lease: order.lease,
            seen: None,
        }
    }
}

impl Assignment {
    /// As it is told; `None` for one without an epoch, which nobody can have made.
    pub fn told(&self) -> Option<Assigned> {
        Some(Assigned {
            primary: self.primary.clone(),
            epoch: self.epoch.try_into().ok()?,
            operation: self.operation.clone(),
            manager: self.manager.clone(),
            lease: self.lease,
            agents: self
                .agents
                .iter()
                .map(|agent| LeaseAgent {
                    name: agent.name.clone(),
                    address: agent.address.clone(),
                })
                .collect(),
        })
    }
}

/// The lease of one server, if it is the primary.
#[derive(Debug)]
pub struct ServerLease {
    server: String,
    agent: String,
    path: PathBuf,
    state: Mutex<State>,
    /// Held over each write to disk, so that the last one written is the one in force.
    writer: tokio::sync::Mutex<()>,
    changed: Notify,
    /// Whoever asks the others asks at once when this changes.
    asking: tokio::sync::watch::Sender<u64>,
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
    /// Its end closes the server. Without, it only tells whether the server still is the primary.
    enforced: bool,
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
            writer: tokio::sync::Mutex::default(),
            changed: Notify::new(),
            asking: tokio::sync::watch::Sender::new(0),
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
        self.lock()
            .active
            .as_ref()
            .is_some_and(|active| active.enforced)
    }

    /// Stores who the primary is; a lease begins if it is this server. Returns the assignment before.
    ///
    /// # Errors
    /// It could not be stored; the one before stays in force.
    pub async fn assign(
        self: &Arc<Self>,
        mut assignment: Assignment,
    ) -> Result<Option<Assignment>, DurableError> {
        let _writer = self.writer.lock().await;
        let before = self.assignment();
        // A server that goes on as the primary is known as before; what it was as an earlier one means nothing.
        assignment.seen = before
            .as_ref()
            .filter(|before| before.primary == self.server && assignment.primary == self.server)
            .and_then(|before| before.seen.clone());
        self.store(&assignment).await?;
        self.begin(Some(assignment));
        Ok(before)
    }

    async fn store(self: &Arc<Self>, assignment: &Assignment) -> Result<(), DurableError> {
        let lease = Arc::clone(self);
        let stored = assignment.clone();
        tokio::task::spawn_blocking(move || durable::write_json(&lease.path, &stored))
            .await
            .map_err(|error| DurableError::io("write", &self.path)(std::io::Error::other(error)))?
    }

    /// Remembers what was seen of the primary's process, unless another assignment was made meanwhile.
    async fn note(self: &Arc<Self>, epoch: u64, seen: SeenProcess) -> Result<(), DurableError> {
        let _writer = self.writer.lock().await;
        let made = {
            let mut state = self.lock();
            let Some(made) = state.assignment.as_mut().filter(|a| a.epoch == epoch) else {
                return Ok(());
            };
            made.seen = Some(seen);
            made.clone()
        };
        self.store(&made).await
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
            .filter(|made| made.primary == self.server)
            .map(|made| Active {
                machine: Machine::new(self.peers(made).map(|p| p.name.clone()), clock::boottime()),
                enforced: made.lease && made.agents.len() >= FEWEST_AGENTS,
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
            if active.lost.is_some() {
                // It may be held again by this.
                self.changed.notify_one();
            }
        }
    }

    /// By what was heard so far the lease is over, and nothing was done about it yet.
    fn seems_over(&self, own: bool) -> bool {
        let state = self.lock();
        state.active.as_ref().is_some_and(|active| {
            active.enforced
                && active.lost.is_none()
                && matches!(
                    active.machine.standing(clock::boottime(), own),
                    Standing::Lost { .. }
                )
        })
    }

    /// Looks whether the lease has ended: the assignment if that is news.
    fn ended(&self, own: bool) -> Option<Assignment> {
        let mut state = self.lock();
        let active = state.active.as_mut().filter(|active| active.enforced)?;
        let standing = active.machine.look(clock::boottime(), own);
        let news = matches!(standing, Standing::Lost { .. }) && active.lost.is_none();
        if news {
            active.lost = Some(clock::now());
            // Only what is asked from now on can bring it back.
            self.asking
                .send_modify(|round| *round = round.wrapping_add(1));
        }
        news.then(|| state.assignment.clone()).flatten()
    }

    /// Whether a lost lease is held again: the assignment if that is news.
    fn regained(&self, own: bool) -> Option<Assignment> {
        let mut state = self.lock();
        let active = state.active.as_mut().filter(|a| a.lost.is_some())?;
        if !active.machine.regain(clock::boottime(), own) {
            return None;
        }
        (active.lost, active.since) = (None, clock::now());
        state.assignment.clone()
    }

    /// Whether the server has no lease or holds it, and when somebody who counts last held it for the primary.
    fn standing(&self, own: bool) -> (bool, Option<Duration>) {
        let now = clock::boottime();
        let state = self.lock();
        let Some(active) = &state.active else {
            return (true, None);
        };
        let evidence = active.machine.evidence(now, own);
        let held = active.lost.is_none()
            && matches!(active.machine.standing(now, own), Standing::Held { .. });
        (held || !active.enforced, evidence)
    }

    /// What is told of it; `own`: this agent itself vouches.
    pub fn told(&self, own: bool) -> watch::Lease {
        let now = clock::boottime();
        let state = self.lock();
        let Some(active) = state.active.as_ref().filter(|active| active.enforced) else {
            return watch::Lease {
                state: LeaseState::Off,
                vouching: 0,
                agents: 0,
                manager_heard: false,
            };
        };
        let count = |number| u32::try_from(number).unwrap_or(u32::MAX);
        let told = match (active.lost, active.machine.standing(now, own)) {
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
