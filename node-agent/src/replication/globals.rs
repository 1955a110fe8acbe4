//! Global settings that a replay changes, and their way back.
//!
//! Each is written to the channel record with its original value before it is changed; a value that is in the record
//! already is the original one and is never overwritten, since after a crash the server shows ours.

use std::collections::BTreeMap;

use super::local::{Control, small};
use super::{ChannelRecord, ReplicationError};
use crate::mysqld::Deadline;
use crate::mysqld::session::quote;
use crate::mysqld::variables::Variables;

/// With FILE a kill between a commit and the write of the file makes the server apply a transaction twice (5.6).
pub(super) const RELAY_LOG_INFO_REPOSITORY: &str = "relay_log_info_repository";
/// CHANGE MASTER sets it to 1, or to 0 if it names a relay log.
pub(super) const RELAY_LOG_PURGE: &str = "relay_log_purge";
/// ON: MariaDB in GTID mode skips what its `gtid_slave_pos` includes by number.
const IGNORE_DUPLICATES: &str = "gtid_ignore_duplicates";
/// 1: a commit returns when its redo log is on disk. 2: when the operating system has it, and within a second on disk.
const FLUSH_AT_COMMIT: &str = "innodb_flush_log_at_trx_commit";

/// Puts the present values into `record`, unless it has older ones. The caller stores the record.
pub(super) fn remember(record: &mut ChannelRecord, variables: &Variables) {
    let names = [Some(RELAY_LOG_PURGE), variables.checkpoint_period_name()]
        .into_iter()
        .flatten()
        .chain(needs_table(variables).then_some(RELAY_LOG_INFO_REPOSITORY))
        .chain(may_defer(variables).then_some(FLUSH_AT_COMMIT))
        .chain([IGNORE_DUPLICATES]);
    for name in names {
        if let Some(value) = variables.get(name) {
            record
                .saved_globals
                .entry(name.to_owned())
                .or_insert_with(|| value.to_owned());
        }
    }
}

/// True for a server whose applied position is kept in a file that is not part of the transaction.
pub(super) fn needs_table(variables: &Variables) -> bool {
    variables
        .get(RELAY_LOG_INFO_REPOSITORY)
        .is_some_and(|value| value.eq_ignore_ascii_case("FILE"))
}

/// True if the commits of a replay need not reach the disk one by one, but together at its end.
///
/// What is replayed lies in segments that are on the disk, and the applied position is in the same InnoDB log as the data
/// ([`use_table`]): a host that loses its power in the middle comes back with both as they were a moment before, and the
/// replay goes on from there. The end of mysqld alone costs nothing at all. It is wrong where the binary log says by its
/// GTIDs what was executed, since it may then be ahead of the data; and who has the binary log synced at each commit wants
/// it to agree with the data after a loss of power, which it then would not.
fn may_defer(variables: &Variables) -> bool {
    let is = |name: &str, value: &str| variables.get(name) == Some(value);
    // MariaDB has no gtid_mode: there the position is in a table of whatever engine.
    is(FLUSH_AT_COMMIT, "1") && is("sync_binlog", "0") && is("gtid_mode", "OFF")
}

/// Lets the commits of the replay reach the disk together, where that is safe. Only once the record with the original value
/// is stored and the applied position is in the table.
pub(super) async fn defer_flush(
    control: &mut Control,
    variables: &Variables,
    deadline: Deadline,
) -> Result<(), ReplicationError> {
    if may_defer(variables) {
        set(control, FLUSH_AT_COMMIT, "2", deadline).await?;
    }
    Ok(())
}

/// The end of [`defer_flush`]: from here on every commit is as durable as the server was set to make it.
pub(super) async fn flush_deferred(
    control: &mut Control,
    saved: &BTreeMap<String, String>,
    deadline: Deadline,
) -> Result<(), ReplicationError> {
    match saved.get(FLUSH_AT_COMMIT) {
        Some(value) => put_back(control, FLUSH_AT_COMMIT, value, deadline).await,
        None => Ok(()),
    }
}

/// Commits of this server may be deferred by a replay that kept these originals.
pub(super) fn may_have_deferred(saved: &BTreeMap<String, String>) -> bool {
    saved.contains_key(FLUSH_AT_COMMIT)
}

/// Sets a variable to its original value.
async fn put_back(
    control: &mut Control,
    name: &str,
    value: &str,
    deadline: Deadline,
) -> Result<(), ReplicationError> {
    set(control, name, value, deadline).await?;
    if name == FLUSH_AT_COMMIT {
        // Behind the SET, so that no commit is left out; also where the value was back already, since the call that set it
        // may have died before this.
        let sql = "FLUSH NO_WRITE_TO_BINLOG ENGINE LOGS";
        control.session.exec(sql, deadline.remaining()).await?;
    }
    Ok(())
}

/// Lets a parallel applier publish its position each millisecond, so that waits end when the work does.
pub(super) async fn quicken(
    control: &mut Control,
    variables: &Variables,
    deadline: Deadline,
) -> Result<(), ReplicationError> {
    if variables.parallel_workers() == 0 {
        return Ok(());
    }
    let Some(name) = variables.checkpoint_period_name() else {
        return Ok(());
    };
    set(control, name, "1", deadline).await
}

