//! Asks logs where survivors stand by their GTIDs, where no other survivor could tell. Reads only.
//!
//! Whoever shows no position must be placed before anything is cut; whoever shows the head of a file, although it has all that
//! the log holds, would be served all of it again, which costs time and changes nothing.

use binlog_core::GtidState;

use super::survey::client_of;
use crate::agents::{AgentCallError, GtidPlace, Logs};
use crate::config::ClusterConfig;
use crate::elect;
use crate::execute::again;
use crate::facts::Flavor;
use crate::observe::{Agents, chain};
use crate::plan::Holdings;
use crate::topology::{Refusal, Topology, standing};

/// Places every survivor that stands nowhere, and learns what the dead primary's log has ever held if some survivor has GTIDs
/// of which nobody else knows.
///
/// # Errors
/// [`Refusal::NoPlace`].
pub(super) async fn find(
    config: &ClusterConfig,
    agents: &Agents,
    topology: &mut Topology,
) -> Result<(), Refusal> {
    standing::compare(topology);
    let unplaced: Vec<usize> = standing::unplaced(topology).collect();
    for number in unplaced {
        place(config, agents, topology, number).await?;
    }
    if topology.dead_ever_held.is_none() && elect::has_unexplained(topology) {
        let found = ask_dead(config, agents, topology, "").await;
        topology.dead_ever_held = found.and_then(|found| found.ever_held);
    }
    Ok(())
}

async fn place(
    config: &ClusterConfig,
    agents: &Agents,
    topology: &mut Topology,
    number: usize,
) -> Result<(), Refusal> {
    let Some(survivor) = topology.survivors.get(number) else {
        return Ok(());
    };
    let (server, held) = (
        survivor.server.clone(),
        survivor.replica.gtid_executed.clone(),
    );
    let mut told = None;
    if let Some(found) = ask_dead(config, agents, topology, &held).await {
        topology.dead_ever_held = found.ever_held;
        told = found
            .place
            .map(|place| (format!("the log of {}", topology.dead), place));
    }
    if told.is_none() {
        told = ask_survivors(config, agents, topology, &held).await;
    }
    let Some((told_by, place)) = told else {
        return Err(Refusal::NoPlace {
            server,
            gtids: if held.is_empty() {
                "(none)".to_owned()
            } else {
                held
            },
        });
    };
    if let Some(survivor) = topology.survivors.get_mut(number) {
        survivor.stand(&told_by, held, place);
    }
    Ok(())
}

/// Moves on whoever has the last transaction of the dead primary's log already, and shows a place before it.
pub(super) async fn move_on(
    config: &ClusterConfig,
    agents: &Agents,
    topology: &mut Topology,
    holdings: &Holdings,
) {
    let mariadb = topology.identity.flavor == Flavor::MariaDb;
    let last = holdings.dead.survey().and_then(|survey| {
        let last = survey.last_transaction.as_ref()?;
        let gtid = GtidState::parse(last.gtid.as_ref()?, mariadb).ok()?;
        Some((last.end.clone(), gtid))
    });
    let Some((end, gtid)) = last else {
        return;
    };
    for number in 0..topology.survivors.len() {
        let Some(survivor) = topology.survivors.get(number) else {
            continue;
        };
        let behind = survivor.replica.executed.as_ref() < Some(&end);
        let has_it = survivor
            .executed_gtids(topology.identity.flavor)
            .is_some_and(|own| own.covers(&gtid));
        if !behind || !has_it || survivor.applier_failed().is_some() {
            continue;
        }
        let held = survivor.replica.gtid_executed.clone();
        let found = ask_dead(config, agents, topology, &held).await;
        let told_by = format!("the log of {}", topology.dead);
        if let (Some(place), Some(survivor)) = (
            found.and_then(|found| found.place),
            topology.survivors.get_mut(number),
        ) {
            survivor.stand(&told_by, held, place);
        }
    }
}

async fn ask_dead(
    config: &ClusterConfig,
    agents: &Agents,
    topology: &Topology,
    held: &str,
) -> Option<GtidPlace> {
    let client =
        client_of(config, agents, &topology.dead).filter(|_| topology.dead_agent_answers)?;
    let limit = config.failover.save_timeout;
    let log = (topology.dead.as_str(), Logs::Binary);
    let asked = again(
        config.failover.call_timeout,
        AgentCallError::broke_off,
        || client.locate_gtids(&config.cluster, log, held, "", None, limit),
    )
    .await;
    told(&topology.dead, asked)
}

/// The first survivor whose relay logs can tell.
async fn ask_survivors(
    config: &ClusterConfig,
    agents: &Agents,
    topology: &Topology,
    held: &str,
) -> Option<(String, binlog_core::BinlogPosition)> {
    let limit = config.failover.progress_timeout;
    for owner in &topology.survivors {
        let Some(client) = client_of(config, agents, &owner.server) else {
            continue;
        };
        let log = (owner.server.as_str(), Logs::Relay);
        let of_owner = owner.replica.gtid_executed.as_str();
        let latest = owner.replica.read.as_ref();
        let asked = again(
            config.failover.call_timeout,
            AgentCallError::broke_off,
            || client.locate_gtids(&config.cluster, log, held, of_owner, latest, limit),
        )
        .await;
        if let Some(place) = told(&owner.server, asked).and_then(|found| found.place) {
            return Some((format!("the relay log of {}", owner.server), place));
        }
    }
    None
}

/// A log that cannot be asked tells nothing; whether that matters, the caller knows.
fn told(server: &str, asked: Result<GtidPlace, AgentCallError>) -> Option<GtidPlace> {
    asked
        .inspect_err(|error| {
            tracing::warn!(%server, error = %chain(error), "the logs were not searched for GTIDs");
        })
        .ok()
}
