//! The dead host's three cases: it does not answer; it answers but its log cannot be read; it is slow.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use tests::sandbox::accounts::APPLICATION;
use tests::sandbox::deployment::{Agent, Deployment, DeploymentSpec};
use tests::sandbox::gate::Mode;
use tests::sandbox::load::{self, Load, LoadSpec, Written};
use tests::sandbox::replica;
use tests::sandbox::{ClusterSpec, SandboxError, ServerKind};

use crate::support::{self, Outcome, Running};

const NEEDS_CARE: i32 = 10;

/// A cluster whose replicas lack the last of the rows that a client wrote; the primary is alive.
struct Behind {
    cluster: Running,
    deployment: Deployment,
    written: Written,
    /// Rows that db3, the furthest replica, has.
    furthest: std::collections::BTreeSet<u64>,
}

async fn behind(kind: ServerKind, spec: &DeploymentSpec) -> Result<Behind, SandboxError> {
    // Soon enough for a test: a replica notices after this many seconds that nothing comes any more.
    let spec_of_cluster = ClusterSpec::new(kind).set("slave-net-timeout", 4);
    let cluster = support::start(spec_of_cluster).await?;
    load::prepare(cluster.primary()).await?;
    cluster.wait_caught_up().await?;
    let deployment = Deployment::start(&cluster, spec).await?;
    let mut written = Written::default();
    // Three stretches of rows: db2 gets the first, db3 the first two, the third is on the primary alone.
    for (stretch, held) in [(0, Some(1)), (1, Some(2)), (2, None)] {
        let some = LoadSpec {
            sessions: 1,
            first_session: stretch,
            rows: 20,
            ..LoadSpec::default()
        };
        let login = cluster
            .primary()
            .login(APPLICATION.user, APPLICATION.password);
        written.add(Load::start(&login, &some).finish_all().await);
        if let Some(number) = held {
            let place = cluster.hold_here(number).await?;
            replica::wait_executed(cluster.server(number), &place).await?;
        }
    }
    assert!(written.in_doubt.is_empty());
    let furthest = load::rows(cluster.server(2)).await?;
    assert_eq!((furthest.len(), written.acknowledged.len()), (40, 60));
    Ok(Behind {
        cluster,
        deployment,
        written,
        furthest,
    })
}

impl Behind {
    fn survivors(&self) -> [&tests::sandbox::Server; 2] {
        [self.cluster.server(1), self.cluster.server(2)]
    }

    /// Both survivors have exactly these rows and equal tables, and one follows the other.
    async fn ends_with(&self, rows: &std::collections::BTreeSet<u64>) -> Outcome {
        for server in self.survivors() {
            assert_eq!(&load::rows(server).await?, rows, "{}", server.name());
        }
        support::tables_equal(&self.survivors()).await?;
        support::one_primary(&self.survivors()).await
    }

    /// Nothing was decided: both are read-only, replicate from the old primary, and have what they had.
    async fn is_untouched(&self) -> Outcome {
        for server in self.survivors() {
            assert_eq!(
                server.value("SELECT @@read_only").await?,
                "1",
                "{}",
                server.name()
            );
            let status = replica::must_status(server).await?;
            assert_eq!(
                status.source()?,
                self.cluster.primary().host_port(),
                "{}",
                server.name()
            );
            // The receiver runs again, in vain; the applier never stopped.
            assert_ne!(status.io_running()?, "No", "{}", server.name());
            assert!(status.sql_running()?, "{}", server.name());
        }
        assert_eq!(load::rows(self.cluster.server(2)).await?, self.furthest);
        Ok(())
    }

    /// An offset in the body of an event that no survivor has, with whole transactions before and after it.
    async fn body_on_the_dead_disk_only(&self) -> Result<usize, SandboxError> {
        const HEADER: usize = 19;
        let received = replica::must_status(self.cluster.server(2))
            .await?
            .read()?
            .offset;
        let events = self
            .cluster
            .primary()
            .rows("SHOW BINLOG EVENTS IN 'mysql-bin.000001'")
            .await?;
        let starts: Vec<usize> = events
            .iter()
            .filter_map(|row| row.get("Pos")?.parse().ok())
            .filter(|start| u64::try_from(*start).is_ok_and(|start| start > received))
            .collect();
        Ok(starts[starts.len() / 2] + HEADER + 2)
    }

    fn newest_binlog(&self) -> PathBuf {
        self.cluster
            .primary()
            .binlog_base()
            .with_extension("000001")
    }
}

