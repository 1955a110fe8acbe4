//! Binlog servers: hosts without a server that keep copies of the primary's binary logs. The primary's host is gone, and what
//! it alone had written is in the copies, or cannot be had.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use binlog_core::checksum::crc32;
use tests::sandbox::accounts::APPLICATION;
use tests::sandbox::deployment::{Deployment, DeploymentSpec, ManagerRun};
use tests::sandbox::load::{self, Load, LoadSpec};
use tests::sandbox::replica;
use tests::sandbox::{ClusterSpec, SandboxError, Server, ServerKind};

use crate::support::{self, Outcome, Running};

/// Length of an event's header.
const HEADER: usize = 19;
/// Name of the binlog server that a scenario is about.
const NAME: &str = "binlog1";

/// A primary that has written three stretches of rows, each into a file of its own: db2 has the first, db3 the first two, the
/// third is on the primary alone.
struct Behind {
    cluster: Running,
    /// All rows.
    written: BTreeSet<u64>,
    /// Rows that db3, the furthest replica, has.
    furthest: BTreeSet<u64>,
}

impl Behind {
    async fn open(spec: ClusterSpec) -> Result<Self, SandboxError> {
        let cluster = support::start(spec).await?;
        load::prepare(cluster.primary()).await?;
        cluster.wait_caught_up().await?;
        let mut written = BTreeSet::new();
        for (stretch, held) in [(0, Some(1)), (1, Some(2)), (2, None)] {
            written.extend(write(cluster.primary(), stretch).await);
            if let Some(number) = held {
                let place = cluster.hold_here(number).await?;
                replica::wait_executed(cluster.server(number), &place).await?;
                cluster.primary().exec("FLUSH BINARY LOGS").await?;
            }
        }
        let furthest = load::rows(cluster.server(2)).await?;
        assert_eq!((furthest.len(), written.len()), (40, 60));
        Ok(Self {
            cluster,
            written,
            furthest,
        })
    }

    /// A folder for copies, beside the servers.
    fn folder(&self, name: &str) -> PathBuf {
        let folder = self.cluster.dir().join(name);
        std::fs::create_dir_all(&folder).unwrap();
        folder
    }

    /// The primary's host is gone, its agent with it; then the manager is run.
    async fn fail_over(&self, deployment: &Deployment) -> Result<ManagerRun, SandboxError> {
        self.cluster.crash(0)?;
        deployment.agent(0).kill()?;
        let run = deployment.failover(self.cluster.primary(), &[]).await?;
        run.must_end_with(0);
        Ok(run)
    }

    /// Both survivors have exactly these rows and equal tables, and one follows the other.
    async fn ends_with(&self, rows: &BTreeSet<u64>) -> Outcome {
        let survivors = [self.cluster.server(1), self.cluster.server(2)];
        for server in survivors {
            assert_eq!(&load::rows(server).await?, rows, "{}", server.name());
        }
        support::tables_equal(&survivors).await?;
        support::one_primary(&survivors).await
    }
}

/// Twenty rows of a session of this number; all are acknowledged.
async fn write(server: &Server, session: u32) -> BTreeSet<u64> {
    let some = LoadSpec {
        sessions: 1,
        first_session: session,
        rows: 20,
        ..LoadSpec::default()
    };
    let login = server.login(APPLICATION.user, APPLICATION.password);
    let written = Load::start(&login, &some).finish_all().await;
    assert!(written.in_doubt.is_empty());
    written.acknowledged
}

/// What a copying job brings: the files of the log without its index, in no order.
fn copy(server: &Server, to: &Path) {
    let base = server.binlog_base();
    for entry in std::fs::read_dir(base.parent().unwrap()).unwrap() {
        let path = entry.unwrap().path();
        let number = path.extension().and_then(|number| number.to_str());
        let is_log = path.file_stem() == base.file_name()
            && number.is_some_and(|number| number.bytes().all(|b| b.is_ascii_digit()));
        if is_log {
            std::fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
        }
    }
}

