//! The suite `differential`: a failover against plain replication.
//!
//! Each run plays a random workload on a primary. Two replicas are cut off at random events of its log, in the middle of
//! transactions too; a third one, which no manager knows, receives everything as replicas do every day. The primary dies,
//! and after the failover the two must equal the third: tables, definitions, prepared XA transactions, accounts, GTIDs.
//! Everything that chance decides comes from the number of a run.

pub mod play;
pub mod shape;
pub mod state;
mod values;
pub mod workload;

use futures::StreamExt;
use futures::stream;

use crate::sandbox::{SandboxError, ServerKind};

/// What is played.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Lines of servers, in turn.
    pub kinds: Vec<ServerKind>,
    /// Number of the first run.
    pub seed: u64,
    /// Number of runs.
    pub runs: u64,
    /// Runs at the same time.
    pub jobs: usize,
}

/// Plays the plan; `say` prints lines of a table. Returns how many runs failed.
///
/// # Errors
/// Those of `say`; what befalls a run is a line of the table.
pub async fn run(
    plan: &Plan,
    say: impl Fn(&str) -> Result<(), SandboxError>,
) -> Result<usize, SandboxError> {
    say(
        "| run | servers | statements | refused by the server | events | received by db2, db3 | new primary | seconds |\n\
         |---|---|---|---|---|---|---|---|",
    )?;
    let runs = (0..plan.runs).zip(plan.kinds.iter().cycle());
    let mut running = stream::iter(runs)
        .map(|(number, kind)| {
            let seed = plan.seed.wrapping_add(number);
            async move { (seed, *kind, play::play(*kind, seed).await) }
        })
        .buffer_unordered(plan.jobs.max(1));
    let mut failed = 0;
    while let Some((seed, kind, ended)) = running.next().await {
        match ended {
            Ok(ended) => {
                let [one, other] = &ended.received;
                say(&format!(
                    "| {seed} | {} | {} | {} | {} | {one}, {other} | {} | {:.1} |",
                    ended.shape,
                    ended.statements,
                    ended.refused,
                    ended.events,
                    ended.winner,
                    ended.took.as_secs_f64(),
                ))?;
            }
            Err(failure) => {
                failed += 1;
                say(&format!(
                    "| {seed} | {} | FAILED: {} | | | | | |",
                    shape::Shape::of(kind, seed),
                    format!("{failure:?}").replace('\n', "\n    ")
                ))?;
            }
        }
    }
    say(&format!("\n{} runs, {failed} failed", plan.runs))?;
    Ok(failed)
}
