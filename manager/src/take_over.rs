//! Taking a cluster over from a manager that runs no more.
//!
//! The agents refuse every manager but the one of record ([`crate::record`]). This makes the manager of the configuration that
//! one, on an operator's word that the other runs no more: the present primary is named anew by this manager, as
//! `mha-manager run` does; where there is none that could be named, the agents are claimed and let go again.
//!
//! Guarantees: nothing is claimed where a majority of the agents does not answer, while an operation of this very manager
//! holds the cluster, or while somebody disputes who the primary is; whether it succeeded is read from the agents afterwards.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures::future::join_all;

use crate::agents::{Claim, Context};
use crate::config::ClusterConfig;
use crate::daemon::discover;
use crate::daemon::lease::naming::{Naming, NotNamed};
use crate::execute::release_stale;
use crate::exit_code::ExitCode;
use crate::guard;
use crate::lease;
use crate::observe::{self, Agents, StoredClaim, chain};
use crate::record::{self, Another, TakeOver};

/// Why a cluster was not taken over.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NotTaken {
    /// Too few agents answer; nothing was changed.
    #[error("{answering} of {agents} agents answer, which is no majority; nothing was changed")]
    NoMajority {
        /// Agents that answer.
        answering: usize,
        /// Agents configured.
        agents: usize,
    },
    /// An operation of this manager is under way; nothing was changed.
    #[error(
        "operation {operation} of this manager holds the cluster at agent {agent}; nothing was changed"
    )]
    UnderWay {
        /// Operation.
        operation: String,
        /// Agent.
        agent: String,
    },
    /// The journals cannot be read; nothing was changed.
    #[error("the journals cannot be read, nothing was changed: {why}")]
    Journals {
        /// Why.
        why: String,
    },
    /// Who the primary is, is disputed; nothing was changed.
    #[error("nothing was changed: {why}")]
    Disputed {
        /// By whom.
        why: String,
    },
    /// The agents still say that it is another one's.
    #[error("the cluster was not taken over{}", .why.as_ref().map_or_else(String::new, |why| format!(" ({why})")))]
    StillAnothers {
        /// What went wrong.
        why: Option<String>,
        /// Whose it is.
        #[source]
        source: Another,
    },
}

impl NotTaken {
    /// The command's exit code.
    #[must_use]
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::NoMajority { .. } | Self::Disputed { .. } => ExitCode::Refused,
            Self::UnderWay { .. } | Self::StillAnothers { .. } => ExitCode::Held,
            Self::Journals { .. } => ExitCode::Failed,
        }
    }
}

/// Takes the cluster over; sentences for the operator.
///
/// # Errors
/// [`NotTaken`].
pub async fn take_over(config: Arc<ClusterConfig>) -> Result<Vec<String>, NotTaken> {
    let agents = Agents::connect(&config).await;
    let claims = agents.claims(&config);
    let all = lease::agents(&config).len();
    if claims.len() * 2 <= all {
        return Err(NotTaken::NoMajority {
            answering: claims.len(),
            agents: all,
        });
    }
    let own = |claim: &StoredClaim| {
        let holder = claim.holder.clone()?;
        (holder.1 == config.manager_name).then(|| NotTaken::UnderWay {
            operation: holder.0,
            agent: claim.agent.clone(),
        })
    };
    let limit = config.failover.call_timeout;
    let foreign = release_stale(&config, &agents, &claims, limit).await;
    if let Some(under_way) = foreign.iter().find_map(own) {
        return Err(under_way);
    }
    let mut said: Vec<String> = before(&config, &claims).into_iter().collect();
    said.extend(foreign.iter().filter_map(|claim| {
        let (operation, manager) = claim.holder.as_ref()?;
        Some(format!(
            "operation {operation} of manager {manager} was left unfinished at agent {}: see what it did",
            claim.agent
        ))
    }));
    let past = guard::of_cluster(&config.state_dir, &config.cluster)
        .map_err(|error| NotTaken::Journals { why: chain(&error) })?;
    let deposed = guard::deposed(&past);
    let epoch = claims
        .iter()
        .map(|c| c.epoch)
        .max()
        .unwrap_or(0)
        .saturating_add(1);
    let why = match name(&config, &agents, deposed, epoch).await {
        Ok(sentence) => {
            said.push(sentence);
            None
        }
        Err(Unnamed::Nobody(why)) => {
            said.push(format!("no primary was named: {why}"));
            claim(&config, &agents, epoch).await
        }
        Err(Unnamed::Named(NotNamed {
            why,
            claimed: false,
        })) => {
            return Err(NotTaken::Disputed { why });
        }
        Err(Unnamed::Named(NotNamed { why, .. })) => {
            said.push(format!("the primary was not named: {why}"));
            Some(why)
        }
    };
    let now = Agents::connect(&config).await.claims(&config);
    match record::of_record(&config.manager_name, all, now.iter().map(StoredClaim::seen)) {
        Ok(_) => Ok(said),
        Err(source) => Err(NotTaken::StillAnothers { why, source }),
    }
}

/// Whose it was.
fn before(config: &ClusterConfig, claims: &[StoredClaim]) -> Option<String> {
    let newest = claims
        .iter()
        .filter(|claim| {
            claim
                .of_record
                .as_ref()
                .is_some_and(|m| *m != config.manager_name)
        })
        .max_by_key(|claim| claim.epoch)?;
    Some(format!(
        "the cluster was of manager {} (epoch {})",
        newest.of_record.as_deref().unwrap_or_default(),
        newest.epoch
    ))
}

/// Why no primary was named.
enum Unnamed {
    /// None was found.
    Nobody(String),
    Named(NotNamed),
}

async fn name(
    config: &Arc<ClusterConfig>,
    agents: &Agents,
    deposed: BTreeSet<String>,
    epoch: u64,
) -> Result<String, Unnamed> {
    let views = observe::observe_servers(config, agents).await;
    let primary = discover::discover(config, &views, &deposed)
        .map_err(|why| Unnamed::Nobody(why.to_string()))?
        .clone();
    if agents.of(&primary).is_none() {
        let why = format!("the agent of {} does not answer", primary.name);
        return Err(Unnamed::Nobody(why));
    }
    let naming = Naming {
        config: Arc::clone(config),
        primary,
        agents: agents.clone(),
        deposed,
        epoch,
        take_over: TakeOver::stated(),
    };
    naming.run().await.map_err(Unnamed::Named)
}

/// Claims all agents that answer and lets them go again; why one of them refused.
async fn claim(config: &ClusterConfig, agents: &Agents, epoch: u64) -> Option<String> {
    let limit = config.failover.call_timeout;
    let context = Context {
        cluster: config.cluster.clone(),
        operation: format!("{}{}", lease::OPERATION, uuid::Uuid::new_v4().simple()),
        epoch,
    };
    let claim = Claim {
        cluster: config.cluster.clone(),
        epoch,
        operation: context.operation.clone(),
        manager: config.manager_name.clone(),
        take_over: true,
    };
    let granted = join_all(agents.reachable().map(|c| c.claim(&claim, limit))).await;
    // An agent that does not answer keeps the claim, which stands in nobody's way.
    join_all(agents.reachable().map(|c| c.release(&context, limit))).await;
    granted
        .into_iter()
        .find_map(|granted| granted.err().map(|error| chain(&error)))
}
