//! Statements, columns, options and channel settings under the names that each server line knows, in this one place.
//!
//! The rest of the sandbox speaks as MySQL 5.6 to 8.0 and MariaDB do, and their words pass unchanged. MySQL 9.7 knows none of
//! them any more: what is asked of it is translated here, and so are the columns of its answers.

use std::borrow::Cow;
use std::net::Ipv4Addr;

use super::accounts::Account;
use super::fetch::ServerKind;

/// Where a replica begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Start {
    /// At this file and offset.
    At {
        /// File name.
        file: String,
        /// Offset in bytes.
        offset: u64,
    },
    /// Behind the GTIDs it has: `MASTER_AUTO_POSITION=1`, on MariaDB `MASTER_USE_GTID=slave_pos`.
    Gtid,
}

/// The settings of a channel that the sandbox gives to a replica.
#[derive(Debug, Clone)]
pub struct Channel {
    /// The source's address.
    pub address: Ipv4Addr,
    /// Its port.
    pub port: u16,
    /// The account to replicate with.
    pub account: Account,
    /// Where to begin.
    pub start: Start,
}

impl ServerKind {
    /// Whether only `SOURCE` and `REPLICA` are understood.
    fn is_renamed(self) -> bool {
        matches!(self, Self::MySql97)
    }

