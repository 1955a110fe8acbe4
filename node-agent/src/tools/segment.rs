//! What a command that cuts or joins gives back.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use binlog_core::{
    BinlogPosition, Cut, LogEnd, LogError, Manifest, NothingReason, NothingToCut, SegmentChain,
    StreamRange,
};
use serde::Serialize;

use super::report::Text;
use super::staging::Staging;
use super::{Outcome, ToolError};

/// A segment that was written.
#[derive(Debug, Clone, Serialize)]
pub struct MadeSegment {
    /// The file.
    pub output: PathBuf,
    /// Its sidecar.
    pub manifest: PathBuf,
    /// What it holds.
    pub range: StreamRange,
    /// Events in it, format descriptions and Rotates of the range included.
    pub events: u64,
    /// Transactions that end in it.
    pub transactions: u64,
    /// End of the last of them.
    pub whole_end: Option<BinlogPosition>,
    /// Size in bytes.
    pub size: u64,
    /// Digest, hex.
    pub sha256: String,
    /// Bytes of the log behind the range that belong to an unfinished transaction or a torn event.
    pub dropped_bytes: u64,
    /// How the log ends from which it was cut; `None` for a join.
    pub log_end: Option<LogEnd>,
    /// What an operator should know besides.
    pub notes: Vec<String>,
}

/// Why there was nothing to do.
#[derive(Debug, Clone, Serialize)]
pub struct Nothing {
    /// `at_end`, `only_bookkeeping`, `beyond_end`, `only_unfinished`.
    pub reason: &'static str,
    /// The same for people.
    pub detail: String,
    /// The position asked for.
    pub position: BinlogPosition,
    /// How the log ends.
    pub log_end: Option<LogEnd>,
}

impl Nothing {
    /// Nothing but bookkeeping follows `position`.
    #[must_use]
    pub fn only_bookkeeping(position: &BinlogPosition, log_end: Option<LogEnd>) -> Self {
        Self {
            reason: "only_bookkeeping",
            detail: format!(
                "behind {position} are only events without data (Rotate, Stop and the like)"
            ),
            position: position.clone(),
            log_end,
        }
    }
}

impl From<NothingToCut> for Nothing {
    fn from(nothing: NothingToCut) -> Self {
        let NothingToCut { at, end, reason } = nothing;
        let (name, detail) = match reason {
            NothingReason::AtEnd => ("at_end", format!("nothing follows {at}")),
            NothingReason::OnlyClosing => return Self::only_bookkeeping(&at, Some(end)),
            NothingReason::BeyondEnd => {
                ("beyond_end", format!("the log ends before {at}, at {end}"))
            }
            NothingReason::OnlyUnfinished => (
                "only_unfinished",
                format!("behind {at} is only a part of a transaction"),
            ),
            _ => ("nothing", format!("nothing to cut from {at} on: {reason}")),
        };
        Self {
            reason: name,
            detail,
            position: at,
            log_end: Some(end),
        }
    }
}

/// Writes a cut to a new file; nothing but bookkeeping is nothing to do. With `verify` what was written is read again
/// before it gets its name.
///
/// # Errors
/// [`ToolError::OutputExists`], a disk that refuses, a log that changed since the plan was made.
pub(super) fn write(
    cut: &Cut,
    output: &Path,
    provider: &str,
    notes: Vec<String>,
    verify: bool,
) -> Result<Outcome<MadeSegment>, ToolError> {
    let staging = || Staging::new(output);
    write_staged(cut, output, staging, provider, notes, verify)
}

/// As [`write()`], in a private folder that the caller may have made already.
pub(super) fn write_staged(
    cut: &Cut,
    output: &Path,
    staging: impl FnOnce() -> Result<Staging, ToolError>,
    provider: &str,
    notes: Vec<String>,
    verify: bool,
) -> Result<Outcome<MadeSegment>, ToolError> {
    if !cut.holds_data()? {
        let end = Some(cut.log_end().clone());
        return Ok(Outcome::Nothing(Nothing::only_bookkeeping(
            &cut.range().from,
            end,
        )));
    }
    let staging = staging()?;
    let written = cut.write(staging.path(), provider, &mut |_| ());
    let manifest = written.map_err(|error| in_place(error, staging.path(), output))?;
    if verify {
        let made = [staging.path().to_owned()];
        SegmentChain::open(&made).map_err(|error| in_place(error, staging.path(), output))?;
    }
    staging.publish()?;
    Ok(Outcome::Done(MadeSegment::new(
        output,
        manifest,
        Some(cut.log_end().clone()).filter(|_| !verify),
        notes,
    )))
}

/// An error about the file in its private folder names the file that was asked for.
fn in_place(error: LogError, private: &Path, output: &Path) -> LogError {
    match error {
        LogError::Io {
            action,
            path,
            source,
        } if path.parent() == private.parent() => LogError::Io {
            action,
            path: output.to_owned(),
            source,
        },
        other => other,
    }
}

impl MadeSegment {
    fn new(output: &Path, manifest: Manifest, log_end: Option<LogEnd>, notes: Vec<String>) -> Self {
        Self {
            output: output.to_owned(),
            manifest: Manifest::path_for(output),
            range: manifest.range,
            events: manifest.events,
            transactions: manifest.transactions,
            whole_end: manifest.whole_end,
            size: manifest.size,
            sha256: manifest.sha256,
            dropped_bytes: manifest.dropped_bytes,
            log_end,
            notes,
        }
    }
}

impl Text for MadeSegment {
    fn text(&self, out: &mut String) {
        let _ = writeln!(out, "segment       {}", self.output.display());
        let _ = writeln!(out, "manifest      {}", self.manifest.display());
        let _ = writeln!(out, "from          {}", self.range.from);
        let _ = writeln!(out, "to            {}", self.range.to);
        let _ = writeln!(out, "events        {}", self.events);
        let _ = write!(out, "transactions  {}", self.transactions);
        match &self.whole_end {
            Some(end) => {
                let _ = writeln!(out, ", the last one ends at {end}");
            }
            None => out.push('\n'),
        }
        let _ = writeln!(out, "size          {} bytes", self.size);
        let _ = writeln!(out, "sha256        {}", self.sha256);
        if let Some(end) = &self.log_end {
            let _ = writeln!(out, "log ends      {end}");
        }
        let _ = writeln!(out, "dropped       {} bytes", self.dropped_bytes);
        for note in &self.notes {
            let _ = writeln!(out, "note          {note}");
        }
    }
}
