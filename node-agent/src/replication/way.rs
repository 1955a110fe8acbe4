//! Which way a replay goes. Pure.
//!
//! | way | applier | the server asks | where |
//! |---|---|---|---|
//! | (a) [`Way::ByGtid`] | goes on | by its GTID set | MySQL 5.7+ with AUTO_POSITION=1 |
//! | (b) [`Way::FromRead`] | goes on | from its read position, which may lie inside a transaction | MySQL 5.7+ by position |
//! | (c) [`Way::Stopped`] | stopped, then started anew | from its executed position | all others, and wherever the rules of (a) and (b) leave a doubt |
//!
//! (a) and (b) never wait for an applier that holds a part of a transaction: in (a) the part is rolled back and comes again as
//! a whole, in (b) the rest follows. They hold only while the applier runs and its relay log is there; a CHANGE beside a
//! stopped one deletes relay logs, and in (b) it makes the server take what it has read for executed. Hence the rules:
//!
//! - All that the replica holds whole is executed, so that the executed position, which (c) would go back to, is exact.
//! - In (b) the read position is what its relay logs end with, no more and no less, and an event of the segments begins
//!   there: a position that is behind what was received would bring events twice, one before it would leave some out.
//! - In (b) the applied position is part of the transactions: with a file a kill of mysqld would apply one twice, and the
//!   repository cannot be changed beside a running applier.
//! - In (a) the segments begin no later than what the replica lacks.
//! - A delayed replica goes (c): its applier would go on being late.

use std::fmt;
use std::time::Duration;

use binlog_core::{BinlogPosition, StreamRange};
use serde::{Deserialize, Serialize};

use super::relay::Received;

/// How a server replayed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Way {
    /// Beside its running applier, by its GTID set.
    ByGtid,
    /// Beside its running applier, from its read position.
    FromRead,
    /// Both threads stopped, from its executed position.
    Stopped,
}

/// A way, and what decided it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// The way.
    pub way: Way,
    /// For people: a clause that follows "because".
    pub why: String,
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let way = match self.way {
            Way::ByGtid => "beside its applier, by GTID",
            Way::FromRead => "beside its applier, from its read position",
            Way::Stopped => "with its applier stopped first",
        };
        write!(f, "{way}: {}", self.why)
    }
}

/// What is known of a replica whose receiver stands still, right before its channel is changed.
#[derive(Debug, Clone)]
pub(super) struct Situation<'a> {
    /// MySQL from 5.7 on: CHANGE is allowed beside a running applier.
    pub(super) changes_beside_applier: bool,
    /// The channel points at a local source already: of an earlier call, or of a way that failed.
    pub(super) points_here: bool,
    /// Why a way beside the applier was given up in this call.
    pub(super) failed: Option<&'a str>,
    /// Configured delay.
    pub(super) delay: Duration,
    /// The applier runs.
    pub(super) applier_running: bool,
    /// The relay log that it reads is in its place.
    pub(super) relay_log_there: bool,
    /// AUTO_POSITION=1.
    pub(super) auto_position: bool,
    /// `gtid_mode` of the dead primary.
    pub(super) source_gtid_mode: Option<&'a str>,
    /// The applied position is in a file, outside of the transactions.
    pub(super) applied_in_file: bool,
    /// Executed position.
    pub(super) executed: Option<&'a BinlogPosition>,
    /// Read position.
    pub(super) read: Option<&'a BinlogPosition>,
    /// What its relay logs hold.
    pub(super) received: &'a Received,
    /// What the segments hold.
    pub(super) held: &'a StreamRange,
    /// Whether the segments can be served as this channel would ask: by its GTIDs with AUTO_POSITION=1, else from its read
    /// position. The error says why not.
    pub(super) served: &'a Result<(), String>,
}

/// Chooses. Whatever is not known to be right beside the applier goes [`Way::Stopped`].
pub(super) fn choose(situation: &Situation<'_>) -> Choice {
    match beside(situation) {
        Ok(choice) => choice,
        Err(why) => Choice {
            way: Way::Stopped,
            why,
        },
    }
}

