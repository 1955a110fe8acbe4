//! Fence and freeze: the dead primary's mysqld is held down, the survivors' receivers are stopped, and a script takes the
//! address away, all at once; then a script switches the host off.

use crate::config::{ClusterConfig, ServerConfig};
use crate::execute::{self, Run, StepError};
use crate::failover::{FailoverError, Request, StopReason};
use crate::hooks::master_ip_failover::Meaning;
use crate::hooks::{Hook, HookCall, master_ip_failover, shutdown};
use crate::journal::StepOutcome;
use crate::plan::Act;
use crate::report::Fence;
use crate::topology::{LeftAside, Refusal, Topology};

/// The frozen cluster.
pub(super) struct Frozen {
    /// Topology with final received positions.
    pub(super) topology: Topology,
    /// How sure it is that the dead primary takes no more writes.
    pub(super) fence: Fence,
    /// How it was held down.
    pub(super) how: Option<String>,
    /// Its agent still answers.
    pub(super) dead_answers: bool,
    /// What hooks said that an operator should know.
    pub(super) remarks: Vec<String>,
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
    if dead_granted && run.config.virtual_ip.is_some() {
        acts.push(Act::DropAddress {
            server: dead.name.clone(),
        });
    }
    if run.config.hooks.has(Hook::MasterIpFailoverScript) {
        acts.push(Act::RunHook {
            call: HookCall::TakeAddressDown {
                server: dead.name.clone(),
                host_answers: dead_granted,
            },
        });
    }
    let results = execute::single(run, acts).await?;
    let mut frozen = Frozen {
        topology,
        fence: Fence::Unconfirmed,
        how: None,
        dead_answers: dead_granted,
        remarks: Vec::new(),
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
                if held.confirmed {
                    frozen.fence = Fence::HeldDown;
                }
                frozen.how = Some(held.how.clone());
            }
            (Act::RunHook { call }, execute::StepResult::Done(StepOutcome::HookRan(ran))) => {
                if master_ip_failover::meaning(ran.exit_code) == Meaning::GoOn {
                    frozen.remarks.push(format!(
                        "{call} ended with 10: the address may still be up at {}",
                        dead.name
                    ));
                }
            }
            (Act::DropAddress { .. }, execute::StepResult::Done(_))
            | (_, execute::StepResult::Failed(_)) => {}
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
    let held = frozen.fence == Fence::HeldDown;
    for (act, error) in results.into_failed() {
        match act {
            Act::HoldDown { .. } if error.outcome_unknown() => frozen.dead_answers = false,
            act @ (Act::HoldDown { .. } | Act::RunHook { .. }) => {
                failed = Some(StopReason::Step {
                    act: act.to_string(),
                    source: error,
                });
            }
            // Its server is what matters; the new primary takes the address all the same.
            act @ Act::DropAddress { .. } => frozen.remarks.push(format!(
                "{act}: {}; it may still be up there",
                crate::observe::chain(&error)
            )),
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
                        deposed: false,
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
    if failed.is_none() && run.config.hooks.has(Hook::ShutdownScript) {
        failed = shut_down(run, dead, &mut frozen).await?;
    }
    frozen.topology.dead_agent_answers = frozen.dead_answers;
    Ok(match failed {
        None => Ok(frozen),
        Some(reason) => Err(NotFrozen { reason, held }),
    })
}

/// `shutdown_script`, after the address is gone.
///
/// Differs from MHA: exit code 0 (the host is off) does not by itself give the tail up. If its agent still answers, the
/// log is read as usual, and the host does not count as off; MHA lost the tail of everybody whose script said 0 too
/// easily.
async fn shut_down(
    run: &Run,
    dead: &ServerConfig,
    frozen: &mut Frozen,
) -> Result<Option<StopReason>, FailoverError> {
    let call = HookCall::ShutDown {
        server: dead.name.clone(),
        host_answers: frozen.dead_answers,
    };
    let results = execute::single(run, vec![Act::RunHook { call }]).await?;
    let exit_code = results.done().find_map(|(_, outcome)| match outcome {
        StepOutcome::HookRan(ran) => Some(ran.exit_code),
        _ => None,
    });
    if let Some((act, source)) = results.into_failed().next() {
        let act = act.to_string();
        return Ok(Some(StopReason::Step { act, source }));
    }
    if exit_code.map(shutdown::meaning) != Some(shutdown::Meaning::PowerOff) {
        return Ok(None);
    }
    let still_answers = match run.agents.of(dead).filter(|_| frozen.dead_answers) {
        Some(agent) => {
            let limit = run.config.failover.call_timeout;
            let seen = agent.observe(&run.config.cluster, &dead.name, limit).await;
            !seen.is_err_and(|error| error.is_lost())
        }
        None => false,
    };
    if still_answers {
        frozen.remarks.push(format!(
            "{} said that {} is off, yet its agent answers: its log is read, and it does not count as off",
            Hook::ShutdownScript,
            dead.name
        ));
    } else {
        frozen.dead_answers = false;
        frozen.how = Some(format!(
            "{} says that its host is off",
            Hook::ShutdownScript
        ));
        if frozen.fence == Fence::Unconfirmed {
            frozen.fence = Fence::PoweredOff;
        }
    }
    Ok(None)
}
