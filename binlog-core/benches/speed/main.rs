//! How fast logs are walked, searched and cut, against the fastest thing that does less: `cp`, in the same run.
//!
//! `cargo bench -p binlog-core`; behind `--` one of `walk`, `locate`, `cut in memory`, `cut on disk, rows` (or a part of it)
//! measures that alone. `MHA_BENCH_MEMORY` (default `/dev/shm`) and `MHA_BENCH_DISK` (default the target directory) are where
//! the logs are made, the same bytes each time; `MHA_BENCH_MIB` (default 1024) is their size. Both sides of a line run 7
//! times, by turns, and the medians count. What was written is read again and verified outside of the timing. The peak of memory is that of a child
//! process that does the same once. The exit status is 1 if a target is missed.

#![allow(
    clippy::print_stdout,
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation
)]
#![allow(unreachable_pub, missing_docs)]

mod logs;
mod measure;

use std::io::{Error, Result};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use binlog_core::{
    BinaryLogs, BinlogPosition, CutPlan, Manifest, RelayFileName, RelayLogs, SegmentChain, ServerId,
};
use logs::{Mix, Primary, REPLICA, Relay};
use measure::{Line, RUNS, cp, interleaved, median, peak, peak_of, run};

/// First argument of a child process.
const CHILD: &str = "--child";
/// A search may take so long.
const LOCATE_LIMIT: Duration = Duration::from_millis(10);
/// Size of each relay log.
const RELAY_LOG: u64 = 100 << 20;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let done = match args.first().map(String::as_str) {
        Some(CHILD) => child(args.get(1..).unwrap_or_default()).map(|()| true),
        _ if args.iter().any(|arg| arg == "--bench") => {
            bench(args.iter().find(|arg| !arg.starts_with('-')))
        }
        // Built and started by `cargo test --benches` or the like: nothing to measure.
        _ => Ok(true),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(e) => {
            eprintln!("{e}");
            ExitCode::FAILURE
        }
    }
}

/// A folder that is removed at the end, whatever the end is.
struct Scratch(PathBuf);

impl Scratch {
    fn new(variable: &str, default: &Path, needed: u64) -> Result<Self> {
        let parent = std::env::var_os(variable).map_or_else(|| default.to_owned(), PathBuf::from);
        let free = free_bytes(&parent)?;
        if free < needed {
            return Err(Error::other(format!(
                "{} has {} MiB free, {} are needed ({variable} names another folder)",
                parent.display(),
                free >> 20,
                needed >> 20
            )));
        }
        let dir = parent.join(format!("binlog-core-speed-{}", std::process::id()));
        std::fs::create_dir_all(&dir)?;
        Ok(Self(dir))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(e) = std::fs::remove_dir_all(&self.0) {
            eprintln!("{} is left behind: {e}", self.0.display());
        }
    }
}

fn free_bytes(dir: &Path) -> Result<u64> {
    let output = Command::new("df")
        .args(["--output=avail", "-B1"])
        .arg(dir)
        .output()?;
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .nth(1)
        .and_then(|line| line.trim().parse().ok())
        .ok_or_else(|| Error::other(format!("df does not say what is free in {}", dir.display())))
}

/// Measures all, or what has `only` in its name.
fn bench(only: Option<&String>) -> Result<bool> {
    let wanted = |what: &str| only.is_none_or(|only| what.contains(only.as_str()));
    let mib: u64 = match std::env::var("MHA_BENCH_MIB") {
        Ok(text) => text.parse().map_err(Error::other)?,
        Err(_) => 1024,
    };
    let size = mib << 20;
    // A log, a copy of it, and a segment being written.
    let memory = Scratch::new("MHA_BENCH_MEMORY", Path::new("/dev/shm"), size * 3)?;
    let exe = std::env::current_exe()?;
    let target = exe
        .ancestors()
        .find(|dir| dir.file_name().is_some_and(|name| name == "target"))
        .unwrap_or(Path::new("."));
    let disk = Scratch::new("MHA_BENCH_DISK", target, size * 3)?;
    let mut lines = Vec::new();

    let (walks, memory_small) = (wanted("walk"), wanted("cut in memory, small events"));
    if walks || memory_small {
        let small = logs::primary(&memory.0, logs::SMALL, size)?;
        if walks {
            lines.push(walk(&small, &memory.0)?);
        }
        if memory_small {
            lines.push(cut(&small, logs::SMALL, &memory.0, false, false)?);
        }
        remove(&small)?;
    }
    if wanted("cut in memory, rows") {
        let rows = logs::primary(&memory.0, logs::ROWS, size)?;
        lines.push(cut(&rows, logs::ROWS, &memory.0, false, true)?);
        remove(&rows)?;
    }
    if wanted("locate") {
        let relay = logs::relay(&memory.0, logs::SMALL, size, RELAY_LOG.min(size / 8))?;
        lines.extend(locate(&relay)?);
        for (_, path) in &relay.files {
            std::fs::remove_file(path)?;
        }
    }
    if wanted("cut on disk, rows") {
        let rows = logs::primary(&disk.0, logs::ROWS, size)?;
        lines.push(cut(&rows, logs::ROWS, &disk.0, true, true)?);
        remove(&rows)?;
    }
    if wanted("cut on disk, small events") {
        let small = logs::primary(&disk.0, logs::SMALL, size)?;
        lines.push(cut(&small, logs::SMALL, &disk.0, true, false)?);
        remove(&small)?;
    }
    drop((memory, disk));
    println!(
        "{mib} MiB each, median of {RUNS} interleaved runs; memory: {mib} MiB walked or written by a child process"
    );
    Ok(measure::print(&lines))
}

