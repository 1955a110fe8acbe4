//! Fence and freeze: the dead primary's mysqld is held down, the survivors' receivers are stopped, all at once.

use crate::config::{ClusterConfig, ServerConfig};
use crate::execute::{self, Run, StepError};
use crate::failover::{FailoverError, Request, StopReason};
use crate::journal::StepOutcome;
use crate::plan::Act;
use crate::topology::{LeftAside, Refusal, Topology};

/// The frozen cluster.
pub(super) struct Frozen {
    /// Topology with final received positions.
    pub(super) topology: Topology,
    /// The dead primary's mysqld is down for sure.
    pub(super) fenced: bool,
    /// How it was held down.
    pub(super) how: Option<String>,
    /// Its agent still answers.
    pub(super) dead_answers: bool,
}

/// What went wrong while freezing, and what has to be undone.
pub(super) struct NotFrozen {
    pub(super) reason: StopReason,
    pub(super) held: bool,
}

/// Number of agents of the survivors and of `also`.
pub(super) fn agents_of<'a>(
    config: &ClusterConfig,
    topology: &'a Topology,
    also: impl Iterator<Item = &'a String>,
) -> usize {
    let also: Vec<&String> = also.chain(&topology.following).collect();
    let mut agents: Vec<&str> = config
        .servers
        .iter()
        .filter(|c| {
            topology.survivors.iter().any(|s| s.server == c.name) || also.contains(&&c.name)
        })
        .map(|c| c.agent.address.as_str())
        .collect();
    agents.sort_unstable();
    agents.dedup();
    agents.len()
}

/// Without a confirmed fence the agents that did not grant, the old primary's included, must be no majority.
pub(super) fn majority(
    config: &ClusterConfig,
    dead: &ServerConfig,
    granting: usize,
    request: &Request,
) -> Result<(), Refusal> {
    let mut agents: Vec<&str> = config
        .servers
        .iter()
        .map(|s| s.agent.address.as_str())
        .collect();
    agents.sort_unstable();
    agents.dedup();
    let others = agents.len().saturating_sub(granting);
    if request.primary_is_off || others * 2 <= agents.len() {
        Ok(())
    } else {
        Err(Refusal::NoMajority {
            dead: dead.name.clone(),
            granting,
            agents: agents.len(),
        })
    }
}

pub(super) async fn freeze(
    run: &Run,
    dead: &ServerConfig,
    dead_granted: bool,
    topology: Topology,
) -> Result<Result<Frozen, NotFrozen>, FailoverError> {
    let mut acts: Vec<Act> = topology
        .survivors
        .iter()
        .map(|s| Act::StopReceiver {
            server: s.server.clone(),
        })
        .collect();
    if dead_granted {
        acts.push(Act::HoldDown {
            server: dead.name.clone(),
        });
    }
    let results = execute::single(run, acts).await?;
    let mut frozen = Frozen {
        topology,
        fenced: false,
        how: None,
        dead_answers: dead_granted,
    };
    let mut failed = None;
    for (act, result) in results.iter() {
        match (act, result) {
            (
                Act::StopReceiver { server },
                execute::StepResult::Done(StepOutcome::ReceiverStopped(stopped)),
            ) => {
                if let Some(s) = frozen
                    .topology
                    .survivors
                    .iter_mut()
                    .find(|s| s.server == *server)
                {
                    s.replica = stopped.status.clone();
                    s.facts.replica = Some(stopped.status.clone());
                }
            }
            (Act::HoldDown { .. }, execute::StepResult::Done(StepOutcome::HeldDown(held))) => {
                frozen.fenced = held.confirmed;
                frozen.how = Some(held.how.clone());
            }
            (_, execute::StepResult::Failed(_)) => {}
            _ => {
                failed = Some(StopReason::Step {
                    act: act.to_string(),
                    source: StepError::Incomplete {
                        what: "the expected outcome",
                    },
                });
            }
        }
    }
    let held = frozen.fenced;
    for (act, error) in results.into_failed() {
        match act {
            Act::HoldDown { .. } if error.outcome_unknown() => frozen.dead_answers = false,
            Act::HoldDown { server } => {
                failed = Some(StopReason::Step {
                    act: format!("hold mysqld of {server} down"),
                    source: error,
                });
            }
            Act::StopReceiver { server } => {
                let ignorable = run
                    .config
                    .servers
                    .iter()
                    .any(|s| s.name == server && s.ignore_fail);
                if ignorable {
                    frozen.topology.survivors.retain(|s| s.server != server);
                    frozen.topology.left_aside.push(LeftAside {
                        server,
                        why: crate::observe::chain(&error),
                    });
                } else {
                    failed = Some(StopReason::Freeze {
                        server,
                        source: error,
                    });
                }
            }
            _ => {}
        }
    }
    frozen.topology.dead_agent_answers = frozen.dead_answers;
    Ok(match failed {
        None => Ok(frozen),
        Some(reason) => Err(NotFrozen { reason, held }),
    })
}
