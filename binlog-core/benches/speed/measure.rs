//! Times, ceilings and memory.

use std::io::{Error, Result};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

/// Runs of each side.
pub const RUNS: usize = 7;

/// One line of the table.
#[derive(Debug)]
pub struct Line {
    /// What was measured.
    pub what: String,
    /// Median of our runs.
    pub ours: Duration,
    /// What it is compared with, and the median of its runs (or the fixed bound).
    pub ceiling: (String, Duration),
    /// Ours may take so many times the ceiling.
    pub limit: f64,
    /// `VmHWM` of a child process that does the same, in KiB.
    pub peak: u64,
    /// Counts for the exit status; a figure given for scale does not.
    pub target: bool,
}

/// Most memory a child process may have used, in KiB.
pub const PEAK_LIMIT: u64 = 64 << 10;

impl Line {
    /// Ours in terms of the ceiling.
    pub fn ratio(&self) -> f64 {
        self.ours.as_secs_f64() / self.ceiling.1.as_secs_f64()
    }

    /// Within its limit, in time and memory.
    pub fn holds(&self) -> bool {
        self.ratio() <= self.limit && self.peak < PEAK_LIMIT
    }
}

/// Runs both sides alternately; yields their medians. `after` is not timed.
pub fn interleaved(
    ours: &mut dyn FnMut() -> Result<()>,
    theirs: &mut dyn FnMut() -> Result<()>,
    after: &mut dyn FnMut() -> Result<()>,
) -> Result<(Duration, Duration)> {
    let (mut mine, mut ceiling) = (Vec::new(), Vec::new());
    for _ in 0..RUNS {
        let start = Instant::now();
        theirs()?;
        ceiling.push(start.elapsed());
        after()?;
        let start = Instant::now();
        ours()?;
        mine.push(start.elapsed());
        after()?;
    }
    Ok((median(mine), median(ceiling)))
}

/// The middle one.
pub fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

/// Runs a program to its end.
pub fn run(command: &mut Command) -> Result<()> {
    let status = command.status()?;
    if status.success() {
        Ok(())
    } else {
        Err(Error::other(format!("{command:?}: {status}")))
    }
}

/// `cp FROM TO`.
pub fn cp(from: &Path, to: &Path) -> Result<()> {
    run(Command::new("cp").arg(from).arg(to))
}

/// Most memory this program ever used, in KiB.
pub fn peak() -> Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    status
        .lines()
        .find_map(|line| {
            line.strip_prefix("VmHWM:")?
                .split_whitespace()
                .next()?
                .parse()
                .ok()
        })
        .ok_or_else(|| Error::other("no VmHWM in /proc/self/status"))
}

/// The peak of a child process that runs `args` of this program.
pub fn peak_of(args: &[&str]) -> Result<u64> {
    let output = Command::new(std::env::current_exe()?)
        .arg(super::CHILD)
        .args(args)
        .output()?;
    if !output.status.success() {
        let why = String::from_utf8_lossy(&output.stderr).into_owned();
        return Err(Error::other(format!("{args:?}: {why}")));
    }
    String::from_utf8_lossy(&output.stdout)
        .trim()
        .parse()
        .map_err(|_| Error::other(format!("{args:?} printed no number")))
}

/// Prints the table; true if every target holds.
pub fn print(lines: &[Line]) -> bool {
    println!(
        "{:<44} {:>10} {:>10} {:>7} {:>7} {:>9}  verdict  compared with",
        "what", "ours ms", "ceiling ms", "ratio", "limit", "peak MiB"
    );
    for line in lines {
        let verdict = match (line.target, line.holds()) {
            (_, true) => "ok",
            (true, false) => "MISSED",
            (false, false) => "over",
        };
        println!(
            "{:<44} {:>10.2} {:>10.2} {:>7.3} {:>7.2} {:>9.1}  {:<7}  {}{}",
            line.what,
            line.ours.as_secs_f64() * 1e3,
            line.ceiling.1.as_secs_f64() * 1e3,
            line.ratio(),
            line.limit,
            line.peak as f64 / 1024.0,
            verdict,
            line.ceiling.0,
            if line.target { "" } else { " (for scale)" },
        );
    }
    lines.iter().all(|line| line.holds() || !line.target)
}
