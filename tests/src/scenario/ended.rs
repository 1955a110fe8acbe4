//! The end of a run of the manager: what it printed, what it reported, what its journal tells.

use std::path::Path;

use manager::journal::{self, Record, StepOutcome};
use manager::report::Report;

use crate::sandbox::Server;
use crate::sandbox::deployment::server_name;
use crate::sandbox::error::chain;
use crate::sandbox::tool::Finished;

use super::failure::{Failure, expect};

/// A run of the manager that wrote a report.
#[derive(Debug)]
pub struct Ended {
    /// Exit code, outputs and duration.
    pub finished: Finished,
    /// The report.
    pub report: Report,
}

impl Ended {
    /// Everything a person needs who looks at a failed test.
    pub fn tell(&self) -> String {
        format!(
            "exit code {:?} after {:?}\n{}\n{}",
            self.finished.code, self.finished.took, self.finished.stdout, self.finished.stderr
        )
    }

    /// How often each survivor connected to its local source, from the journal of the operation.
    pub fn connections(&self) -> Result<Vec<u32>, Failure> {
        let journal = self.report.journal.clone().unwrap_or_default();
        let read = journal::read(Path::new(&journal)).map_err(|error| Failure::Unexpected {
            what: format!("the journal {journal}"),
            expected: "readable".to_owned(),
            found: chain(&error),
        })?;
        let found: Vec<u32> = read
            .records
            .iter()
            .filter_map(|record| match record {
                Record::Done { outcome, .. } => match outcome.as_ref() {
                    StepOutcome::Applied(applied) => Some(applied.connections),
                    _ => None,
                },
                _ => None,
            })
            .collect();
        expect(
            !found.is_empty(),
            format!("the journal {journal}"),
            "outcomes of replays",
            "none",
        )?;
        Ok(found)
    }

    /// Whether the report says of this server, among what needs care, something with this text.
    pub fn names(&self, server: &Server, text: &str) -> bool {
        let name = server_name(server);
        self.report
            .care
            .iter()
            .any(|care| care.server == name && care.why.contains(text))
    }
}
