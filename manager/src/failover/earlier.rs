//! What earlier runs for the same dead primary left behind: a server that one of them had promoted, or may have.
//!
//! A second run then finishes the first: it brings the rest to the same point and to the same new primary. The journal
//! is only the hint; that the server really is no replica any more is read from it again, and whether it was that
//! operation which promoted it, its agent knows.

use std::path::Path;

use crate::config::ClusterConfig;
use crate::execute::{Run, unix_ms};
use crate::guard;
use crate::journal::{self, JournalError, Record, StepOutcome};
use crate::observe::chain;
use crate::plan::{Act, AlreadyPromoted};

/// The promotion of the newest operation for this dead primary, if it came to one, or may have.
///
/// # Errors
/// [`JournalError`] if a journal cannot be read; guessing could make a second primary.
pub(super) fn promoted(
    config: &ClusterConfig,
    dead: &str,
) -> Result<Option<AlreadyPromoted>, JournalError> {
    let mut journals = journal::operations(&config.state_dir, &config.cluster)?;
    while let Some(path) = journals.pop() {
        let records = journal::read(&path)?.records;
        if let Some(found) = of_operation(records, dead) {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

/// Whether there was an operation for this dead primary before.
///
/// # Errors
/// [`JournalError`].
pub(super) fn began(config: &ClusterConfig, dead: &str) -> Result<bool, JournalError> {
    let past = guard::of_cluster(&config.state_dir, &config.cluster)?;
    Ok(past.iter().any(|past| past.dead == dead))
}

fn of_operation(records: Vec<Record>, dead: &str) -> Option<AlreadyPromoted> {
    let mut records = records.into_iter();
    let operation = match records.next() {
        Some(Record::Begin(begin)) if begin.dead == dead => begin.operation,
        _ => return None,
    };
    let mut last = None;
    let mut semi_sync = None;
    for record in records {
        match record {
            Record::Plan { plan, .. } => semi_sync = plan.semi_sync,
            Record::Started { stage, step, .. } => {
                if let Act::Promote {
                    server,
                    executed_at_least,
                    continues,
                } = step.act
                {
                    // From here on it may have been promoted, whether or not anybody heard of it.
                    let found = AlreadyPromoted {
                        server,
                        promoted: None,
                        operation: continues.unwrap_or_else(|| operation.clone()),
                        end: executed_at_least,
                        semi_sync: semi_sync.clone(),
                    };
                    last = Some(((stage, step.id), found));
                }
            }
            Record::Done {
                stage,
                step,
                outcome,
                ..
            } => {
                if let (Some((id, found)), StepOutcome::Promoted(promoted)) = (&mut last, *outcome)
                    && *id == (stage, step)
                {
                    found.promoted = Some(promoted);
                }
            }
            Record::Failed {
                stage,
                step,
                outcome_unknown: false,
                ..
            } if last.as_ref().is_some_and(|(id, _)| *id == (stage, step)) => last = None,
            _ => {}
        }
    }
    last.map(|(_, found)| found)
}

/// Says in the journals of interrupted operations that this one goes on with what they left. They stay as they are where
/// that cannot be written: nothing depends on it.
pub(super) async fn take_up(run: &Run) {
    let (state, cluster) = (&run.config.state_dir, &run.config.cluster);
    let journals = match journal::operations(state, cluster) {
        Ok(journals) => journals,
        Err(error) => {
            tracing::warn!(%cluster, error = chain(&error), "earlier journals are not closed");
            return;
        }
    };
    for path in journals {
        if path == run.journal.path() {
            continue;
        }
        if let Err(error) = take_up_one(run, &path).await {
            tracing::warn!(%cluster, error = chain(&error), "an earlier journal is not closed");
        }
    }
}

async fn take_up_one(run: &Run, path: &Path) -> Result<(), JournalError> {
    let last = journal::read(path)?.records.pop();
    let closed = matches!(
        last,
        None | Some(Record::End { .. } | Record::TakenUp { .. })
    );
    if closed || journal::is_running(path)? {
        return Ok(());
    }
    let interrupted = journal::reopen(path, run.journal.hook())?;
    interrupted
        .append(&Record::TakenUp {
            unix_ms: unix_ms(),
            by: run.context.operation.clone(),
        })
        .await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agents::Promoted;
    use crate::config::HostPort;
    use crate::journal::Begin;
    use crate::plan::{Step, StepId};
    use crate::testing::at;

    fn begin(operation: &str) -> Record {
        Record::Begin(Box::new(Begin {
            format_version: 1,
            program: "0".to_owned(),
            unix_ms: 1,
            cluster: "app1".to_owned(),
            operation: operation.to_owned(),
            epoch: 1,
            manager: "m1".to_owned(),
            dead: "db1".to_owned(),
            dead_address: HostPort {
                host: "db1".to_owned(),
                port: 3306,
            },
            forced: None,
            accept_loss: false,
            agents: std::collections::BTreeMap::new(),
        }))
    }

    fn started(stage: u32, server: &str, continues: Option<&str>) -> Record {
        Record::Started {
            unix_ms: 2,
            stage,
            step: Step {
                id: StepId(7),
                act: Act::Promote {
                    server: server.to_owned(),
                    executed_at_least: at("1:880"),
                    continues: continues.map(str::to_owned),
                },
                after: vec![],
            },
        }
    }

    fn done(stage: u32) -> Record {
        Record::Done {
            unix_ms: 3,
            stage,
            step: StepId(7),
            outcome: Box::new(StepOutcome::Promoted(Promoted {
                position: at("7:999"),
                gtid_executed: String::new(),
                executed: at("1:880"),
                gtid_before_reset: String::new(),
            })),
        }
    }

    fn failed(stage: u32, outcome_unknown: bool) -> Record {
        Record::Failed {
            unix_ms: 3,
            stage,
            step: StepId(7),
            why: "it broke".to_owned(),
            outcome_unknown,
            output: None,
        }
    }

    /// Name, records after the first, server, whether its answer is known, operation.
    type Row<'a> = (&'a str, Vec<Record>, Option<(&'a str, bool, &'a str)>);

    #[test]
    fn table_of_promotions() {
        let table: &[Row<'_>] = &[
            ("not come to it", vec![], None),
            (
                "started",
                vec![started(2, "db2", None)],
                Some(("db2", false, "op1")),
            ),
            (
                "done",
                vec![started(2, "db2", None), done(2)],
                Some(("db2", true, "op1")),
            ),
            (
                "refused",
                vec![started(2, "db2", None), failed(2, false)],
                None,
            ),
            (
                "no answer",
                vec![started(2, "db2", None), failed(2, true)],
                Some(("db2", false, "op1")),
            ),
            (
                "refused, and another was elected",
                vec![
                    started(2, "db2", None),
                    failed(2, false),
                    started(3, "db3", None),
                ],
                Some(("db3", false, "op1")),
            ),
            (
                "going on with an earlier one, and killed again",
                vec![started(2, "db2", Some("op0"))],
                Some(("db2", false, "op0")),
            ),
        ];
        for (story, records, expected) in table {
            let all = |first| {
                std::iter::once(first)
                    .chain(records.iter().cloned())
                    .collect()
            };
            let found = of_operation(all(begin("op1")), "db1");
            let found = found.as_ref().map(|f| {
                (
                    f.server.as_str(),
                    f.promoted.is_some(),
                    f.operation.as_str(),
                )
            });
            assert_eq!(found, *expected, "{story}");
            assert_eq!(of_operation(all(begin("op1")), "db9"), None, "{story}");
        }
    }
}