/// A host that refuses connections, and one from which nothing comes back at all.
async fn no_answer(kind: ServerKind, silent: bool) -> Outcome {
    let scene = behind(kind, &DeploymentSpec::default()).await?;
    if silent {
        // Not a packet comes back: connections stay until their owners lose patience.
        scene.cluster.gate(0).set_mode(Mode::Silent);
        scene.deployment.agent(0).freeze()?;
        scene.cluster.primary().kill()?;
        for server in scene.survivors() {
            replica::wait_until(server, "notice that nothing comes", |status| {
                Ok(status.io_running()? != "Yes")
            })
            .await?;
        }
    } else {
        scene.cluster.crash(0)?;
        scene.deployment.agent(0).kill()?;
    }
    let run = scene
        .deployment
        .failover(scene.cluster.primary(), &[])
        .await?;
    assert!(
        matches!(run.finished.code, Some(0 | NEEDS_CARE)),
        "{:?}\n{}",
        run.finished.code,
        run.text()
    );
    // What the furthest replica had is everything that is known; the report says that more may have been.
    assert!(run.mentions("unknown"), "{}", run.text());
    scene.ends_with(&scene.furthest).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_answer_refused_mysql_5_6() -> Outcome {
    no_answer(ServerKind::MySql56, false).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_answer_silent_mysql_5_6() -> Outcome {
    no_answer(ServerKind::MySql56, true).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_answer_silent_mariadb_10_11() -> Outcome {
    no_answer(ServerKind::MariaDb1011, true).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_answer_and_the_policy_says_stop() -> Outcome {
    let spec = DeploymentSpec::default().failover("on_unreachable_log", "stop");
    let scene = behind(ServerKind::MySql56, &spec).await?;
    scene.cluster.crash(0)?;
    scene.deployment.agent(0).kill()?;
    let run = scene
        .deployment
        .failover(scene.cluster.primary(), &[])
        .await?;
    assert!(
        matches!(run.finished.code, Some(1 | 12)),
        "{:?}\n{}",
        run.finished.code,
        run.text()
    );
    scene.is_untouched().await
}

/// How the dead host's log is spoilt.
#[derive(Debug, Clone, Copy)]
enum Spoilt {
    Missing,
    Corrupt,
}

async fn unreadable(kind: ServerKind, how: Spoilt) -> Outcome {
    let scene = behind(kind, &DeploymentSpec::default()).await?;
    let body = scene.body_on_the_dead_disk_only().await?;
    scene.cluster.crash(0)?;
    let path = scene.newest_binlog();
    match how {
        Spoilt::Missing => std::fs::rename(&path, path.with_extension("away")).unwrap(),
        Spoilt::Corrupt => {
            // In the body of an event, halfway through what no survivor has.
            let mut bytes = std::fs::read(&path).unwrap();
            bytes[body] ^= 0x55;
            std::fs::write(&path, bytes).unwrap();
        }
    }
    let run = scene
        .deployment
        .failover(scene.cluster.primary(), &[])
        .await?;
    assert!(
        matches!(run.finished.code, Some(1 | 12)),
        "{:?}\n{}",
        run.finished.code,
        run.text()
    );
    assert!(
        run.mentions("mysql-bin.000001"),
        "the path in\n{}",
        run.text()
    );
    scene.is_untouched().await?;

    // The operator accepts the loss: now it goes on with what can be had.
    let run = scene
        .deployment
        .failover(scene.cluster.primary(), &["--accept-loss"])
        .await?;
    assert!(
        matches!(run.finished.code, Some(0 | NEEDS_CARE)),
        "{:?}\n{}",
        run.finished.code,
        run.text()
    );
    let found = load::rows(scene.cluster.server(1)).await?;
    assert!(
        found.is_superset(&scene.furthest) && scene.written.acknowledged.is_superset(&found),
        "db2 has {} rows after exit code {:?}\n{}",
        found.len(),
        run.finished.code,
        run.text()
    );
    assert!(
        found.len() < scene.written.acknowledged.len(),
        "the spoilt part cannot be there"
    );
    scene.ends_with(&found).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_is_missing_mysql_5_6() -> Outcome {
    unreadable(ServerKind::MySql56, Spoilt::Missing).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_is_corrupt_mysql_5_6() -> Outcome {
    unreadable(ServerKind::MySql56, Spoilt::Corrupt).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_is_corrupt_mariadb_10_11() -> Outcome {
    unreadable(ServerKind::MariaDb1011, Spoilt::Corrupt).await
}

/// What all threads of the agent have had of the CPU, in nanoseconds: the first number in `schedstat` of each.
fn cpu_time(agent: &Agent) -> u64 {
    let threads = format!("/proc/{}/task", agent.pid().unwrap());
    std::fs::read_dir(threads)
        .unwrap()
        .filter_map(|thread| std::fs::read_to_string(thread.ok()?.path().join("schedstat")).ok())
        .filter_map(|text| text.split(' ').next()?.parse::<u64>().ok())
        .sum()
}

/// The host is alive and its agent gets one fiftieth of the CPU.
async fn slow(kind: ServerKind) -> Outcome {
    let scene = behind(kind, &DeploymentSpec::default()).await?;
    scene.cluster.crash(0)?;
    let starved = scene.deployment.agent(0);
    let failover = scene.deployment.failover(scene.cluster.primary(), &[]);
    tokio::pin!(failover);
    let run = loop {
        starved.freeze()?;
        tokio::select! {
            run = &mut failover => break run?,
            () = tokio::time::sleep(Duration::from_millis(98)) => {}
        }
        let used = cpu_time(starved);
        let thawed = Instant::now();
        starved.thaw()?;
        tokio::time::sleep(Duration::from_millis(2)).await;
        // Others may have had all of that time.
        while cpu_time(starved) <= used && thawed.elapsed() < Duration::from_secs(1) {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    run.must_end_with(0);
    scene.ends_with(&scene.written.acknowledged).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_host_is_slow_mysql_5_6() -> Outcome {
    slow(ServerKind::MySql56).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_host_is_slow_mariadb_10_11() -> Outcome {
    slow(ServerKind::MariaDb1011).await
}
