//! What happens before anything changes: observation, verdict, election, questions. Reads only.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{FailoverError, Prepared, Request, earlier, freeze, make_plan, places, survey};
use crate::config::{ClusterConfig, ServerConfig, UnreachableLog};
use crate::elect;
use crate::execute;
use crate::guard;
use crate::hooks::{self, Hook, Unusable};
use crate::lease;
use crate::observe::{self, Agents, Snapshot, StoredClaim};
use crate::plan::{AlreadyPromoted, Holdings, Plan};
use crate::prompt::Operator;
use crate::record::{self, TakeOver};
use crate::topology::{self, Assurances, Refusal, Topology};
use crate::verdict::{AgentEvidence, Verdict};

/// Looks at a server again before it counts as isolated: receivers notice a death a moment late.
const SECOND_LOOKS: u32 = 3;
const SECOND_LOOK_PAUSE: Duration = Duration::from_millis(300);

pub(super) fn configured<'c>(
    config: &'c ClusterConfig,
    wanted: &str,
) -> Result<&'c ServerConfig, Refusal> {
    config.find(wanted).ok_or_else(|| Refusal::NotConfigured {
        wanted: wanted.to_owned(),
    })
}

/// A binlog server that does not answer is waited for while all else is looked at, and for no longer than a moment.
pub(super) async fn prepare(
    config: &ClusterConfig,
    dead: &ServerConfig,
    forced: Option<&str>,
    request: &Request,
) -> Result<Prepared, FailoverError> {
    let (prepared, beside) = futures::join!(
        prepare_servers(config, dead, forced, request),
        Agents::of_binlog_servers(config)
    );
    let prepared = prepared?;
    // An agent grants no epoch below those that it has stored.
    let stored = beside.beside().flat_map(|client| client.servers());
    let stored = stored
        .filter(|server| server.cluster == config.cluster)
        .map(|server| server.stored_epoch.saturating_add(1))
        .max();
    Ok(Prepared {
        agents: prepared.agents.with(beside),
        epoch: prepared.epoch.max(stored.unwrap_or(0)),
        ..prepared
    })
}

async fn prepare_servers(
    config: &ClusterConfig,
    dead: &ServerConfig,
    forced: Option<&str>,
    request: &Request,
) -> Result<Prepared, FailoverError> {
    let agents = match request.silent_host {
        Some(limit) => Agents::connect_beside(config, dead, limit).await,
        None => Agents::connect(config).await,
    };
    let (snapshot, topology, promoted) = look(config, dead, request, &agents).await?;
    usable_hooks(config)?;
    let mut foreign = foreign_claims(config, &agents, &snapshot, request.dry_run).await;
    if request.take_over {
        // What another manager left is what is taken over; what this one has under way is not.
        foreign.retain(|claim| {
            let holder = claim.holder.as_ref();
            holder.is_some_and(|(_, manager)| *manager == config.manager_name)
        });
    }
    if !foreign.is_empty() {
        return Err(FailoverError::Held(foreign));
    }
    let take_over = if request.take_over {
        TakeOver::stated()
    } else {
        let all = lease::agents(config).len();
        let seen = snapshot.claims.iter().map(StoredClaim::seen);
        record::of_record(&config.manager_name, all, seen)?
    };
    let mut topology = topology;
    places::find(config, &agents, &mut topology).await?;
    let election = match &promoted {
        Some(earlier) => elect::decided_before(&earlier.server),
        None => elect::elect(config, &topology, forced)?,
    };
    if !topology.dead_agent_answers {
        let also = promoted.iter().map(|p| &p.server);
        let granting = freeze::agents_of(config, &topology, also);
        unreachable_dead_host(config, dead, &snapshot, granting, request)?;
    }
    let epoch = snapshot.claims.iter().map(|c| c.epoch).max().unwrap_or(0);
    Ok(Prepared {
        agents,
        topology,
        election,
        epoch: epoch.saturating_add(1),
        take_over,
        promoted,
        repeats: earlier::began(config, &dead.name)?,
    })
}

/// The same facts again, once the cluster is claimed. What an earlier operation for this primary still had under way at
/// the agents went on while they were asked the first time; the claim has ended it.
pub(super) async fn once_more(
    config: &ClusterConfig,
    dead: &ServerConfig,
    forced: Option<&str>,
    request: &Request,
    prepared: Prepared,
) -> Result<Prepared, FailoverError> {
    let (_, mut topology, promoted) = look(config, dead, request, &prepared.agents).await?;
    places::find(config, &prepared.agents, &mut topology).await?;
    let election = match &promoted {
        Some(earlier) => elect::decided_before(&earlier.server),
        None => elect::elect(config, &topology, forced)?,
    };
    Ok(Prepared {
        topology,
        election,
        promoted,
        ..prepared
    })
}

/// MHA finds out in phase 2, when it has stopped receivers; here a script that cannot be started is refused before that.
/// A report script is not needed for a failover.
fn usable_hooks(config: &ClusterConfig) -> Result<(), Refusal> {
    let needed = |unusable: &Unusable| {
        matches!(
            unusable.hook(),
            Some(Hook::MasterIpFailoverScript | Hook::ShutdownScript)
        )
    };
    match hooks::check_programs(config).iter().find(|u| needed(u)) {
        None => Ok(()),
        Some(unusable) => Err(Refusal::Hook {
            why: unusable.to_string(),
        }),
    }
}

