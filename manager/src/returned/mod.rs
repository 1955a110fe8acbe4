//! A replaced primary that can be reached again: what it wrote that nobody else has.
//!
//! A host that vanished took the end of its log with it, and goes on committing for as long as its clients reach it and its
//! lease lasts. Once its agent answers again and the server is shut for writes, its log beyond the failover's frontier is
//! read: transactions there are on no survivor. They are listed and a copy of them is kept; nothing is applied.
//!
//! Decisions ([`due`], [`compare`]) are pure; [`examine`] reads, [`keep`] writes the finding into the journal and the report.
//! Guarantee: a finding is in the journal before anybody is told; one that was interrupted is made again.

mod examine;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use binlog_core::BinlogPosition;
use serde::{Deserialize, Serialize};

pub use examine::{NotYet, examine, keep};

use crate::facts::{LastTransaction, LogSurvey};
use crate::guard;
use crate::journal::{self, JournalError, Record, StepOutcome};
use crate::plan::DeadLog;

/// Transactions that are listed one by one; of more, the number is known and the copy holds them.
pub const LISTED: usize = 1000;

/// A replaced primary whose log was not read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Due {
    /// The operation that replaced it.
    pub operation: String,
    /// Its epoch.
    pub epoch: u64,
    /// Its journal.
    pub journal: PathBuf,
    /// The server.
    pub server: String,
    /// Up to here the survivors have everything.
    pub from: BinlogPosition,
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Returned {
    /// The server.
    pub server: String,
    /// When, milliseconds since the Unix epoch.
    pub unix_ms: u64,
    /// Where the failover ended, in its log.
    pub from: BinlogPosition,
    /// What is beyond.
    pub found: Found,
}

/// What a replaced primary's log holds beyond the place where the failover ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "found", rename_all = "snake_case")]
pub enum Found {
    /// Nothing: no transaction is lost.
    Nothing,
    /// It ends before: it has lost what its replicas have.
    Less {
        /// End of its last whole transaction.
        end: Option<BinlogPosition>,
    },
    /// Transactions that nobody else has.
    Written(Box<Written>),
}

/// Transactions that are on the replaced primary alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Written {
    /// End of the last.
    pub to: BinlogPosition,
    /// How many.
    pub transactions: u64,
    /// The first [`LISTED`] of them.
    pub listed: Vec<LastTransaction>,
    /// Bytes of an unfinished one behind them.
    pub dropped_bytes: u64,
    /// Segment at its agent.
    pub segment: String,
    /// The manager's copy: a valid binary log file with its manifest.
    pub copy: String,
}

impl Returned {
    /// What to tell an operator.
    #[must_use]
    pub fn sentence(&self) -> String {
        let Self { server, from, .. } = self;
        match &self.found {
            Found::Nothing => format!(
                "{server} can be reached again: its log ends at {from}, where the failover ended; no transaction is lost"
            ),
            Found::Less { end } => format!(
                "{server} can be reached again: it holds less than its replicas ({} of {from}), and must be rebuilt",
                end.as_ref()
                    .map_or_else(|| "nothing".to_owned(), ToString::to_string)
            ),
            Found::Written(written) => format!(
                "{server} can be reached again: {} transactions in [{from}, {}) are on it alone; a copy is {}; it must be rebuilt",
                written.transactions, written.to, written.copy
            ),
        }
    }
}

/// What a survey says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Compared {
    /// Both end at the same place.
    Same,
    /// It ends before.
    Less(Option<BinlogPosition>),
    /// There are whole transactions beyond.
    Beyond,
}

/// Compares where the failover ended with where the log does.
#[must_use]
pub fn compare(from: &BinlogPosition, survey: &LogSurvey) -> Compared {
    match &survey.whole_end {
        Some(end) if end > from && has_transaction_beyond(from, survey) => Compared::Beyond,
        Some(end) if end >= from => Compared::Same,
        end => Compared::Less(end.clone()),
    }
}

/// A log also grows by events that are in no transaction: a Rotate, a Stop, the head of the next file.
fn has_transaction_beyond(from: &BinlogPosition, survey: &LogSurvey) -> bool {
    survey
        .last_transaction
        .as_ref()
        .is_some_and(|last| last.end > *from)
}

/// What of an operation is due, by its journal. `None`: it replaced nobody, the log was read, or this has been done.
#[must_use]
pub fn due(journal: &Path, records: &[Record]) -> Option<Due> {
    let Some(Record::Begin(begin)) = records.first() else {
        return None;
    };
    let mut from = None;
    let mut opened = false;
    for record in records {
        match record {
            Record::Plan { holdings, plan, .. } => {
                let unread = !matches!(holdings.dead, DeadLog::Read { .. });
                from = unread.then(|| plan.frontier.end.clone());
            }
            Record::Done { outcome, .. } => {
                opened |= matches!(**outcome, StepOutcome::Writable { .. });
            }
            Record::Returned(_) => return None,
            _ => {}
        }
    }
    opened.then_some(())?;
    Some(Due {
        operation: begin.operation.clone(),
        epoch: begin.epoch,
        journal: journal.to_owned(),
        server: begin.dead.clone(),
        from: from?,
    })
}

/// What is due of a cluster: of each server that is deposed, the operation that did it last.
///
/// # Errors
/// [`JournalError`].
pub fn all_due(state_dir: &Path, cluster: &str) -> Result<Vec<Due>, JournalError> {
    let past = guard::of_cluster(state_dir, cluster)?;
    let mut wanted: BTreeSet<String> = guard::deposed(&past);
    let mut all = Vec::new();
    for operation in past.iter().rev() {
        if operation.opened.is_none() || !wanted.remove(&operation.dead) {
            continue;
        }
        let path =
            journal::folder(state_dir, cluster).join(format!("{}.journal", operation.operation));
        all.extend(due(&path, &journal::read(&path)?.records));
    }
    Ok(all)
}

#[cfg(test)]
mod tests;
