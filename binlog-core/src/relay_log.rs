//! A replica's relay logs as a provider of the primary's events.

use std::path::PathBuf;

use crate::error::LogError;
use crate::extent::{EventDigest, Located, Survey, UnfinishedTail};
use crate::gtid::{MariaDbGtid, MariaDbGtidPos};
use crate::position::{BinlogPosition, RelayFileName, ServerId, StreamRange};
use crate::segment::CutPlan;

/// Relay log files, oldest first.
#[derive(Debug)]
pub struct RelayLogs {
    files: Vec<(RelayFileName, PathBuf)>,
}

impl RelayLogs {
    /// Takes the files (oldest first; kept hard links count like the files themselves), the replica's own server id, and
    /// what it has read (`Master_Log_File:Read_Master_Log_Pos`), which names the primary's file where no Rotate does.
    ///
    /// # Errors
    /// A file that cannot be opened or is no binary log. Empty files are left out.
    pub fn open(
        _files: Vec<(RelayFileName, PathBuf)>,
        _owner: ServerId,
        _latest: Option<BinlogPosition>,
    ) -> Result<Self, LogError> {
        todo!()
    }

    /// The files, oldest first.
    #[must_use]
    pub fn files(&self) -> &[(RelayFileName, PathBuf)] {
        &self.files
    }

    /// What is held.
    ///
    /// # Errors
    /// An unreadable or encrypted file.
    pub fn survey(&self) -> Result<Survey, LogError> {
        todo!()
    }

    /// Where `target` is.
    ///
    /// # Errors
    /// [`LogError::NotHeld`], [`LogError::NotABoundary`], an unreadable file.
    pub fn locate(&self, _target: &BinlogPosition) -> Result<Located, LogError> {
        todo!()
    }

    /// The last event of the same primary file that ends at or before `before`; format descriptions and Rotates do not
    /// count.
    ///
    /// # Errors
    /// An unreadable file.
    pub fn event_before(&self, _before: &BinlogPosition) -> Result<Option<EventDigest>, LogError> {
        todo!()
    }

    /// A plan to cut exactly `range`, which may start and end inside a transaction (pieces of several providers meet
    /// there).
    ///
    /// # Errors
    /// [`LogError::NotHeld`], [`LogError::NotABoundary`], [`LogError::Hole`], an unreadable file.
    pub fn plan_cut(&self, _range: &StreamRange) -> Result<CutPlan, LogError> {
        todo!()
    }

    /// What the transaction holds that the received range ends in; `None` if it ends between transactions.
    ///
    /// # Errors
    /// An unreadable file.
    pub fn unfinished_tail(&self) -> Result<Option<UnfinishedTail>, LogError> {
        todo!()
    }

    /// MariaDB: where the transaction with this GTID ends; `None` if it is not held whole.
    ///
    /// # Errors
    /// An unreadable file.
    pub fn position_after_gtid(
        &self,
        _gtid: &MariaDbGtid,
    ) -> Result<Option<BinlogPosition>, LogError> {
        todo!()
    }

    /// MariaDB: the coordinates of an executed GTID position: the end of the last of its transactions that is held,
    /// if no transaction at or before that point is missing in `executed`.
    ///
    /// # Errors
    /// An unreadable file.
    pub fn position_of_gtid_pos(
        &self,
        _executed: &MariaDbGtidPos,
    ) -> Result<Option<BinlogPosition>, LogError> {
        todo!()
    }
}
