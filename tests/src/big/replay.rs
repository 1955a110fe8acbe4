//! What the survivors of a failover did, and how long it took, as the manager's journal has it.

use std::path::Path;
use std::time::Duration;

use manager::agents::Applied;
use manager::journal::{self, Record, StepOutcome};
use manager::plan::Act;
use manager::report::Report;

use crate::sandbox::error::chain;
use crate::sandbox::{SandboxError, wait};
use crate::watched::{Watched, wrong};

/// Longest wait for a failover to end once the new primary is open.
const LIMIT: Duration = Duration::from_secs(3600);

/// What one survivor did.
#[derive(Debug, Clone)]
pub(super) struct Equalised {
    /// Its name, as the manager has it.
    pub(super) server: String,
    /// Outcome and times.
    pub(super) applied: Applied,
    /// When the act began, milliseconds since 1970.
    pub(super) began_ms: u64,
    /// When it was done.
    pub(super) ended_ms: u64,
}

impl Equalised {
    /// Drain, switch and replay.
    pub(super) fn phases(&self) -> [Duration; 3] {
        self.applied.phases_us.map(Duration::from_micros)
    }
}

/// The report of the only operation, once it has ended.
pub(super) async fn report(watched: &Watched) -> Result<Report, SandboxError> {
    let folder = watched.deployment.manager_state().join("operations");
    wait::until("the report of the failover", LIMIT, || async {
        let found = std::fs::read_dir(&folder)
            .into_iter()
            .flatten()
            .filter_map(Result::ok)
            .filter_map(|entry| std::fs::read(entry.path().join("report.json")).ok())
            .find_map(|text| serde_json::from_slice::<Report>(&text).ok());
        Ok(match found {
            Some(report) => wait::Look::Done(report),
            None => wait::Look::NotYet("no report".to_owned()),
        })
    })
    .await
}

/// What the survivors did, in the order in which they were done.
pub(super) fn equalised(report: &Report) -> Result<Vec<Equalised>, SandboxError> {
    let path = report.journal.clone().unwrap_or_default();
    let read = journal::read(Path::new(&path)).map_err(|error| wrong(&path, &chain(&error)))?;
    let mut begun = Vec::new();
    let mut found = Vec::new();
    for record in read.records {
        match record {
            Record::Started {
                stage,
                step,
                unix_ms,
            } => {
                if let Act::Apply { server, .. } | Act::Drain { server, .. } = step.act {
                    begun.push((stage, step.id, server, unix_ms));
                }
            }
            Record::Done {
                stage,
                step,
                outcome,
                unix_ms,
            } => {
                let began = begun
                    .iter()
                    .find(|(begun_stage, id, ..)| *begun_stage == stage && *id == step);
                if let (StepOutcome::Applied(applied), Some((_, _, server, began_ms))) =
                    (*outcome, began)
                {
                    found.push(Equalised {
                        server: server.clone(),
                        applied,
                        began_ms: *began_ms,
                        ended_ms: unix_ms,
                    });
                }
            }
            _ => {}
        }
    }
    Ok(found)
}
