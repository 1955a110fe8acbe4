//! Claiming a cluster: the first survivor first, then all others at once; all or nothing.
//!
//! Two claimers with the same epoch meet at the first survivor, where only one is granted, so they cannot block each
//! other for ever. Each claim and release is journalled like any other act.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;

use super::{Run, StepTiming, unix_ms};
use crate::agents::{AgentCallError, AgentClient, Claim, Context};
use crate::config::ClusterConfig;
use crate::journal::{self, JournalError, Record, StepOutcome};
use crate::observe::{Agents, StoredClaim, chain};
use crate::plan::{Act, Phase, Step, StepId};

/// Why the cluster could not be claimed. What had been granted is given back.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClaimRefused {
    /// An agent refused.
    #[error("{agent} does not grant the cluster")]
    Refused {
        /// Agent.
        agent: String,
        /// Its reason, which names the holder.
        #[source]
        source: AgentCallError,
    },
    /// A survivor's agent did not answer.
    #[error("{agent} did not answer the claim")]
    NoAnswer {
        /// Agent.
        agent: String,
        /// What was seen.
        #[source]
        source: AgentCallError,
    },
    /// The claim could not be journalled.
    #[error(transparent)]
    Journal(#[from] JournalError),
}

/// Claims the cluster at `survivors` (in configured order, each agent once) and at `dead`, whose silence is tolerated.
/// Returns whether the dead primary's agent granted.
///
/// # Errors
/// [`ClaimRefused`]; nothing is held then.
pub async fn claim(
    run: &Run,
    survivors: &[Arc<AgentClient>],
    dead: Option<&Arc<AgentClient>>,
) -> Result<bool, ClaimRefused> {
    let Some((first, others)) = survivors.split_first() else {
        return Ok(false);
    };
    let result = claim_all(run, first, others, dead).await;
    if let Err(refused) = &result
        && !matches!(refused, ClaimRefused::Journal(_))
    {
        release(run).await?;
    }
    result
}

async fn claim_all(
    run: &Run,
    first: &Arc<AgentClient>,
    others: &[Arc<AgentClient>],
    dead: Option<&Arc<AgentClient>>,
) -> Result<bool, ClaimRefused> {
    claim_one(run, first, 0)
        .await?
        .map_err(|e| refusal(first, e))?;
    let rest = join_all(
        others
            .iter()
            .chain(dead)
            .zip(1u32..)
            .map(|(client, number)| claim_one(run, client, number)),
    )
    .await;
    let mut dead_granted = dead.is_some();
    for ((index, client), result) in others.iter().chain(dead).enumerate().zip(rest) {
        let Err(error) = result? else { continue };
        let is_dead = index == others.len();
        if is_dead && error.is_lost() {
            // Its host has gone since it was observed: the case "no answer", not a refusal.
            dead_granted = false;
            continue;
        }
        return Err(refusal(client, error));
    }
    Ok(dead_granted)
}

fn refusal(client: &AgentClient, source: AgentCallError) -> ClaimRefused {
    let agent = client.endpoint().name.clone();
    if source.is_lost() {
        ClaimRefused::NoAnswer { agent, source }
    } else {
        ClaimRefused::Refused { agent, source }
    }
}

async fn claim_one(
    run: &Run,
    client: &AgentClient,
    number: u32,
) -> Result<Result<(), AgentCallError>, JournalError> {
    let act = Act::ClaimEpoch {
        agent: client.endpoint().name.clone(),
    };
    let claim = Claim {
        cluster: run.context.cluster.clone(),
        epoch: run.context.epoch,
        operation: run.context.operation.clone(),
        manager: run.config.manager_name.clone(),
    };
    let limit = run.config.failover.call_timeout;
    let outcome = StepOutcome::Claimed {
        epoch: run.context.epoch,
    };
    journalled(run, number, act, outcome, client.claim(&claim, limit)).await
}

/// Gives the claim back everywhere; agents that do not answer keep it until the next claim.
///
/// # Errors
/// [`JournalError`].
pub async fn release(run: &Run) -> Result<Vec<String>, JournalError> {
    let limit = run.config.failover.call_timeout;
    let clients: Vec<&AgentClient> = run.agents.reachable().collect();
    let results = join_all(clients.iter().zip(100u32..).map(async |(client, number)| {
        let act = Act::ReleaseEpoch {
            agent: client.endpoint().name.clone(),
        };
        let released = async { client.release(&run.context, limit).await.map(|_| ()) };
        let outcome = StepOutcome::Released { released: true };
        journalled(run, number, act, outcome, released).await
    }))
    .await;
    let mut kept = Vec::new();
    for (client, result) in clients.iter().zip(results) {
        if result?.is_err() {
            kept.push(client.endpoint().name.clone());
        }
    }
    Ok(kept)
}

async fn journalled(
    run: &Run,
    number: u32,
    act: Act,
    outcome: StepOutcome,
    doing: impl Future<Output = Result<(), AgentCallError>>,
) -> Result<Result<(), AgentCallError>, JournalError> {
    let step = Step {
        id: StepId(number),
        act,
        after: vec![],
    };
    run.journal
        .append(&Record::Started {
            unix_ms: unix_ms(),
            stage: 0,
            step: step.clone(),
        })
        .await?;
    let started_us = run.elapsed_us();
    let result = doing.await;
    let record = match &result {
        Ok(()) => Record::Done {
            unix_ms: unix_ms(),
            stage: 0,
            step: step.id,
            outcome: Box::new(outcome),
        },
        Err(error) => Record::Failed {
            unix_ms: unix_ms(),
            stage: 0,
            step: step.id,
            why: chain(error),
            outcome_unknown: error.is_lost(),
            output: None,
        },
    };
    let phase = match step.act {
        Act::ClaimEpoch { .. } => Phase::ConfigurationCheck,
        _ => Phase::Cleanup,
    };
    run.record(StepTiming {
        stage: 0,
        step: step.id,
        phase,
        act: step.act.to_string(),
        started_us,
        finished_us: run.elapsed_us(),
        ok: result.is_ok(),
        note: result.as_ref().err().map(|e| chain(e)).unwrap_or_default(),
    });
    run.journal.append(&record).await?;
    Ok(result)
}

/// Gives back claims that an interrupted operation of this very manager left: its journal is here and nobody writes it.
/// Returns the claims that somebody else holds.
pub async fn release_stale(
    config: &ClusterConfig,
    agents: &Agents,
    claims: &[StoredClaim],
    limit: Duration,
) -> Vec<StoredClaim> {
    let mut foreign = Vec::new();
    for claim in claims {
        let Some((operation, manager)) = &claim.holder else {
            continue;
        };
        let path = journal::folder(&config.state_dir, &config.cluster)
            .join(format!("{operation}.journal"));
        let ours = *manager == config.manager_name
            && path.is_file()
            && matches!(journal::is_running(&path), Ok(false));
        let client = agents
            .reachable()
            .find(|c| c.endpoint().name == claim.agent);
        let context = Context {
            cluster: config.cluster.clone(),
            operation: operation.clone(),
            epoch: claim.epoch,
        };
        let released = match (ours, client) {
            (true, Some(client)) => client.release(&context, limit).await.is_ok(),
            _ => false,
        };
        if !released {
            foreign.push(claim.clone());
        }
    }
    foreign
}
