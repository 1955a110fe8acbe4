//! Who becomes the primary: MHA's order of preference over survivors that are fit. Pure.
//!
//! Fitness is judged per server and every reason is kept ([`Unfit`]); the order is the one of MHA 0.58:
//! 1. a forced server, if fit, and nobody else;
//! 2. nobody is preferred, everybody is fit, latest has priority: the first latest;
//! 3. latest has priority: the first latest that is preferred and fit;
//! 4. the first that is preferred and fit;
//! 5. latest has priority: the first latest that is fit;
//! 6. the first that is fit;
//! 7. nobody.
//!
//! "First" is configured order; "latest" are those that received most: by GTIDs where all survivors follow them ([`sets`]), else by
//! position. `Differs from MHA:` positions are compared by
//! number, not by text (999999 comes before 1000000), and a rotation alone is no delay ([`unfit`]); a stopped applier with an error, filters and errant transactions
//! make a server unfit, where MHA would elect it and fail or lose data; so does a delay on purpose, unless the operator names the
//! server, where MHA does not look at it. Filters speak against one server, where MHA refuses to run at all; and a replica whose applier
//! failed does not count as the oldest version, since nobody points it at the new primary.

mod lacking;
mod sets;
mod unfit;

use std::fmt;

use serde::{Deserialize, Serialize};

pub use lacking::{Held, held};
pub(crate) use sets::{errant_gtids, has_unexplained};
pub use unfit::Unfit;
pub(crate) use unfit::major_version;

use crate::config::{Candidacy, ClusterConfig, FailoverPolicy};
use crate::topology::{Refusal, Survivor, Topology};

/// Which rule chose the winner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rule {
    /// The operator named it.
    Forced,
    /// The first latest; nobody is preferred or unfit.
    FirstLatest,
    /// The first latest that is preferred.
    PreferredLatest,
    /// The first preferred.
    Preferred,
    /// The first latest that is fit.
    FitLatest,
    /// The first that is fit.
    Fit,
    /// An earlier run has promoted it already.
    AlreadyPromoted,
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Forced => "named by --new-primary",
            Self::FirstLatest => "received most, and nobody is preferred",
            Self::PreferredLatest => "preferred candidate that received most",
            Self::Preferred => "preferred candidate",
            Self::FitLatest => "received most of those that are fit",
            Self::Fit => "first in order of those that are fit",
            Self::AlreadyPromoted => "promoted already by an interrupted run",
        })
    }
}

/// Why a survivor did not win.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "reason", rename_all = "snake_case")]
pub enum Lost {
    /// It is fit; the winner comes before it by this rule.
    AfterWinner {
        /// The rule.
        rule: Rule,
    },
    /// It cannot become the primary.
    Unfit {
        /// Why; never empty.
        why: Vec<Unfit>,
    },
}

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AfterWinner { rule } => write!(f, "fit, but the winner was {rule}"),
            Self::Unfit { why } => {
                let why: Vec<String> = why.iter().map(ToString::to_string).collect();
                f.write_str(&why.join("; "))
            }
        }
    }
}

/// The outcome of an election.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Election {
    /// New primary.
    pub winner: String,
    /// Why it.
    pub rule: Rule,
    /// Why not the others, in configured order.
    pub losers: Vec<(String, Lost)>,
    /// Survivors that received most, in configured order.
    pub latest: Vec<String>,
    /// What each survivor had received, if GTIDs decided who received most; empty if positions did.
    #[serde(default)]
    pub received: Vec<(String, String)>,
    /// Survivors that are left as they are, and why they could not follow the winner even when they are mended.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cannot_follow: Vec<(String, String)>,
    /// Filters of the winner: what they leave out is not on it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub filters: Vec<String>,
}

/// Elects among the survivors.
///
/// # Errors
/// [`Refusal::ForcedUnfit`] or [`Refusal::NoCandidate`], with all reasons; [`Refusal::TwoLeaders`], whoever is wanted.
pub fn elect(
    config: &ClusterConfig,
    topology: &Topology,
    forced: Option<&str>,
) -> Result<Election, Refusal> {
    let received = sets::received(topology);
    let by_gtids = match &received {
        Some(received) => sets::latest(topology, received)?,
        None => None,
    };
    let mut candidates = candidates(config, topology);
    if let Some(is_latest) = &by_gtids {
        for (candidate, is_latest) in candidates.iter_mut().zip(is_latest) {
            candidate.is_latest = *is_latest;
        }
    }
    let mut election = decide(&candidates, &config.failover, forced)?;
    election.cannot_follow = unfit::cannot_follow(topology, &election.winner);
    election.filters = unfit::filters_at(topology, &election.winner);
    if let (Some(received), Some(_)) = (received, by_gtids) {
        let names = candidates.iter().map(|c| c.server.clone());
        election.received = names
            .zip(received.iter().map(ToString::to_string))
            .collect();
    }
    Ok(election)
}

