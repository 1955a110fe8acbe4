//! Semi-synchronous replication in both vocabularies: `rpl_semi_sync_master_*` and `_slave_*` of MySQL to 8.0.25 and of MariaDB,
//! where it is built in from 10.3 on; `rpl_semi_sync_source_*` and `_replica_*` of the plugins from 8.0.26 on.
//!
//! A commit of a semi-synchronous primary waits until a replica has received it. Who becomes the primary after it must wait
//! likewise, or what clients were promised ends with the failover; so a server whose receiver was semi-synchronous gets its
//! source side switched on before it takes writes. Its first commit then waits for the first replica that is pointed at it,
//! which is what was promised, or for `rpl_semi_sync_*_timeout`. Nothing else is changed, and nothing is ever switched off:
//! commits that wait would return as if they had been received.

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
        Self {
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

    /// The variable to switch on before a server takes writes whose receiver was semi-synchronous; `None` if there is nothing
    /// to do.
    pub fn to_switch_on(&self, was_receiving: bool) -> Option<&'static str> {
        self.source
            .as_ref()
            .filter(|side| was_receiving && !side.on)
            .map(|side| side.variable)
    }
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

    /// Variables, whether the receiver was semi-synchronous, and what is to be switched on.
    type Case = (
        &'static [(&'static str, &'static str)],
        bool,
        Option<&'static str>,
    );

    #[test]
    fn the_source_side_is_switched_on_where_the_receiver_was_semi_synchronous() {
        let table: [Case; 6] = [
            (
                &[("rpl_semi_sync_master_enabled", "OFF")],
                true,
                Some("rpl_semi_sync_master_enabled"),
            ),
            (
                &[("rpl_semi_sync_source_enabled", "OFF")],
                true,
                Some("rpl_semi_sync_source_enabled"),
            ),
            (&[("rpl_semi_sync_source_enabled", "ON")], true, None),
            (&[("rpl_semi_sync_source_enabled", "OFF")], false, None),
            // Only the replica's plugin is there: nothing can be switched on.
            (&[("rpl_semi_sync_slave_enabled", "ON")], true, None),
            (&[], true, None),
        ];
        for (variables, was_receiving, expected) in table {
            let semi_sync = SemiSync::of(&Variables::of(variables));
            assert_eq!(
                semi_sync.to_switch_on(was_receiving),
                expected,
                "{variables:?}"
            );
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