fn beside(found: &Situation<'_>) -> Result<Choice, String> {
    let unless = |condition: bool, why: &str| {
        if condition {
            Ok(())
        } else {
            Err(why.to_owned())
        }
    };
    if let Some(failed) = found.failed {
        return Err(format!("the way beside the applier failed: {failed}"));
    }
    unless(
        found.changes_beside_applier,
        "this server changes no channel whose applier runs",
    )?;
    unless(!found.points_here, "an earlier replay broke off")?;
    unless(found.delay.is_zero(), "the replica is delayed")?;
    unless(found.applier_running, "its applier does not run")?;
    unless(
        found.relay_log_there,
        "the relay log that its applier reads is gone",
    )?;
    let executed = found.executed.ok_or("its executed position is not known")?;
    let Received {
        whole_end, tail, ..
    } = found.received;
    let all_executed =
        whole_end.as_ref().is_some_and(|end| executed >= end) || Some(executed) == found.read;
    unless(
        all_executed,
        "it may not have executed all that it received",
    )?;
    if *executed < found.held.from || *executed > found.held.to {
        return Err(format!(
            "the segments hold {}, and it has executed {executed}",
            found.held
        ));
    }
    if found.auto_position {
        by_gtid(found)
    } else {
        from_read(found, executed)
    }
    .map(|(way, why)| {
        let why = match tail {
            Some(tail) => format!(
                "{why}, and holds a part of the transaction at {}",
                tail.start
            ),
            None => why,
        };
        Choice { way, why }
    })
}

fn by_gtid(found: &Situation<'_>) -> Result<(Way, String), String> {
    let mode = found.source_gtid_mode.unwrap_or_default();
    if mode != "ON" {
        return Err(format!("gtid_mode of the dead primary was {mode:?}"));
    }
    let xa = |text: &str| {
        let mut words = text.split_ascii_whitespace().map(str::to_ascii_uppercase);
        words.next().as_deref() == Some("XA")
    };
    if let Some(tail) = &found.received.tail
        && tail.statements.iter().any(|(_, text)| xa(text))
    {
        return Err("the part that it holds is of an XA transaction, which its worker does not roll back for the whole (error 1399)".to_owned());
    }
    found.served.clone()?;
    Ok((Way::ByGtid, "it follows by AUTO_POSITION".to_owned()))
}

fn from_read(found: &Situation<'_>, executed: &BinlogPosition) -> Result<(Way, String), String> {
    if found.applied_in_file {
        return Err("its applied position is kept in a file".to_owned());
    }
    let read = found.read.ok_or("its read position is not known")?;
    let Received { data_end, tail, .. } = found.received;
    let ends_at_read = match (tail, data_end) {
        (Some(tail), _) => tail.end == *read && tail.start >= *executed,
        // What follows the last event held is of no effect, or it would be there.
        (None, Some(end)) => end <= read,
        (None, None) => true,
    };
    if !ends_at_read || read < executed {
        let end = tail.as_ref().map(|tail| &tail.end).or(data_end.as_ref());
        return Err(format!(
            "it has read up to {read}, executed {executed}, and its relay logs end at {}",
            super::error::at(&end.cloned())
        ));
    }
    if *read >= found.held.to {
        return Err(format!(
            "it has read up to {read}, and the segments end at {}",
            found.held.to
        ));
    }
    found.served.clone()?;
    Ok((Way::FromRead, format!("it has read up to {read}")))
}

#[cfg(test)]
mod tests {
    use binlog_core::UnfinishedTail;

    use super::*;

    fn at(text: &str) -> BinlogPosition {
        format!("b.{text}").parse().unwrap()
    }

    /// A replica that lacks [1:500, 1:900), as it is found most often.
    #[derive(Clone)]
    struct Found {
        modern: bool,
        points_here: bool,
        failed: Option<&'static str>,
        delay: u64,
        running: bool,
        relay_log: bool,
        auto: bool,
        mode: Option<&'static str>,
        file: bool,
        executed: Option<&'static str>,
        read: Option<&'static str>,
        whole_end: Option<&'static str>,
        data_end: Option<&'static str>,
        tail: Option<(&'static str, &'static str)>,
        held: (&'static str, &'static str),
        served: Result<(), String>,
    }

