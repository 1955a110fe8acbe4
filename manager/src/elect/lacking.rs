//! What the survivors have by GTIDs, and what each of them lacks of what any of them has: for people. Pure.
//!
//! Full sets are for programs and for statements; what people read is shortened: servers that are known by their names, not their
//! UUIDs, and no more than a few intervals of each.

use std::collections::BTreeMap;

use binlog_core::{GtidSet, GtidState, MariaDbGtidPos};
use serde::{Deserialize, Serialize};

use super::sets;
use crate::topology::Topology;

/// Intervals of a server that are shown; the rest is counted.
const INTERVALS: usize = 4;
/// Servers of a set that are shown; the rest is counted.
const SERVERS: usize = 6;

/// One survivor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// The survivor.
    pub server: String,
    /// All that it has received: a set of MySQL, a position of MariaDB.
    pub has: String,
    /// What it lacks of what any survivor has received; empty if nothing. MySQL: a set. MariaDB: `DOMAIN: FIRST-LAST` for each domain.
    pub lacks: String,
    /// Both, shortened.
    pub sentence: String,
}

/// All survivors, in configured order; empty unless all of them follow GTIDs.
#[must_use]
pub fn held(topology: &Topology) -> Vec<Held> {
    let Some(received) = sets::received(topology) else {
        return Vec::new();
    };
    let names = names(topology);
    let all = received.iter().cloned().reduce(|a, b| a.union(&b));
    let servers = topology.survivors.iter().map(|s| s.server.clone());
    servers
        .zip(&received)
        .map(|(server, own)| one(server, own, all.as_ref().unwrap_or(own), &received, &names))
        .collect()
}

fn one(
    server: String,
    own: &GtidState,
    all: &GtidState,
    everybody: &[GtidState],
    names: &BTreeMap<String, String>,
) -> Held {
    let (lacks, shown, number) = match (own, all) {
        (GtidState::MySql(own), GtidState::MySql(all)) => {
            let lacks: GtidSet = all.subtract(own);
            let text = lacks.to_string();
            (text.clone(), shortened(&text, names), lacks.count())
        }
        (GtidState::MariaDb(own), _) => {
            let theirs = everybody.iter().filter_map(|state| match state {
                GtidState::MariaDb(position) => Some(position),
                GtidState::MySql(_) => None,
            });
            let (lacks, number) = by_domains(own, theirs);
            (lacks.clone(), lacks, number)
        }
        // Survivors of one family.
        (GtidState::MySql(_), GtidState::MariaDb(_)) => (String::new(), String::new(), 0),
    };
    let has = own.to_string();
    let readable = match own {
        GtidState::MySql(_) => shortened(&has, names),
        GtidState::MariaDb(_) => has.clone(),
    };
    let readable = if readable.is_empty() {
        "nothing".to_owned()
    } else {
        readable
    };
    let sentence = match (lacks.is_empty(), number) {
        (true, _) => format!("{server} has {readable}, and lacks nothing that another one has"),
        (false, 1) => format!("{server} has {readable}, and lacks 1 transaction: {shown}"),
        (false, number) => {
            format!("{server} has {readable}, and lacks {number} transactions: {shown}")
        }
    };
    Held {
        server,
        has,
        lacks,
        sentence,
    }
}

/// MariaDB: numbers of each domain beyond this position, and how many. A number that two servers wrote counts as lacking at both.
fn by_domains<'a>(
    own: &MariaDbGtidPos,
    theirs: impl Iterator<Item = &'a MariaDbGtidPos>,
) -> (String, u128) {
    let mut beyond: BTreeMap<u32, (u64, u64)> = BTreeMap::new();
    for gtid in theirs.flat_map(MariaDbGtidPos::iter) {
        let first = match own.get(gtid.domain_id) {
            Some(last) if last == gtid || last.seq_no > gtid.seq_no => continue,
            Some(last) if last.seq_no == gtid.seq_no => last.seq_no,
            Some(last) => last.seq_no + 1,
            // It may be older than the server; what is known is that others name it.
            None => 1,
        };
        let numbers = beyond.entry(gtid.domain_id).or_insert((first, gtid.seq_no));
        *numbers = (numbers.0.min(first), numbers.1.max(gtid.seq_no));
    }
    let number = beyond
        .values()
        .map(|(first, last)| u128::from(last.saturating_sub(*first)) + 1)
        .sum();
    let shown: Vec<String> = beyond
        .iter()
        .map(|(domain, (first, last))| {
            if first == last {
                format!("domain {domain}: {first}")
            } else {
                format!("domain {domain}: {first}-{last}")
            }
        })
        .collect();
    (shown.join(", "), number)
}

/// Names of servers by their UUIDs in lower case.
fn names(topology: &Topology) -> BTreeMap<String, String> {
    let survivors = topology
        .survivors
        .iter()
        .filter_map(|s| Some((s.facts.identity.as_ref()?, s.server.as_str())));
    survivors
        .chain([(&topology.identity, topology.dead.as_str())])
        .filter(|(identity, _)| !identity.server_uuid.is_empty())
        .map(|(identity, name)| (identity.server_uuid.to_ascii_lowercase(), name.to_owned()))
        .collect()
}

