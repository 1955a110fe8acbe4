//! The suite `matrix`: every server line by position and by GTID, in every state of its replicas, with row and statement
//! format; or the mixed lines of an upgrade. Each cell is a failover of a real cluster, and everything is checked after it.
//!
//! A cell holds if all survivors have the tables that the primary had (those of the furthest survivor if its host is gone,
//! and then the report says from where on the rest is unknown), the client's list agrees, GTID sets are equal, and
//! variables and channels of all survivors are as they were.

pub mod cell;
pub mod play;
mod summary;

use std::path::PathBuf;

use futures::StreamExt;
use futures::stream;
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;

pub use cell::{Cell, Line};

use crate::sandbox::error::chain;
use crate::sandbox::fetch::Absent;
use crate::sandbox::{SandboxError, ServerKind};

/// What is played.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Only clusters whose primary is of one of these lines; all if empty.
    pub servers: Vec<ServerKind>,
    /// Clusters of mixed versions instead of plain ones.
    pub mixed: bool,
    /// Patterns of names, see [`Cell::is_named_by`]; all if empty.
    pub only: Vec<String>,
    /// So many cells, chosen by the seed; all if absent.
    pub sample: Option<usize>,
    /// Chooses the sample.
    pub seed: u64,
    /// Cells at the same time.
    pub jobs: usize,
    /// Where the files of failed cells are kept.
    pub keep: Option<PathBuf>,
}

/// How many cells were played and how many did not hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outcome {
    /// Played.
    pub played: usize,
    /// Failed.
    pub failed: usize,
}

/// Plays the plan; `say` prints lines of tables.
///
/// # Errors
/// If nothing has the names that were asked for, or nothing can be printed. A failed cell is counted.
pub async fn run(
    plan: &Plan,
    say: impl Fn(&str) -> Result<(), SandboxError>,
) -> Result<Outcome, SandboxError> {
    let cells = chosen(plan)?;
    let seed = match plan.sample {
        Some(_) => format!(", seed {}", plan.seed),
        None => String::new(),
    };
    say(&format!(
        "{} cells{seed}; times from the kill of the primary to the first row that a survivor took, and to the end of the \
         command\n\n| cell | new primary | first write | end | rows | lost |\n|---|---|---|---|---|---|",
        cells.len()
    ))?;
    let mut times = summary::Times::new();
    let mut running = stream::iter(cells)
        .map(|cell| async move { (cell, play::play(cell, plan.keep.as_deref()).await) })
        .buffer_unordered(plan.jobs.max(1));
    while let Some((cell, ended)) = running.next().await {
        match ended {
            Ok(held) => {
                let (rows, lost) = held.rows;
                say(&format!(
                    "| {cell} | {} | {:.2} s | {:.2} s | {rows} | {lost} |",
                    held.winner,
                    held.first_write.as_secs_f64(),
                    held.ended.as_secs_f64()
                ))?;
                times.push((cell, Some(held.first_write)));
            }
            Err(failure) => {
                let why = chain(&failure).replace('\n', "\n    ");
                say(&format!("| {cell} | FAILED: {why} | | | | |"))?;
                times.push((cell, None));
            }
        }
    }
    say(&format!(
        "\nCells that held, and the time to the first write: median (least to most).\n\n{}\n",
        summary::table(&times)
    ))?;
    for absent in Absent::ALL {
        say(&format!("No cells: {}", absent.error()))?;
    }
    let outcome = Outcome {
        played: times.len(),
        failed: times.iter().filter(|(_, time)| time.is_none()).count(),
    };
    say(&format!(
        "\n{} cells played, {} failed",
        outcome.played, outcome.failed
    ))?;
    Ok(outcome)
}

fn chosen(plan: &Plan) -> Result<Vec<Cell>, SandboxError> {
    let mut lines = if plan.mixed {
        Line::MIXED.to_vec()
    } else {
        Line::plain()
    };
    lines.retain(|line| plan.servers.is_empty() || plan.servers.contains(&line.servers[0]));
    let all = Cell::all(&lines);
    // A name that is wrong would else make a run that passes because it plays nothing.
    let nobody = plan
        .only
        .iter()
        .find(|only| !all.iter().any(|cell| cell.is_named_by(only)));
    if all.is_empty() || nobody.is_some() {
        return Err(SandboxError::Wait {
            what: "cells to play".to_owned(),
            waited: std::time::Duration::ZERO,
            seen: format!("none is called {}", nobody.map_or("so", String::as_str)),
        });
    }
    let named = |cell: &Cell| plan.only.iter().any(|only| cell.is_named_by(only));
    let mut cells: Vec<Cell> = all
        .into_iter()
        .filter(|cell| plan.only.is_empty() || named(cell))
        .collect();
    if let Some(sample) = plan.sample {
        cells.shuffle(&mut StdRng::seed_from_u64(plan.seed));
        cells.truncate(sample);
        cells.sort_unstable();
    }
    Ok(cells)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_choose_cells_and_a_seed_chooses_a_sample() {
        let mut plan = Plan {
            servers: vec![ServerKind::MySql56, ServerKind::MariaDb118],
            mixed: false,
            only: vec!["*/gtid/tail".to_owned(), "mysql-5.6/*/both/row".to_owned()],
            sample: None,
            seed: 7,
            jobs: 1,
            keep: None,
        };
        assert_eq!(chosen(&plan).unwrap().len(), 2 * 2 + 2);
        plan.sample = Some(3);
        assert_eq!(chosen(&plan).unwrap().len(), 3);
        assert_eq!(chosen(&plan).unwrap(), chosen(&plan).unwrap());
        plan.only.push("mysql-5.7/gtid".to_owned());
        assert!(chosen(&plan).is_err(), "a line that is not asked for");
    }

    #[test]
    fn mixed_lines_are_apart() {
        let plan = Plan {
            servers: Vec::new(),
            mixed: true,
            only: Vec::new(),
            sample: None,
            seed: 7,
            jobs: 1,
            keep: None,
        };
        assert_eq!(chosen(&plan).unwrap().len(), Line::MIXED.len() * 16);
    }
}
