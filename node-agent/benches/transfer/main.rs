//! Ships 1 GiB from one agent to another over mTLS and holds the speed against raw TLS doing the same file work.
//!
//! `cargo bench -p node-agent --bench transfer`. Ours is the shipped program: two agents as processes, `PullSegment`
//! called as a manager calls it, timed from the call to its outcome, so dialling, digest, fsync, rename and manifest are
//! inside. The ceiling is one TLS 1.3 connection of the same library, with the same certificates, between two further
//! processes: the sender reads the same file, the receiver digests and writes the same bytes, syncs and renames. Both
//! take turns, [`ROUNDS`] times, first directly and then through a relay that delays either direction by
//! [`ONE_WAY`]. What counts is the median of each. Files are in memory (`MHA_BENCH_MEMORY`, default `/dev/shm`), are
//! verified outside the timing and removed. The exit status is 1 if a limit is missed.
//!
//! Without `--bench` (as `cargo test --benches` runs it) everything is done once with a small file, and only
//! correctness counts.

#![allow(clippy::print_stdout, reason = "the table is what a bench is for")]

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};

mod agents;
mod certificates;
mod raw;
mod relay;
mod usage;

use agents::Agents;
use relay::Relay;
use usage::Usage;

/// Size of the segment, bytes.
const SIZE: u64 = 1 << 30;
/// Size where only correctness counts.
const SMALL: u64 = 4 << 20;
/// Transfers of either kind; the median counts.
const ROUNDS: usize = 7;
/// Delay of the relay in each direction: 10 ms of round trip.
const ONE_WAY: Duration = Duration::from_millis(5);
/// Least share of the ceiling, directly.
const DIRECT_LIMIT: f64 = 0.80;
/// Least share of the ceiling through the relay.
const DELAYED_LIMIT: f64 = 0.50;
/// Most memory of an agent, bytes.
const MEMORY_LIMIT: u64 = 64 << 20;

fn main() -> ExitCode {
    proto::tls::install_crypto_provider();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["raw-send", folder, file] => raw::send(Path::new(folder), Path::new(file)),
        ["raw-receive", folder, file] => raw::receive(Path::new(folder), Path::new(file)),
        _ if words.contains(&"--bench") => return measure(SIZE, ROUNDS, true),
        _ => return measure(SMALL, 1, false),
    }
    ExitCode::SUCCESS
}

/// One way of the bytes, with what either side needed.
struct Line {
    what: &'static str,
    ours: Vec<Duration>,
    ceiling: Vec<Duration>,
    limit: f64,
}

