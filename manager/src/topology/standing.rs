//! Where survivors stand in the dead primary's log by their GTIDs. Pure.
//!
//! A channel that follows GTIDs shows no position between a CHANGE and its first connection, and until something new comes only
//! the head of the file that it connected to. Two survivors of one primary can tell about each other: before the position of
//! one, the primary's log holds only transactions that this one has; whoever has all of those stands there as well.
//!
//! This needs the position to be read before the GTIDs beside it, which agents do for channels that follow GTIDs.

use std::fmt;

use binlog_core::{BinlogPosition, GtidState};
use serde::{Deserialize, Serialize};

use super::{Survivor, Topology};
use crate::facts::Flavor;

/// A server that has these GTIDs stands in the dead primary's log here, at least.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// MySQL: a set; MariaDB: a position.
    pub gtids: String,
    /// Every transaction before this place is among them.
    pub position: BinlogPosition,
    /// Who says so: another survivor, or whose log was read.
    pub told_by: String,
    /// What the server's own status shows.
    pub shown: Option<BinlogPosition>,
}

impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.shown {
            Some(shown) => write!(f, "its status shows {shown}")?,
            None => f.write_str("its status shows no position")?,
        }
        write!(
            f,
            "; by its GTIDs it stands at {}, as {} tells",
            self.position, self.told_by
        )
    }
}

impl Survivor {
    /// What it has executed, by GTID; `None` if its channel does not follow GTIDs.
    pub(crate) fn executed_gtids(&self, flavor: Flavor) -> Option<GtidState> {
        if !self.replica.gtid_position {
            return None;
        }
        GtidState::parse(&self.replica.gtid_executed, flavor == Flavor::MariaDb).ok()
    }

    /// What it has received, executed or not.
    pub(crate) fn received_gtids(&self, flavor: Flavor) -> Option<GtidState> {
        let executed = self.executed_gtids(flavor)?;
        let received = &self.replica.gtid_received;
        let received = GtidState::parse(received, flavor == Flavor::MariaDb).ok()?;
        Some(executed.union(&received))
    }

    /// Moves it on to a place that its GTIDs reach.
    pub(crate) fn stand(&mut self, told_by: &str, gtids: String, position: BinlogPosition) {
        if self.replica.executed.as_ref() >= Some(&position) {
            return;
        }
        let shown = match self.standing.take() {
            Some(earlier) => earlier.shown,
            None => self.replica.executed.clone(),
        };
        self.replica.executed = Some(position.clone());
        self.standing = Some(Standing {
            gtids,
            position,
            told_by: told_by.to_owned(),
            shown,
        });
    }
}

/// Moves every survivor on to the furthest position of another whose GTIDs it has all.
pub(crate) fn compare(topology: &mut Topology) {
    let flavor = topology.identity.flavor;
    let known: Vec<(String, GtidState, BinlogPosition)> = topology
        .survivors
        .iter()
        // The channel of an interrupted replay shows places of segments.
        .filter(|s| s.facts.unfinished_replay.is_none())
        .filter_map(|s| {
            let gtids = s.executed_gtids(flavor)?;
            Some((s.server.clone(), gtids, s.replica.executed.clone()?))
        })
        .collect();
    for survivor in &mut topology.survivors {
        let Some(own) = survivor.executed_gtids(flavor) else {
            continue;
        };
        let furthest = known
            .iter()
            .filter(|(server, gtids, _)| *server != survivor.server && own.covers(gtids))
            .max_by(|a, b| a.2.cmp(&b.2));
        if let Some((server, gtids, position)) = furthest {
            survivor.stand(server, gtids.to_string(), position.clone());
        }
    }
}

/// Survivors that stand nowhere as yet, and must be found by their GTIDs.
pub(crate) fn unplaced(topology: &Topology) -> impl Iterator<Item = usize> + '_ {
    let survivors = topology.survivors.iter().enumerate();
    survivors
        .filter(|(_, s)| s.replica.executed.is_none() && s.applier_failed().is_none())
        .map(|(i, _)| i)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{at, topology, uuid};

    /// Shown position and set of two survivors; where they stand then.
    fn placed(
        one: (Option<&str>, &str),
        other: (Option<&str>, &str),
    ) -> [Option<BinlogPosition>; 2] {
        let mut topology = topology(&[("1:4", "1:4"), ("1:4", "1:4")]);
        for (survivor, (shown, gtids)) in topology.survivors.iter_mut().zip([one, other]) {
            survivor.replica.gtid_position = true;
            survivor.replica.executed = shown.map(at);
            survivor.replica.gtid_executed = gtids.to_owned();
        }
        compare(&mut topology);
        let executed = |i: usize| topology.survivors[i].replica.executed.clone();
        [executed(0), executed(1)]
    }

    #[test]
    fn table_of_places() {
        type Shown<'a> = (Option<&'a str>, &'a str);
        let set = |last: u32| format!("{}:1-{last}", uuid(1));
        let (five, nine) = (set(5), set(9));
        let table: &[(Shown<'_>, Shown<'_>, [Option<&str>; 2])] = &[
            // Never connected, with all that the other has.
            (
                (None, &five),
                (Some("2:500"), &five),
                [Some("2:500"), Some("2:500")],
            ),
            (
                (None, &nine),
                (Some("2:500"), &five),
                [Some("2:500"), Some("2:500")],
            ),
            // Never connected, and it lacks something.
            ((None, &five), (Some("2:900"), &nine), [None, Some("2:900")]),
            // At the head of its file since it has connected, idle.
            (
                (Some("2:4"), &five),
                (Some("2:500"), &five),
                [Some("2:500"), Some("2:500")],
            ),
            (
                (Some("2:4"), &five),
                (Some("2:900"), &nine),
                [Some("2:4"), Some("2:900")],
            ),
            // Both lack something of the other: nobody moves.
            (
                (Some("2:4"), &format!("{}:1-5:9", uuid(1))),
                (Some("2:500"), &format!("{}:1-6", uuid(1))),
                [Some("2:4"), Some("2:500")],
            ),
            // Nobody knows.
            ((None, &five), (None, &five), [None, None]),
            (
                (None, "rubbish"),
                (Some("2:500"), &five),
                [None, Some("2:500")],
            ),
        ];
        for (one, other, expected) in table {
            let expected = expected.map(|place| place.map(at));
            assert_eq!(placed(*one, *other), expected, "{one:?} {other:?}");
        }
    }

    #[test]
    fn a_channel_by_position_is_never_moved() {
        let mut topology = topology(&[("1:452", "1:452"), ("1:880", "1:880")]);
        for survivor in &mut topology.survivors {
            survivor.replica.gtid_executed = format!("{}:1-5", uuid(1));
        }
        let before = topology.clone();
        compare(&mut topology);
        assert_eq!(topology, before);
    }

    #[test]
    fn what_was_shown_first_stays_known() {
        let mut topology = topology(&[("1:452", "1:452"), ("1:880", "1:880")]);
        let first = topology.survivors.first_mut().unwrap();
        first.stand("db3", "x".into(), at("1:500"));
        first.stand("db1", "y".into(), at("1:880"));
        first.stand("db1", "z".into(), at("1:600"));
        let standing = first.standing.clone().unwrap();
        assert_eq!(
            standing.to_string(),
            "its status shows mysql-bin.000001:452; by its GTIDs it stands at mysql-bin.000001:880, as db1 tells"
        );
        assert_eq!(first.replica.executed, Some(at("1:880")));
    }
}
