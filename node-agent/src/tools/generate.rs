//! `generate-diff`: what a replica received and a target has not, as a segment.
//!
//! It ends where the owner's logs end (or at `--latest`), also inside a transaction: the segment that continues there may
//! come from another log. What applies segments drops a transaction that stays unfinished.

use std::path::Path;

use binlog_core::{CutPlan, LogError, StreamRange};

use super::error::damaged;
use super::{MadeSegment, Nothing, Outcome, RelayInput, ToolError, segment};

/// Cuts `[target, end)`.
///
/// # Errors
/// A target that is no boundary, in or before a hole, or not held; damaged relay logs; an output that exists.
pub fn generate(input: &RelayInput, output: &Path) -> Result<Outcome<MadeSegment>, ToolError> {
    let logs = input.open()?;
    let survey = logs.survey()?;
    let bound = input.bound(&logs, &survey)?;
    let short = input.latest.as_ref().filter(|latest| **latest > bound);
    // Without a word on where the logs should end, damage there hides what follows.
    if (input.latest.is_none() || short.is_some())
        && let Some(error) = damaged(&survey.end, input.relay_dir.join(survey.end.file()))
    {
        return Err(error);
    }
    let explained = |error| input.explain(&logs, &survey, error);
    let first = logs.first_event(&input.target).map_err(explained)?;
    let range = StreamRange::new(input.target.clone(), bound.clone());
    if first.at_end
        && let Err(hole @ LogError::Hole { .. }) = logs.plan_cut(&range)
    {
        // Nothing is held behind the target, and something was received.
        return Err(explained(hole));
    }
    if first.at_end || input.target == bound {
        return Ok(Outcome::Nothing(Nothing {
            reason: "at_end",
            detail: format!("{} is the end: the target has everything", input.target),
            position: input.target.clone(),
            log_end: Some(survey.end),
        }));
    }
    match logs.plan_cut(&range).map_err(explained)? {
        CutPlan::Nothing(nothing) => Ok(Outcome::Nothing(nothing.into())),
        CutPlan::Cut(cut) => {
            let provider = input.relay_dir.display().to_string();
            let notes = short.map(|latest| {
                format!("the relay logs end at {bound}, before --latest {latest}: what is between is not held")
            });
            segment::write(&cut, output, &provider, notes.into_iter().collect(), false)
        }
    }
}