async fn look(
    config: &ClusterConfig,
    dead: &ServerConfig,
    request: &Request,
    agents: &Agents,
) -> Result<(Snapshot, Topology, Option<AlreadyPromoted>), FailoverError> {
    let primary_is_off = request.primary_is_off;
    let mut looks_left = SECOND_LOOKS;
    let deposed = deposed(config, dead)?;
    loop {
        let mut snapshot = observe::observe(config, dead, agents, request.silent_server).await;
        snapshot.stalled.clone_from(&request.stalled);
        let assurances = Assurances {
            primary_is_off,
            promoted: None,
            deposed: &deposed,
        };
        match topology::sort(config, dead, &snapshot, assurances) {
            Ok(topology) => return Ok((snapshot, topology, None)),
            Err(refusal @ Refusal::NotAReplica { .. }) => {
                let Some(earlier) = earlier::promoted(config, &dead.name)? else {
                    return Err(refusal.into());
                };
                let assurances = Assurances {
                    primary_is_off,
                    promoted: Some(&earlier.server),
                    deposed: &deposed,
                };
                let topology = topology::sort(config, dead, &snapshot, assurances)?;
                return Ok((snapshot, topology, Some(earlier)));
            }
            Err(refusal) => {
                let may_change = matches!(
                    &refusal,
                    Refusal::NotDead {
                        verdict: Verdict::Isolated | Verdict::Unknown,
                        ..
                    }
                ) && topology::evidence(dead, &snapshot).agent
                    == AgentEvidence::NoAnswer;
                if !may_change || looks_left == 0 {
                    return Err(refusal.into());
                }
                looks_left -= 1;
                tokio::time::sleep(SECOND_LOOK_PAUSE).await;
            }
        }
    }
}

/// Servers that earlier failovers replaced, but for this one.
fn deposed(config: &ClusterConfig, dead: &ServerConfig) -> Result<Vec<String>, FailoverError> {
    let past = guard::of_cluster(&config.state_dir, &config.cluster)?;
    let mut deposed = guard::deposed(&past);
    deposed.remove(&dead.name);
    Ok(deposed.into_iter().collect())
}

/// Claims of others. A dry run gives nothing back, not even what is ours.
async fn foreign_claims(
    config: &ClusterConfig,
    agents: &Agents,
    snapshot: &Snapshot,
    dry_run: bool,
) -> Vec<StoredClaim> {
    if dry_run {
        return Vec::new();
    }
    let limit = config.failover.call_timeout;
    execute::release_stale(config, agents, &snapshot.claims, limit).await
}

fn unreachable_dead_host(
    config: &ClusterConfig,
    dead: &ServerConfig,
    snapshot: &Snapshot,
    granting: usize,
    request: &Request,
) -> Result<(), Refusal> {
    if config.failover.on_unreachable_log == UnreachableLog::Stop && !request.accept_loss {
        let why = match snapshot.server(&dead.name).map(|s| &s.facts) {
            Some(Err(unknown)) => unknown.to_string(),
            _ => "no answer".to_owned(),
        };
        return Err(Refusal::LogUnreachable {
            dead: dead.name.clone(),
            why,
        });
    }
    freeze::majority(config, dead, granting, request)
}

/// What a run would do, with surveys of the logs as they are now.
pub(super) async fn dry_plan(
    config: &ClusterConfig,
    prepared: &Prepared,
    request: &Request,
) -> Result<(Holdings, Plan), FailoverError> {
    let mut topology = prepared.topology.clone();
    let holdings = survey::survey(
        config,
        &prepared.agents,
        &topology,
        request.accept_loss,
        // Who grants is seen when the cluster is claimed.
        &BTreeMap::new(),
    )
    .await
    .map_err(FailoverError::Undone)?;
    places::move_on(config, &prepared.agents, &mut topology, &holdings).await;
    let topology = &topology;
    let promoted = prepared.promoted.as_ref();
    // Who knows of a lease is seen when the cluster is claimed.
    let lease = (false, [].as_slice());
    // A host that answers will be fenced.
    let fenced = topology.dead_agent_answers || request.primary_is_off;
    let plan = make_plan(
        config,
        topology,
        &prepared.election,
        &holdings,
        promoted,
        lease,
        fenced,
    )
    .map_err(|e| FailoverError::Undone(e.into()))?;
    Ok((holdings, plan))
}

/// Asks as MHA does, and looks again afterwards: an answer takes time, and the world goes on meanwhile. Returns what was
/// found then, and the new primary that the operator insists on.
pub(super) async fn ask(
    config: &ClusterConfig,
    dead: &ServerConfig,
    forced: Option<&str>,
    request: &Request,
    prepared: Prepared,
    operator: &mut dyn Operator,
) -> Result<(Prepared, Option<String>), FailoverError> {
    let topology = &prepared.topology;
    // Nothing else runs while the operator thinks, so the runtime's thread may wait for the terminal.
    if !operator.confirm(&format!(
        "Primary {} is {} ({}). Is it really dead? Proceed?",
        dead.address, topology.verdict, topology.evidence.ping
    )) {
        return Err(FailoverError::Declined);
    }
    let mut wanted = prepared.election.winner.clone();
    let mut chosen = forced.map(str::to_owned);
    if !operator.confirm(&format!(
        "Starting primary switch from {} to {wanted}. Proceed?",
        dead.name
    )) {
        if !operator.confirm("Continue with another new primary?") {
            return Err(FailoverError::Declined);
        }
        let named = operator.line("New primary, HOST:PORT: ");
        wanted = configured(config, &named)?.name.clone();
        chosen = Some(wanted.clone());
        if !operator.confirm(&format!(
            "Primary switch from {} to {wanted}. Proceed?",
            dead.name
        )) {
            return Err(FailoverError::Declined);
        }
    }
    let again = prepare(config, dead, chosen.as_deref(), request).await?;
    if again.election.winner != wanted
        && !operator.confirm(&format!(
            "The facts have changed: the new primary would now be {} ({}). Proceed?",
            again.election.winner, again.election.rule
        ))
    {
        return Err(FailoverError::Declined);
    }
    Ok((again, chosen))
}