/// No election: an earlier run has decided.
#[must_use]
pub fn decided_before(winner: &str) -> Election {
    Election {
        winner: winner.to_owned(),
        rule: Rule::AlreadyPromoted,
        losers: Vec::new(),
        latest: Vec::new(),
        received: Vec::new(),
        cannot_follow: Vec::new(),
        filters: Vec::new(),
    }
}

/// What the rules look at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Candidate {
    pub(crate) server: String,
    pub(crate) candidacy: Candidacy,
    /// Nobody received more.
    pub(crate) is_latest: bool,
    pub(crate) unfit: Vec<Unfit>,
}

fn candidates(config: &ClusterConfig, topology: &Topology) -> Vec<Candidate> {
    let candidacy = |s: &Survivor| {
        config
            .servers
            .iter()
            .find(|c| c.name == s.server)
            .map_or(Candidacy::Never, |c| c.candidacy)
    };
    let latest = topology
        .survivors
        .iter()
        .filter_map(|s| s.replica.read.as_ref())
        .max();
    topology
        .survivors
        .iter()
        .map(|s| Candidate {
            server: s.server.clone(),
            candidacy: candidacy(s),
            is_latest: latest.is_some() && s.replica.read.as_ref() == latest,
            unfit: unfit::reasons(s, candidacy(s), latest, topology, &config.failover),
        })
        .collect()
}

pub(crate) fn decide(
    candidates: &[Candidate],
    policy: &FailoverPolicy,
    forced: Option<&str>,
) -> Result<Election, Refusal> {
    let is_latest = |c: &Candidate| c.is_latest;
    let fit = |c: &Candidate| c.unfit.is_empty();
    let preferred = |c: &Candidate| c.candidacy == Candidacy::Preferred;
    let first = |test: &dyn Fn(&Candidate) -> bool| candidates.iter().find(|c| test(c));
    let (winner, rule) = match forced {
        Some(wanted) => (Some(forced_candidate(candidates, wanted)?), Rule::Forced),
        None => {
            let priority = policy.latest_priority;
            let nobody_special = candidates.iter().all(|c| fit(c) && !preferred(c));
            let by_rule = [
                (
                    Rule::FirstLatest,
                    first(&|c| priority && nobody_special && is_latest(c)),
                ),
                (
                    Rule::PreferredLatest,
                    first(&|c| priority && is_latest(c) && preferred(c) && fit(c)),
                ),
                (Rule::Preferred, first(&|c| preferred(c) && fit(c))),
                (
                    Rule::FitLatest,
                    first(&|c| priority && is_latest(c) && fit(c)),
                ),
                (Rule::Fit, first(&|c| fit(c))),
            ];
            by_rule
                .into_iter()
                .find(|(_, c)| c.is_some())
                .map_or((None, Rule::Fit), |(rule, c)| (c, rule))
        }
    };
    let Some(winner) = winner else {
        return Err(Refusal::NoCandidate {
            why: all_reasons(candidates),
        });
    };
    Ok(Election {
        winner: winner.server.clone(),
        rule,
        losers: candidates
            .iter()
            .filter(|c| c.server != winner.server)
            .map(|c| {
                let lost = if fit(c) {
                    Lost::AfterWinner { rule }
                } else {
                    Lost::Unfit {
                        why: c.unfit.clone(),
                    }
                };
                (c.server.clone(), lost)
            })
            .collect(),
        latest: candidates
            .iter()
            .filter(|c| is_latest(c))
            .map(|c| c.server.clone())
            .collect(),
        received: Vec::new(),
        cannot_follow: Vec::new(),
        filters: Vec::new(),
    })
}

fn forced_candidate<'a>(
    candidates: &'a [Candidate],
    wanted: &str,
) -> Result<&'a Candidate, Refusal> {
    let refused = |why: String| Refusal::ForcedUnfit {
        wanted: wanted.to_owned(),
        why,
    };
    let candidate = candidates
        .iter()
        .find(|c| c.server == wanted)
        .ok_or_else(|| refused("it is no living replica of the dead primary".to_owned()))?;
    let against: Vec<String> = candidate
        .unfit
        .iter()
        .filter(|why| why.even_if_named())
        .map(ToString::to_string)
        .collect();
    if against.is_empty() {
        Ok(candidate)
    } else {
        Err(refused(against.join("; ")))
    }
}

fn all_reasons(candidates: &[Candidate]) -> String {
    let reasons: Vec<String> = candidates
        .iter()
        .map(|c| {
            let why: Vec<String> = c.unfit.iter().map(ToString::to_string).collect();
            format!("{}: {}", c.server, why.join("; "))
        })
        .collect();
    reasons.join(" / ")
}

#[cfg(test)]
mod tests;
