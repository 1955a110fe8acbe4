//! The suite `kill-every-step`: manager and agents killed at every hook point of a failover, and started again.
//!
//! A clean run counts the hook points: one before each journal record is written and one after it is durable. Then, for
//! each of them, a fresh cluster is brought into the same state, its primary dies, and the victim is killed (SIGKILL)
//! when the manager stands at that point. Whatever steps a failover has, none is named here.

pub mod case;
pub mod stage;
pub mod writers;

use std::fmt;
use std::path::PathBuf;

use futures::StreamExt;
use futures::stream;
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;

pub use case::{Case, Victim};

use crate::sandbox::{SandboxError, ServerKind};

/// On which servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Servers {
    /// Their line.
    pub kind: ServerKind,
    /// They follow by GTID.
    pub gtid: bool,
}

impl fmt::Display for Servers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let by = if self.gtid { "GTID" } else { "position" };
        write!(f, "{} by {by}", self.kind)
    }
}

/// What is played.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The servers.
    pub servers: Servers,
    /// Cases whose names are among these or begin with one that ends with `/`; all if empty.
    pub only: Vec<String>,
    /// So many of them, chosen by the seed; all if absent.
    pub sample: Option<usize>,
    /// Chooses the sample and where records are torn.
    pub seed: u64,
    /// Cases at the same time.
    pub jobs: usize,
    /// Where the files of failed cases are kept.
    pub keep: Option<PathBuf>,
}

/// How many cases were played and how many did not end as they must.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outcome {
    /// Played.
    pub played: usize,
    /// Failed.
    pub failed: usize,
}

/// Plays the plan; `say` prints lines of a table.
///
/// # Errors
/// The clean run's.
pub async fn run(
    plan: &Plan,
    say: impl Fn(&str) -> Result<(), SandboxError>,
) -> Result<Outcome, SandboxError> {
    let points = case::count(plan.servers).await?;
    let cases = chosen(plan, points);
    say(&format!(
        "{}: {points} hook points, {} cases, seed {}\n\n| case | killed at | new primary | exit | seconds |\n|---|---|---|---|---|",
        plan.servers,
        cases.len(),
        plan.seed
    ))?;
    let mut outcome = Outcome {
        played: 0,
        failed: 0,
    };
    let mut running = stream::iter(cases)
        .map(|case| async move {
            let ended = case::play(plan.servers, case, plan.seed, plan.keep.as_deref()).await;
            (case, ended)
        })
        .buffer_unordered(plan.jobs.max(1));
    while let Some((case, ended)) = running.next().await {
        outcome.played += 1;
        match ended {
            Ok(ended) => {
                let at = ended.at.as_deref().unwrap_or("over before that point");
                say(&format!(
                    "| {case} | {at} | {} | {} | {:.1} |",
                    ended.winner,
                    ended.code,
                    ended.took.as_secs_f64()
                ))?;
            }
            Err(error) => {
                outcome.failed += 1;
                let why = crate::sandbox::error::chain(&error).replace('\n', "\n    ");
                say(&format!("| {case} | FAILED: {why} | | | |"))?;
            }
        }
    }
    say(&format!(
        "\n{} cases played, {} failed",
        outcome.played, outcome.failed
    ))?;
    Ok(outcome)
}

fn chosen(plan: &Plan, points: u64) -> Vec<Case> {
    let wanted = |case: &Case| {
        let name = case.to_string();
        plan.only.is_empty()
            || plan
                .only
                .iter()
                .any(|only| name == *only || (only.ends_with('/') && name.starts_with(only)))
    };
    let mut cases: Vec<Case> = Victim::ALL
        .into_iter()
        .flat_map(|victim| (0..points).map(move |point| Case { victim, point }))
        // There is a record to be torn only after it was written.
        .filter(|case| case.victim != Victim::Torn || case.point % 2 == 1)
        .filter(wanted)
        .collect();
    if let Some(sample) = plan.sample {
        cases.shuffle(&mut StdRng::seed_from_u64(plan.seed));
        cases.truncate(sample);
        cases.sort_unstable();
    }
    cases
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_choose_cases_and_a_seed_chooses_a_sample() {
        let mut plan = Plan {
            servers: Servers {
                kind: ServerKind::MySql56,
                gtid: false,
            },
            only: vec!["manager/3".to_owned(), "torn/".to_owned()],
            sample: None,
            seed: 7,
            jobs: 1,
            keep: None,
        };
        let names = |plan: &Plan| -> Vec<String> {
            chosen(plan, 6).iter().map(ToString::to_string).collect()
        };
        assert_eq!(names(&plan), ["manager/3", "torn/1", "torn/3", "torn/5"]);
        plan.only.clear();
        assert_eq!(names(&plan).len(), 5 * 6 + 3);
        plan.sample = Some(4);
        assert_eq!(names(&plan).len(), 4);
        assert_eq!(names(&plan), names(&plan));
    }
}
