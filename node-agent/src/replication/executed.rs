//! What a server really executed, where its status does not say it after a crash.
//!
//! - MariaDB keeps the executed position in a file that is written after the commit: after a kill it lags behind, and in
//!   GTID mode it may be empty. `gtid_slave_pos` is part of each transaction, and the segments of the record tell what
//!   it means in the dead primary's coordinates.
//!   The domains of a parallel applier by GTID need not stand at one place: [`domains_are_level`].
//! - MySQL killed inside CHANGE MASTER may find `relay-log.info` naming a relay log that is gone; its status then shows
//!   no position. The table or file still holds it, or the record does, since no applier ran since.
//! - A CHANGE beside a running applier shows what it has read as executed if the applier stopped in that very moment, and a
//!   channel that asks by GTIDs shows the head of the file until its first transaction. The record holds what was executed
//!   before, and whether the applier was seen running afterwards.
//! - With GTIDs a channel that was pointed elsewhere shows no position, or that of the head of a file, until something new comes.
//!   What its GTIDs mean in the dead primary's log the operation has found out, and the record holds it.

use std::path::Path;
use std::time::Duration;

use binlog_core::{BinlogPosition, GtidState, MariaDbGtidPos, RelayLogInfo, SegmentChain};

use super::ReplicationError;
use super::channel::{ChannelRecord, Phase, Replay};
use super::local::{Control, Local};
use super::relay::blocking;
use crate::mysqld::status::{ReplicaStatus, UsingGtid};
use crate::mysqld::{Remembered, SqlError};

/// Longest wait for each statement.
const LIMIT: Duration = Duration::from_secs(5);

/// Corrects the executed position of a status, if the record of this channel can tell more and the status shows less than
/// the whole replay. Segments that are gone correct nothing.
pub(super) async fn correct(
    local: &Local,
    control: &mut Control,
    record: &ChannelRecord,
    status: &mut ReplicaStatus,
) -> Result<(), ReplicationError> {
    beside_applier(record, status);
    by_standing(record, status);
    let Some(replay) = record.replay.as_ref() else {
        return Ok(());
    };
    let told = if replay.by_gtid {
        let complete = status
            .executed
            .as_ref()
            .is_some_and(|executed| *executed >= replay.until);
        if complete {
            return Ok(());
        }
        by_gtid(replay, &status.gtid_executed).await?
    } else if status.executed.is_none() {
        Some(stored(local, control, replay).await?)
    } else {
        None
    };
    if let Some(told) = told {
        status.executed = Some(later(status.executed.take(), told));
    }
    Ok(())
}

/// What a server has executed whose channel was changed beside its applier.
fn beside_applier(record: &ChannelRecord, status: &mut ReplicaStatus) {
    let Some((replay, beside)) = record
        .replay
        .as_ref()
        .and_then(|replay| Some((replay, replay.beside.as_ref()?)))
        .filter(|_| record.phase == Phase::Replaying && record.points_here(status))
    else {
        return;
    };
    let shown = status.executed.take();
    status.executed = match &beside.asked {
        _ if !beside.applier_kept => Some(replay.from.clone()),
        // No crash can take back what was executed before; what is replayed twice is skipped by its GTID.
        None => Some(later(shown, replay.from.clone())),
        // The place inside a transaction from which the rest was asked for: no applier ends there.
        Some(asked) if replay.half_transaction && shown.as_ref() == Some(asked) => {
            Some(replay.from.clone())
        }
        Some(_) => shown,
    };
}

/// False while a MariaDB replica by GTID lacks something of what it received whole, whatever position it shows: the domains
/// of a parallel applier go their own ways, and the executed position is that of the one that is furthest.
pub(super) fn domains_are_level(status: &ReplicaStatus) -> bool {
    if status.using_gtid == UsingGtid::No || !status.gtid_received.contains(',') {
        return true;
    }
    match (
        GtidState::parse(&status.gtid_executed, true),
        GtidState::parse(&status.gtid_received, true),
    ) {
        (Ok(executed), Ok(received)) => executed.covers(&received),
        _ => true,
    }
}

/// A server that has all GTIDs of a standing has executed up to its place.
fn by_standing(record: &ChannelRecord, status: &mut ReplicaStatus) {
    let Some(standing) = &record.standing else {
        return;
    };
    let same_source = record.points_here(status)
        || (standing.source_host == status.source_host
            && standing.source_port == status.source_port);
    // Sets have UUIDs, positions have not.
    let mariadb = !standing.gtids.contains(':') && !status.gtid_executed.contains(':');
    let has_them = match (
        GtidState::parse(&status.gtid_executed, mariadb),
        GtidState::parse(&standing.gtids, mariadb),
    ) {
        (Ok(own), Ok(required)) => own.covers(&required),
        _ => false,
    };
    if same_source && has_them {
        status.executed = Some(later(status.executed.take(), standing.position.clone()));
    }
}

