//! How far everything known goes, and what each survivor lacks of it. Pure.

use binlog_core::BinlogPosition;
use serde::{Deserialize, Serialize};

use super::Holdings;
use super::binlog_servers::verified;
use crate::facts::{Flavor, LastTransaction, LogEndKind, LogSurvey};
use crate::topology::{Survivor, Topology};

/// A survivor that will be brought to the end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// Name.
    pub server: String,
    /// Executed now.
    pub executed: BinlogPosition,
    /// Executed once its applier has worked through what it received; segments are needed from here on.
    pub base: BinlogPosition,
    /// Transactions exist beyond `base`.
    pub lacks: bool,
}

/// How far everything known goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Frontier {
    /// End of the last whole transaction known anywhere: every survivor must execute this much.
    pub end: BinlogPosition,
    /// That transaction, where a log tells.
    pub last: Option<LastTransaction>,
    /// Who holds it.
    pub last_held_by: Vec<String>,
    /// Survivors to be brought there, in configured order.
    pub targets: Vec<Target>,
}

/// Finds the end of the last whole transaction that any log holds or any survivor has executed; `None` without a
/// survivor that reports a position. `least` is what an earlier run knew: never less than that.
///
/// A position beyond that end which only skips format descriptions, Rotates or a Stop is the same point: waiting for
/// it would never end, since servers do not count those as executed.
pub(super) fn find(
    topology: &Topology,
    holdings: &Holdings,
    least: Option<&BinlogPosition>,
) -> Option<Frontier> {
    let logs = logs_of(topology, holdings);
    let last = logs
        .iter()
        .filter_map(|(_, s)| s.last_transaction.as_ref())
        .max_by(|a, b| a.end.cmp(&b.end));
    let executed = || {
        topology
            .survivors
            .iter()
            .filter_map(|s| s.replica.executed.as_ref())
    };
    // Where no log holds a transaction, whoever executed least may still lack nothing.
    let lowest = executed().min().or(least)?;
    let furthest = executed().max().or(least)?;
    let known = last.map_or(lowest, |l| &l.end);
    let end = if furthest > known && !empty_between(&logs, known, furthest) {
        furthest
    } else {
        known
    };
    let end = least.map_or(end, |least| end.max(least)).clone();
    let targets = topology
        .survivors
        .iter()
        .filter(|s| s.applier_failed().is_none())
        .filter_map(|s| target(s, holdings.relay.get(&s.server), &end))
        .collect();
    Some(Frontier {
        last: last.filter(|l| l.end == end).cloned(),
        last_held_by: logs
            .iter()
            .filter(|(_, s)| s.last_transaction.as_ref().is_some_and(|t| t.end == end))
            .map(|(server, _)| (*server).to_owned())
            .collect(),
        targets,
        end,
    })
}

/// A survivor that has received more than anybody can say: its relay log could not be surveyed, or is damaged before
/// its read position, and no other log shows that nothing stands between `end` and that position. To go on would lose
/// what only its disk holds.
pub(super) fn unread(
    topology: &Topology,
    holdings: &Holdings,
    end: &BinlogPosition,
) -> Option<(String, BinlogPosition)> {
    let logs = logs_of(topology, holdings);
    topology
        .survivors
        .iter()
        .filter(|s| match holdings.relay.get(&s.server) {
            None => true,
            Some(survey) => damaged_before(survey, s.replica.read.as_ref()),
        })
        // The relay log of an interrupted replay holds segments, which are kept elsewhere.
        .filter(|s| s.facts.unfinished_replay.is_none())
        .filter_map(|s| Some((s.server.clone(), s.replica.read.clone()?)))
        .find(|(_, read)| !empty_between(&logs, end, read))
}

/// The log ends in a damaged or cut off event before what the server says it has received.
fn damaged_before(survey: &LogSurvey, read: Option<&BinlogPosition>) -> bool {
    survey
        .end
        .as_ref()
        .is_some_and(|end| matches!(end.kind, LogEndKind::Corrupt | LogEndKind::Torn))
        && survey.data_end.as_ref() < read
}

fn logs_of<'a>(topology: &'a Topology, holdings: &'a Holdings) -> Vec<(&'a str, &'a LogSurvey)> {
    holdings
        .relay
        .iter()
        .map(|(server, survey)| (server.as_str(), survey))
        .chain(holdings.dead.survey().map(|s| (topology.dead.as_str(), s)))
        .chain(verified(&holdings.binlog_servers))
        .collect()
}

