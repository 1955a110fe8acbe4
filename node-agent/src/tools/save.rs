//! `save-binary-logs`: what a binary log holds from a position on, to the end of its last whole transaction.
//!
//! A torn end is what a killed server leaves: it is dropped and reported. A damaged event is not: whole transactions may
//! stand behind it, so nothing is written.

use std::path::PathBuf;

use binlog_core::{BinaryLogs, BinlogPosition, CutPlan};

use super::error::damaged;
use super::staging::Staging;
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
    // Written while the log is read. What is wrong with the output counts where there is something to write.
    let staging = Staging::new(&request.output);
    let plan = match &staging {
        Ok(staging) => logs.plan_and_draft(&request.start, staging.path(), &mut |_| ())?,
        Err(_) => logs.plan_cut(&request.start, None)?,
    };
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
            let (output, staging) = (&request.output, || staging);
            segment::write_staged(&cut, output, staging, &provider, Vec::new(), false)
        }
    }
}
