//! When the lease of a primary that cannot be reached is over.

use std::time::{Duration, Instant};

use proto::lease::{Assigned, FEWEST_AGENTS, TTL};

/// How long an agent may take to close its server once its lease has ended, unless configured otherwise.
pub const KILL_TIME: Duration = Duration::from_millis(500);

/// What an agent said when it granted a claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Granted {
    /// Name of the agent.
    pub agent: String,
    /// When its answer was here.
    pub at: Instant,
    /// The newest assignment that it has stored.
    pub assigned: Option<Assigned>,
    /// How long before the grant it last vouched for a primary, at most; `None` from an agent without leases.
    pub vouched_ago: Option<Duration>,
}

/// Why a lease cannot be waited out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoLease {
    /// No agent has an assignment.
    #[error("no agent knows of a lease of it")]
    NeverAssigned,
    /// It is not the one that was named last.
    #[error("{named} was named the primary in epoch {epoch}")]
    Another {
        /// Who was.
        named: String,
        /// When.
        epoch: u64,
    },
    /// Another manager's word holds it up, and nobody knows until when.
    #[error("manager {manager} was named to hold its lease up, and may still do so")]
    AnotherManager {
        /// That one.
        manager: String,
    },
    /// It was named without one.
    #[error("it was given none")]
    Without,
    /// Agents that were not claimed can go on holding it up.
    #[error(
        "{claimed} of the {agents} agents that hold its lease up have granted the claim: the others are a majority"
    )]
    HeldUp {
        /// Of those that the assignment names.
        claimed: usize,
        /// Agents that the assignment names.
        agents: usize,
    },
    /// Nobody can be relied upon to end it.
    #[error("its agent may not be running: {why}")]
    Doubtful {
        /// What was seen.
        why: String,
    },
}

/// When the lease of `dead` is over and its server closed, at the latest. `manager` asks, which has given its own last word
/// for the lease at `own_word`, or does not know (`None`): then another process of its name may have given one until the
/// claims were granted. `alone`: an operator states that no other manager runs any more; without that, a lease of another
/// one's is never known to be over.
///
/// # Errors
/// [`NoLease`]: waiting proves nothing.
pub fn ending(
    dead: &str,
    manager: &str,
    granted: &[Granted],
    own_word: Option<Instant>,
    alone: bool,
    kill_time: Duration,
) -> Result<Instant, NoLease> {
    // Assignments reach a majority, claims so many that the rest is none: some grant knows the newest.
    let newest = granted
        .iter()
        .filter_map(|grant| grant.assigned.as_ref())
        .max_by_key(|assigned| assigned.epoch)
        .ok_or(NoLease::NeverAssigned)?;
    if newest.primary != dead {
        return Err(NoLease::Another {
            named: newest.primary.clone(),
            epoch: newest.epoch.get(),
        });
    }
    let agents = newest.agents.len();
    if !newest.lease || agents < FEWEST_AGENTS {
        return Err(NoLease::Without);
    }
    if newest.manager != manager && !alone {
        return Err(NoLease::AnotherManager {
            manager: newest.manager.clone(),
        });
    }
    let claimed: Vec<&Granted> = granted
        .iter()
        .filter(|grant| newest.agents.iter().any(|agent| agent.name == grant.agent))
        .collect();
    if (agents - claimed.len().min(agents)) * 2 > agents {
        return Err(NoLease::HeldUp {
            claimed: claimed.len(),
            agents,
        });
    }
    let last_grant = granted.iter().map(|grant| grant.at).max();
    let words = match own_word {
        Some(at) if newest.manager == manager => Some(at),
        _ => last_grant,
    };
    // Every majority has one of these in it, and none of them vouches any more.
    claimed
        .iter()
        .map(|grant| {
            let ago = grant.vouched_ago.unwrap_or_default();
            grant.at.checked_sub(ago).unwrap_or(grant.at)
        })
        .chain(words)
        .max()
        .map(|last| last + TTL + kill_time)
        .ok_or(NoLease::NeverAssigned)
}

#[cfg(test)]
mod tests {
    use proto::lease::LeaseAgent;

    use super::*;

    fn assigned(primary: &str, epoch: u64, agents: usize, lease: bool) -> Option<Assigned> {
        Some(Assigned {
            primary: primary.to_owned(),
            epoch: epoch.try_into().unwrap(),
            operation: format!("op-{epoch}"),
            manager: "m1".to_owned(),
            lease,
            agents: (1..=agents)
                .map(|n| LeaseAgent {
                    name: format!("db{n}"),
                    address: format!("db{n}:7306"),
                })
                .collect(),
        })
    }

    /// Milliseconds before the present of a table.
    fn ms(number: u64) -> Duration {
        Duration::from_millis(number)
    }