/// Two binlog servers: one has everything, its last event torn by a copy that was under way; the other one stopped earlier.
async fn the_host_is_gone(spec: ClusterSpec) -> Outcome {
    let scene = Behind::open(spec).await?;
    let (whole, early) = (scene.folder("whole"), scene.folder("early"));
    copy(scene.cluster.primary(), &whole);
    // Larger by far, and not the most advanced one.
    copy(scene.cluster.primary(), &early);
    let newest = replica::binlog_end(scene.cluster.primary()).await?.file;
    std::fs::remove_file(early.join(&newest)).unwrap();
    std::fs::write(early.join("notes.000009"), vec![b'x'; 1 << 20]).unwrap();
    // A copy of long ago was broken off, and what follows it was begun anew.
    let path = whole.join("mysql-bin.000001");
    let bytes = std::fs::read(&path).unwrap();
    let (last, _) = *events(&bytes).last().unwrap();
    std::fs::write(&path, &bytes[..last]).unwrap();
    // The next event is on its way: a header that announces more than is there.
    let path = whole.join(&newest);
    let mut bytes = std::fs::read(&path).unwrap();
    let head = bytes[4..4 + 40].to_vec();
    bytes.extend(head);
    std::fs::write(&path, bytes).unwrap();
    let spec = DeploymentSpec::default()
        .binlog_server(NAME, whole)
        .binlog_server("binlog2", early);
    let deployment = Deployment::start(&scene.cluster, &spec).await?;
    let run = scene.fail_over(&deployment).await?;
    for wanted in [
        "tail, from the copies of binlog server binlog1",
        &format!("binlog server binlog1 holds transactions up to {newest}:"),
        "what the primary had not sent to it is unknown",
    ] {
        assert!(run.mentions(wanted), "{wanted}\n{}", run.text());
    }
    scene.ends_with(&scene.written).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_host_is_gone_and_copies_hold_the_tail_mysql_5_6_by_position() -> Outcome {
    the_host_is_gone(ClusterSpec::new(ServerKind::MySql56)).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_host_is_gone_and_copies_hold_the_tail_mariadb_10_11_by_gtid() -> Outcome {
    the_host_is_gone(ClusterSpec::new(ServerKind::MariaDb1011).by_gtid()).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_host_is_gone_and_copies_hold_the_tail_mysql_9_7_by_gtid() -> Outcome {
    the_host_is_gone(ClusterSpec::new(ServerKind::MySql97).by_gtid()).await
}

/// Three binlog servers that are of no use: no directory; another server's log; a log of the same server id and the same file
/// names, and of another history. The failover goes on with what the survivors have, and tells of each.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn copies_that_are_of_no_use_stop_nothing_and_are_told_mysql_5_6() -> Outcome {
    let scene = Behind::open(ClusterSpec::new(ServerKind::MySql56)).await?;
    let (others, altered) = (scene.folder("others"), scene.folder("altered"));
    // The survivor's own log: what a copying job brings that follows the wrong server, or the next primary.
    copy(scene.cluster.server(2), &others);
    copy(scene.cluster.primary(), &altered);
    alter_rows(&altered);
    let spec = DeploymentSpec::default()
        .binlog_server(NAME, scene.cluster.dir().join("away"))
        .binlog_server("binlog2", others)
        .binlog_server("binlog3", altered);
    let deployment = Deployment::start(&scene.cluster, &spec).await?;
    let run = scene.fail_over(&deployment).await?;
    let report = run.report.clone().unwrap();
    for (name, why) in [
        (NAME, "away"),
        (
            "binlog2",
            "holds no binary log of the server with server_id",
        ),
        ("binlog3", "it is of another history"),
    ] {
        let told = |line: &String| line.contains(&format!("{name} not used")) && line.contains(why);
        assert!(report.lost.iter().any(told), "{name}: {:#?}", report.lost);
    }
    scene.ends_with(&scene.furthest).await
}

/// Makes other transactions of the same length of all that was written: what a primary that was set back and went on has in
/// the same places. Checksums are right.
fn alter_rows(copies: &Path) {
    const XID_EVENT: u8 = 16;
    for entry in std::fs::read_dir(copies).unwrap() {
        let path = entry.unwrap().path();
        let mut bytes = std::fs::read(&path).unwrap();
        for (at, size) in events(&bytes) {
            if bytes[at + 4] == XID_EVENT {
                let (body, checksum) = (at + HEADER, at + size - 4);
                bytes[body] ^= 0x55;
                let sum = crc32(&bytes[at..checksum]);
                bytes[checksum..checksum + 4].copy_from_slice(&sum.to_le_bytes());
            }
        }
        std::fs::write(&path, bytes).unwrap();
    }
}

/// Place and size of each event of a file.
fn events(bytes: &[u8]) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    let mut at = 4;
    while at + HEADER <= bytes.len() {
        let size = u32::from_le_bytes(bytes[at + 9..at + 13].try_into().unwrap()) as usize;
        found.push((at, size));
        at += size;
    }
    found
}
