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

/// Puts the present values into `record`, unless it has older ones. The caller stores the record.
pub(super) fn remember(record: &mut ChannelRecord, variables: &Variables) {
    let names = [Some(RELAY_LOG_PURGE), variables.checkpoint_period_name()]
        .into_iter()
        .flatten()
        .chain(needs_table(variables).then_some(RELAY_LOG_INFO_REPOSITORY));
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
        set(control, name, value, deadline).await?;
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
            set(control, name, value, deadline).await?;
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
    fn on_is_one() {
        assert!(same("1", "ON"));
        assert!(same("0", "off"));
        assert!(same("TABLE", "table"));
        assert!(!same("1", "OFF"));
    }
}