fn target(survivor: &Survivor, own: Option<&LogSurvey>, end: &BinlogPosition) -> Option<Target> {
    let executed = survivor.replica.executed.clone()?;
    // Not drained but served from its executed position: a delayed replica; an interrupted replay, whose relay log is
    // no longer the primary's; a MariaDB replica in GTID mode whose applier stands still, because its START throws the
    // relay log away.
    let loses_relay_logs = survivor.facts.identity.as_ref().map(|i| i.flavor)
        == Some(Flavor::MariaDb)
        && survivor.replica.gtid_position
        && !survivor.replica.applier_running;
    let drains = survivor.replica.delay_s == 0
        && survivor.facts.unfinished_replay.is_none()
        && !loses_relay_logs;
    let received = own
        .filter(|_| drains)
        .and_then(|s| {
            let end = &s.last_transaction.as_ref()?.end;
            covers(s, &executed, end).then_some(end)
        })
        .filter(|received| **received > executed);
    let base = received.cloned().unwrap_or_else(|| executed.clone());
    Some(Target {
        server: survivor.server.clone(),
        lacks: base < *end,
        executed,
        base,
    })
}

/// One range of the survey holds all of [from, to).
fn covers(survey: &LogSurvey, from: &BinlogPosition, to: &BinlogPosition) -> bool {
    survey.ranges.iter().any(|r| r.from <= *from && *to <= r.to)
}

/// Some log holds all of [from, to) and no transaction in it.
fn empty_between(logs: &[(&str, &LogSurvey)], from: &BinlogPosition, to: &BinlogPosition) -> bool {
    from >= to
        || logs.iter().any(|(_, s)| {
            covers(s, from, to) && s.last_transaction.as_ref().is_none_or(|t| t.end <= *from)
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::DeadLog;
    use crate::testing::{at, holds, topology};

    fn unreachable() -> DeadLog {
        DeadLog::Unreachable {
            why: "no answer".to_owned(),
        }
    }

    fn holdings(relay: &[(&str, LogSurvey)], dead: DeadLog) -> Holdings {
        Holdings {
            relay: relay
                .iter()
                .map(|(server, survey)| ((*server).to_owned(), survey.clone()))
                .collect(),
            dead,
            binlog_servers: crate::plan::BinlogServerLogs::new(),
        }
    }

    #[test]
    fn what_only_an_unreadable_relay_log_holds_stops_the_run() {
        // The second survivor received up to 900, nobody else did, and its relay log cannot be read.
        let topology = topology(&[("1:452", "1:452"), ("1:900", "1:452")]);
        let first = topology.survivors[0].server.clone();
        let second = topology.survivors[1].server.clone();
        let known = (first.as_str(), holds(&["1:4 1:452"], Some("1:452")));
        let alone = holdings(std::slice::from_ref(&known), unreachable());
        let end = find(&topology, &alone, None).unwrap().end;
        assert_eq!(end, at("1:452"));
        assert_eq!(unread(&topology, &alone, &end), Some((second, at("1:900"))));
        // The dead disk holds it too: nothing depends on that relay log.
        let survey = Box::new(holds(&["1:4 1:1308"], Some("1:1308")));
        let with_disk = holdings(&[known], DeadLog::Read { survey });
        let end = find(&topology, &with_disk, None).unwrap().end;
        assert_eq!(end, at("1:1308"));
        assert_eq!(unread(&topology, &with_disk, &end), None);
    }

    #[test]
    fn a_relay_log_that_is_damaged_before_its_read_position_stops_the_run() {
        let topology = topology(&[("1:452", "1:452"), ("1:900", "1:452")]);
        let first = topology.survivors[0].server.clone();
        let second = topology.survivors[1].server.clone();
        let mut damaged = holds(&["1:4 1:600"], Some("1:600"));
        for (kind, stops) in [
            (LogEndKind::Corrupt, true),
            (LogEndKind::Torn, true),
            (LogEndKind::InUse, false),
        ] {
            damaged.end.as_mut().unwrap().kind = kind;
            let holdings = holdings(
                &[
                    (first.as_str(), holds(&["1:4 1:452"], Some("1:452"))),
                    (second.as_str(), damaged.clone()),
                ],
                unreachable(),
            );
            let end = find(&topology, &holdings, None).unwrap().end;
            assert_eq!(end, at("1:600"));
            let found = unread(&topology, &holdings, &end).is_some();
            assert_eq!(found, stops, "{kind:?}");
        }
    }

    #[test]
    fn a_stop_event_behind_the_end_needs_no_relay_log() {
        let topology = topology(&[("1:475", "1:452"), ("1:475", "1:452")]);
        let second = topology.survivors[1].server.clone();
        let other = (second.as_str(), holds(&["1:4 1:475"], Some("1:452")));
        let holdings = holdings(&[other], unreachable());
        let end = find(&topology, &holdings, None).unwrap().end;
        assert_eq!(end, at("1:452"));
        assert_eq!(unread(&topology, &holdings, &end), None);
    }
}