/// Lets a MariaDB replica of several domains skip what it has. Only while both threads stand still.
///
/// By GTID its domains are applied beside each other, so one that was killed may have one domain ahead of the place where
/// the replay begins. A server that is a source leaves those transactions out; the local source sends its segments as they
/// are. With one domain the place is exact, and nothing is changed.
pub(super) async fn skip_duplicates(
    control: &mut Control,
    variables: &Variables,
    deadline: Deadline,
) -> Result<(), ReplicationError> {
    if variables.get(IGNORE_DUPLICATES).is_some() && control.gtid_executed().await?.contains(',') {
        set(control, IGNORE_DUPLICATES, "1", deadline).await?;
    }
    Ok(())
}

/// Moves the applied position into the transactional table. Only while both threads stand still.
pub(super) async fn use_table(
    control: &mut Control,
    variables: &Variables,
    deadline: Deadline,
) -> Result<(), ReplicationError> {
    if needs_table(variables) {
        set(control, RELAY_LOG_INFO_REPOSITORY, "TABLE", deadline).await?;
    }
    Ok(())
}

/// Restores what the record says. Both threads must stand still, and the last CHANGE be made: it sets
/// `relay_log_purge`, and repairs what a crash may have left of the repositories.
pub(super) async fn restore(
    control: &mut Control,
    saved: &BTreeMap<String, String>,
    deadline: Deadline,
) -> Result<(), ReplicationError> {
    for (name, value) in saved {
        put_back(control, name, value, deadline).await?;
    }
    Ok(())
}

/// Restores what may be set beside running threads: all that an apply without a CHANGE has changed.
pub(super) async fn restore_running(
    control: &mut Control,
    saved: &BTreeMap<String, String>,
    deadline: Deadline,
) -> Result<(), ReplicationError> {
    for (name, value) in saved {
        if name != RELAY_LOG_INFO_REPOSITORY {
            put_back(control, name, value, deadline).await?;
        }
    }
    Ok(())
}

async fn set(
    control: &mut Control,
    name: &str,
    value: &str,
    deadline: Deadline,
) -> Result<(), ReplicationError> {
    let shown = control
        .session
        .query_value(&format!("SELECT @@GLOBAL.{name}"), small(deadline))
        .await?
        .unwrap_or_default();
    if same(&shown, value) {
        return Ok(());
    }
    let literal = if value.chars().all(|c| c.is_ascii_digit()) {
        value.to_owned()
    } else {
        quote(value)
    };
    control
        .session
        .exec(&format!("SET GLOBAL {name}={literal}"), small(deadline))
        .await?;
    Ok(())
}

/// `SELECT` shows 1 where `SHOW VARIABLES` shows ON.
fn same(a: &str, b: &str) -> bool {
    let canonical = |text: &str| match text.to_ascii_uppercase().as_str() {
        "ON" | "1" => "1".to_owned(),
        "OFF" | "0" => "0".to_owned(),
        other => other.to_owned(),
    };
    canonical(a) == canonical(b)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_value_seen_is_the_original_one() {
        let mut record = ChannelRecord::new("op1");
        remember(
            &mut record,
            &Variables::of(&[
                ("relay_log_purge", "OFF"),
                ("relay_log_info_repository", "FILE"),
                ("slave_checkpoint_period", "300"),
            ]),
        );
        // A crash later the server shows ours.
        remember(
            &mut record,
            &Variables::of(&[
                ("relay_log_purge", "ON"),
                ("relay_log_info_repository", "TABLE"),
                ("slave_checkpoint_period", "1"),
            ]),
        );
        let saved: Vec<(&str, &str)> = record
            .saved_globals
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        assert_eq!(
            saved,
            [
                ("relay_log_info_repository", "FILE"),
                ("relay_log_purge", "OFF"),
                ("slave_checkpoint_period", "300"),
            ]
        );
    }

    #[test]
    fn a_table_repository_needs_no_change_and_no_way_back() {
        let mut record = ChannelRecord::new("op1");
        remember(
            &mut record,
            &Variables::of(&[("relay_log_info_repository", "TABLE")]),
        );
        assert!(record.saved_globals.is_empty());
    }

    #[test]
    fn commits_are_deferred_only_where_nothing_but_innodb_tells_what_was_executed() {
        let all = |flush, sync, gtid| {
            may_defer(&Variables::of(&[
                (FLUSH_AT_COMMIT, flush),
                ("sync_binlog", sync),
                ("gtid_mode", gtid),
            ]))
        };
        assert!(all("1", "0", "OFF"), "the defaults of 5.6");
        assert!(!all("1", "1", "OFF"), "the defaults of 5.7 and later");
        assert!(!all("1", "0", "ON"));
        assert!(!all("1", "0", "OFF_PERMISSIVE"));
        assert!(!all("2", "0", "OFF") && !all("0", "0", "OFF"), "its own");
        let mariadb = [(FLUSH_AT_COMMIT, "1"), ("sync_binlog", "0")];
        assert!(!may_defer(&Variables::of(&mariadb)));
    }

    #[test]
    fn what_a_crash_left_deferred_has_its_way_back() {
        let mut record = ChannelRecord::new("op1");
        for shown in ["1", "2"] {
            let shown = [
                (FLUSH_AT_COMMIT, shown),
                ("sync_binlog", "0"),
                ("gtid_mode", "OFF"),
            ];
            remember(&mut record, &Variables::of(&shown));
        }
        assert_eq!(record.saved_globals[FLUSH_AT_COMMIT], "1");
    }

    #[test]
    fn on_is_one() {
        assert!(same("1", "ON"));
        assert!(same("0", "off"));
        assert!(same("TABLE", "table"));
        assert!(!same("1", "OFF"));
    }
}
