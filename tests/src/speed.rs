//! Kill to first write, measured over several failovers: by a command that is started at the moment of the kill, or by a
//! manager that watches.
//!
//! Not a test among tests: a clock beside other clusters' work measures that work. It is a command with an exit status,
//! run when nothing else does.

use std::time::Duration;

use crate::drill::Drill;
use crate::sandbox::slot::Slot;
use crate::sandbox::{SandboxError, ServerKind};
use crate::watched::{Before, Loss, Watched};

/// What was measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Measurement {
    /// Median of the runs.
    pub median: Duration,
    /// Every failover ended with exit code 0.
    pub all_good: bool,
}

/// Runs `runs` failovers one after the other, by a command at the moment of the kill, or, `watched`, by a manager that
/// finds out such a loss by itself; `say` prints a line for each.
///
/// # Errors
/// The sandbox's, and any difference between the survivors' tables and what the client saw acknowledged.
pub async fn run(
    kind: ServerKind,
    runs: usize,
    watched: Option<(Loss, Before)>,
    say: impl Fn(&str) -> Result<(), SandboxError>,
) -> Result<Measurement, SandboxError> {
    if let Some((loss, before)) = watched {
        return run_watched(kind, runs, loss, before, say).await;
    }
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
    Ok(Measurement {
        median: median(times),
        all_good,
    })
}

async fn run_watched(
    kind: ServerKind,
    runs: usize,
    loss: Loss,
    before: Before,
    say: impl Fn(&str) -> Result<(), SandboxError>,
) -> Result<Measurement, SandboxError> {
    let _alone = Slot::alone().await?;
    if loss == Loss::HostFrozen {
        return run_thawed(kind, runs, before, say).await;
    }
    let mut times = Vec::with_capacity(runs);
    for run in 1..=runs {
        let watched = Watched::prepare_for(kind, loss, before).await?;
        let replaced = watched.lose_the_primary(loss).await?;
        say(&format!(
            "run {run}: first write {:.0} ms after the fault, the old primary's last row {}, never two writers; {} rows acknowledged until then",
            replaced.first_write.as_secs_f64() * 1e3,
            replaced
                .old_wrote_for
                .map_or("before it".to_owned(), |took| format!(
                    "{:.0} ms after it",
                    took.as_secs_f64() * 1e3
                )),
            replaced.acknowledged,
        ))?;
        times.push(replaced.first_write);
    }
    Ok(Measurement {
        median: median(times),
        all_good: true,
    })
}

/// Until the old primary refuses writes once it runs again, in the median.
const REFUSED_LIMIT: Duration = Duration::from_millis(200);

async fn run_thawed(
    kind: ServerKind,
    runs: usize,
    before: Before,
    say: impl Fn(&str) -> Result<(), SandboxError>,
) -> Result<Measurement, SandboxError> {
    let (mut times, mut refused) = (Vec::new(), Vec::new());
    for run in 1..=runs {
        let watched = Watched::prepare_for(kind, Loss::HostFrozen, before).await?;
        let thawed = watched.freeze_and_thaw().await?;
        say(&format!(
            "run {run}: first write {:.0} ms after the fault; thawed, the old primary refused writes after {:.0} ms; {} rows are on it alone, all in the report",
            thawed.first_write.as_secs_f64() * 1e3,
            thawed.refused_after.as_secs_f64() * 1e3,
            thawed.alone,
        ))?;
        times.push(thawed.first_write);
        refused.push(thawed.refused_after);
    }
    let refused = median(refused);
    say(&format!(
        "thaw to refusal: median of {runs}: {} ms, limit {} ms",
        refused.as_millis(),
        REFUSED_LIMIT.as_millis()
    ))?;
    Ok(Measurement {
        median: median(times),
        all_good: refused < REFUSED_LIMIT,
    })
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}
