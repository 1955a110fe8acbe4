//! Semi-synchronous replication in both vocabularies: `rpl_semi_sync_master_*` and `_slave_*` of MySQL to 8.0.25 and of MariaDB,
//! where it is built in from 10.3 on; `rpl_semi_sync_source_*` and `_replica_*` of the plugins from 8.0.26 on.
//!
//! A commit of a semi-synchronous primary waits until a replica has received it. Who becomes the primary after it must wait
//! likewise, or what clients were promised ends with the failover. The manager decides that: agents tell whether the primary
//! waited for their server, and switch the source's side on when they are told to. Nothing is ever switched off: commits that
//! wait would return as if they had been received.

use std::time::Duration;

use super::row::flag_of;
use super::variables::Variables;
use super::{Session, SqlError};

/// One side of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Side {
    /// The variable that switches it.
    pub variable: &'static str,
    /// Whether it is on.
    pub on: bool,
}

/// Both sides of one server; `None` where it has no such variable, so that side cannot be switched on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SemiSync {
    /// Its commits wait for replicas.
    pub source: Option<Side>,
    /// It tells its source what it has received.
    pub replica: Option<Side>,
    /// How many replicas a commit waits for; `None` where the server has no such variable, and waits for one.
    pub wait_for: Option<u32>,
    /// How long it waits, in milliseconds.
    pub timeout_ms: Option<u64>,
}

impl SemiSync {
    /// As the variables say.
    pub fn of(variables: &Variables) -> Self {
        let side = |names: [&'static str; 2]| {
            names
                .into_iter()
                .find(|name| variables.get(name).is_some())
                .map(|variable| Side {
                    variable,
                    on: variables.is_on(variable),
                })
        };
        let number = |names: [&str; 2]| {
            let value = names.into_iter().find_map(|name| variables.get(name))?;
            value.parse::<u64>().ok()
        };
        Self {
            wait_for: number([
                "rpl_semi_sync_source_wait_for_replica_count",
                "rpl_semi_sync_master_wait_for_slave_count",
            ])
            .and_then(|count| count.try_into().ok()),
            timeout_ms: number([
                "rpl_semi_sync_source_timeout",
                "rpl_semi_sync_master_timeout",
            ]),
            source: side([
                "rpl_semi_sync_source_enabled",
                "rpl_semi_sync_master_enabled",
            ]),
            replica: side([
                "rpl_semi_sync_replica_enabled",
                "rpl_semi_sync_slave_enabled",
            ]),
        }
    }
}

/// Whether the source waited for this server when its receiver last ran. `now` is what it says at this moment, `runs` whether its
/// receiver runs from its real source (`None`: it is no replica), `known` what was remembered.
///
/// A receiver that stands still says nothing, so what was known stays, but for one thing: with its side off it would ask for nothing
/// if it ran.
pub fn was_waited_for(
    now: bool,
    runs: Option<bool>,
    semi_sync: &SemiSync,
    known: impl FnOnce() -> bool,
) -> bool {
    let is_on = semi_sync.replica.as_ref().is_some_and(|side| side.on);
    now || (is_on && runs == Some(false) && known())
}

/// Whether the source waits for this server: its receiver asked for it, and the source agreed. Asks nothing where the
/// replica's side is off.
///
/// # Errors
/// Those of a statement.
pub async fn receives(
    session: &mut Session,
    semi_sync: &SemiSync,
    limit: Duration,
) -> Result<bool, SqlError> {
    let status = match &semi_sync.replica {
        Some(side) if side.on => match side.variable {
            "rpl_semi_sync_replica_enabled" => "Rpl_semi_sync_replica_status",
            _ => "Rpl_semi_sync_slave_status",
        },
        _ => return Ok(false),
    };
    let row = session
        .query_row(&format!("SHOW GLOBAL STATUS LIKE '{status}'"), limit)
        .await?;
    Ok(row
        .and_then(|row| flag_of(row.text_or_empty("Value")))
        .unwrap_or(false))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_known_of_a_receiver_stays_while_it_stands_still_and_its_side_is_on() {
        let side = |value| SemiSync::of(&Variables::of(&[("rpl_semi_sync_slave_enabled", value)]));
        // Now, runs, side, known: expected.
        let table = [
            (true, Some(true), "ON", false, true),
            (false, Some(true), "ON", true, false),
            (false, Some(false), "ON", true, true),
            (false, Some(false), "ON", false, false),
            // Switched off while it stood still.
            (false, Some(false), "OFF", true, false),
            // No replica any more.
            (false, None, "ON", true, false),
        ];
        for (now, runs, value, known, expected) in table {
            let found = was_waited_for(now, runs, &side(value), || known);
            assert_eq!(found, expected, "{now} {runs:?} {value} {known}");
        }
        assert!(!was_waited_for(
            false,
            Some(false),
            &SemiSync::default(),
            || true
        ));
    }

    #[test]
    fn for_how_many_and_how_long_is_read_in_both_vocabularies() {
        for (count, timeout) in [
            (
                "rpl_semi_sync_master_wait_for_slave_count",
                "rpl_semi_sync_master_timeout",
            ),
            (
                "rpl_semi_sync_source_wait_for_replica_count",
                "rpl_semi_sync_source_timeout",
            ),
        ] {
            let found = SemiSync::of(&Variables::of(&[(count, "2"), (timeout, "10000")]));
            assert_eq!((found.wait_for, found.timeout_ms), (Some(2), Some(10_000)));
        }
    }

    #[test]
    fn both_sides_are_read_in_both_vocabularies() {
        for (source, replica) in [
            (
                "rpl_semi_sync_master_enabled",
                "rpl_semi_sync_slave_enabled",
            ),
            (
                "rpl_semi_sync_source_enabled",
                "rpl_semi_sync_replica_enabled",
            ),
        ] {
            let found = SemiSync::of(&Variables::of(&[(source, "ON"), (replica, "OFF")]));
            assert_eq!(
                found.source,
                Some(Side {
                    variable: source,
                    on: true
                })
            );
            assert_eq!(
                found.replica,
                Some(Side {
                    variable: replica,
                    on: false
                })
            );
        }
        assert_eq!(SemiSync::of(&Variables::default()), SemiSync::default());
    }
}
