//! What the journals say of earlier operations.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::path::Path;

use crate::exit_code::ExitCode;
use crate::journal::{self, JournalError, Record, StepOutcome};
use crate::plan::Act;

/// An earlier operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Past {
    /// Its id; ids sort by time.
    pub operation: String,
    /// The dead primary.
    pub dead: String,
    /// When it began, milliseconds since the Unix epoch.
    pub begun_unix_ms: u64,
    /// When it ended, and with which exit code; `None` if it never did, or still runs.
    pub ended: Option<(u64, u8)>,
    /// The server it opened for writes.
    pub opened: Option<String>,
    /// It runs now.
    pub running: bool,
}

impl Past {
    /// It was neither refused before a change nor undone, and is over.
    #[must_use]
    pub fn changed_something(&self) -> bool {
        let nothing = [
            ExitCode::Failed,
            ExitCode::Refused,
            ExitCode::Held,
            ExitCode::Usage,
        ];
        !self.running
            && self
                .ended
                .is_none_or(|(_, code)| nothing.iter().all(|c| c.number() != code))
    }

    /// Its manager died in the middle.
    #[must_use]
    pub fn was_interrupted(&self) -> bool {
        self.ended.is_none() && !self.running
    }
}

/// Operations of a cluster, oldest first.
///
/// # Errors
/// [`JournalError`]: what cannot be read is not guessed.
pub fn of_cluster(state_dir: &Path, cluster: &str) -> Result<Vec<Past>, JournalError> {
    let mut all = Vec::new();
    for path in journal::operations(state_dir, cluster)? {
        all.extend(of_journal(&path)?);
    }
    Ok(all)
}

/// Operations of all clusters whose journals are below this folder.
///
/// # Errors
/// [`JournalError`].
pub fn of_all(state_dir: &Path) -> Result<Vec<Past>, JournalError> {
    let folder = state_dir.join("journal");
    let io = |source| JournalError::Io {
        path: folder.clone(),
        source,
    };
    let entries = match std::fs::read_dir(&folder) {
        Ok(entries) => entries,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(io(source)),
    };
    let mut all = Vec::new();
    for entry in entries {
        if let Some(cluster) = entry.map_err(io)?.file_name().to_str() {
            all.extend(of_cluster(state_dir, cluster)?);
        }
    }
    Ok(all)
}

fn of_journal(path: &Path) -> Result<Option<Past>, JournalError> {
    let running = journal::is_running(path)?;
    let records = journal::read(path)?.records;
    // Without a head nothing was claimed yet.
    let Some(Record::Begin(begin)) = records.first() else {
        return Ok(None);
    };
    let mut past = Past {
        operation: begin.operation.clone(),
        dead: begin.dead.clone(),
        begun_unix_ms: begin.unix_ms,
        ended: None,
        opened: None,
        running,
    };
    let mut opening = Vec::new();
    for record in &records {
        match record {
            Record::Started { stage, step, .. } => {
                if let Act::MakeWritable { server } = &step.act {
                    opening.push((*stage, step.id, server));
                }
            }
            Record::Done {
                stage,
                step,
                outcome,
                ..
            } if matches!(**outcome, StepOutcome::Writable) => {
                past.opened = opening
                    .iter()
                    .rfind(|(s, id, _)| (s, id) == (stage, step))
                    .map(|(_, _, server)| (*server).clone());
            }
            Record::End {
                unix_ms, exit_code, ..
            } => past.ended = Some((*unix_ms, *exit_code)),
            _ => {}
        }
    }
    Ok(Some(past))
}

/// Servers that were replaced as primaries and have not been made one again since: they do not count in later failovers
/// unless they have become replicas.
#[must_use]
pub fn deposed(past: &[Past]) -> BTreeSet<String> {
    let mut deposed = BTreeSet::new();
    for operation in past {
        if let Some(opened) = &operation.opened {
            deposed.remove(opened);
            deposed.insert(operation.dead.clone());
        }
    }
    deposed
}
