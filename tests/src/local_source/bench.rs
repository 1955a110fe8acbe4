//! A server that writes binary logs, a server that replays them, and the product's local source between the two.
//!
//! The first is never a source of the second: what the second gets are segments, cut from the first one's files as an
//! agent cuts them and served by [`LocalSource`]. Both are emptied between experiments, so that every log begins with
//! the format description of a server that has just started, the dangerous one.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use binlog_core::{BinaryLogs, BinlogPosition, CutPlan, ServerId};
use node_agent::source::fault::FaultPlan;
use node_agent::source::{
    ChainFeed, Flavor, LocalSource, ReplayAccount, SourceConfig, SourceIdentity, SourceLimits,
};
use tempfile::TempDir;

use super::Trouble;
use crate::sandbox::accounts::Account;
use crate::sandbox::dialect::{Channel, Start};
use crate::sandbox::replica::{self, LogPlace};
use crate::sandbox::slot::Slot;
use crate::sandbox::{Client, Cluster, ClusterSpec, SandboxError, Server, ServerKind};

/// How long a state may take to come.
pub(super) const LIMIT: Duration = Duration::from_secs(90);

/// The account of the experiments' own local sources; not of the kind that the agent takes for one of its own.
pub(super) const ACCOUNT: Account = Account {
    user: "stand_in",
    password: "stand-in-secret",
};

/// Two servers of one line.
pub struct Bench {
    // Dropped in this order: the servers end before another cluster may start.
    cluster: Cluster,
    folder: TempDir,
    files: AtomicU32,
    pub(super) gtid: bool,
    _slot: Slot,
}

/// The text of a log's first place.
pub(super) fn first_place() -> Result<BinlogPosition, Trouble> {
    position(&LogPlace::new("mysql-bin.000001", 4))
}

/// The same place as the product names it.
pub(super) fn position(place: &LogPlace) -> Result<BinlogPosition, Trouble> {
    place
        .to_string()
        .parse()
        .map_err(|_| Trouble::lacks(format!("a file name in {place}")))
}

impl Bench {
    /// Starts both servers; waits until a cluster may run.
    pub(super) async fn start(kind: ServerKind, gtid: bool) -> Result<Self, Trouble> {
        let slot = Slot::take().await?;
        let mut spec = ClusterSpec::new(kind)
            .replicas(1)
            .set("secure-file-priv", "\"\"")
            .set("max-allowed-packet", "64M");
        if gtid {
            spec = spec.by_gtid();
        } else if !kind.is_mariadb() {
            spec = spec
                .set("gtid-mode", "OFF")
                .set("enforce-gtid-consistency", "OFF");
        }
        let cluster = Cluster::start(spec).await?;
        let scratch = std::env::temp_dir();
        let folder = tempfile::tempdir().map_err(|source| SandboxError::Io {
            action: "create a folder in",
            path: scratch,
            source,
        })?;
        let bench = Self {
            cluster,
            folder,
            files: AtomicU32::new(0),
            gtid,
            _slot: slot,
        };
        bench.fresh().await?;
        Ok(bench)
    }

    pub(super) fn kind(&self) -> ServerKind {
        self.cluster.kind()
    }

    pub(super) fn is_mariadb(&self) -> bool {
        self.kind().is_mariadb()
    }

    /// Who writes.
    pub(super) fn primary(&self) -> &Server {
        self.cluster.primary()
    }

    /// Who replays.
    pub(super) fn replica(&self) -> &Server {
        self.cluster.server(1)
    }

    pub(super) fn new_path(&self, what: &str) -> PathBuf {
        let number = self.files.fetch_add(1, Ordering::Relaxed);
        self.folder.path().join(format!("{what}-{number}"))
    }

    /// A file for the servers to read.
    pub(super) fn file(&self, what: &str, text: &str) -> Result<PathBuf, Trouble> {
        let path = self.new_path(what);
        std::fs::write(&path, text).map_err(SandboxError::io("write", &path))?;
        Ok(path)
    }

    /// Empties both servers and their logs; the replica is none, and has one applier thread and usual settings.
    pub(super) async fn fresh(&self) -> Result<(), Trouble> {
        let kind = self.kind();
        let mut session = self.replica().admin().await?;
        for statement in ["STOP SLAVE", "RESET SLAVE ALL"] {
            session.exec(&kind.statement(statement)).await?;
        }
        drop(session);
        for server in [self.replica(), self.primary()] {
            let mut session = server.admin().await?;
            session.exec("SET sql_log_bin=0").await?;
            for name in ["e", "e2"] {
                session
                    .exec(&format!("DROP DATABASE IF EXISTS {name}"))
                    .await?;
            }
            session.exec(&kind.statement("RESET MASTER")).await?;
        }
        replica::rotated(self.primary()).await?;
        if self.is_mariadb() {
            self.replica().exec("SET GLOBAL gtid_slave_pos=''").await?;
        }
        self.set_replica("slave_net_timeout", "60").await?;
        self.workers(0).await
    }

    /// Sets a global variable of the replica, given by its old name.
    pub(super) async fn set_replica(&self, name: &str, value: &str) -> Result<(), Trouble> {
        let name = self.kind().option(name);
        let sql = format!("SET GLOBAL {name}={value}");
        Ok(self.replica().exec(&sql).await?)
    }