fn remove(primary: &Primary) -> Result<()> {
    std::fs::remove_file(&primary.path)
}

fn survey(primary: &Primary) -> Result<()> {
    let logs = BinaryLogs::open(&primary.base).map_err(Error::other)?;
    let survey = logs.survey(None).map_err(Error::other)?;
    let end = BinlogPosition::new(primary.file.clone(), primary.size);
    if survey.whole_end != Some(end) || survey.walked_bytes != primary.size {
        return Err(Error::other(format!("{survey:?}")));
    }
    Ok(())
}

/// Every checksum, every position, every transaction, against a copy in the page cache.
fn walk(primary: &Primary, dir: &Path) -> Result<Line> {
    let copy = dir.join("copy");
    let (ours, ceiling) = interleaved(
        &mut || survey(primary),
        &mut || cp(&primary.path, &copy),
        &mut || removed(&copy),
    )?;
    Ok(Line {
        what: format!("walk, {}", logs::SMALL.name),
        ours,
        ceiling: ("cp".to_owned(), ceiling),
        limit: 1.0,
        peak: peak_of(&["walk", &text(&primary.base)])?,
        target: true,
    })
}

fn removed(path: &Path) -> Result<()> {
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

fn open_relay(relay: &Relay) -> Result<RelayLogs> {
    RelayLogs::open(relay.files.clone(), ServerId(REPLICA), None).map_err(Error::other)
}

/// Places all over the relay logs, each from a new value: the slowest of them counts in each run. Then the end of everything,
/// and places that are no boundaries.
fn locate(relay: &Relay) -> Result<[Line; 3]> {
    let at = |offset| BinlogPosition::new(relay.file.clone(), offset);
    let every = (relay.samples.len() / 100).max(1);
    let chosen = || relay.samples.iter().rev().step_by(every);
    let (mut runs, mut ends, mut refusals) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..RUNS {
        let mut slowest = Duration::ZERO;
        for (i, sample) in chosen().enumerate() {
            let start = Instant::now();
            let found = open_relay(relay)?
                .locate(&at(sample.end))
                .map_err(Error::other)?;
            if i == 0 {
                ends.push(start.elapsed());
            } else {
                slowest = slowest.max(start.elapsed());
            }
            let (source, offset) = sample.relay;
            let file = relay.files.get(source).map(|(name, _)| name);
            if file != Some(&found.position.file) || found.position.offset != offset {
                return Err(Error::other(format!("{sample:?} found at {found:?}")));
            }
        }
        runs.push(slowest);
        let mut slowest = Duration::ZERO;
        for sample in chosen() {
            // No boundary: both neighbours must be named.
            let start = Instant::now();
            let refused = open_relay(relay)?.locate(&at(sample.start + 1));
            slowest = slowest.max(start.elapsed());
            match refused {
                Err(binlog_core::LogError::NotABoundary { before, after, .. })
                    if (before.offset, after.offset) == (sample.start, sample.end) => {}
                other => return Err(Error::other(format!("{sample:?}: {other:?}"))),
            }
        }
        refusals.push(slowest);
    }
    let middle = chosen().nth(40).or_else(|| chosen().next());
    let middle = middle.map_or(4, |sample| sample.end).to_string();
    let mut args = vec!["locate".to_owned(), relay.file.to_string(), middle];
    args.extend(relay.files.iter().map(|(_, path)| text(path)));
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let peak = peak_of(&args)?;
    let line = |what, ours| Line {
        what,
        ours,
        ceiling: ("10 ms".to_owned(), LOCATE_LIMIT),
        limit: 1.0,
        peak,
        target: true,
    };
    let files = relay.files.len();
    let found = format!(
        "find the slowest of {} places in {files} relay logs",
        chosen().count() - 1
    );
    let end = format!("find the end of {files} relay logs");
    let refused = format!("refuse the slowest of {} inside events", chosen().count());
    Ok([
        line(found, median(runs)),
        line(end, median(ends)),
        line(refused, median(refusals)),
    ])
}

fn write_cut(base: &Path, file: &str, output: &Path) -> Result<Manifest> {
    let logs = BinaryLogs::open(base).map_err(Error::other)?;
    let from: BinlogPosition = format!("{file}:4").parse().map_err(Error::other)?;
    let plan = logs.plan_and_draft(&from, output, &mut |_| ());
    match plan.map_err(Error::other)? {
        CutPlan::Cut(cut) => cut
            .write(output, "bench", &mut |_| ())
            .map_err(Error::other),
        CutPlan::Nothing(nothing) => Err(Error::other(format!("{nothing:?}"))),
    }
}

/// The whole log as a segment: planned, verified, digested, synced; against a copy (and on disk a sync of it).
fn cut(primary: &Primary, mix: Mix, dir: &Path, on_disk: bool, target: bool) -> Result<Line> {
    let (copy, output) = (dir.join("copy"), dir.join("segment"));
    let file = primary.file.as_str();
    let manifest = write_cut(&primary.base, file, &output)?;
    verify(&output, primary, &manifest)?;
    let (ours, ceiling) = interleaved(
        &mut || {
            let again = write_cut(&primary.base, file, &output)?;
            if again.sha256 == manifest.sha256 {
                Ok(())
            } else {
                Err(Error::other("another digest"))
            }
        },
        &mut || {
            cp(&primary.path, &copy)?;
            if on_disk {
                run(Command::new("sync").arg(&copy))?;
            }
            Ok(())
        },
        &mut || {
            removed(&copy)?;
            removed(&output)?;
            removed(&Manifest::path_for(&output))
        },
    )?;
    let peak = peak_of(&["cut", &text(&primary.base), file, &text(&output)])?;
    verify(
        &output,
        primary,
        &Manifest::load(&output).map_err(Error::other)?,
    )?;
    removed(&output)?;
    removed(&Manifest::path_for(&output))?;
    let (place, ceiling_name, limit) = if on_disk {
        ("disk", "cp and sync", 1.2)
    } else {
        ("memory", "cp", 1.6)
    };
    Ok(Line {
        what: format!(
            "cut in {place}, {} (avg {} B)",
            mix.name,
            logs::average(mix)
        ),
        ours,
        ceiling: (ceiling_name.to_owned(), ceiling),
        limit,
        peak,
        target,
    })
}

/// The segment opens (size, digest, every checksum, every position) and its events are the primary's bytes.
fn verify(segment: &Path, primary: &Primary, manifest: &Manifest) -> Result<()> {
    let chain = SegmentChain::open(&[segment.to_owned()]).map_err(Error::other)?;
    let end = BinlogPosition::new(primary.file.clone(), primary.size);
    if chain.whole_end() != end || manifest.transactions != primary.transactions {
        return Err(Error::other(format!("{manifest:?}")));
    }
    // All but the format description, whose in-use flag is cleared.
    let skip = 200.to_string();
    run(Command::new("cmp")
        .args(["-i", &skip])
        .arg(segment)
        .arg(&primary.path))
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// Does one thing and prints the peak of memory.
fn child(args: &[String]) -> Result<()> {
    let arg = |i: usize| {
        args.get(i)
            .map(String::as_str)
            .ok_or_else(|| Error::other("too few arguments"))
    };
    match arg(0)? {
        // For profilers: the same logs to work on.
        "make" => {
            logs::primary(Path::new(arg(1)?), logs::SMALL, 1 << 30)?;
        }
        "make-rows" => {
            logs::primary(Path::new(arg(1)?), logs::ROWS, 1 << 30)?;
        }
        "walk" => {
            let logs = BinaryLogs::open(Path::new(arg(1)?)).map_err(Error::other)?;
            logs.survey(None).map_err(Error::other)?;
        }
        "cut" => {
            write_cut(Path::new(arg(1)?), arg(2)?, Path::new(arg(3)?))?;
        }
        "locate" => {
            let target = format!("{}:{}", arg(1)?, arg(2)?);
            let target: BinlogPosition = target.parse().map_err(Error::other)?;
            let mut files = Vec::new();
            for path in args.iter().skip(3).map(PathBuf::from) {
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                let name: RelayFileName = name.parse().map_err(Error::other)?;
                files.push((name, path));
            }
            RelayLogs::open(files, ServerId(REPLICA), None)
                .and_then(|relay| relay.locate(&target))
                .map_err(Error::other)?;
        }
        other => return Err(Error::other(format!("{other} is no task"))),
    }
    println!("{}", peak()?);
    Ok(())
}
