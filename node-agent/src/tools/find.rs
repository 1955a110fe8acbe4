//! `find-relay-log`: where a position of the primary is in a replica's relay logs.

use std::fmt::Write as _;

use binlog_core::{BinlogPosition, RelayPosition};
use serde::Serialize;

use super::report::Text;
use super::{Outcome, RelayInput, ToolError};

/// Where the target is.
#[derive(Debug, Clone, Serialize)]
pub struct Found {
    /// The position asked for.
    pub target: BinlogPosition,
    /// The first event of the primary at or after it; the place after the last one if nothing follows.
    pub relay_log: RelayPosition,
    /// Nothing of the primary follows.
    pub at_end: bool,
    /// End of what may be used; `None` where finding the target did not need it.
    pub end: Option<BinlogPosition>,
}

/// Finds the target.
///
/// # Errors
/// A target that is no boundary, in or before a hole, or not held; relay logs that cannot be read.
pub fn find(input: &RelayInput) -> Result<Outcome<Found>, ToolError> {
    let logs = input.open()?;
    let located = match logs.first_event(&input.target) {
        Ok(located) => located,
        Err(error) => {
            let survey = logs.survey()?;
            // The target may be of another log, or behind what may be used: those are the better reasons.
            input.bound(&logs, &survey)?;
            return Err(input.explain(&logs, &survey, error));
        }
    };
    let mut found = Found {
        target: input.target.clone(),
        relay_log: located.position,
        at_end: located.at_end,
        end: None,
    };
    if let Some(latest) = &input.latest {
        let survey = logs.survey()?;
        let bound = input.bound(&logs, &survey)?;
        if found.target == bound && !found.at_end {
            // Where what the owner received ends, not where something else goes on.
            found.relay_log = logs.locate(latest)?.position;
            found.at_end = true;
        }
        found.end = Some(bound);
    }
    Ok(Outcome::Done(found))
}

impl Text for Found {
    fn text(&self, out: &mut String) {
        let _ = writeln!(out, "target        {}", self.target);
        if self.at_end {
            let _ = writeln!(out, "              nothing of the primary follows");
        }
        let _ = writeln!(out, "{}", self.relay_log);
    }
}