    /// Sets the number of parallel appliers; the replica must stand still.
    pub(super) async fn workers(&self, number: u32) -> Result<(), Trouble> {
        let name = if self.is_mariadb() {
            "slave_parallel_threads"
        } else {
            "slave_parallel_workers"
        };
        self.set_replica(name, &number.to_string()).await
    }

    /// A session that writes in this format.
    pub(super) async fn writer(&self, format: &str) -> Result<Client, Trouble> {
        let mut session = self.primary().admin().await?;
        session
            .exec(&format!("SET SESSION binlog_format={format}"))
            .await?;
        Ok(session)
    }

    /// Runs statements in a session of their own that writes in this format; returns where the log ends.
    pub(super) async fn write<T: AsRef<str>>(
        &self,
        format: &str,
        statements: &[T],
    ) -> Result<BinlogPosition, Trouble> {
        let mut session = self.writer(format).await?;
        for statement in statements {
            session.exec(statement.as_ref()).await?;
        }
        self.end().await
    }

    /// Where the primary's log ends.
    pub(super) async fn end(&self) -> Result<BinlogPosition, Trouble> {
        position(&replica::binlog_end(self.primary()).await?)
    }

    /// Cuts a segment from the primary's files, as its agent does.
    pub(super) async fn segment(
        &self,
        from: &BinlogPosition,
        to: &BinlogPosition,
    ) -> Result<PathBuf, Trouble> {
        let base = self.primary().binlog_base();
        let (from, to) = (from.clone(), to.clone());
        let path = self.new_path("segment");
        let work = tokio::task::spawn_blocking(move || {
            match BinaryLogs::open(&base)?.plan_cut(&from, Some(&to))? {
                CutPlan::Cut(cut) => {
                    cut.write(&path, "db1", &mut |_| {})?;
                    Ok(path)
                }
                CutPlan::Nothing(_) => Err(Trouble::lacks(format!("anything in [{from}, {to})"))),
            }
        });
        work.await
            .map_err(|_| Trouble::lacks("a cut that came to its end"))?
    }

    /// One segment of everything from the beginning to `to`.
    pub(super) async fn all_to(&self, to: &BinlogPosition) -> Result<PathBuf, Trouble> {
        self.segment(&first_place()?, to).await
    }

    /// The primary as its agent remembers it.
    pub(super) async fn identity(&self) -> Result<SourceIdentity, Trouble> {
        let mut session = self.primary().admin().await?;
        let mariadb = self.is_mariadb();
        let server_id = session.value("SELECT @@GLOBAL.server_id").await?;
        let mut of_mysql = None;
        if !mariadb {
            of_mysql = Some((
                session.value("SELECT @@GLOBAL.server_uuid").await?,
                session.value("SELECT @@GLOBAL.gtid_mode").await?,
            ));
        }
        let (server_uuid, gtid_mode) = of_mysql.unzip();
        Ok(SourceIdentity {
            server_id: ServerId(
                server_id
                    .parse()
                    .map_err(|_| Trouble::lacks("a number in server_id"))?,
            ),
            server_uuid,
            flavor: if mariadb {
                Flavor::MariaDb
            } else {
                Flavor::MySql
            },
            version: session.value("SELECT @@GLOBAL.version").await?,
            gtid_mode,
            binlog_checksum: Some(session.value("SELECT @@GLOBAL.binlog_checksum").await?),
        })
    }

    /// Serves segments; the faults are those of the product's own tests.
    pub(super) async fn serve(
        &self,
        segments: &[PathBuf],
        faults: FaultPlan,
    ) -> Result<LocalSource, Trouble> {
        let segments = segments.to_vec();
        let feed = tokio::task::spawn_blocking(move || ChainFeed::complete(&segments));
        let feed = feed
            .await
            .map_err(|_| Trouble::lacks("a feed that could be opened"))??;
        self.serve_feed(Arc::new(feed), faults).await
    }

    /// The same of a feed that may still grow.
    pub(super) async fn serve_feed(
        &self,
        feed: Arc<ChainFeed>,
        faults: FaultPlan,
    ) -> Result<LocalSource, Trouble> {
        let source = LocalSource::start(SourceConfig {
            identity: self.identity().await?,
            bind_port: None,
            account: Some(ReplayAccount {
                user: ACCOUNT.user.to_owned(),
                password: ACCOUNT.password.to_owned(),
            }),
            feed,
            limits: SourceLimits::default(),
            faults,
        });
        Ok(source.await?)
    }

    /// The CHANGE that points the replica at a port of this host.
    pub(super) async fn change(&self, port: u16, start: Start) -> Result<(), Trouble> {
        let sql = self.kind().change_source(&Channel {
            address: std::net::Ipv4Addr::LOCALHOST,
            port,
            account: ACCOUNT,
            start,
        });
        Ok(self.replica().exec(&sql).await?)
    }

    /// CHANGE by position and START of both threads.
    pub(super) async fn follow(
        &self,
        source: &LocalSource,
        from: &BinlogPosition,
    ) -> Result<(), Trouble> {
        self.change(source.port(), at(from)).await?;
        self.replica_says("START SLAVE").await
    }

    /// A statement of 5.6 for the replica, in its own words.
    pub(super) async fn replica_says(&self, statement: &str) -> Result<(), Trouble> {
        let sql = self.kind().statement(statement);
        Ok(self.replica().exec(&sql).await?)
    }
}

/// A place to begin at.
pub(super) fn at(from: &BinlogPosition) -> Start {
    Start::At {
        file: from.file.as_str().to_owned(),
        offset: from.offset,
    }
}
