//! Kill to first write, measured over several failovers, the command started at the moment of the kill.
//!
//! Not a test among tests: a clock beside other clusters' work measures that work. It is a command with an exit status,
//! run when nothing else does.

use std::time::Duration;

use crate::drill::Drill;
use crate::sandbox::slot::Slot;
use crate::sandbox::{SandboxError, ServerKind};

/// What was measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Measurement {
    /// Median of the runs.
    pub median: Duration,
    /// Every failover ended with exit code 0.
    pub all_good: bool,
}

/// Runs `runs` failovers one after the other; `say` prints a line for each.
///
/// # Errors
/// The sandbox's, and any difference between the survivors' tables and what the client saw acknowledged.
pub async fn run(
    kind: ServerKind,
    runs: usize,
    say: impl Fn(&str) -> Result<(), SandboxError>,
) -> Result<Measurement, SandboxError> {
    let _alone = Slot::alone().await?;
    let mut times = Vec::with_capacity(runs);
    let mut all_good = true;
    for run in 1..=runs {
        let drill = Drill::prepare(kind).await?;
        let measured = drill.run().await?;
        if measured.exit_code != Some(0) {
            all_good = false;
            say(&measured.text)?;
        }
        let aftermath = drill.aftermath().await?;
        say(&format!(
            "run {run}: first write {:.0} ms after the kill, exit code {:?}, {} acknowledged rows on both survivors",
            measured.first_write.as_secs_f64() * 1e3,
            measured.exit_code,
            aftermath.acknowledged,
        ))?;
        times.push(measured.first_write);
    }
    times.sort_unstable();
    let median = times.get(times.len() / 2).copied().unwrap_or_default();
    Ok(Measurement { median, all_good })
}