    const PLAIN: Found = Found {
        modern: true,
        points_here: false,
        failed: None,
        delay: 0,
        running: true,
        relay_log: true,
        auto: false,
        mode: Some("ON"),
        file: false,
        executed: Some("000001:500"),
        read: Some("000001:500"),
        whole_end: Some("000001:500"),
        data_end: Some("000001:500"),
        tail: None,
        held: ("000001:300", "000001:900"),
        served: Ok(()),
    };

    /// It holds [1:500, 1:640) of a transaction.
    const HALF: Found = Found {
        read: Some("000001:640"),
        data_end: Some("000001:640"),
        tail: Some(("000001:500", "000001:640")),
        ..PLAIN
    };

    fn chosen(found: &Found) -> Choice {
        let [executed, read, whole_end, data_end] =
            [found.executed, found.read, found.whole_end, found.data_end]
                .map(|place| place.map(at));
        let received = Received {
            whole_end,
            data_end,
            tail: found.tail.map(|(start, end)| UnfinishedTail {
                start: at(start),
                end: at(end),
                tables: Vec::new(),
                statements: Vec::new(),
                truncated: false,
            }),
        };
        choose(&Situation {
            changes_beside_applier: found.modern,
            points_here: found.points_here,
            failed: found.failed,
            delay: Duration::from_secs(found.delay),
            applier_running: found.running,
            relay_log_there: found.relay_log,
            auto_position: found.auto,
            source_gtid_mode: found.mode,
            applied_in_file: found.file,
            executed: executed.as_ref(),
            read: read.as_ref(),
            received: &received,
            held: &StreamRange::new(at(found.held.0), at(found.held.1)),
            served: &found.served,
        })
    }

    #[test]
    fn the_applier_goes_on_where_nothing_speaks_against_it() {
        let gtid = |found: Found| Found {
            auto: true,
            ..found
        };
        let later = Found {
            // A Rotate, and what a relay log leaves out, behind the last transaction.
            read: Some("000002:4"),
            held: ("000001:300", "000002:900"),
            ..PLAIN
        };
        let fresh = Found {
            // Its relay logs were flushed: nothing in them yet.
            whole_end: None,
            data_end: None,
            ..PLAIN
        };
        let table = [
            (PLAIN, Way::FromRead),
            (HALF, Way::FromRead),
            (later.clone(), Way::FromRead),
            (fresh.clone(), Way::FromRead),
            (gtid(PLAIN), Way::ByGtid),
            (gtid(HALF), Way::ByGtid),
            (gtid(fresh), Way::ByGtid),
            // By GTID neither the read position nor the repository counts.
            (
                gtid(Found {
                    read: None,
                    file: true,
                    ..PLAIN
                }),
                Way::ByGtid,
            ),
        ];
        for (number, (found, way)) in table.into_iter().enumerate() {
            let choice = chosen(&found);
            assert_eq!(choice.way, way, "{number}: {choice}");
        }
        let choice = chosen(&HALF);
        assert_eq!(
            choice.to_string(),
            "beside its applier, from its read position: it has read up to b.000001:640, and holds a part of the transaction at b.000001:500"
        );
    }

    #[test]
    fn a_part_of_an_xa_transaction_is_not_replayed_by_gtid() {
        let part = |statements: &[&str]| Received {
            whole_end: Some(at("000001:500")),
            data_end: Some(at("000001:640")),
            tail: Some(UnfinishedTail {
                start: at("000001:500"),
                end: at("000001:640"),
                tables: Vec::new(),
                statements: statements
                    .iter()
                    .map(|text| (None, (*text).to_owned()))
                    .collect(),
                truncated: false,
            }),
        };
        for (statements, way) in [
            (&["BEGIN", "INSERT INTO xa VALUES (1)"][..], Way::ByGtid),
            (
                &["XA START X'78',X'',1", "INSERT INTO t VALUES (1)"][..],
                Way::Stopped,
            ),
        ] {
            let (executed, read) = (at("000001:500"), at("000001:640"));
            let choice = choose(&Situation {
                changes_beside_applier: true,
                points_here: false,
                failed: None,
                delay: Duration::ZERO,
                applier_running: true,
                relay_log_there: true,
                auto_position: true,
                source_gtid_mode: Some("ON"),
                applied_in_file: false,
                executed: Some(&executed),
                read: Some(&read),
                received: &part(statements),
                held: &StreamRange::new(at("000001:300"), at("000001:900")),
                served: &Ok(()),
            });
            assert_eq!(choice.way, way, "{choice}");
        }
    }

