//! Options of one server, as a map over defaults that suit small, fast, yet durable servers.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use nix::unistd::Uid;

use super::fetch::ServerKind;

/// The size of the redo log, the same in the template and in the servers: 5.6 refuses another size after a kill.
pub(crate) const INNODB_LOG_FILE_SIZE: &str = "16M";

/// mysqld refuses to run as root unless it is told to.
pub(crate) fn run_as_root_option() -> Option<String> {
    Uid::effective().is_root().then(|| "--user=root".to_owned())
}

/// Options of one server; names with hyphens, values as in `my.cnf`.
#[derive(Debug, Clone, Default)]
pub struct ServerOptions {
    changes: BTreeMap<String, Option<String>>,
}

impl ServerOptions {
    /// The defaults of the sandbox: binary log `mysql-bin`, relay log `relay-bin`, durable commits, row format.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets `name=value`.
    #[must_use]
    pub fn set(mut self, name: &str, value: impl ToString) -> Self {
        self.changes.insert(normal(name), Some(value.to_string()));
        self
    }

    /// Removes a default of the sandbox, so that the server's own holds.
    #[must_use]
    pub fn unset(mut self, name: &str) -> Self {
        self.changes.insert(normal(name), None);
        self
    }

    /// Options of `other` on top of these.
    #[must_use]
    pub fn with(mut self, other: &Self) -> Self {
        self.changes.extend(other.changes.clone());
        self
    }

    /// The value that a server of this line gets, unless it is one the server sets by itself.
    pub fn get(&self, kind: ServerKind, name: &str) -> Option<String> {
        self.resolved(kind).remove(&normal(name))
    }

    /// Under the names of 5.6.
    fn resolved(&self, kind: ServerKind) -> BTreeMap<String, String> {
        let mut all: BTreeMap<String, String> = BTreeMap::new();
        for (name, value) in DEFAULTS {
            all.insert((*name).to_owned(), (*value).to_owned());
        }
        let own = kind
            .default_options()
            .iter()
            .map(|(name, value)| (*name, *value));
        let changes = self
            .changes
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_deref()));
        for (name, value) in own.chain(changes) {
            match value {
                Some(value) => all.insert(name.to_owned(), value.to_owned()),
                None => all.remove(name),
            };
        }
        all
    }

    /// The `my.cnf` text for a server of this line; `fixed` are the options that make the server this server.
    pub(crate) fn render(&self, kind: ServerKind, fixed: &[(&str, String)]) -> String {
        let mut all = self.resolved(kind);
        for (name, value) in fixed {
            all.insert(normal(name), value.clone());
        }
        let mut text = String::from("[mysqld]\n");
        for (name, value) in all {
            let name = kind.option(&name);
            // Writing to a String cannot fail.
            let _ = if value.is_empty() {
                writeln!(text, "{name}")
            } else {
                writeln!(text, "{name}={value}")
            };
        }
        text
    }
}

/// `relay_log` and `relay-log` are the same option.
fn normal(name: &str) -> String {
    name.replace('_', "-").to_ascii_lowercase()
}

/// An empty value stands for an option without one.
const DEFAULTS: &[(&str, &str)] = &[
    ("binlog-checksum", "CRC32"),
    ("binlog-format", "ROW"),
    ("character-set-server", "utf8"),
    ("innodb-buffer-pool-size", "32M"),
    ("innodb-flush-log-at-trx-commit", "1"),
    ("innodb-log-file-size", INNODB_LOG_FILE_SIZE),
    // Many servers at once on one host run into the kernel's limit of asynchronous requests.
    ("innodb-use-native-aio", "0"),
    ("log-bin", "mysql-bin"),
    ("log-slave-updates", "1"),
    ("loose-skip-host-cache", ""),
    ("max-connections", "100"),
    ("relay-log", "relay-bin"),
    ("skip-name-resolve", ""),
    ("sync-binlog", "1"),
    ("table-open-cache", "200"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_win_over_defaults_and_fixed_options_over_all() {
        let options = ServerOptions::new()
            .set("relay_log", "other")
            .unset("sync-binlog")
            .set("port", 1)
            .set("skip-x", "");
        let text = options.render(ServerKind::MySql56, &[("port", "2".to_owned())]);
        assert!(text.contains("\nrelay-log=other\n"), "{text}");
        assert!(text.contains("\nport=2\n"), "{text}");
        assert!(text.contains("\nskip-x\n"), "{text}");
        assert!(!text.contains("sync-binlog"), "{text}");
        assert_eq!(
            options.get(ServerKind::MySql56, "log_bin").as_deref(),
            Some("mysql-bin")
        );
    }

    #[test]
    fn a_line_has_its_own_defaults_and_names() {
        let options = ServerOptions::new().set("slave-parallel-workers", 2);
        let text = options.render(ServerKind::MySql97, &[]);
        assert!(text.contains("\nlog-replica-updates=1\n"), "{text}");
        assert!(text.contains("\nreplica-parallel-workers=2\n"), "{text}");
        assert!(text.contains("\nmysqlx=0\n"), "{text}");
        assert!(!text.contains("innodb-log-file-size"), "{text}");
        let text = options.render(ServerKind::MariaDb1011, &[]);
        assert!(text.contains("\nslave-parallel-workers=2\n"), "{text}");
        assert!(!text.contains("mysqlx"), "{text}");
    }
}
