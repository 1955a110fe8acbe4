//! Whether a daemon may act on the silence of a primary's host although it does not know of a lease that ends its writing.
//!
//! Where a lease is wanted, the primary is named in the first seconds of watching. A host that falls silent before that is more
//! likely cut off than dead, and nothing would end its writing: so long a silence is only watched. The wait is bounded; after
//! it a failover goes on as one without a lease, and its report says so. No agent is asked here: what survivors have stored is
//! in what they told.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{TTL, Told, wanted};
use crate::config::{ClusterConfig, ServerConfig};

/// From the beginning of watching on: two tries to name the primary.
const FIRST: Duration = Duration::from_secs(10);

/// What is known.
#[derive(Debug, Clone, Copy)]
pub struct FirstLook<'a> {
    /// The cluster.
    pub config: &'a ClusterConfig,
    /// The primary, as it is watched.
    pub primary: &'a ServerConfig,
    /// What the agents told last, by server; those whose streams are not open are absent.
    pub told: &'a BTreeMap<String, Told>,
    /// How long this daemon has watched it.
    pub watched: Duration,
    /// How long ago this daemon last tried to name it: its agent may hold a lease that nobody else knows of.
    pub named_ago: Option<Duration>,
}

/// How long nothing is done yet about a host that fell silent, and why; `None` if something may be done.
#[must_use]
pub fn not_yet(look: &FirstLook<'_>) -> Option<(Duration, String)> {
    if !wanted(look.config) {
        return None;
    }
    let newest = look
        .told
        .values()
        .filter_map(|told| told.assignment.as_ref())
        .max_by_key(|assigned| assigned.epoch);
    // A failover waits for the end of this one by itself.
    if newest.is_some_and(|assigned| assigned.primary == look.primary.name && assigned.lease) {
        return None;
    }
    let lasts = TTL + look.config.failover.lease_kill_time;
    let of_watching = FIRST.saturating_sub(look.watched);
    let of_naming = look
        .named_ago
        .map_or(Duration::ZERO, |ago| lasts.saturating_sub(ago));
    let wait = of_watching.max(of_naming);
    if wait.is_zero() {
        return None;
    }
    let why = match newest {
        None => "no agent that is heard knows who the primary is".to_owned(),
        Some(assigned) if assigned.primary == look.primary.name => format!(
            "it was named the primary without a lease in epoch {}",
            assigned.epoch
        ),
        Some(assigned) => format!(
            "{} was named the primary in epoch {}",
            assigned.primary, assigned.epoch
        ),
    };
    Some((
        wait,
        format!(
            "whether {} holds a lease is not known: {why}",
            look.primary.name
        ),
    ))
}

#[cfg(test)]
mod tests {
    use proto::lease::Assigned;

    use super::*;
    use crate::lease::{LeaseMode, ToldLease, agents};
    use crate::testing::config;

    fn told(assignment: Option<Assigned>) -> Told {
        Told {
            boot_id: "b".to_owned(),
            sent: None,
            epoch: 0,
            held_by: None,
            of_record: None,
            assignment,
            manager_heard: false,
            vouching: 0,
            lease: ToldLease::None,
        }
    }

    #[test]
    fn silence_is_acted_on_once_a_lease_is_known_or_nobody_can_have_one_that_is_not() {
        let config = config(3);
        let assigned = |primary: &str, epoch: u64, lease| {
            Some(Assigned {
                primary: primary.to_owned(),
                epoch: epoch.try_into().unwrap(),
                operation: "assign-1".to_owned(),
                manager: "m1".to_owned(),
                lease,
                agents: agents(&config),
            })
        };
        let none = None;
        let leased = assigned("db1", 5, true);
        let without = assigned("db1", 5, false);
        let newer_without = assigned("db1", 6, false);
        let other = assigned("db2", 5, true);
        let newer_other = assigned("db2", 6, true);
        // (what, survivors know, watched for ms, named ms ago, waits ms)
        type Case<'a> = (
            &'a str,
            [&'a Option<Assigned>; 2],
            u64,
            Option<u64>,
            Option<u64>,
        );
        let cases: [Case<'_>; 12] = [
            (
                "a partition in the first second",
                [&none, &none],
                800,
                None,
                Some(9_200),
            ),
            (
                "named by an earlier run",
                [&leased, &leased],
                800,
                None,
                None,
            ),
            ("one survivor missed it", [&none, &leased], 800, None, None),
            (
                "named just now, one survivor knows",
                [&none, &leased],
                800,
                Some(0),
                None,
            ),
            ("being named", [&none, &none], 3_000, Some(0), Some(7_000)),
            (
                "never named in all the time",
                [&none, &none],
                10_000,
                None,
                None,
            ),
            (
                "named in vain long ago",
                [&none, &none],
                60_000,
                Some(2_000),
                None,
            ),
            (
                "named in vain just now",
                [&none, &none],
                60_000,
                Some(500),
                Some(1_500),
            ),
            (
                "being named still",
                [&none, &none],
                60_000,
                Some(0),
                Some(2_000),
            ),
            (
                "without a lease",
                [&without, &without],
                800,
                None,
                Some(9_200),
            ),
            (
                "its lease was taken back",
                [&leased, &newer_without],
                800,
                None,
                Some(9_200),
            ),
            (
                "another one was named",
                [&other, &newer_other],
                800,
                None,
                Some(9_200),
            ),
        ];
        for (what, survivors, watched, named_ago, expected) in cases {
            let told: BTreeMap<String, Told> = ["db2", "db3"]
                .into_iter()
                .zip(survivors)
                .map(|(server, known)| (server.to_owned(), told(known.clone())))
                .collect();
            let look = FirstLook {
                config: &config,
                primary: config.servers.first().unwrap(),
                told: &told,
                watched: Duration::from_millis(watched),
                named_ago: named_ago.map(Duration::from_millis),
            };
            let found = not_yet(&look).map(|(wait, _)| wait);
            assert_eq!(found, expected.map(Duration::from_millis), "{what}");
            let mut off = config.clone();
            off.lease = LeaseMode::Off;
            assert_eq!(
                not_yet(&FirstLook {
                    config: &off,
                    ..look
                }),
                None,
                "{what}"
            );
        }
    }
}