/// MariaDB: what a GTID position means in the segments of a replay; `None` if they cannot tell.
pub(super) async fn by_gtid(
    replay: &Replay,
    gtid: &str,
) -> Result<Option<BinlogPosition>, ReplicationError> {
    let Ok(executed) = gtid.parse::<MariaDbGtidPos>() else {
        return Ok(None);
    };
    let segments = replay.segments.clone();
    blocking("mapping the GTID position", move || {
        if !segments.iter().all(|segment| segment.exists()) {
            return Ok(None);
        }
        let chain = SegmentChain::open(&segments)?;
        Ok(chain.position_of_gtid_pos(&executed)?)
    })
    .await
}

/// MySQL: the applier's position as it is stored. During a replay that is part of the transactions, in the table or,
/// after a restart, moved to the file. Where neither is left, the last CHANGE was not followed by a START.
pub(super) async fn stored(
    local: &Local,
    control: &mut Control,
    replay: &Replay,
) -> Result<BinlogPosition, ReplicationError> {
    let told = [
        from_table(control).await?,
        from_file(&local.state_folder).await?,
    ];
    Ok(furthest(replay, told))
}

/// A GTID position cannot name what lies behind a transaction (a Rotate): the later one of two truths counts.
fn later(shown: Option<BinlogPosition>, mapped: BinlogPosition) -> BinlogPosition {
    match shown {
        Some(shown) if shown > mapped => shown,
        _ => mapped,
    }
}

/// The furthest position that belongs to this replay.
fn furthest(
    replay: &Replay,
    told: impl IntoIterator<Item = Option<BinlogPosition>>,
) -> BinlogPosition {
    told.into_iter()
        .flatten()
        .filter(|position| *position >= replay.from && *position <= replay.until)
        .max()
        .unwrap_or_else(|| replay.from.clone())
}

