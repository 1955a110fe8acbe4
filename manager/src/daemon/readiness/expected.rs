//! How long a failover would take now: the sum of named parts, each a setting, a measurement, or not known. Pure.
//!
//! Nothing is estimated that was not measured on this cluster: a part that nobody has measured is said to be unknown, and the
//! sum is then a lower limit.

use std::time::Duration;

use proto::lease::FEWEST_AGENTS;
use serde::{Deserialize, Serialize};

use super::{Known, facts};
use crate::config::MonitorConfig;
use crate::daemon::act::ONCE_MORE;
use crate::lease;
use crate::topology::Topology;

/// So many of the last failovers tell how long one takes.
const LAST: usize = 5;
/// A replay of fewer bytes tells nothing about a rate.
const LEAST_BYTES: u64 = 1 << 20;

/// An expected time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Expected {
    /// Sum of the parts that are known, in milliseconds.
    pub known_ms: u64,
    /// All parts are known.
    pub complete: bool,
    /// What it consists of, in order of time.
    pub parts: Vec<Part>,
}

/// A part of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// What happens.
    pub what: String,
    /// How long it takes, in milliseconds; absent if that is not known.
    pub ms: Option<u64>,
    /// Why so long: a setting, or what was measured.
    pub because: String,
}

impl Expected {
    fn of(parts: Vec<Part>) -> Self {
        Self {
            known_ms: parts.iter().filter_map(|part| part.ms).sum(),
            complete: parts.iter().all(|part| part.ms.is_some()),
            parts,
        }
    }
}

fn part(what: impl Into<String>, ms: Option<u64>, because: impl Into<String>) -> Part {
    Part {
        what: what.into(),
        ms,
        because: because.into(),
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// mysqld dies, its host lives.
pub(super) fn if_server_died(known: &Known<'_>, topology: &Topology, winner: &str) -> Expected {
    let primary = &known.primary.name;
    let seen = if facts(known, primary).is_some() {
        part(
            "the death is noticed",
            Some(0),
            "its agent sees the process end, and one ping is sent at once",
        )
    } else {
        silence(
            known,
            "the agent of the primary does not answer: a closed port counts as death",
        )
    };
    let mut parts = vec![seen, read_again(known), recorded(known)];
    let end = facts(known, primary)
        .and_then(|f| f.binlog.as_ref())
        .and_then(|b| b.position.clone());
    parts.push(backlog(known, topology, winner, end));
    Expected::of(parts)
}

/// The host is gone without a packet.
pub(super) fn if_host_died(known: &Known<'_>, topology: &Topology, winner: &str) -> Expected {
    let mut parts = vec![
        silence(known, "nothing is heard of the host, and no ping answered"),
        part(
            "the silent host is asked once more",
            Some(millis(ONCE_MORE)),
            "the limit of that question",
        ),
        read_again(known),
    ];
    let wait = "the lease of the old primary runs out";
    parts.push(if lease::wanted(known.config) {
        let noticed = parts.iter().filter_map(|part| part.ms).sum();
        let lasts = millis(lease::TTL + known.config.failover.lease_kill_time);
        part(
            wait,
            Some(lasts.saturating_sub(noticed)),
            format!("{lasts} ms from the silence of the host on, which noticing it takes part of"),
        )
    } else {
        part(
            wait,
            Some(0),
            format!(
                "there is none (fewer than {FEWEST_AGENTS} agents, or lease: off), and it would go on unfenced"
            ),
        )
    });
    parts.push(recorded(known));
    // What nobody has received is lost with the host.
    let furthest = topology
        .survivors
        .iter()
        .filter_map(|s| s.replica.read.clone())
        .max();
    parts.push(backlog(known, topology, winner, furthest));
    Expected::of(parts)
}

/// Until a silence is a verdict: the limit after the last sign of life, and so many failed pings in a row.
fn silence(known: &Known<'_>, why: &str) -> Part {
    let monitor = &known.config.monitor;
    let pings = failed_pings(monitor);
    let (time, setting) = if pings > monitor.host_limit {
        (pings, format!("ping_failures is {}", monitor.ping_failures))
    } else {
        (
            monitor.host_limit,
            format!("host_limit is {:?}", monitor.host_limit),
        )
    };
    part(
        "the death is noticed",
        Some(millis(time)),
        format!("{why}; {setting}, at most"),
    )
}

/// The longest that the wanted number of unanswered pings takes: the first begins at most an interval after the death, and
/// none before the one before it has ended.
fn failed_pings(monitor: &MonitorConfig) -> Duration {
    let between = monitor.ping_interval.max(monitor.ping_timeout);
    monitor.ping_interval + between * monitor.ping_failures.saturating_sub(1) + monitor.ping_timeout
}

fn read_again(known: &Known<'_>) -> Part {
    part(
        "all servers are read once more",
        Some(millis(known.reading)),
        "as long as the reading that this explanation is made of",
    )
}

/// From the claim to the first write, as it was in the last failovers.
fn recorded(known: &Known<'_>) -> Part {
    let what = "claim, fence, cut, replay, promotion";
    let mut times: Vec<u64> = known
        .past
        .iter()
        .rev()
        .filter_map(|past| past.opened_after_ms)
        .take(LAST)
        .collect();
    times.sort_unstable();
    match times.get(times.len() / 2) {
        None => part(
            what,
            None,
            "no failover of this cluster is recorded in the journals",
        ),
        Some(median) => part(
            what,
            Some(*median),
            match times.len() {
                1 => "as long as the last failover of this cluster took".to_owned(),
                n => format!("median of the last {n} failovers of this cluster"),
            },
        ),
    }
}

/// What the winner has not executed yet.
fn backlog(
    known: &Known<'_>,
    topology: &Topology,
    winner: &str,
    end: Option<binlog_core::BinlogPosition>,
) -> Part {
    let what = format!("{winner} executes what it has not executed yet");
    let executed = topology
        .survivors
        .iter()
        .find(|s| s.server == winner)
        .and_then(|s| s.replica.executed.clone());
    let (Some(end), Some(executed)) = (end, executed) else {
        return part(what, None, "its position, or the end, is not known");
    };
    if executed >= end {
        return part(
            what,
            Some(0),
            format!("it has executed everything, up to {executed}"),
        );
    }
    if executed.file != end.file {
        return part(
            what,
            None,
            format!("from {executed} to {end}, over more than one file"),
        );
    }
    let bytes = end.offset.saturating_sub(executed.offset);
    let rate = known
        .past
        .iter()
        .rev()
        .filter_map(|past| past.replay)
        .find(|(replayed, ms)| *replayed >= LEAST_BYTES && *ms > 0);
    match rate {
        Some((replayed, ms)) => {
            let time = u128::from(bytes) * u128::from(ms) / u128::from(replayed);
            part(
                what,
                Some(u64::try_from(time).unwrap_or(u64::MAX)),
                format!(
                    "{bytes} bytes, at the rate of the last large replay ({replayed} bytes in {ms} ms)"
                ),
            )
        }
        None => part(
            what,
            None,
            format!("{bytes} bytes; how fast it replays was never measured"),
        ),
    }
}
