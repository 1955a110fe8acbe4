//! The end of a run of the manager: what it printed, what it reported, what its journal tells.

use std::collections::BTreeMap;
use std::path::Path;

use manager::agents::ApplyWay;
use manager::journal::{self, Record, StepOutcome};
use manager::plan::Act;
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
        let found: Vec<u32> = self
            .journal()?
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
            "the journal",
            "outcomes of replays",
            "none",
        )?;
        Ok(found)
    }

    fn journal(&self) -> Result<Vec<Record>, Failure> {
        let journal = self.report.journal.clone().unwrap_or_default();
        let read = journal::read(Path::new(&journal)).map_err(|error| Failure::Unexpected {
            what: format!("the journal {journal}"),
            expected: "readable".to_owned(),
            found: chain(&error),
        })?;
        Ok(read.records)
    }

    /// How each survivor that replayed anything did so, and why, from the journal of the operation.
    pub fn ways(&self) -> Result<BTreeMap<String, (ApplyWay, String)>, Failure> {
        let mut servers = BTreeMap::new();
        let mut ways = BTreeMap::new();
        for record in self.journal()? {
            match record {
                Record::Started { stage, step, .. } => {
                    if let Act::Apply { server, .. } = step.act {
                        servers.insert((stage, step.id), server);
                    }
                }
                Record::Done {
                    stage,
                    step,
                    outcome,
                    ..
                } => {
                    if let StepOutcome::Applied(applied) = *outcome
                        && let Some(way) = applied.way
                        && let Some(server) = servers.get(&(stage, step))
                    {
                        ways.insert(server.clone(), way);
                    }
                }
                _ => {}
            }
        }
        Ok(ways)
    }

    /// This survivor replayed in this way, for a reason with this text.
    pub fn went(&self, server: &Server, way: ApplyWay, why: &str) -> Result<(), Failure> {
        let name = server_name(server);
        let ways = self.ways()?;
        expect(
            ways.get(&name)
                .is_some_and(|(found, reason)| *found == way && reason.contains(why)),
            format!("how {name} replayed"),
            format!("{way}: {why}"),
            format!("{ways:?}\n{}", self.tell()),
        )
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