/// A MySQL set for people.
fn shortened(set: &str, names: &BTreeMap<String, String>) -> String {
    let parts: Vec<&str> = set.split(',').map(str::trim).collect();
    let mut shown: Vec<String> = parts
        .iter()
        .filter(|part| !part.is_empty())
        .take(SERVERS)
        .map(|part| {
            let (uuid, rest) = part.split_once(':').unwrap_or((part, ""));
            let name = match names.get(&uuid.to_ascii_lowercase()) {
                Some(name) => name.clone(),
                None => format!("{}..", uuid.get(..8).unwrap_or(uuid)),
            };
            let intervals: Vec<&str> = rest.split(':').collect();
            let kept = intervals.iter().take(INTERVALS).copied();
            let mut text = format!("{name}:{}", kept.collect::<Vec<_>>().join(":"));
            if intervals.len() > INTERVALS {
                text.push_str(&format!(":.. ({} more)", intervals.len() - INTERVALS));
            }
            text
        })
        .collect();
    if parts.len() > SERVERS {
        shown.push(format!("and {} more servers", parts.len() - SERVERS));
    }
    shown.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::Flavor;
    use crate::testing::{topology, uuid};

    fn by_gtids(flavor: Flavor, received: &[&str]) -> Topology {
        let places: Vec<(&str, &str)> = received.iter().map(|_| ("1:452", "1:452")).collect();
        let mut topology = topology(&places);
        topology.identity.flavor = flavor;
        for (survivor, received) in topology.survivors.iter_mut().zip(received) {
            survivor.facts.identity.as_mut().unwrap().flavor = flavor;
            survivor.replica.gtid_position = true;
            survivor.replica.gtid_executed = (*received).to_owned();
        }
        topology
    }

    fn sentences(topology: &Topology) -> Vec<String> {
        let held = held(topology).into_iter();
        held.map(|held| held.sentence).collect()
    }

    #[test]
    fn what_each_lacks_is_told_by_the_names_of_servers() {
        let (one, nine) = (uuid(1), uuid(9));
        let topology = by_gtids(
            Flavor::Mysql,
            &[
                &format!("{one}:1-100"),
                &format!("{one}:1-105,{nine}:1-3:tag:1"),
            ],
        );
        assert_eq!(
            sentences(&topology),
            [
                "db2 has db1:1-100, and lacks 9 transactions: db1:101-105, 00000009..:1-3:tag:1",
                "db3 has db1:1-105, 00000009..:1-3:tag:1, and lacks nothing that another one has",
            ]
        );
        assert_eq!(
            held(&topology)[0].lacks,
            format!("{one}:101-105,{nine}:1-3:tag:1")
        );
    }

    #[test]
    fn of_two_leaders_each_lacks_what_the_other_has() {
        let one = uuid(1);
        let topology = by_gtids(
            Flavor::Mysql,
            &[&format!("{one}:1-5:7"), &format!("{one}:1-6")],
        );
        let held = held(&topology);
        assert_eq!(held[0].lacks, format!("{one}:6"));
        assert_eq!(held[1].lacks, format!("{one}:7"));
        let topology = by_gtids(Flavor::MariaDb, &["0-1-6,1-1-3", "0-1-5,1-1-9,7-1-2"]);
        assert_eq!(
            sentences(&topology),
            [
                "db2 has 0-1-6,1-1-3, and lacks 8 transactions: domain 1: 4-9, domain 7: 1-2",
                "db3 has 0-1-5,1-1-9,7-1-2, and lacks 1 transaction: domain 0: 6",
            ]
        );
        let topology = by_gtids(Flavor::MariaDb, &["0-2-5", "0-1-5"]);
        assert_eq!(
            sentences(&topology),
            [
                "db2 has 0-2-5, and lacks 1 transaction: domain 0: 5",
                "db3 has 0-1-5, and lacks 1 transaction: domain 0: 5",
            ]
        );
    }

    #[test]
    fn long_sets_are_cut_for_people_and_stay_whole_for_programs() {
        let holes: Vec<String> = (0..9).map(|n| (n * 2 + 1).to_string()).collect();
        let servers: Vec<String> = (10..20).map(|n| format!("{}:1", uuid(n))).collect();
        let set = format!("{}:{},{}", uuid(1), holes.join(":"), servers.join(","));
        let topology = by_gtids(Flavor::Mysql, &[&set, ""]);
        let held = held(&topology);
        assert_eq!(held[0].has, set);
        assert_eq!(held[1].lacks, set);
        assert!(
            held[1].sentence.starts_with(
                "db3 has nothing, and lacks 19 transactions: db1:1:3:5:7:.. (5 more), 0000000a..:1"
            ),
            "{}",
            held[1].sentence
        );
        assert!(
            held[1].sentence.ends_with("and 5 more servers"),
            "{}",
            held[1].sentence
        );
    }

    #[test]
    fn by_position_there_is_nothing_to_tell() {
        let mut topology = by_gtids(Flavor::Mysql, &["", ""]);
        topology.survivors[0].replica.gtid_position = false;
        assert_eq!(held(&topology), []);
    }
}
