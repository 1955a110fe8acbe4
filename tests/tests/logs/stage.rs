//! A primary and a replica on which one situation after another is played, each from empty logs.

use std::path::Path;
use std::time::Duration;

use tempfile::TempDir;
use tests::sandbox::replica::{self, LogPlace};
use tests::sandbox::slot::Slot;
use tests::sandbox::{Cluster, ClusterSpec, Replication, SandboxError, Server, ServerKind, wait};

use super::naive;

/// A primary (server 0) and a replica (server 1).
pub(crate) struct Stage {
    // Dropped in this order: the servers end before another test may start.
    cluster: Cluster,
    scratch: TempDir,
    replication: Replication,
    _slot: Slot,
}

impl Stage {
    pub(crate) async fn start(
        kind: ServerKind,
        replication: Replication,
    ) -> Result<Self, SandboxError> {
        let slot = Slot::take().await?;
        let mut spec = ClusterSpec::new(kind)
            .replicas(1)
            .replication(replication)
            // Situations remove relay logs themselves.
            .set("relay-log-purge", 0)
            .set("max-allowed-packet", "16M")
            .set("slave-net-timeout", 10);
        if replication == Replication::AutoPosition {
            spec = spec
                .set("gtid-mode", "ON")
                .set("enforce-gtid-consistency", 1);
        } else if kind == ServerKind::MySql97 {
            // It is on by default there.
            spec = spec.set("gtid-mode", "OFF");
        }
        let cluster = Cluster::start(spec).await?;
        // Segments are written by the thousand, each of them synced: in memory if there is such a folder.
        let memory = Path::new("/dev/shm");
        let scratch = if memory.is_dir() {
            tempfile::Builder::new().prefix("mha-").tempdir_in(memory)
        } else {
            tempfile::tempdir()
        };
        Ok(Self {
            cluster,
            scratch: scratch.unwrap(),
            replication,
            _slot: slot,
        })
    }

    pub(crate) fn kind(&self) -> ServerKind {
        self.cluster.kind()
    }

    pub(crate) fn replication(&self) -> Replication {
        self.replication
    }

    pub(crate) fn label(&self) -> String {
        format!("{} {:?}", self.kind(), self.replication)
    }

    pub(crate) fn scratch(&self) -> &Path {
        self.scratch.path()
    }

    pub(crate) fn primary(&self) -> &Server {
        self.cluster.server(0)
    }

    pub(crate) fn replica(&self) -> &Server {
        self.cluster.server(1)
    }

    /// Statements on the primary, in one session, in the words of 5.6.
    pub(crate) async fn write(&self, statements: &[&str]) -> Result<(), SandboxError> {
        on(self.primary(), statements).await?;
        if statements.contains(&"FLUSH LOGS") {
            replica::rotated(self.primary()).await?;
        }
        Ok(())
    }

    /// Statements on the replica, in one session, in the words of 5.6.
    pub(crate) async fn replica_do(&self, statements: &[&str]) -> Result<(), SandboxError> {
        on(self.replica(), statements).await
    }

    /// Empty logs on both servers, no table, the replica following from the start; without `follow` its receiver is
    /// not started.
    pub(crate) async fn begin(&self) -> Result<(), SandboxError> {
        self.cluster.release(1);
        let clean = [
            "SET sql_log_bin=0",
            "DROP DATABASE IF EXISTS t",
            "RESET MASTER",
        ];
        self.replica_do(&["STOP SLAVE", "RESET SLAVE ALL"]).await?;
        self.replica_do(&clean).await?;
        if self.kind().is_mariadb() {
            self.replica_do(&["SET GLOBAL gtid_slave_pos=''"]).await?;
        }
        self.write(&clean).await?;
        self.cluster
            .follow(self.replica(), self.primary(), self.replication)
            .await?;
        self.received().await
    }

    /// Tables, replicated.
    pub(crate) async fn tables(&self) -> Result<(), SandboxError> {
        self.write(&[
            "CREATE DATABASE t",
            "CREATE TABLE t.a (id INT AUTO_INCREMENT PRIMARY KEY, v LONGTEXT) ENGINE=InnoDB",
            "CREATE TABLE t.m (id INT AUTO_INCREMENT PRIMARY KEY, v TEXT) ENGINE=MyISAM",
        ])
        .await
    }

