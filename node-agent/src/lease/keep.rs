//! The task that keeps a server's lease: ends its writing when the lease has ended, and opens it again when it may.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval, sleep};
use tokio_util::sync::CancellationToken;

use super::reopen::{self, Known, Lookup, Next, Opened, SeenProcess};
use super::{Assignment, vouch, vouches_for_itself};
use crate::address;
use crate::agent::{Agent, LocalServer};
use crate::error::chain;
use crate::guard::{Cause, Deposed};
use crate::watch::clock;

/// How often the end of a lease is looked for: timers stand still in a suspended host, the lease does not.
const LOOK: Duration = Duration::from_millis(20);
/// Between two looks for so long: this agent stood still, and answers that came meanwhile lie in its queues.
const STOOD_STILL: Duration = Duration::from_millis(150);
/// How long they may take to be read before a lease that seems over counts as lost.
const READING: Duration = Duration::from_millis(30);
/// Pause before a server that could not be opened is tried again.
const AGAIN: Duration = Duration::from_millis(500);

/// Keeps the lease of a server until `stop`.
pub async fn run(agent: Arc<Agent>, server: Arc<LocalServer>, stop: CancellationToken) {
    let mut look = interval(LOOK);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut vouching: Option<(u64, CancellationToken)> = None;
    let mut last = None;
    let mut opener = Opener::default();
    let mut looked = clock::boottime();
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            () = server.lease.changed.notified() => {}
            _ = look.tick() => {}
        }
        let stood_still = clock::boottime().saturating_sub(looked) >= STOOD_STILL;
        if stood_still && server.lease.seems_over(vouches_for_itself(&agent, &server)) {
            sleep(READING).await;
        }
        looked = clock::boottime();
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
            lost(&server, made);
        } else if server.guard.is_carried_out(&server.watch.facts().process)
            && let Some(made) = server.lease.regained(own)
        {
            tracing::warn!(
                server = server.config.name,
                epoch = made.epoch,
                "the lease is held again: a majority of the agents vouches"
            );
        }
        opener.look(&agent, &server, own).await;
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

fn lost(server: &Arc<LocalServer>, made: Assignment) {
    let order = Deposed {
        operation: made.operation,
        epoch: made.epoch,
        cause: Cause::LeaseLost,
        earlier: None,
    };
    // In force at once; a disk that does not take it must not stop this task.
    let guard = Arc::clone(&server.guard);
    let deposing = guard.depose(order);
    // Clients that still reach this host are to go where the new primary may be.
    server.address.lease_lost();
    tracing::error!(
        server = server.config.name,
        epoch = made.epoch,
        "the lease is lost: neither the manager nor a majority of the agents is heard; the server is made read-only"
    );
    tokio::spawn(async move {
        if let Err(error) = deposing.await {
            tracing::error!(error = chain(&error), "in force until the agent ends");
        }
    });
}

/// Opens the server, and remembers what it is, in a task of its own: looking for the end of the lease waits for neither the
/// server nor the disk.
#[derive(Default)]
struct Opener {
    lookup: Lookup,
    running: Option<JoinHandle<Did>>,
    tried: Option<Duration>,
    /// It turned out that this one must stay closed.
    never: Option<SeenProcess>,
}

/// What such a task did.
enum Did {
    Tried(Opened),
    Noted,
    NotNoted,
}

impl Opener {
    async fn look(&mut self, agent: &Arc<Agent>, server: &Arc<LocalServer>, own: bool) {
        if self
            .running
            .as_ref()
            .is_some_and(|task| !task.is_finished())
        {
            return;
        }
        let facts = server.watch.facts();
        let found = self.lookup.of(&agent.boot_id, &facts.process);
        let ended = match self.running.take() {
            Some(task) => task.await.ok(),
            None => None,
        };
        let Some(made) = server.lease.assignment() else {
            return;
        };
        match (ended, &found) {
            (Some(Did::Tried(opened)), Some((process, _))) => {
                let seen = SeenProcess {
                    process: process.clone(),
                    open: opened == Opened::Yes,
                };
                match opened {
                    Opened::Yes => {
                        address::regain(server, &made.operation, made.epoch);
                        return self.note(server, &made, seen);
                    }
                    Opened::Lifted => {}
                    Opened::Never => self.never = Some(seen),
                    Opened::NotYet => self.tried = Some(clock::boottime()),
                }
            }
            (Some(Did::NotNoted), _) => self.tried = Some(clock::boottime()),
            (Some(Did::Tried(_) | Did::Noted) | None, _) => {}
        }
        let stored = agent.epochs.stored(&server.config.cluster);
        let order = server.guard.order();
        let (lease_stands, evidence) = server.lease.standing(own);
        let next = reopen::next(&Known {
            server: &server.config.name,
            assignment: Some(&made),
            current: stored.is_ok_and(|stored| stored.epoch == made.epoch),
            lease_stands,
            evidence,
            order: order
                .as_ref()
                .map(|order| (order, server.guard.is_carried_out(&facts.process))),
            held_down: server.fence.hold().is_some(),
            process: found.as_ref().map(|(process, since)| (process, *since)),
            read_only: facts.read_only,
        });
        let open = match next {
            Next::Nothing => return,
            Next::Note(seen) => return self.note(server, &made, seen),
            Next::Open => true,
            Next::Lift => false,
        };
        let never = found
            .is_some_and(|(process, _)| self.never.as_ref().is_some_and(|n| n.process == process));
        if never || !reopen::again(AGAIN, self.tried) {
            return;
        }
        let server = Arc::clone(server);
        self.running = Some(tokio::spawn(async move {
            Did::Tried(reopen::carry_out(&server, &made, open).await)
        }));
    }

    fn note(&mut self, server: &Arc<LocalServer>, made: &Assignment, seen: SeenProcess) {
        if !reopen::again(AGAIN, self.tried) {
            return;
        }
        let (server, epoch) = (Arc::clone(server), made.epoch);
        self.running = Some(tokio::spawn(async move {
            let Err(error) = server.lease.note(epoch, seen).await else {
                return Did::Noted;
            };
            tracing::error!(
                server = server.config.name,
                error = chain(&error),
                "what the primary's process is could not be remembered"
            );
            Did::NotNoted
        }));
    }
}
