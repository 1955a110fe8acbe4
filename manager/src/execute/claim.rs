//! Claiming a cluster: the first survivor first, then all others at once; all or nothing.
//!
//! Two claimers with the same epoch meet at the first survivor, where only one is granted, so they cannot block each
//! other for ever. Each claim and release is journalled like any other act.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::join_all;

use super::{Run, StepTiming, again, unix_ms};
use crate::agents::{AgentCallError, AgentClient, Claim, Context};
use crate::config::ClusterConfig;
use crate::journal::{self, JournalError, Record, StepOutcome};
use crate::lease::{self, Granted};
use crate::observe::{Agents, StoredClaim, chain};
use crate::plan::{Act, Phase, Step, StepId};
use crate::record::TakeOver;

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

/// A claimed cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Claimed {
    /// The dead primary's agent granted as well.
    pub dead: bool,
    /// What the agents said when they granted.
    pub granted: Vec<Granted>,
    /// Agents of binlog servers that did not grant, and why: nothing can be cut there.
    pub refused_beside: BTreeMap<String, String>,
}

/// Claims the cluster at `survivors` (in configured order, each agent once), at `dead`, whose silence is tolerated, and at the
/// agents of binlog servers, whose refusal is: they only provide.
///
/// # Errors
/// [`ClaimRefused`]; nothing is held then.
pub async fn claim(
    run: &Run,
    survivors: &[Arc<AgentClient>],
    dead: Option<&Arc<AgentClient>>,
    take_over: &TakeOver,
) -> Result<Claimed, ClaimRefused> {
    let Some((first, others)) = survivors.split_first() else {
        return Ok(Claimed::default());
    };
    let result = claim_all(run, first, others, dead, take_over).await;
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
    take_over: &TakeOver,
) -> Result<Claimed, ClaimRefused> {
    let granted = claim_one(run, first, 0, take_over)
        .await?
        .map_err(|e| refusal(first, e))?;
    let claiming_beside = claim_beside(run);
    let mut claimed = Claimed {
        dead: dead.is_some(),
        granted: vec![granted],
        refused_beside: BTreeMap::new(),
    };
    let claiming = join_all(
        others
            .iter()
            .chain(dead)
            .zip(1u32..)
            .map(|(client, number)| claim_one(run, client, number, take_over)),
    );
    let (rest, beside) = futures::join!(claiming, claiming_beside);
    claimed.refused_beside = beside?;
    for ((index, client), result) in others.iter().chain(dead).enumerate().zip(rest) {
        let error = match result? {
            Ok(granted) => {
                claimed.granted.push(granted);
                continue;
            }
            Err(error) => error,
        };
        let is_dead = index == others.len();
        if is_dead && error.is_lost() {
            // Its host has gone since it was observed: the case "no answer", not a refusal.
            claimed.dead = false;
            continue;
        }
        return Err(refusal(client, error));
    }
    Ok(claimed)
}

