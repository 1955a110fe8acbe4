//! What copies of the primary's binary logs at binlog servers are good for. Pure.
//!
//! Guarantees: copies count only where an event of theirs was compared with one of another provider and is the same; of those
//! that do, whoever reaches furthest serves, whatever the size of files; copies that cannot be used never stand in the way of
//! what the other providers hold. (MHA took the largest file, and compared nothing.)

use std::collections::BTreeMap;
use std::fmt;

use binlog_core::BinlogPosition;
use serde::{Deserialize, Serialize};

use super::Source;
use crate::agents::{HeldEvent, Logs};
use crate::facts::LogSurvey;

/// What is known of a binlog server's copies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "copies", rename_all = "snake_case")]
pub enum BinlogServerLog {
    /// They are of this history.
    Verified {
        /// What they hold.
        survey: Box<LogSurvey>,
        /// Which other log holds the same event.
        with: Source,
        /// Where that event ends, or right behind it.
        at: BinlogPosition,
    },
    /// Nothing is taken from them.
    Unusable {
        /// Why.
        why: String,
        /// Up to where they hold transactions, by their own account.
        up_to: Option<BinlogPosition>,
    },
}

impl BinlogServerLog {
    /// What they hold, if they are verified.
    #[must_use]
    pub fn survey(&self) -> Option<&LogSurvey> {
        match self {
            Self::Verified { survey, .. } => Some(survey),
            Self::Unusable { .. } => None,
        }
    }
}

impl fmt::Display for BinlogServerLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Verified { survey, with, at } => {
                match reach(survey) {
                    Some(end) => write!(f, "holds transactions up to {end}")?,
                    None => f.write_str("holds no transaction that counts")?,
                }
                write!(f, "; the event before {at} is the same as in the {with}")
            }
            Self::Unusable { why, up_to } => {
                write!(f, "not used: {why}")?;
                match up_to {
                    Some(end) => {
                        write!(f, " (by its own account it holds transactions up to {end})")
                    }
                    None => Ok(()),
                }
            }
        }
    }
}

/// Copies by binlog server.
pub type BinlogServerLogs = BTreeMap<String, BinlogServerLog>;

/// The verified ones.
pub(super) fn verified(logs: &BinlogServerLogs) -> impl Iterator<Item = (&str, &LogSurvey)> {
    logs.iter()
        .filter_map(|(name, log)| Some((name.as_str(), log.survey()?)))
}

/// End of the last whole transaction of a log, or of the last event outside of one.
#[must_use]
pub fn reach(survey: &LogSurvey) -> Option<&BinlogPosition> {
    let last = survey.last_transaction.as_ref().map(|last| &last.end);
    last.or(survey.whole_end.as_ref())
}

/// Where copies that reach up to `end` can be compared with other logs, which reach up to where `others` say: the dead
/// primary's own log first, then as far behind as possible.
#[must_use]
pub fn meeting_points(
    end: &BinlogPosition,
    others: &[(Source, BinlogPosition)],
) -> Vec<(Source, BinlogPosition)> {
    let mut points: Vec<(Source, BinlogPosition)> = Vec::new();
    for (source, reached) in others {
        let point = (source.clone(), reached.min(end).clone());
        if !points.contains(&point) {
            points.push(point);
        }
    }
    points.sort_by(|(one, at), (other, beside)| {
        let own = |source: &Source| source.logs == Logs::Binary;
        own(other).cmp(&own(one)).then(beside.cmp(at))
    });
    points
}

/// What two providers' answers say of their histories.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Met {
    /// Both hold this event.
    Same(HeldEvent),
    /// They hold different events at the same place.
    Other(HeldEvent, HeldEvent),
    /// One of them holds none there.
    Nothing,
}

/// Compares what two providers that hold the stream up to `before` say of the event that ends there.
#[must_use]
pub fn compare(before: &BinlogPosition, one: Option<HeldEvent>, other: Option<HeldEvent>) -> Met {
    match (one, other) {
        (Some(a), Some(b)) if a == b => Met::Same(a),
        // Both hold the stream up to here, so the event that ends here must be there and be the same.
        (Some(a), Some(b)) if a.end == b.end || a.end == *before || b.end == *before => {
            Met::Other(a, b)
        }
        _ => Met::Nothing,
    }
}

/// A binlog server alone holds whole transactions beyond what everybody else does.
pub(crate) fn holds_alone(holdings: &super::Holdings, binlog_server: &str) -> bool {
    let end = |survey: &LogSurvey| {
        survey
            .last_transaction
            .as_ref()
            .map(|last| last.end.clone())
    };
    let copies = verified(&holdings.binlog_servers);
    let others = copies.filter(|(name, _)| *name != binlog_server);
    let others = others.map(|(_, survey)| survey);
    let furthest = others
        .chain(holdings.relay.values())
        .chain(holdings.dead.survey())
        .filter_map(end)
        .max();
    let own = holdings.binlog_servers.get(binlog_server);
    own.and_then(BinlogServerLog::survey).and_then(end) > furthest
}
