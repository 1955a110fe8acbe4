//! What the journals say of earlier operations.

use std::collections::{BTreeMap, BTreeSet};
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
    /// From its beginning, right before the claim, until then, in milliseconds.
    pub opened_after_ms: Option<u64>,
    /// The new primary's replay of what it lacked: bytes, and milliseconds.
    pub replay: Option<(u64, u64)>,
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
        opened_after_ms: None,
        replay: None,
        running,
    };
    let mut started = Vec::new();
    let mut sizes = BTreeMap::new();
    let mut replays = Vec::new();
    for record in &records {
        match record {
            Record::Started {
                stage,
                step,
                unix_ms,
            } => started.push((*stage, step.id, &step.act, *unix_ms)),
            Record::Done {
                stage,
                step,
                outcome,
                unix_ms,
            } => {
                let Some((_, _, act, began)) = started
                    .iter()
                    .rfind(|(s, id, _, _)| (s, id) == (stage, step))
                else {
                    continue;
                };
                match (act, outcome.as_ref()) {
                    (Act::MakeWritable { server, .. }, StepOutcome::Writable { .. }) => {
                        past.opened = Some(server.clone());
                        past.opened_after_ms = Some(unix_ms.saturating_sub(begin.unix_ms));
                    }
                    (
                        Act::SaveBinaryLogs { piece, .. }
                        | Act::SaveCopies { piece, .. }
                        | Act::GenerateDiff { piece, .. },
                        StepOutcome::Cut { manifest, .. },
                    ) => {
                        sizes.insert((*stage, *piece), manifest.size);
                    }
                    (Act::Apply { server, pieces, .. }, StepOutcome::Applied(_)) => {
                        let bytes = pieces.iter().filter_map(|p| sizes.get(&(*stage, *p)));
                        replays.push((server, bytes.sum(), unix_ms.saturating_sub(*began)));
                    }
                    _ => {}
                }
            }
            Record::End {
                unix_ms, exit_code, ..
            } => past.ended = Some((*unix_ms, *exit_code)),
            _ => {}
        }
    }
    past.replay = replays
        .iter()
        .rfind(|(server, _, _)| Some(*server) == past.opened.as_ref())
        .map(|(_, bytes, ms)| (*bytes, *ms));
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