/// Those of binlog servers that are no server's; who refuses, and why. They hold up no lease and vouch for none, so nobody has to
/// state that another manager they know runs no more: whose the cluster is the servers' agents have said.
async fn claim_beside(run: &Run) -> Result<BTreeMap<String, String>, JournalError> {
    let take_over = &TakeOver::stated();
    let claims = join_all(
        run.agents
            .beside()
            .zip(50u32..)
            .map(async |(client, number)| {
                let claimed = claim_one(run, client, number, take_over).await?;
                let agent = client.endpoint().name.clone();
                Ok(claimed.err().map(|error| (agent, chain(&error))))
            }),
    )
    .await;
    let claims: Result<Vec<_>, JournalError> = claims.into_iter().collect();
    Ok(claims?.into_iter().flatten().collect())
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
    take_over: &TakeOver,
) -> Result<Result<Granted, AgentCallError>, JournalError> {
    let act = Act::ClaimEpoch {
        agent: client.endpoint().name.clone(),
    };
    let claim = Claim {
        cluster: run.context.cluster.clone(),
        epoch: run.context.epoch,
        operation: run.context.operation.clone(),
        manager: run.config.manager_name.clone(),
        take_over: take_over.at(&client.endpoint().name),
    };
    let limit = run.config.failover.call_timeout;
    let claiming = async {
        // An agent that still stops an older operation's work wants to be asked again, and so does one that is restarted.
        let once_more = |error: &AgentCallError| {
            error.broke_off() || error.kind() == Some(proto::v1::ErrorKind::Conflict)
        };
        let granted = again(limit, once_more, || client.claim(&claim, limit)).await?;
        let taken_over_from = granted.taken_over_from;
        let granted = Granted {
            agent: client.endpoint().name.clone(),
            at: Instant::now(),
            assigned: granted.assigned,
            vouched_ago: granted.vouched_ago,
        };
        if let Some(from) = &taken_over_from {
            tracing::warn!(
                agent = granted.agent,
                "the cluster is taken over from manager {from}"
            );
        }
        let outcome = StepOutcome::Claimed {
            epoch: claim.epoch,
            lease: shown(&granted),
        };
        Ok((granted, outcome))
    };
    journalled(run, number, act, claiming).await
}

/// What an agent knew, for the journal.
fn shown(granted: &Granted) -> String {
    let Some(ago) = granted.vouched_ago else {
        return "it has no leases".to_owned();
    };
    let ago = ago.as_millis();
    match &granted.assigned {
        None => String::new(),
        Some(known) => format!(
            "it knew {} as the primary of epoch {}{}, and vouched {ago} ms before at the latest",
            known.primary,
            known.epoch,
            if known.lease { "" } else { ", without a lease" },
        ),
    }
}

/// Gives the claim back everywhere; agents that do not answer keep it until the next claim.
///
/// # Errors
/// [`JournalError`].
pub async fn release(run: &Run) -> Result<Vec<String>, JournalError> {
    let limit = run.config.failover.call_timeout;
    let clients: Vec<&AgentClient> = run.agents.reachable().chain(run.agents.beside()).collect();
    let results = join_all(clients.iter().zip(100u32..).map(async |(client, number)| {
        let act = Act::ReleaseEpoch {
            agent: client.endpoint().name.clone(),
        };
        let releasing = async {
            again(limit, AgentCallError::broke_off, || {
                client.release(&run.context, limit)
            })
            .await?;
            Ok(((), StepOutcome::Released { released: true }))
        };
        journalled(run, number, act, releasing).await
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

async fn journalled<T>(
    run: &Run,
    number: u32,
    act: Act,
    doing: impl Future<Output = Result<(T, StepOutcome), AgentCallError>>,
) -> Result<Result<T, AgentCallError>, JournalError> {
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
        Ok((_, outcome)) => Record::Done {
            unix_ms: unix_ms(),
            stage: 0,
            step: step.id,
            outcome: Box::new(outcome.clone()),
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
        note: match &result {
            Ok((_, StepOutcome::Claimed { lease, .. })) => lease.clone(),
            Ok(_) => String::new(),
            Err(error) => chain(error),
        },
    });
    run.journal.append(&record).await?;
    Ok(result.map(|(brought, _)| brought))
}

/// Gives back claims that an interrupted operation of this very manager left: its journal is here and nobody writes it. What
/// only names the primary has no journal and loses to whatever claims after it, whichever manager it is of.
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
        let left_behind = || path.is_file() && matches!(journal::is_running(&path), Ok(false));
        let stands_in_nobodys_way = operation.starts_with(lease::OPERATION)
            || *manager == config.manager_name && left_behind();
        let client = agents
            .reachable()
            .find(|c| c.endpoint().name == claim.agent);
        let context = Context {
            cluster: config.cluster.clone(),
            operation: operation.clone(),
            epoch: claim.epoch,
        };
        let released = match (stands_in_nobodys_way, client) {
            (true, Some(client)) => client.release(&context, limit).await.is_ok(),
            _ => false,
        };
        if !released {
            foreign.push(claim.clone());
        }
    }
    foreign
}
