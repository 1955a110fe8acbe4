//! Who received most by GTIDs, and who has transactions that nobody else has. Pure.
//!
//! MySQL: what is received is Retrieved_Gtid_Set and gtid_executed together, since a CHANGE empties the former. MariaDB:
//! gtid_slave_pos, or Gtid_IO_Pos where that is further. The sets of two replicas of one primary are one in the other; two of
//! which neither is have different histories, and no election can mend that.

use binlog_core::{GtidSet, GtidState, MariaDbGtidPos, Relation};

use crate::facts::Flavor;
use crate::topology::{Refusal, Survivor, Topology};

/// What every survivor has received; `None` unless all of them follow GTIDs.
///
/// Transactions that a server has alone, and that the primary never had, do not count: they make it unfit, and say nothing of
/// how far it followed the primary.
pub(super) fn received(topology: &Topology) -> Option<Vec<GtidState>> {
    topology
        .survivors
        .iter()
        .map(|survivor| {
            let all = survivor.received_gtids(topology.identity.flavor)?;
            Some(match (all, errant(survivor, topology)) {
                (GtidState::MySql(all), Some(errant)) => GtidState::MySql(all.subtract(&errant)),
                (all, _) => all,
            })
        })
        .collect()
}

/// For each survivor whether nobody received more; `None` if that cannot be told by GTIDs.
///
/// # Errors
/// [`Refusal::TwoLeaders`].
pub(super) fn latest(
    topology: &Topology,
    received: &[GtidState],
) -> Result<Option<Vec<bool>>, Refusal> {
    let mut is_latest = vec![true; received.len()];
    for (i, one) in received.iter().enumerate() {
        for (j, other) in received.iter().enumerate().skip(i + 1) {
            match one.relation(other) {
                Relation::Equal => {}
                Relation::Ahead => mark(&mut is_latest, j),
                Relation::Behind => mark(&mut is_latest, i),
                Relation::Unknown => return Ok(None),
                Relation::Apart { here, there } => {
                    // MariaDB's domains may be applied in any order; only what was received comes in one.
                    let exact = exact(topology, i) && exact(topology, j);
                    if !exact && !contradict(one, other) {
                        return Ok(None);
                    }
                    // Appliers that do not keep the order of commits leave gaps, and a restart forgets what was received.
                    if one_history(topology, [one, other]) {
                        return Ok(None);
                    }
                    let name = |i: usize| topology.survivors.get(i).map(|s| s.server.clone());
                    return Err(Refusal::TwoLeaders {
                        one: name(i).unwrap_or_default(),
                        other: name(j).unwrap_or_default(),
                        only_one: here,
                        only_other: there,
                        set_of_one: one.to_string(),
                        set_of_other: other.to_string(),
                    });
                }
            }
        }
    }
    Ok(Some(is_latest))
}

fn mark(is_latest: &mut [bool], i: usize) {
    if let Some(latest) = is_latest.get_mut(i) {
        *latest = false;
    }
}

/// The dead primary's log has held all of both.
fn one_history(topology: &Topology, both: [&GtidState; 2]) -> bool {
    let held = topology.dead_ever_held.as_ref();
    let held = held.and_then(|held| GtidState::parse(held, false).ok());
    held.is_some_and(|held| both.into_iter().all(|one| held.covers(one)))
}

/// One number of a domain was written by two servers.
fn contradict(one: &GtidState, other: &GtidState) -> bool {
    match (one, other) {
        (GtidState::MariaDb(one), GtidState::MariaDb(other)) => one.contradicts(other),
        _ => false,
    }
}

/// What is known of its receipt is all of it.
fn exact(topology: &Topology, i: usize) -> bool {
    let Some(survivor) = topology.survivors.get(i) else {
        return false;
    };
    topology.identity.flavor == Flavor::Mysql || !survivor.replica.gtid_received.is_empty()
}

/// MySQL: what this survivor has and nobody else ever had, as far as that can be told. The primary's own transactions never
/// count: it may have lost its end. Those of a third server count only if it is known what the primary had.
pub(super) fn errant(survivor: &Survivor, topology: &Topology) -> Option<GtidSet> {
    let alone = alone(survivor, topology)?;
    let ever_held = topology
        .dead_ever_held
        .as_ref()
        .and_then(|held| held.parse::<GtidSet>().ok());
    Some(match ever_held {
        Some(held) => alone.subtract(&held),
        None => alone.written_on(&survivor.facts.identity.as_ref()?.server_uuid),
    })
}

/// [`errant`] as text; empty where there are none, or it cannot be told.
pub(crate) fn errant_gtids(survivor: &Survivor, topology: &Topology) -> String {
    errant(survivor, topology).map_or_else(String::new, |errant| errant.to_string())
}

/// What the dead primary's log has held decides: some survivor has transactions of which no other survivor knows and which are
/// not the primary's own, or two of them have each what the other lacks.
pub(crate) fn has_unexplained(topology: &Topology) -> bool {
    let mut all_alone = topology
        .survivors
        .iter()
        .filter_map(|survivor| alone(survivor, topology));
    all_alone.any(|alone| !alone.is_empty())
        || received(topology).is_some_and(|received| latest(topology, &received).is_err())
}

/// MySQL: what this survivor alone has executed, the dead primary's own transactions aside.
fn alone(survivor: &Survivor, topology: &Topology) -> Option<GtidSet> {
    let set = |s: &Survivor| match s.executed_gtids(topology.identity.flavor)? {
        GtidState::MySql(set) => Some(set),
        GtidState::MariaDb(_) => None,
    };
    let own = set(survivor)?;
    // Sampled with the same question as the set itself or later: what somebody else has by then is nobody's own.
    let others = topology
        .survivors
        .iter()
        .filter(|other| other.server != survivor.server)
        .filter_map(|other| {
            let executed: GtidSet = other.replica.gtid_executed.parse().ok()?;
            let received: GtidSet = other.replica.gtid_received.parse().ok()?;
            Some(executed.union(&received))
        })
        .reduce(|a, b| a.union(&b))?;
    let alone = own.subtract(&others);
    let of_dead = alone.written_on(&topology.identity.server_uuid);
    Some(alone.subtract(&of_dead))
}

/// MariaDB: writes of this server (by its id) beyond what replication brought to their domain. A domain that is not replicated
/// is its own business.
pub(super) fn errant_mariadb(survivor: &Survivor) -> Option<String> {
    let replicated: MariaDbGtidPos = survivor.replica.gtid_executed.parse().ok()?;
    let written: MariaDbGtidPos = survivor.facts.binlog.as_ref()?.gtid_executed.parse().ok()?;
    let own_id = survivor.facts.identity.as_ref()?.server_id;
    let errant: Vec<String> = written
        .iter()
        .filter(|g| g.server_id == own_id)
        .filter(|g| {
            replicated
                .get(g.domain_id)
                .is_some_and(|r| g.seq_no > r.seq_no)
        })
        .map(|g| g.to_string())
        .collect();
    Some(errant.join(","))
}
