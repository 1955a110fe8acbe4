//! What an earlier run for the same dead primary left behind: a server it had promoted already.
//!
//! A second run then finishes the first: it brings the rest to the same point and to the same new primary. The journal
//! is only the hint; that the server really is no replica any more is read from it again.

use std::path::Path;

use crate::config::ClusterConfig;
use crate::journal::{self, JournalError, Record, StepOutcome};
use crate::plan::{Act, AlreadyPromoted};

/// The promotion of the newest operation for this dead primary, if it came to one.
///
/// # Errors
/// [`JournalError`] if a journal cannot be read; guessing could make a second primary.
pub(super) fn promoted(
    config: &ClusterConfig,
    dead: &str,
) -> Result<Option<AlreadyPromoted>, JournalError> {
    let mut journals = journal::operations(&config.state_dir, &config.cluster)?;
    while let Some(path) = journals.pop() {
        if let Some(found) = of_operation(&path, dead)? {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

fn of_operation(path: &Path, dead: &str) -> Result<Option<AlreadyPromoted>, JournalError> {
    let records = journal::read(path)?.records;
    let ours = matches!(records.first(), Some(Record::Begin(begin)) if begin.dead == dead);
    if !ours {
        return Ok(None);
    }
    let mut end = None;
    let mut acts = Vec::new();
    let mut found = None;
    for record in records {
        match record {
            Record::Plan { plan, .. } => end = Some(plan.frontier.end),
            Record::Started { stage, step, .. } => acts.push((stage, step.id, step.act)),
            Record::Done {
                stage,
                step,
                outcome,
                ..
            } => {
                let act = acts
                    .iter()
                    .rfind(|(s, id, _)| (*s, *id) == (stage, step))
                    .map(|(_, _, act)| act);
                if let (
                    Some(Act::Promote { server, .. }),
                    StepOutcome::Promoted(promoted),
                    Some(end),
                ) = (act, *outcome, &end)
                {
                    found = Some(AlreadyPromoted {
                        server: server.clone(),
                        promoted,
                        end: end.clone(),
                    });
                }
            }
            _ => {}
        }
    }
    Ok(found)
}