async fn from_table(control: &mut Control) -> Result<Option<BinlogPosition>, ReplicationError> {
    let rows = control
        .session
        .query_rows(
            "SELECT Master_log_name, Master_log_pos FROM mysql.slave_relay_log_info",
            LIMIT,
        )
        .await;
    let rows = match rows {
        Ok(rows) => rows,
        Err(SqlError::Refused { .. }) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let [row] = rows.as_slice() else {
        return Ok(None);
    };
    let Ok(file) = row.text_or_empty("Master_log_name").parse() else {
        return Ok(None);
    };
    Ok(row
        .number_if_any("Master_log_pos")?
        .map(|offset| BinlogPosition::new(file, offset)))
}

async fn from_file(state_folder: &Path) -> Result<Option<BinlogPosition>, ReplicationError> {
    let folder = state_folder.to_path_buf();
    blocking("reading relay-log.info", move || {
        let Some(known) = Remembered::load(&folder)? else {
            return Ok(None);
        };
        let path = known.relay_log_info_file;
        let Ok(text) = std::fs::read_to_string(&path) else {
            return Ok(None);
        };
        Ok(RelayLogInfo::parse(&text, &path)
            .ok()
            .and_then(|info| info.executed))
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replication::channel::{Beside, Standing};

    #[test]
    fn the_later_position_counts() {
        let at = |text: &str| -> BinlogPosition { text.parse().unwrap() };
        assert_eq!(later(None, at("b.000001:9")), at("b.000001:9"));
        assert_eq!(
            later(Some(at("b.000001:4")), at("b.000001:9")),
            at("b.000001:9")
        );
        assert_eq!(
            later(Some(at("b.000002:4")), at("b.000001:9")),
            at("b.000002:4")
        );
    }

    #[test]
    fn gtids_tell_where_a_channel_stands_that_shows_no_position() {
        let at = |text: &str| -> BinlogPosition { text.parse().unwrap() };
        let uuid = "11111111-1111-1111-1111-111111111111";
        let set = |rest: &str| format!("{uuid}:{rest}");
        let none = String::new;
        let table = [
            // GTIDs of the standing, of the server, what it shows, host, what counts.
            (set("1-5"), set("1-5"), None, "db1", Some("b.000001:900")),
            (
                set("1-5"),
                set("1-7"),
                Some("b.000001:4"),
                "db1",
                Some("b.000001:900"),
            ),
            (
                set("1-5"),
                set("1-7"),
                Some("b.000001:999"),
                "db1",
                Some("b.000001:999"),
            ),
            (
                set("1-5"),
                set("1-4"),
                Some("b.000001:4"),
                "db1",
                Some("b.000001:4"),
            ),
            (set("1-5"), set("1-4"), None, "db1", None),
            (set("1-5"), set("1-5"), None, "db9", None),
            (none(), none(), None, "db1", Some("b.000001:900")),
            (
                "0-1-5".into(),
                "0-1-5".into(),
                None,
                "db1",
                Some("b.000001:900"),
            ),
            ("0-1-5".into(), "0-1-4".into(), None, "db1", None),
            ("0-1-5".into(), none(), None, "db1", None),
        ];
        for (required, own, shown, host, expected) in table {
            let record = ChannelRecord {
                standing: Some(Standing {
                    source_host: "db1".to_owned(),
                    source_port: 3306,
                    gtids: required.clone(),
                    position: at("b.000001:900"),
                }),
                ..ChannelRecord::new("op")
            };
            let mut status = crate::replication::channel::tests::status(host, 3306, "repl");
            status.gtid_executed.clone_from(&own);
            status.executed = shown.map(at);
            by_standing(&record, &mut status);
            assert_eq!(
                status.executed,
                expected.map(at),
                "{required} {own} {shown:?} {host}"
            );
        }
    }

    #[test]
    fn a_channel_changed_beside_its_applier_stands_where_it_stood_unless_the_applier_went_on() {
        let at = |text: &str| -> BinlogPosition { text.parse().unwrap() };
        let (from, asked) = ("b.000001:400", "b.000001:640");
        // By GTID, the applier was seen running, part of a transaction, what the status shows, what counts.
        let table = [
            (true, false, true, Some("b.000001:126"), from),
            (true, false, true, Some("b.000001:900"), from),
            (true, false, true, None, from),
            (true, true, true, Some("b.000001:126"), from),
            (true, true, false, None, from),
            (true, true, true, Some("b.000001:900"), "b.000001:900"),
            // Stopped in the moment of the CHANGE: what was read is shown as executed.
            (false, false, true, Some(asked), from),
            (false, false, false, Some(asked), from),
            (false, true, true, Some(asked), from),
            (false, true, true, Some(from), from),
            (false, true, true, Some("b.000001:900"), "b.000001:900"),
            // Between two transactions: a Rotate was all that it had read beyond.
            (false, true, false, Some(asked), asked),
        ];
        for (by_gtid, kept, half, shown, expected) in table {
            let mut record = crate::replication::channel::tests::replaying();
            let replay = record.replay.as_mut().unwrap();
            replay.from = at(from);
            replay.half_transaction = half;
            replay.beside = Some(Beside {
                asked: (!by_gtid).then(|| at(asked)),
                applier_kept: kept,
            });
            let user = replay.user.clone();
            let status = |host| {
                let mut status = crate::replication::channel::tests::status(host, 4000, &user);
                status.executed = shown.map(at);
                status
            };
            let mut here = status("127.0.0.1");
            beside_applier(&record, &mut here);
            assert_eq!(
                here.executed,
                Some(at(expected)),
                "{by_gtid} {kept} {half} {shown:?}"
            );
            // Not changed yet, changed back, or complete: the server's word counts.
            let mut elsewhere = status("db1");
            beside_applier(&record, &mut elsewhere);
            assert_eq!(elsewhere.executed, shown.map(at));
            record.phase = Phase::Replayed;
            let mut complete = status("127.0.0.1");
            beside_applier(&record, &mut complete);
            assert_eq!(complete.executed, shown.map(at));
        }
    }

    #[test]
    fn only_positions_of_this_replay_count() {
        let at = |text: &str| -> BinlogPosition { text.parse().unwrap() };
        let replay = Replay {
            port: 1,
            user: "u".to_owned(),
            password: "p".to_owned(),
            segments: Vec::new(),
            from: at("b.000001:100"),
            by_gtid: false,
            until: at("b.000002:500"),
            executed_before: None,
            half_transaction: false,
            applier_killed: false,
            maybe_twice: Vec::new(),
            beside: None,
        };
        let table = [
            ([None, None], "b.000001:100"),
            ([Some("b.000001:300"), None], "b.000001:300"),
            ([Some("b.000001:300"), Some("b.000002:4")], "b.000002:4"),
            // Leftovers of another stream.
            ([Some("b.000001:4"), Some("b.000009:4")], "b.000001:100"),
        ];
        for (told, expected) in table {
            let told = told.map(|text| text.map(at));
            assert_eq!(furthest(&replay, told), at(expected));
        }
    }
}