    #[test]
    fn at_any_doubt_the_applier_is_stopped_first() {
        let refused = || Err("no event begins there".to_owned());
        let both = [
            (
                Found {
                    modern: false,
                    ..PLAIN
                },
                "changes no channel",
            ),
            (
                Found {
                    points_here: true,
                    ..PLAIN
                },
                "broke off",
            ),
            (
                Found {
                    failed: Some("1236"),
                    ..PLAIN
                },
                "failed: 1236",
            ),
            (Found { delay: 1, ..PLAIN }, "delayed"),
            (
                Found {
                    running: false,
                    ..PLAIN
                },
                "does not run",
            ),
            (
                Found {
                    relay_log: false,
                    ..PLAIN
                },
                "is gone",
            ),
            (
                Found {
                    executed: None,
                    ..PLAIN
                },
                "is not known",
            ),
            // Workers that are still busy, or a position that lags behind them.
            (
                Found {
                    executed: Some("000001:400"),
                    ..PLAIN
                },
                "may not have executed",
            ),
            (
                Found {
                    whole_end: None,
                    data_end: None,
                    read: Some("000001:640"),
                    ..PLAIN
                },
                "may not have executed",
            ),
            (
                Found {
                    held: ("000001:600", "000001:900"),
                    ..PLAIN
                },
                "the segments hold",
            ),
            (
                Found {
                    held: ("000001:100", "000001:400"),
                    ..PLAIN
                },
                "the segments hold",
            ),
            (
                Found {
                    served: refused(),
                    ..PLAIN
                },
                "no event begins there",
            ),
        ];
        for (found, reason) in both {
            for auto in [false, true] {
                let choice = chosen(&Found {
                    auto,
                    ..found.clone()
                });
                assert_eq!(choice.way, Way::Stopped, "{choice}");
                assert!(choice.why.contains(reason), "{reason}: {choice}");
            }
        }
        let by_gtid = |mode| Found {
            auto: true,
            mode,
            ..PLAIN
        };
        let one = [
            (by_gtid(None), "gtid_mode"),
            (by_gtid(Some("OFF")), "gtid_mode"),
            (by_gtid(Some("ON_PERMISSIVE")), "gtid_mode"),
            (
                Found {
                    file: true,
                    ..PLAIN
                },
                "in a file",
            ),
            (
                Found {
                    read: None,
                    ..PLAIN
                },
                "read position is not known",
            ),
            // The position of the receiver was lost in a crash of mysqld: events would come twice.
            (
                Found {
                    data_end: Some("000001:640"),
                    ..PLAIN
                },
                "its relay logs end at b.000001:640",
            ),
            (
                Found {
                    read: Some("000001:560"),
                    ..HALF
                },
                "its relay logs end at b.000001:640",
            ),
            // Something is missing between the part and the read position.
            (
                Found {
                    read: Some("000001:700"),
                    ..HALF
                },
                "its relay logs end at b.000001:640",
            ),
            (
                Found {
                    tail: Some(("000001:450", "000001:640")),
                    ..HALF
                },
                "its relay logs end at b.000001:640",
            ),
            (
                Found {
                    read: Some("000001:480"),
                    data_end: Some("000001:480"),
                    ..PLAIN
                },
                "it has read up to b.000001:480",
            ),
            // Half a transaction whose rest no disk holds.
            (
                Found {
                    held: ("000001:300", "000001:500"),
                    ..HALF
                },
                "the segments end at b.000001:500",
            ),
        ];
        for (found, reason) in one {
            let choice = chosen(&found);
            assert_eq!(choice.way, Way::Stopped, "{choice}");
            assert!(choice.why.contains(reason), "{reason}: {choice}");
        }
    }
}
