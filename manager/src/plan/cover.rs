//! Covers the missing range once, from the cheapest providers. Pure.
//!
//! Greedy: at each point the relay log that reaches furthest; the dead disk only where no relay log holds the point,
//! because reading it costs a dead host's disk; a binlog server, the one that reaches furthest, where neither does. Pieces therefore meet where a relay log ends: at the end of its last
//! whole transaction.

use std::fmt;

use binlog_core::{BinlogPosition, StreamRange};
use serde::{Deserialize, Serialize};

use super::binlog_servers::verified;
use super::frontier::Frontier;
use super::{Holdings, PlanError};
use crate::agents::Logs;
use crate::facts::LogSurvey;
use crate::topology::Topology;

/// Number of a piece within its plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PieceId(pub u32);

impl fmt::Display for PieceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "piece {}", self.0 + 1)
    }
}

/// A part of the missing range and who provides it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Piece {
    /// Number, in stream order.
    pub id: PieceId,
    /// Server whose logs hold it.
    pub provider: String,
    /// Which logs.
    pub logs: Logs,
    /// What it holds.
    pub range: StreamRange,
}

impl fmt::Display for Piece {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let logs = match self.logs {
            Logs::Binary => "tail, from the binary log of",
            Logs::Relay => "diff, from the relay log of",
            Logs::BinlogServer => "tail, from the copies of binlog server",
        };
        write!(f, "{} {} {logs} {}", self.id, self.range, self.provider)
    }
}

/// Pieces that cover everything from the lowest base of a survivor to the end.
pub(super) fn cover(
    topology: &Topology,
    holdings: &Holdings,
    frontier: &Frontier,
) -> Result<Vec<Piece>, PlanError> {
    let lowest = frontier
        .targets
        .iter()
        .filter(|t| t.lacks)
        .min_by(|a, b| a.base.cmp(&b.base));
    let Some(lowest) = lowest else {
        return Ok(Vec::new());
    };
    let mut pieces = Vec::new();
    let mut at = lowest.base.clone();
    while at < frontier.end {
        let relay = topology
            .survivors
            .iter()
            .filter_map(|s| Some((s.server.as_str(), holdings.relay.get(&s.server)?)))
            .filter_map(|(server, survey)| Some((reach(survey, &at)?, server)))
            // The first of those that reach furthest, in configured order.
            .reduce(|best, next| if next.0 > best.0 { next } else { best })
            .map(|(to, server)| (to, server, Logs::Relay));
        let dead = || {
            let survey = holdings.dead.survey()?;
            Some((reach(survey, &at)?, topology.dead.as_str(), Logs::Binary))
        };
        let copies = || {
            verified(&holdings.binlog_servers)
                .filter_map(|(server, survey)| Some((reach(survey, &at)?, server)))
                .reduce(|best, next| if next.0 > best.0 { next } else { best })
                .map(|(to, server)| (to, server, Logs::BinlogServer))
        };
        let Some((to, provider, logs)) = relay.or_else(dead).or_else(copies) else {
            return Err(PlanError::NotHeld {
                range: StreamRange::new(at, frontier.end.clone()),
                needed_by: lowest.server.clone(),
                held: held(topology, holdings),
            });
        };
        let to = to.min(frontier.end.clone());
        pieces.push(Piece {
            id: PieceId(u32::try_from(pieces.len()).unwrap_or(u32::MAX)),
            provider: provider.to_owned(),
            logs,
            range: StreamRange::new(at, to.clone()),
        });
        at = to;
    }
    Ok(pieces)
}

/// How far a log serves from `at` on without a gap; `None` if not at all.
fn reach(survey: &LogSurvey, at: &BinlogPosition) -> Option<BinlogPosition> {
    let range = survey.ranges.iter().find(|r| r.from <= *at && *at < r.to)?;
    // What follows the last whole transaction is a part of one, or nothing that matters.
    let whole = survey.last_transaction.as_ref()?.end.clone();
    let to = range.to.clone().min(whole);
    (to > *at).then_some(to)
}

fn held(topology: &Topology, holdings: &Holdings) -> String {
    let mut lines: Vec<String> = Vec::new();
    let dead = holdings.dead.survey().map(|s| (topology.dead.as_str(), s));
    let relay = holdings.relay.iter().map(|(n, s)| (n.as_str(), s));
    let copies = verified(&holdings.binlog_servers);
    for (server, survey) in relay.chain(dead).chain(copies) {
        let ranges: Vec<String> = survey.ranges.iter().map(ToString::to_string).collect();
        let ranges = if ranges.is_empty() {
            "nothing".to_owned()
        } else {
            ranges.join(" ")
        };
        lines.push(format!("{server}: {ranges}"));
    }
    if lines.is_empty() {
        "nothing".to_owned()
    } else {
        lines.join("; ")
    }
}
