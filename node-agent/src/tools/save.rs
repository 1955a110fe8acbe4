//! `save-binary-logs`: what a binary log holds from a position on, to the end of its last whole transaction.
//!
//! A torn end is what a killed server leaves: it is dropped and reported. A damaged event is not: whole transactions may
//! stand behind it, so nothing is written.

use std::path::PathBuf;

use binlog_core::{BinaryLogs, BinlogPosition, CutPlan};

use super::error::damaged;
use super::{MadeSegment, Outcome, ToolError, segment};

/// What to save.
#[derive(Debug, Clone)]
pub struct SaveRequest {
    /// Directory of the binary log.
    pub binlog_dir: PathBuf,
    /// First position; its file names the log.
    pub start: BinlogPosition,
    /// Segment to write.
    pub output: PathBuf,
}

/// Saves the tail.
///
/// # Errors
/// [`binlog_core::LogError::Corrupt`] for a damaged log; a start that is no boundary or not held; an output that exists.
pub fn save(request: &SaveRequest) -> Result<Outcome<MadeSegment>, ToolError> {
    let logs = BinaryLogs::open(&request.binlog_dir.join(request.start.file.base()))?;
    let plan = logs.plan_cut(&request.start, None)?;
    let end = match &plan {
        CutPlan::Cut(cut) => cut.log_end(),
        CutPlan::Nothing(nothing) => &nothing.end,
    };
    if let Some(error) = damaged(end, request.binlog_dir.join(end.file())) {
        return Err(error);
    }
    match plan {
        CutPlan::Nothing(nothing) => Ok(Outcome::Nothing(nothing.into())),
        CutPlan::Cut(cut) => {
            let provider = request.binlog_dir.display().to_string();
            segment::write(&cut, &request.output, &provider, Vec::new(), false)
        }
    }
}