    /// Transactions of one row each, of about `size` bytes.
    pub(crate) async fn rows(&self, count: u32, size: u32) -> Result<(), SandboxError> {
        let statement = format!("INSERT INTO t.a (v) VALUES (REPEAT('x', {size}))");
        self.write(&vec![statement.as_str(); count as usize]).await
    }

    /// One transaction of several statements and events.
    pub(crate) async fn transaction(&self, rows: u32) -> Result<(), SandboxError> {
        let one = "INSERT INTO t.a (v) VALUES (REPEAT('y', 90)), ('z')";
        let mut statements = vec!["BEGIN"];
        statements.extend(vec![one; rows as usize]);
        statements.extend([
            "UPDATE t.a SET v = UPPER(v) ORDER BY id DESC LIMIT 2",
            "COMMIT",
        ]);
        self.write(&statements).await
    }

    /// Waits until the replica has received the primary's log to its end. A row comes last, so that the end is that of an
    /// event which relay logs hold.
    pub(crate) async fn received(&self) -> Result<(), SandboxError> {
        let end = replica::binlog_end(self.primary()).await?;
        replica::wait_until(self.replica(), &format!("received up to {end}"), |status| {
            Ok(status.read()? == end && status.io_running()? == "Yes")
        })
        .await?;
        Ok(())
    }

    /// [`Self::received`], and executed.
    pub(crate) async fn caught_up(&self) -> Result<(), SandboxError> {
        self.cluster.wait_caught_up().await
    }

    /// Waits until the replica reads the primary's newest file, of which it may store nothing.
    pub(crate) async fn in_newest_file(&self) -> Result<(), SandboxError> {
        let end = replica::binlog_end(self.primary()).await?;
        replica::wait_until(self.replica(), &format!("reading {}", end.file), |status| {
            Ok(status.read()?.file == end.file)
        })
        .await?;
        Ok(())
    }

    /// A transaction of which the replica receives the first half; returns where it stops.
    pub(crate) async fn half_received(&self) -> Result<LogPlace, SandboxError> {
        let begin = self.cluster.hold_here(1).await?;
        self.transaction(8).await?;
        let path = self.primary().datadir().join(&begin.file);
        let ends: Vec<u64> = naive::events(&path)
            .iter()
            .map(naive::Event::end)
            .filter(|end| *end > begin.offset)
            .collect();
        let half = LogPlace::new(&begin.file, ends[ends.len() / 2]);
        self.cluster.hold(1, &half);
        wait::until(
            "half a transaction received",
            Duration::from_secs(60),
            || async {
                let read = replica::must_status(self.replica()).await?.read()?;
                Ok(if read.offset >= half.offset {
                    wait::Look::Done(())
                } else {
                    wait::Look::NotYet(read.to_string())
                })
            },
        )
        .await?;
        Ok(half)
    }

    /// The replica receives everything again.
    pub(crate) fn release(&self) {
        self.cluster.release(1);
    }

    /// SIGTERM and start.
    pub(crate) async fn restart(&self, number: usize) -> Result<(), SandboxError> {
        self.cluster.server(number).stop().await?;
        self.up(number).await
    }

    /// SIGKILL and start.
    pub(crate) async fn kill(&self, number: usize) -> Result<(), SandboxError> {
        self.cluster.server(number).kill()?;
        self.up(number).await
    }

    async fn up(&self, number: usize) -> Result<(), SandboxError> {
        self.cluster.server(number).start().await?;
        if number == 1 {
            self.replica_do(&["SET GLOBAL read_only=1"]).await?;
        }
        Ok(())
    }
}

async fn on(server: &Server, statements: &[&str]) -> Result<(), SandboxError> {
    let kind = server.kind();
    let mut session = server.admin().await?;
    for statement in statements {
        session.exec(&kind.statement(statement)).await?;
    }
    session.close().await
}
