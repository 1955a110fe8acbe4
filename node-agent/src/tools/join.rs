//! `join`: contiguous segments as one, in the order given.
//!
//! Each is verified as a whole before anything is written, and the result is read again before it gets its name. Files
//! without a manifest are taken for what a walk of them shows.

use std::path::{Path, PathBuf};

use binlog_core::{BinlogFileName, CutPlan, LogError, Manifest, SegmentChain};

use super::{MadeSegment, Outcome, ToolError, segment};

/// Joins `files`. `first_file` names the primary's file in which the first of them begins, where it does not say so.
///
/// # Errors
/// [`LogError::Gap`] with both ends where two do not meet, whether they overlap or leave something out; a damaged file; a
/// file whose place in the stream is unknown; an output that exists.
pub fn join(
    files: &[PathBuf],
    first_file: Option<&BinlogFileName>,
    output: &Path,
) -> Result<Outcome<MadeSegment>, ToolError> {
    let chain = SegmentChain::open_any(files, first_file)?;
    match chain.plan_join()? {
        CutPlan::Nothing(nothing) => Ok(Outcome::Nothing(nothing.into())),
        CutPlan::Cut(cut) => segment::write(&cut, output, &provider(files)?, Vec::new(), true),
    }
}

/// Who held the events first, as far as the manifests say.
fn provider(files: &[PathBuf]) -> Result<String, LogError> {
    let mut providers = Vec::new();
    for file in files {
        let provider = if Manifest::path_for(file).exists() {
            Manifest::load(file)?.provider
        } else {
            file.display().to_string()
        };
        if providers.last() != Some(&provider) {
            providers.push(provider);
        }
    }
    Ok(providers.join(" + "))
}