    /// A statement of 5.6 in this server's words.
    pub fn statement(self, statement: &str) -> Cow<'_, str> {
        if !self.is_renamed() {
            return Cow::Borrowed(statement);
        }
        Cow::Owned(match statement {
            "SHOW MASTER STATUS" => "SHOW BINARY LOG STATUS".to_owned(),
            "SHOW MASTER LOGS" => "SHOW BINARY LOGS".to_owned(),
            "RESET MASTER" => "RESET BINARY LOGS AND GTIDS".to_owned(),
            other => other
                .replace("CHANGE MASTER TO", "CHANGE REPLICATION SOURCE TO")
                .replace("MASTER_", "SOURCE_")
                .replace("SLAVE", "REPLICA"),
        })
    }

    /// The name under which 5.6 shows a column of the replica's status: `Source_Log_File` is `Master_Log_File`.
    pub fn status_column(self, column: &str) -> String {
        if self.is_renamed() {
            column
                .replace("Get_Source", "Get_master")
                .replace("Source", "Master")
                .replace("Replica", "Slave")
        } else {
            column.to_owned()
        }
    }

    /// A name of 5.6 for an option or a variable, with hyphens or underscores: `log-slave-updates`.
    pub fn option(self, name: &str) -> String {
        if self.is_renamed() {
            name.replace("slave", "replica").replace("master", "source")
        } else {
            name.to_owned()
        }
    }

    /// The statement that lets a replica follow a source, with both threads stopped.
    pub fn change_source(self, channel: &Channel) -> String {
        let start = match &channel.start {
            Start::At { file, offset } => {
                let by_position = if self.is_mariadb() {
                    ", MASTER_USE_GTID=no"
                } else {
                    ", MASTER_AUTO_POSITION=0"
                };
                format!("MASTER_LOG_FILE='{file}', MASTER_LOG_POS={offset}{by_position}")
            }
            Start::Gtid if self.is_mariadb() => "MASTER_USE_GTID=slave_pos".to_owned(),
            Start::Gtid => "MASTER_AUTO_POSITION=1".to_owned(),
        };
        // The gate understands no TLS, which 9.7 and MariaDB 11.8 would use by themselves. Without it a MySQL source shows
        // a caching_sha2_password account its key only to who asks for it.
        let key = match self {
            Self::MySql80 | Self::MySql97 => ", MASTER_SSL=0, GET_MASTER_PUBLIC_KEY=1",
            Self::MariaDb118 => ", MASTER_SSL=0, MASTER_SSL_VERIFY_SERVER_CERT=0",
            Self::MySql56 | Self::MySql57 | Self::MariaDb105 | Self::MariaDb1011 => "",
        };
        let statement = format!(
            "CHANGE MASTER TO MASTER_HOST='{}', MASTER_PORT={}, MASTER_USER='{}', MASTER_PASSWORD='{}', \
             MASTER_CONNECT_RETRY=1, {start}{key}",
            channel.address, channel.port, channel.account.user, channel.account.password,
        );
        self.statement(&statement).into_owned()
    }

    /// Options that this server needs or lacks, over the sandbox's defaults; `None` removes one.
    pub(crate) fn default_options(self) -> &'static [(&'static str, Option<&'static str>)] {
        match self {
            Self::MySql56
            | Self::MySql57
            | Self::MariaDb105
            | Self::MariaDb1011
            | Self::MariaDb118 => &[],
            Self::MySql80 => &[
                ("character-set-server", Some("utf8mb4")),
                ("mysqlx", Some("0")),
            ],
            Self::MySql97 => &[
                ("character-set-server", Some("utf8mb4")),
                ("innodb-log-file-size", None),
                ("innodb-redo-log-capacity", Some("16M")),
                ("loose-skip-host-cache", None),
                ("mysqlx", Some("0")),
                // The built-in folder belongs to a system-wide installation, and the server does not start without it.
                ("secure-file-priv", Some("\"\"")),
            ],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn channel(start: Start) -> Channel {
        Channel {
            address: Ipv4Addr::LOCALHOST,
            port: 3306,
            account: Account {
                user: "u",
                password: "MASTER",
            },
            start,
        }
    }

    #[test]
    fn each_line_gets_the_words_it_knows() {
        let at = channel(Start::At {
            file: "mysql-bin.000002".to_owned(),
            offset: 4,
        });
        let old = "CHANGE MASTER TO MASTER_HOST='127.0.0.1', MASTER_PORT=3306, MASTER_USER='u', MASTER_PASSWORD='MASTER', \
                   MASTER_CONNECT_RETRY=1, ";
        assert_eq!(
            ServerKind::MySql56.change_source(&channel(Start::Gtid)),
            format!("{old}MASTER_AUTO_POSITION=1")
        );
        assert_eq!(
            ServerKind::MariaDb1011.change_source(&at),
            format!(
                "{old}MASTER_LOG_FILE='mysql-bin.000002', MASTER_LOG_POS=4, MASTER_USE_GTID=no"
            )
        );
        assert_eq!(
            ServerKind::MySql97.change_source(&at),
            "CHANGE REPLICATION SOURCE TO SOURCE_HOST='127.0.0.1', SOURCE_PORT=3306, SOURCE_USER='u', \
             SOURCE_PASSWORD='MASTER', SOURCE_CONNECT_RETRY=1, SOURCE_LOG_FILE='mysql-bin.000002', SOURCE_LOG_POS=4, \
             SOURCE_AUTO_POSITION=0, SOURCE_SSL=0, GET_SOURCE_PUBLIC_KEY=1"
        );
        assert_eq!(
            ServerKind::MySql80.change_source(&channel(Start::Gtid)),
            format!("{old}MASTER_AUTO_POSITION=1, MASTER_SSL=0, GET_MASTER_PUBLIC_KEY=1")
        );
        assert_eq!(
            ServerKind::MariaDb118.change_source(&channel(Start::Gtid)),
            format!(
                "{old}MASTER_USE_GTID=slave_pos, MASTER_SSL=0, MASTER_SSL_VERIFY_SERVER_CERT=0"
            )
        );
        assert_eq!(
            ServerKind::MySql97.statement("STOP SLAVE IO_THREAD"),
            "STOP REPLICA IO_THREAD"
        );
        assert_eq!(
            ServerKind::MySql56.statement("STOP SLAVE IO_THREAD"),
            "STOP SLAVE IO_THREAD"
        );
    }

    #[test]
    fn columns_and_options_are_renamed_both_ways() {
        let renamed = ServerKind::MySql97;
        assert_eq!(
            renamed.status_column("Relay_Source_Log_File"),
            "Relay_Master_Log_File"
        );
        assert_eq!(
            renamed.status_column("Replica_IO_Running"),
            "Slave_IO_Running"
        );
        assert_eq!(renamed.option("log-slave-updates"), "log-replica-updates");
        assert_eq!(
            ServerKind::MySql56.option("log-slave-updates"),
            "log-slave-updates"
        );
    }
}
