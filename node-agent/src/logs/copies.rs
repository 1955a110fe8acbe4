//! The directory of a binlog server as a provider: copies of a primary's binary logs, without that server.
//!
//! Read with the same reader and by the same rules as a dead primary's own directory; only which files belong together is
//! found otherwise (see [`LogDirectory`]). All functions here block on the disk.

use binlog_core::{
    BinaryLogs, BinlogPosition, CutPlan, LogDirectory, LogError, ServerId, StreamRange,
};
use proto::convert::ConvertError;

use crate::config::BinlogServerConfig;

/// The primary whose log is meant.
///
/// # Errors
/// A call that names none.
pub fn primary(server_id: u32) -> Result<ServerId, ConvertError> {
    match server_id {
        0 => Err(ConvertError::new(
            "primary_server_id",
            "missing: the log of which primary is meant",
        )),
        id => Ok(ServerId(id)),
    }
}

/// Opens the copies of this primary's log, from the file of `from` on.
///
/// # Errors
/// See [`LogDirectory::of`].
pub fn open(
    binlog_server: &BinlogServerConfig,
    primary: ServerId,
    from: Option<&BinlogPosition>,
) -> Result<BinaryLogs, LogError> {
    LogDirectory::open(&binlog_server.directory)?.of(primary, from, None)
}

/// A plan to cut exactly `range`: more may arrive meanwhile.
///
/// # Errors
/// See [`BinaryLogs::plan_cut`].
pub fn plan_cut(
    binlog_server: &BinlogServerConfig,
    primary: ServerId,
    range: &StreamRange,
) -> Result<CutPlan, LogError> {
    let (from, to) = (&range.from, &range.to);
    LogDirectory::open(&binlog_server.directory)?
        .of(primary, Some(from), Some(to))?
        .plan_cut(from, Some(to))
}
