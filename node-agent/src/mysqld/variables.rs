//! The global variables the agent reads, all in one statement.
//!
//! Which of them exist depends on the version: what the server did not show is absent here and is never set.

use std::collections::BTreeMap;
use std::time::Duration;

use super::row::flag_of;
use super::{Session, SqlError};

/// Names that are asked for; a server shows those it has.
const NAMES: [&str; 62] = [
    "version",
    "server_id",
    "server_uuid",
    "hostname",
    "port",
    "socket",
    "datadir",
    "log_bin",
    "log_bin_basename",
    "log_bin_index",
    "relay_log",
    "relay_log_basename",
    "relay_log_index",
    "relay_log_info_file",
    "relay_log_info_repository",
    "master_info_repository",
    "relay_log_purge",
    "relay_log_recovery",
    "pid_file",
    "read_only",
    "super_read_only",
    "log_slave_updates",
    "log_replica_updates",
    "binlog_format",
    "binlog_checksum",
    "sync_binlog",
    "innodb_flush_log_at_trx_commit",
    "gtid_mode",
    "gtid_executed",
    "gtid_slave_pos",
    "gtid_binlog_pos",
    "gtid_binlog_state",
    "gtid_current_pos",
    "gtid_strict_mode",
    "gtid_ignore_duplicates",
    "slave_parallel_workers",
    "slave_parallel_threads",
    "slave_domain_parallel_threads",
    "replica_parallel_workers",
    "slave_checkpoint_period",
    "replica_checkpoint_period",
    "slave_net_timeout",
    "replica_net_timeout",
    "sync_relay_log_info",
    "sync_master_info",
    "replicate_do_db",
    "replicate_do_table",
    "replicate_ignore_db",
    "replicate_ignore_table",
    "replicate_wild_do_table",
    "replicate_wild_ignore_table",
    "binlog_encryption",
    "encrypt_binlog",
    "binlog_storage_engine",
    "rpl_semi_sync_master_enabled",
    "rpl_semi_sync_source_enabled",
    "rpl_semi_sync_slave_enabled",
    "rpl_semi_sync_replica_enabled",
    "rpl_semi_sync_master_wait_for_slave_count",
    "rpl_semi_sync_source_wait_for_replica_count",
    "rpl_semi_sync_master_timeout",
    "rpl_semi_sync_source_timeout",
];

/// Global variables of a server, by lower-case name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Variables(BTreeMap<String, String>);

impl Variables {
    /// Reads them.
    pub async fn read(session: &mut Session, limit: Duration) -> Result<Self, SqlError> {
        let names = NAMES
            .iter()
            .map(|name| format!("'{name}'"))
            .collect::<Vec<_>>()
            .join(",");
        let rows = session
            .query(
                "SHOW GLOBAL VARIABLES",
                &format!("SHOW GLOBAL VARIABLES WHERE Variable_name IN ({names})"),
                limit,
            )
            .await?;
        let mut variables = BTreeMap::new();
        for row in rows {
            let name = row.text("Variable_name")?.to_ascii_lowercase();
            variables.insert(name, row.text_or_empty("Value").to_owned());
        }
        Ok(Self(variables))
    }

    /// Variables made of literals, for tests.
    #[cfg(test)]
    pub(crate) fn of(pairs: &[(&str, &str)]) -> Self {
        Self(
            pairs
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect(),
        )
    }

    /// Value of a variable; `None` if this server has none of this name.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// Value, or empty.
    pub fn text(&self, name: &str) -> &str {
        self.get(name).unwrap_or("")
    }

    /// True if the variable exists and is on.
    pub fn is_on(&self, name: &str) -> bool {
        self.get(name).and_then(flag_of).unwrap_or(false)
    }

    /// Number in a variable; `None` if it is absent or no number.
    pub fn number<T: std::str::FromStr>(&self, name: &str) -> Option<T> {
        self.get(name)?.parse().ok()
    }

    /// Applier workers: 0 for one single-threaded applier.
    pub fn parallel_workers(&self) -> u32 {
        [
            "slave_parallel_workers",
            "replica_parallel_workers",
            "slave_parallel_threads",
        ]
        .iter()
        .find_map(|name| self.number(name))
        .unwrap_or(0)
    }

    /// Name of the variable with the period, in milliseconds, at which a parallel applier publishes its position.
    pub fn checkpoint_period_name(&self) -> Option<&'static str> {
        ["replica_checkpoint_period", "slave_checkpoint_period"]
            .into_iter()
            .find(|name| self.get(name).is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_server_lacks_is_absent_and_not_a_default() {
        let variables = Variables::of(&[
            ("read_only", "ON"),
            ("slave_parallel_workers", "4"),
            ("slave_checkpoint_period", "300"),
        ]);
        assert!(variables.is_on("read_only"));
        assert!(!variables.is_on("super_read_only"));
        assert_eq!(variables.get("super_read_only"), None);
        assert_eq!(variables.parallel_workers(), 4);
        assert_eq!(
            variables.checkpoint_period_name(),
            Some("slave_checkpoint_period")
        );
        assert_eq!(Variables::default().checkpoint_period_name(), None);
    }
}
