//! The local server as the acts of this module see it: how to reach it, and where its record is.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::ReplicationError;
use super::channel::Compression;
use crate::config::Secret;
use crate::mysqld::status::{self, ReplicaStatus};
use crate::mysqld::{Deadline, Dialect, Endpoint, Session};

/// Longest wait for a statement that only reads or sets something small.
const SMALL: Duration = Duration::from_secs(5);

/// Keeps relay logs aside before a statement deletes them.
pub trait ProtectRelayLogs: Send + Sync + fmt::Debug {
    /// Makes sure that the bytes of these files stay readable after the server deleted them. Called in a blocking
    /// thread, with both replication threads stopped; files kept already cost nothing.
    ///
    /// # Errors
    /// If one of them is not kept: no CHANGE follows then.
    fn protect(&self, files: &[PathBuf]) -> io::Result<()>;
}

/// The local server.
#[derive(Debug, Clone)]
pub struct Local {
    /// How to reach it.
    pub endpoint: Endpoint,
    /// `<state>/servers/NAME`.
    pub state_folder: PathBuf,
    /// Replication account of the agent's configuration; `None`: as the channel has it.
    pub replication_user: Option<String>,
    /// Its password.
    pub replication_password: Option<Secret>,
    /// Who keeps relay logs.
    pub protect: Arc<dyn ProtectRelayLogs>,
}

/// An open session to the local server with its words.
#[derive(Debug)]
pub(super) struct Control {
    pub(super) session: Session,
    pub(super) dialect: Dialect,
}

impl Local {
    /// Server name.
    pub fn server(&self) -> &str {
        &self.endpoint.server
    }

    /// Connects; at most five seconds of the caller's time.
    pub(super) async fn control(&self, limit: Duration) -> Result<Control, ReplicationError> {
        let session = Session::connect(&self.endpoint, limit.min(SMALL)).await?;
        let dialect = Dialect::new(session.version().clone());
        Ok(Control { session, dialect })
    }
}

impl Control {
    /// Status of the channel; learns the channel's name where it is not the default one.
    pub(super) async fn status(&mut self) -> Result<Option<ReplicaStatus>, ReplicationError> {
        let status = status::read(&mut self.session, &self.dialect, SMALL).await?;
        if let Some(status) = &status
            && status.channel != self.dialect.channel()
        {
            self.dialect =
                Dialect::for_channel(self.session.version().clone(), status.channel.clone());
            if let Some(select) = self.dialect.select_channel() {
                self.session.exec(&select, SMALL).await?;
            }
        }
        Ok(status)
    }

    /// Status of a server that must be a replica.
    pub(super) async fn replica(&mut self) -> Result<ReplicaStatus, ReplicationError> {
        self.status()
            .await?
            .ok_or_else(|| ReplicationError::NotAReplica {
                server: self.session.server().to_owned(),
            })
    }

    /// Stops the receiver if it runs or tries to, and returns the status afterwards.
    pub(super) async fn stop_receiver(
        &mut self,
        limit: Duration,
    ) -> Result<ReplicaStatus, ReplicationError> {
        let status = self.replica().await?;
        if status.receiver == status::Receiver::Stopped {
            return Ok(status);
        }
        let stop = self.dialect.stop_receiver();
        self.session.exec(&stop, limit).await?;
        self.replica().await
    }

    /// Heartbeat period of the channel in seconds, as the server prints it. Every CHANGE that does not name it sets it
    /// to half of `slave_net_timeout`.
    pub(super) async fn heartbeat_period(
        &mut self,
        limit: Duration,
    ) -> Result<Option<String>, ReplicationError> {
        let sql = self.dialect.heartbeat_period();
        let row = self.session.query_row(&sql, limit).await?;
        Ok(row
            .map(|row| row.text_or_empty("Value").to_owned())
            .filter(|period| !period.is_empty()))
    }

    /// How the channel's connection is compressed; `None` where it is not.
    pub(super) async fn compression(
        &mut self,
        limit: Duration,
    ) -> Result<Option<Compression>, ReplicationError> {
        let Some(sql) = self.dialect.compression() else {
            return Ok(None);
        };
        let Some(row) = self.session.query_row(&sql, limit).await? else {
            return Ok(None);
        };
        let algorithms = row.text("Algorithms")?.to_owned();
        if algorithms.eq_ignore_ascii_case(Compression::NONE) {
            return Ok(None);
        }
        Ok(Some(Compression {
            algorithms,
            zstd_level: row.number("Level")?,
        }))
    }

    /// The server's number.
    pub(super) async fn server_id(&mut self) -> Result<u32, ReplicationError> {
        let text = self
            .session
            .query_value("SELECT @@GLOBAL.server_id", SMALL)
            .await?
            .unwrap_or_default();
        text.parse().map_err(|_| ReplicationError::Contradiction {
            server: self.session.server().to_owned(),
            what: "@@server_id",
            expected: "a number".to_owned(),
            found: text,
        })
    }

    /// What the server executed by GTID: MySQL `gtid_executed`, MariaDB `gtid_slave_pos`; empty where it has none.
    pub(super) async fn gtid_executed(&mut self) -> Result<String, ReplicationError> {
        let sql = if self.dialect.version().is_mariadb() {
            "SELECT @@GLOBAL.gtid_slave_pos"
        } else if self.dialect.version().is_mysql_from(5, 6, 0) {
            "SELECT @@GLOBAL.gtid_executed"
        } else {
            return Ok(String::new());
        };
        let value = self.session.query_value(sql, SMALL).await?;
        Ok(value.unwrap_or_default().replace('\n', ""))
    }
}

/// The limit for small statements, cut to the caller's deadline.
pub(super) fn small(deadline: Deadline) -> Duration {
    deadline.at_most(SMALL)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    #[derive(Debug)]
    struct Nothing;

    impl ProtectRelayLogs for Nothing {
        fn protect(&self, _: &[PathBuf]) -> io::Result<()> {
            Ok(())
        }
    }

    /// A server that nobody can reach, with this state folder.
    pub(in crate::replication) fn unreachable(folder: &std::path::Path) -> Local {
        Local {
            endpoint: Endpoint {
                server: "db2:3306".to_owned(),
                socket: folder.join("mysqld.sock"),
                user: "mha".to_owned(),
                password: None,
            },
            state_folder: folder.to_owned(),
            replication_user: None,
            replication_password: None,
            protect: Arc::new(Nothing),
        }
    }
}
