//! The primary's own binary log as a provider.

use std::path::Path;

use crate::error::LogError;
use crate::extent::{EventDigest, Survey};
use crate::position::{BinlogFileName, BinlogPosition};
use crate::segment::CutPlan;

/// All files of a server's binary log, in order.
#[derive(Debug)]
pub struct BinaryLogs {
    files: Vec<BinlogFileName>,
}

impl BinaryLogs {
    /// Opens the log `basename` (directory and base name: `/data/mysql-bin`).
    ///
    /// Only names `base.DIGITS` count. If the index file is there, each file it names must exist, numbers must follow
    /// each other, and files in the directory beyond its last entry are included (a crash may come between the creation
    /// of a file and its entry).
    ///
    /// # Errors
    /// No files, a missing file, an unreadable directory or index.
    pub fn open(_basename: &Path) -> Result<Self, LogError> {
        todo!()
    }

    /// The files, ascending.
    #[must_use]
    pub fn files(&self) -> &[BinlogFileName] {
        &self.files
    }

    /// What is there from `from` on (`None`: from the newest file that holds a transaction).
    ///
    /// # Errors
    /// An unreadable or encrypted file; `from` not held or no boundary. A position beyond the end of its file is
    /// [`LogError::NotHeld`].
    pub fn survey(&self, _from: Option<&BinlogPosition>) -> Result<Survey, LogError> {
        todo!()
    }

    /// The last event of the same file that ends at or before `before`; format descriptions and Rotates do not count.
    ///
    /// # Errors
    /// As [`Self::survey`].
    pub fn event_before(&self, _before: &BinlogPosition) -> Result<Option<EventDigest>, LogError> {
        todo!()
    }

    /// A plan to cut `[from, to)`, or from `from` to the end of the last whole transaction.
    ///
    /// # Errors
    /// As [`Self::survey`]; [`LogError::InsideTransaction`] for a `to` inside one. A log that ends before `from` is
    /// [`CutPlan::Nothing`], not an error.
    pub fn plan_cut(
        &self,
        _from: &BinlogPosition,
        _to: Option<&BinlogPosition>,
    ) -> Result<CutPlan, LogError> {
        todo!()
    }
}
