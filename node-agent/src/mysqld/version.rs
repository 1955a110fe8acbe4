//! Which family and version a server is, as numbers.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Family of servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Flavor {
    /// MySQL and builds of it (Percona Server and others).
    MySql,
    /// MariaDB.
    MariaDb,
}

/// A server's version. Ordering is by number, never by text, within one flavor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerVersion {
    /// Family.
    pub flavor: Flavor,
    /// First number.
    pub major: u16,
    /// Second number.
    pub minor: u16,
    /// Third number; 0 if there is none.
    pub patch: u16,
    /// `@@version` as the server says it.
    pub text: String,
}

impl ServerVersion {
    /// Reads `@@version`; `None` if it does not start with `MAJOR.MINOR`.
    ///
    /// MariaDB may put `5.5.5-` in front for old clients; builds append all sorts of suffixes, and from 26.10 on
    /// MySQL has a fourth number: only the first three count here.
    pub fn parse(text: &str) -> Option<Self> {
        let flavor = if text.to_ascii_lowercase().contains("mariadb") {
            Flavor::MariaDb
        } else {
            Flavor::MySql
        };
        let numbers = match flavor {
            Flavor::MariaDb => text.strip_prefix("5.5.5-").unwrap_or(text),
            Flavor::MySql => text,
        };
        let numbers = numbers
            .split_once(|c: char| !c.is_ascii_digit() && c != '.')
            .map_or(numbers, |(head, _)| head);
        let mut parts = numbers.split('.').map(str::parse::<u16>);
        let major = parts.next()?.ok()?;
        let minor = parts.next()?.ok()?;
        let patch = parts.next().and_then(Result::ok).unwrap_or(0);
        Some(Self {
            flavor,
            major,
            minor,
            patch,
            text: text.to_owned(),
        })
    }

    /// True for MySQL of at least this version.
    pub fn is_mysql_from(&self, major: u16, minor: u16, patch: u16) -> bool {
        self.flavor == Flavor::MySql
            && (self.major, self.minor, self.patch) >= (major, minor, patch)
    }

    /// True for MariaDB.
    pub fn is_mariadb(&self) -> bool {
        self.flavor == Flavor::MariaDb
    }
}

impl fmt::Display for ServerVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_numbers_behind_any_dress() {
        let table = [
            ("5.6.24", Flavor::MySql, (5, 6, 24)),
            ("5.6.24-log", Flavor::MySql, (5, 6, 24)),
            ("8.0.36-28.1", Flavor::MySql, (8, 0, 36)),
            ("9.7.4", Flavor::MySql, (9, 7, 4)),
            ("26.10.0.1", Flavor::MySql, (26, 10, 0)),
            (
                "10.11.19-MariaDB-0+deb12u1-log",
                Flavor::MariaDb,
                (10, 11, 19),
            ),
            ("5.5.5-10.5.23-MariaDB", Flavor::MariaDb, (10, 5, 23)),
            ("11.8-MariaDB", Flavor::MariaDb, (11, 8, 0)),
        ];
        for (text, flavor, numbers) in table {
            let version = ServerVersion::parse(text).unwrap();
            assert_eq!(version.flavor, flavor, "{text}");
            assert_eq!(
                (version.major, version.minor, version.patch),
                numbers,
                "{text}"
            );
            assert_eq!(version.to_string(), text);
        }
    }

    #[test]
    fn what_does_not_start_with_two_numbers_is_no_version() {
        for text in ["", "x", "8", "8.", "MariaDB", "99999999.1"] {
            assert!(ServerVersion::parse(text).is_none(), "{text}");
        }
    }

    #[test]
    fn ten_is_greater_than_nine_and_mariadb_is_never_a_new_mysql() {
        let at = |text| ServerVersion::parse(text).unwrap();
        assert!(at("8.0.23").is_mysql_from(8, 0, 22));
        assert!(at("26.7.0").is_mysql_from(9, 7, 4));
        assert!(!at("8.0.9").is_mysql_from(8, 0, 10));
        assert!(!at("10.11.19-MariaDB").is_mysql_from(8, 0, 22));
    }
}
