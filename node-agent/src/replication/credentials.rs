//! Where the password of the channel is: the agent's configuration, `mysql.slave_master_info`, or `master.info`.
//!
//! The server never says the password of its channel, and CHANGE MASTER to the local source overwrites it, so it is
//! found before the first CHANGE or no CHANGE is made.

use std::path::{Path, PathBuf};
use std::time::Duration;

use binlog_core::MasterInfo;

use super::{Local, ReplicationError};
use crate::config::Secret;
use crate::error::chain;
use crate::mysqld::paths::Remembered;
use crate::mysqld::session::quote;
use crate::mysqld::status::ReplicaStatus;
use crate::mysqld::variables::Variables;
use crate::mysqld::{Session, SqlError};

/// Replication account of a channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credentials {
    /// Account.
    pub user: String,
    /// Password.
    pub password: Secret,
    /// Where it was found.
    pub found_in: FoundIn,
}

/// Where credentials were found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FoundIn {
    /// The agent's configuration.
    Config,
    /// The table of a TABLE repository.
    Table,
    /// The file of a FILE repository.
    File,
    /// Not looked for: the server keeps what a CHANGE does not name.
    Kept,
}

impl FoundIn {
    /// The word of the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Config => "config",
            Self::Table => "mysql.slave_master_info",
            Self::File => "master.info",
            Self::Kept => "",
        }
    }
}

/// Finds the credentials of the channel that `status` shows. `files` are the server's, fresh or remembered.
///
/// # Errors
/// [`ReplicationError::NoCredentials`] says where it looked and what was there.
pub async fn find(
    local: &Local,
    session: &mut Session,
    status: &ReplicaStatus,
    variables: &Variables,
    files: &Remembered,
    limit: Duration,
) -> Result<Credentials, ReplicationError> {
    if let Some(password) = &local.replication_password {
        return Ok(Credentials {
            user: local
                .replication_user
                .clone()
                .unwrap_or_else(|| status.source_user.clone()),
            password: password.clone(),
            found_in: FoundIn::Config,
        });
    }
    let none = |looked: String| ReplicationError::NoCredentials {
        server: local.server().to_owned(),
        user: status.source_user.clone(),
        looked,
    };
    if variables
        .text("master_info_repository")
        .eq_ignore_ascii_case("TABLE")
        || session.version().is_mysql_from(8, 3, 0)
    {
        return match from_table(session, status, limit).await {
            Ok(Some(credentials)) => Ok(credentials),
            Ok(None) => Err(none("mysql.slave_master_info has no such row".to_owned())),
            Err(error @ SqlError::Refused { .. }) => Err(none(error.to_string())),
            Err(error) => Err(error.into()),
        };
    }
    let path = info_file(&files.master_info_file, &status.channel);
    let file = path.clone();
    let read = tokio::task::spawn_blocking(move || read_file(&file))
        .await
        .map_err(|_| ReplicationError::Aborted {
            doing: "reading master.info",
        })?;
    match read {
        Ok(info) if info.user == status.source_user && info.host == status.source_host => {
            Ok(Credentials {
                user: info.user,
                password: Secret::new(info.password),
                found_in: FoundIn::File,
            })
        }
        Ok(info) => Err(none(format!(
            "{} is of {}@{}:{}",
            path.display(),
            info.user,
            info.host,
            info.port
        ))),
        Err(reason) => Err(none(reason)),
    }
}

/// `master.info`, or `master-NAME.info` of a named MariaDB connection.
fn info_file(default: &Path, channel: &str) -> PathBuf {
    if channel.is_empty() {
        return default.to_path_buf();
    }
    let stem = default
        .file_stem()
        .map(|stem| stem.to_string_lossy().into_owned())
        .unwrap_or_default();
    default.with_file_name(format!("{stem}-{}.info", channel.to_lowercase()))
}

fn read_file(path: &Path) -> Result<MasterInfo, String> {
    let text =
        std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    MasterInfo::parse(&text, path).map_err(|error| chain(&error))
}

async fn from_table(
    session: &mut Session,
    status: &ReplicaStatus,
    limit: Duration,
) -> Result<Option<Credentials>, SqlError> {
    let sql = format!(
        "SELECT User_name, User_password FROM mysql.slave_master_info WHERE Host={} AND Port={} AND User_name={}",
        quote(&status.source_host),
        status.source_port,
        quote(&status.source_user),
    );
    let rows = session
        .query("SELECT FROM mysql.slave_master_info", &sql, limit)
        .await?;
    let Some(row) = rows.first() else {
        return Ok(None);
    };
    Ok(Some(Credentials {
        user: row.text("User_name")?.to_owned(),
        password: Secret::new(row.text_or_empty("User_password").to_owned()),
        found_in: FoundIn::Table,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_named_connection_has_a_file_of_its_own() {
        let default = Path::new("/data/master.info");
        assert_eq!(info_file(default, ""), default);
        assert_eq!(
            info_file(default, "App1"),
            Path::new("/data/master-app1.info")
        );
    }
}