fn measure(size: u64, rounds: usize, limits_count: bool) -> ExitCode {
    let folder = memory_folder(size);
    certificates::write(folder.path());
    let segment = agents::put_segment(folder.path(), size);
    let agents = Agents::start(folder.path(), segment.clone());
    let raw = raw::Pair::start(folder.path(), &segment.path);
    let mut lines = Vec::new();
    for (what, delay, limit) in [
        ("agent to agent", None, DIRECT_LIMIT),
        ("10 ms of round trip", Some(ONE_WAY), DELAYED_LIMIT),
    ] {
        let ours_by = delay.map(|delay| Relay::start(agents.provider_address(), delay));
        let raw_by = delay.map(|delay| Relay::start(raw.address(), delay));
        let ours_at = ours_by
            .as_ref()
            .map_or(agents.provider_address(), Relay::address);
        let raw_at = raw_by.as_ref().map_or(raw.address(), Relay::address);
        let mut line = Line {
            what,
            ours: Vec::new(),
            ceiling: Vec::new(),
            limit,
        };
        for _ in 0..rounds {
            line.ours.push(timed(|| agents.pull(ours_at)));
            verify_and_remove(&agents.received(), &segment);
            line.ceiling.push(timed(|| raw.transfer(raw_at)));
            verify_and_remove(&raw.received(), &segment);
        }
        lines.push(line);
    }
    let gigabytes = 2.0 * rounds as f64 * size as f64 / 1e9;
    let fast_enough = print_speeds(size, &lines, limits_count);
    let small_enough = print_usage(
        gigabytes,
        &[
            ("providing agent", agents.provider_usage(), true),
            ("receiving agent", agents.receiver_usage(), true),
            ("raw TLS sender", raw.sender_usage(), false),
            ("raw TLS receiver", raw.receiver_usage(), false),
        ],
    );
    if fast_enough && small_enough {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// A private folder in memory with room for the segment and one copy.
fn memory_folder(size: u64) -> tempfile::TempDir {
    let memory = std::env::var_os("MHA_BENCH_MEMORY").map_or("/dev/shm".into(), PathBuf::from);
    let stat = nix::sys::statvfs::statvfs(&memory).expect("MHA_BENCH_MEMORY is a folder");
    let free = stat.blocks_available() * stat.fragment_size();
    let needed = 2 * size + (64 << 20);
    assert!(
        free >= needed,
        "{} has {free} bytes free, {needed} are needed",
        memory.display()
    );
    tempfile::Builder::new()
        .prefix("mha-bench-transfer-")
        .tempdir_in(memory)
        .expect("MHA_BENCH_MEMORY is writable")
}

fn timed(work: impl FnOnce()) -> Duration {
    let start = Instant::now();
    work();
    start.elapsed()
}

/// The file is, byte for byte, the segment.
fn verify_and_remove(file: &Path, segment: &agents::Segment) {
    let mut digest = Sha256::new();
    let mut reader = std::fs::File::open(file).expect("the transfer made a file");
    let copied = std::io::copy(&mut reader, &mut digest).expect("the file can be read");
    assert_eq!(copied, segment.size, "size of {}", file.display());
    let found: [u8; 32] = digest.finalize().into();
    assert_eq!(found, segment.sha256, "digest of {}", file.display());
    std::fs::remove_file(file).expect("the file can be removed");
    let manifest = binlog_core::Manifest::path_for(file);
    if manifest.exists() {
        std::fs::remove_file(manifest).expect("the manifest can be removed");
    }
}

/// One line for each way; false if a limit that counts was missed.
fn print_speeds(size: u64, lines: &[Line], limits_count: bool) -> bool {
    let speed = |durations: &[Duration]| size as f64 / 1e6 / median(durations).as_secs_f64();
    let mut good = true;
    println!(
        "{:<22}{:>12}{:>14}{:>8}{:>8}",
        "transfer", "ours MB/s", "ceiling MB/s", "ratio", "limit"
    );
    for line in lines {
        let (ours, ceiling) = (speed(&line.ours), speed(&line.ceiling));
        let ratio = ours / ceiling;
        let verdict = match (limits_count, ratio >= line.limit) {
            (false, _) => "not judged",
            (true, true) => "ok",
            (true, false) => "MISSED",
        };
        good &= verdict != "MISSED";
        println!(
            "{:<22}{ours:>12.0}{ceiling:>14.0}{ratio:>8.2}{:>8.2}  {verdict}",
            line.what, line.limit
        );
    }
    good
}

/// One line for each process; false if an agent needed too much memory.
fn print_usage(gigabytes: f64, processes: &[(&str, Usage, bool)]) -> bool {
    let mut good = true;
    println!(
        "{:<22}{:>12}{:>14}{:>16}",
        "process", "peak MiB", "CPU s/GB", "limit MiB"
    );
    for (what, usage, limited) in processes {
        let mebibytes = usage.peak_bytes as f64 / f64::from(1 << 20);
        let seconds = usage.cpu.as_secs_f64() / gigabytes;
        let verdict = match (limited, usage.peak_bytes < MEMORY_LIMIT) {
            (false, _) => "",
            (true, true) => "64  ok",
            (true, false) => "64  MISSED",
        };
        good &= !verdict.ends_with("MISSED");
        println!("{what:<22}{mebibytes:>12.1}{seconds:>14.2}{verdict:>20}");
    }
    good
}

fn median(durations: &[Duration]) -> Duration {
    let mut sorted = durations.to_vec();
    sorted.sort_unstable();
    sorted[sorted.len() / 2]
}