    #[test]
    fn a_lease_is_over_after_the_last_who_can_have_held_it_up() {
        let base = Instant::now() + ms(100_000);
        let grant = |agent: &str, at: u64, assigned: &Option<Assigned>, ago: Option<u64>| Granted {
            agent: agent.to_owned(),
            at: base + ms(at),
            assigned: assigned.clone(),
            vouched_ago: ago.map(ms),
        };
        let five = assigned("db1", 5, 3, true);
        let four = assigned("db1", 4, 3, true);
        let none = None;
        let of_five = assigned("db1", 5, 5, true);
        let both = |ago| {
            vec![
                grant("db2", 1000, &five, Some(ago)),
                grant("db3", 1010, &five, Some(ago)),
            ]
        };
        // (what, grants, own last word, the last who held it up by ms or why not)
        type Case = (
            &'static str,
            Vec<Granted>,
            Option<u64>,
            Result<u64, &'static str>,
        );
        let cases: Vec<Case> = vec![
            (
                "the host fell silent long ago",
                both(900),
                Some(50),
                Ok(110),
            ),
            ("its own word came last", both(900), Some(400), Ok(400)),
            (
                "an agent vouched until the claim",
                both(0),
                Some(50),
                Ok(1010),
            ),
            (
                "another process may have given a word",
                both(900),
                None,
                Ok(1010),
            ),
            (
                "an agent that cannot say",
                vec![
                    grant("db2", 1000, &five, None),
                    grant("db3", 1010, &five, Some(900)),
                ],
                Some(50),
                Ok(1000),
            ),
            (
                "one agent missed the newest assignment",
                vec![
                    grant("db2", 1000, &five, Some(900)),
                    grant("db3", 1010, &four, Some(900)),
                ],
                Some(50),
                Ok(110),
            ),
            (
                "one agent never had any",
                vec![
                    grant("db2", 1000, &none, Some(900)),
                    grant("db3", 1010, &five, Some(900)),
                ],
                Some(50),
                Ok(110),
            ),
            (
                "never assigned",
                vec![
                    grant("db2", 1000, &none, Some(900)),
                    grant("db3", 1010, &none, Some(900)),
                ],
                Some(50),
                Err("no agent knows"),
            ),
            (
                "another one was named last",
                vec![
                    grant("db2", 1000, &five, Some(900)),
                    grant("db3", 1010, &assigned("db3", 6, 3, true), Some(900)),
                ],
                Some(50),
                Err("db3 was named the primary in epoch 6"),
            ),
            (
                "switched off",
                vec![
                    grant("db2", 1000, &assigned("db1", 5, 3, false), Some(900)),
                    grant("db3", 1010, &four, Some(900)),
                ],
                Some(50),
                Err("it was given none"),
            ),
            (
                "two agents",
                vec![grant("db2", 1000, &assigned("db1", 5, 2, true), Some(900))],
                Some(50),
                Err("it was given none"),
            ),
            (
                "a majority was not claimed",
                vec![
                    grant("db2", 1000, &of_five, Some(900)),
                    grant("db3", 1010, &of_five, Some(900)),
                ],
                Some(50),
                Err("2 of the 5 agents"),
            ),
            (
                "three of five were",
                vec![
                    grant("db2", 1000, &of_five, Some(900)),
                    grant("db3", 1010, &of_five, Some(900)),
                    grant("db4", 1020, &of_five, Some(900)),
                ],
                Some(50),
                Ok(120),
            ),
            (
                "agents that do not count do not help",
                vec![
                    grant("db2", 1000, &five, Some(900)),
                    grant("db8", 1010, &five, Some(900)),
                    grant("db9", 1010, &five, Some(900)),
                ],
                Some(50),
                Err("1 of the 3 agents"),
            ),
            ("nobody granted", vec![], Some(50), Err("no agent knows")),
        ];
        for (what, granted, own_word, expected) in cases {
            let own_word = own_word.map(|at| base + ms(at));
            let found = ending("db1", "m1", &granted, own_word, false, KILL_TIME);
            match expected {
                Ok(last) => assert_eq!(found, Ok(base + ms(last) + TTL + KILL_TIME), "{what}"),
                Err(words) => {
                    let why = found.unwrap_err().to_string();
                    assert!(why.contains(words), "{what}: {why}");
                }
            }
            if expected.is_ok() {
                // A manager that the assignment does not name knows nothing of the other's words, but that they have ended.
                let found = ending("db1", "m2", &granted, own_word, true, KILL_TIME).unwrap();
                let last = granted.iter().map(|g| g.at).max().unwrap();
                assert_eq!(found, last + TTL + KILL_TIME, "{what}, by another manager");
                let manager = "m1".to_owned();
                assert_eq!(
                    ending("db1", "m2", &granted, own_word, false, KILL_TIME),
                    Err(NoLease::AnotherManager { manager }),
                    "{what}, by another manager that may not be alone"
                );
            }
        }
    }
}
