//! Whose cluster it is: the manager of record, who is the one that claimed it last. Pure.
//!
//! A primary's lease stands as long as its manager speaks for it. A second manager that cannot reach the primary knows how to
//! count the end of a lease that agents hold up, but not when the first one fell silent: cut off together with the primary, it
//! may speak on. So a cluster is one manager's, and agents refuse claims of every other one until an operator states that it
//! runs no more.
//!
//! Guarantee: without that statement nobody takes a cluster over. An agent that did not hear of a take-over is overruled only
//! by a majority of the cluster's agents, by newer epochs than its own.

use std::collections::{BTreeMap, BTreeSet};

/// What one agent knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen<'a> {
    /// Agent.
    pub agent: &'a str,
    /// Highest epoch that it has granted.
    pub epoch: u64,
    /// To which manager; `None` if to nobody.
    pub manager: Option<&'a str>,
}

/// The cluster is another manager's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the cluster is of manager {manager}, which claimed it last (epoch {epoch}, as agent {agent} says); if that one runs no more, take it over"
)]
pub struct Another {
    /// The manager of record.
    pub manager: String,
    /// Its newest epoch.
    pub epoch: u64,
    /// Who says so.
    pub agent: String,
}

/// At which agents a claim takes the cluster over.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TakeOver {
    stated: bool,
    behind: BTreeSet<String>,
}

impl TakeOver {
    /// An operator states that no other manager of the cluster runs any more.
    #[must_use]
    pub fn stated() -> Self {
        Self {
            stated: true,
            behind: BTreeSet::new(),
        }
    }

    /// Whether an operator said so.
    #[must_use]
    pub fn is_stated(&self) -> bool {
        self.stated
    }

    /// Whether the claim of this agent takes it over.
    #[must_use]
    pub fn at(&self, agent: &str) -> bool {
        self.stated || self.behind.contains(agent)
    }
}

/// Whether the cluster is `manager`'s or nobody's, as agents say of `agents` that there are; agents that did not hear of it yet
/// are to be taken over.
///
/// # Errors
/// [`Another`].
pub fn of_record<'a>(
    manager: &str,
    agents: usize,
    seen: impl IntoIterator<Item = Seen<'a>>,
) -> Result<TakeOver, Another> {
    // Servers of one agent share what it knows.
    let by_agent: BTreeMap<&str, (u64, &str)> = seen
        .into_iter()
        .filter_map(|seen| Some((seen.agent, (seen.epoch, seen.manager?))))
        .collect();
    let (own, others): (Vec<_>, Vec<_>) = by_agent
        .into_iter()
        .partition(|(_, (_, of))| *of == manager);
    let newest = own.iter().map(|(_, (epoch, _))| *epoch).max();
    let Some((agent, (epoch, of))) = others.iter().max_by_key(|(_, (epoch, _))| *epoch) else {
        return Ok(TakeOver::default());
    };
    if own.len() * 2 > agents && newest > Some(*epoch) {
        return Ok(TakeOver {
            stated: false,
            behind: others
                .iter()
                .map(|(agent, _)| (*agent).to_owned())
                .collect(),
        });
    }
    Err(Another {
        manager: (*of).to_owned(),
        epoch: *epoch,
        agent: (*agent).to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cluster_is_the_managers_who_claimed_it_last() {
        /// What, agents that there are, (agent, epoch, manager) of those that answer, agents that are behind or the other one.
        type Case = (
            &'static str,
            usize,
            &'static [(&'static str, u64, &'static str)],
            Result<&'static [&'static str], &'static str>,
        );
        let cases: &[Case] = &[
            ("nobody answers", 3, &[], Ok(&[])),
            (
                "nobody ever claimed",
                3,
                &[("a", 0, ""), ("b", 0, ""), ("c", 0, "")],
                Ok(&[]),
            ),
            (
                "ours",
                3,
                &[("a", 4, "m1"), ("b", 4, "m1"), ("c", 3, "m1")],
                Ok(&[]),
            ),
            (
                "ours, one is new",
                3,
                &[("a", 4, "m1"), ("b", 0, "")],
                Ok(&[]),
            ),
            (
                "another's",
                3,
                &[("a", 4, "m2"), ("b", 4, "m2"), ("c", 4, "m2")],
                Err("m2"),
            ),
            (
                "another's at one agent, new at the others",
                3,
                &[("a", 4, "m2"), ("b", 0, ""), ("c", 0, "")],
                Err("m2"),
            ),
            (
                "one did not hear that it is ours now",
                3,
                &[("a", 5, "m1"), ("b", 5, "m1"), ("c", 4, "m2")],
                Ok(&["c"]),
            ),
            (
                "one heard of it while another took it over",
                3,
                &[("a", 4, "m1"), ("b", 4, "m1"), ("c", 5, "m2")],
                Err("m2"),
            ),
            (
                "as new as ours",
                3,
                &[("a", 5, "m1"), ("b", 5, "m1"), ("c", 5, "m2")],
                Err("m2"),
            ),
            (
                "a majority is not heard",
                3,
                &[("a", 5, "m1"), ("c", 4, "m2")],
                Err("m2"),
            ),
            (
                "half is no majority",
                4,
                &[
                    ("a", 5, "m1"),
                    ("b", 5, "m1"),
                    ("c", 4, "m2"),
                    ("d", 4, "m2"),
                ],
                Err("m2"),
            ),
            (
                "an agent of two servers counts once",
                3,
                &[("a", 5, "m1"), ("a", 5, "m1"), ("c", 4, "m2")],
                Err("m2"),
            ),
            (
                "two others: the newer one is named",
                5,
                &[("a", 5, "m2"), ("b", 6, "m3"), ("c", 4, "m1")],
                Err("m3"),
            ),
        ];
        for (what, agents, seen, expected) in cases {
            let seen = seen.iter().map(|(agent, epoch, manager)| Seen {
                agent,
                epoch: *epoch,
                manager: Some(*manager).filter(|name| !name.is_empty()),
            });
            match (of_record("m1", *agents, seen), expected) {
                (Ok(found), Ok(behind)) => {
                    let all = ["a", "b", "c", "d", "e"];
                    let taken: Vec<&str> = all.into_iter().filter(|a| found.at(a)).collect();
                    assert_eq!(taken, *behind, "{what}");
                    assert!(!found.is_stated());
                }
                (Err(found), Err(other)) => assert_eq!(found.manager, *other, "{what}"),
                (found, _) => panic!("{what}: {found:?}"),
            }
        }
        assert!(TakeOver::stated().at("a") && TakeOver::stated().is_stated());
    }
}
