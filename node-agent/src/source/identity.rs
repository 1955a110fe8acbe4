//! Who the dead primary was: everything the local source says about itself comes from here.

use binlog_core::ServerId;

/// Family of the dead primary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flavor {
    /// MySQL and builds of it.
    MySql,
    /// MariaDB.
    MariaDb,
}

/// Identity of the dead primary, remembered from when it lived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceIdentity {
    /// Its `server_id`; a replica refuses a source that has its own.
    pub server_id: ServerId,
    /// Its `server_uuid`; `None` for MariaDB and before MySQL 5.6.
    pub server_uuid: Option<String>,
    /// Family.
    pub flavor: Flavor,
    /// `@@version`, for instance `5.6.24-log`.
    pub version: String,
    /// `@@gtid_mode` as text; `None` where the variable does not exist (MariaDB, before MySQL 5.6).
    pub gtid_mode: Option<String>,
    /// `@@binlog_checksum` as text, `NONE` or `CRC32`; `None` before MySQL 5.6.
    pub binlog_checksum: Option<String>,
}

impl SourceIdentity {
    /// First number of the version; 0 if it has none.
    pub(super) fn major_version(&self) -> u32 {
        let digits: String = self
            .plain_version()
            .chars()
            .take_while(char::is_ascii_digit)
            .collect();
        digits.parse().unwrap_or(0)
    }

    /// The version without the prefix of the greeting.
    pub(super) fn plain_version(&self) -> &str {
        self.version.strip_prefix("5.5.5-").unwrap_or(&self.version)
    }

    /// The version as the greeting says it: MariaDB 10 pretends to be 5.5.5, or old replicas refuse "version 10".
    pub(super) fn greeting_version(&self) -> String {
        match self.flavor {
            Flavor::MariaDb if self.major_version() == 10 => {
                format!("5.5.5-{}", self.plain_version())
            }
            Flavor::MySql | Flavor::MariaDb => self.plain_version().to_owned(),
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A primary like the customer's.
    pub(crate) fn mysql56() -> SourceIdentity {
        SourceIdentity {
            server_id: ServerId(1),
            server_uuid: Some("3e11fa47-71ca-11e1-9e33-c80aa9429562".to_owned()),
            flavor: Flavor::MySql,
            version: "5.6.24-log".to_owned(),
            gtid_mode: Some("OFF".to_owned()),
            binlog_checksum: Some("CRC32".to_owned()),
        }
    }

    /// A MariaDB primary.
    pub(crate) fn mariadb() -> SourceIdentity {
        SourceIdentity {
            server_id: ServerId(71),
            server_uuid: None,
            flavor: Flavor::MariaDb,
            version: "10.11.19-MariaDB-log".to_owned(),
            gtid_mode: None,
            binlog_checksum: Some("CRC32".to_owned()),
        }
    }

    #[test]
    fn versions_are_read_as_numbers_and_prefixed_only_for_mariadb_10() {
        assert_eq!(mysql56().major_version(), 5);
        assert_eq!(mysql56().greeting_version(), "5.6.24-log");
        assert_eq!(mariadb().major_version(), 10);
        assert_eq!(mariadb().greeting_version(), "5.5.5-10.11.19-MariaDB-log");
        let prefixed = SourceIdentity {
            version: "5.5.5-10.11.19-MariaDB".to_owned(),
            ..mariadb()
        };
        assert_eq!(prefixed.greeting_version(), "5.5.5-10.11.19-MariaDB");
        let eleven = SourceIdentity {
            version: "11.8.6-MariaDB".to_owned(),
            ..mariadb()
        };
        assert_eq!(eleven.greeting_version(), "11.8.6-MariaDB");
        let calendar = SourceIdentity {
            version: "26.7.0".to_owned(),
            ..mysql56()
        };
        assert_eq!(calendar.major_version(), 26);
    }
}
