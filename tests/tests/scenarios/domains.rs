//! MariaDB with several replication domains: the numbers of each count for themselves, and with GTIDs parallel appliers go ahead in
//! one domain while another waits. What was received is one stream all the same, and all of it is applied by everyone.

use std::ops::Range;
use std::time::Duration;

use tests::sandbox::deployment::server_name;
use tests::sandbox::replica;
use tests::sandbox::wait::{self, Look};
use tests::sandbox::{ClusterSpec, SandboxError, Server, ServerKind};
use tests::scenario::before::Before;
use tests::scenario::{Expected, Failure, Scene, expect, expect_eq};

const KIND: ServerKind = ServerKind::MariaDb1011;
const LIMIT: Duration = Duration::from_secs(60);
/// Rows of each domain's table.
const ROWS: usize = 6;

fn spec() -> ClusterSpec {
    ClusterSpec::new(KIND)
        .set("slave-parallel-threads", 4)
        .set("slave-domain-parallel-threads", 2)
}

/// Tables of two domains, empty.
async fn open(spec: ClusterSpec) -> Result<Scene, Failure> {
    let scene = Scene::open(spec).await?;
    for table in ["zero", "one"] {
        let create = format!("CREATE TABLE app.{table} (id INT PRIMARY KEY) ENGINE=InnoDB");
        scene.cluster.primary().exec(&create).await?;
    }
    scene.cluster.wait_caught_up().await?;
    Ok(scene)
}

/// Rows in both domains in turn.
async fn write(primary: &Server, ids: Range<usize>) -> Result<(), SandboxError> {
    let mut session = primary.admin().await?;
    for id in ids {
        for (domain, table) in [(0, "zero"), (1, "one")] {
            let set = format!("SET gtid_domain_id={domain}");
            session.exec(&set).await?;
            let insert = format!("INSERT INTO app.{table} VALUES ({id})");
            session.exec(&insert).await?;
        }
    }
    Ok(())
}

async fn rows(server: &Server, table: &str) -> Result<String, SandboxError> {
    let count = format!("SELECT COUNT(*) FROM app.{table}");
    server.value(&count).await
}

/// Both replicas have received everything; each is held up in one domain and has applied all of the other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_survivor_has_applied_less_in_another_domain() -> Result<(), Failure> {
    let scene = open(spec().by_gtid()).await?;
    let mut locks = Vec::new();
    let held = [(1, "zero", "one"), (2, "one", "zero")];
    for (number, table, _) in held {
        let mut session = scene.cluster.server(number).admin().await?;
        session
            .exec(&format!("LOCK TABLES app.{table} READ"))
            .await?;
        locks.push((number, session));
    }
    write(scene.cluster.primary(), 0..ROWS).await?;
    let end = replica::binlog_end(scene.cluster.primary()).await?;
    for (number, table, other) in held {
        let server = scene.cluster.server(number);
        replica::wait_read(server, &end).await?;
        let what = format!("{} to apply the domain of {other}", server.name());
        wait::until(&what, LIMIT, || async {
            let applied = rows(server, other).await?;
            Ok(if applied == ROWS.to_string() {
                Look::Done(())
            } else {
                Look::NotYet(applied)
            })
        })
        .await?;
        expect_eq(
            "rows of the other domain",
            &rows(server, table).await?,
            &"0".to_owned(),
        )?;
    }
    let before = Before::read(&scene.cluster).await?;
    scene.cluster.crash(0)?;
    let release = async {
        for (number, session) in locks {
            let server = scene.cluster.server(number);
            replica::wait_until(server, "the receiver to stop", |status| {
                Ok(status.io_running()? == "No")
            })
            .await?;
            session.close().await?;
        }
        Ok::<(), Failure>(())
    };
    let (ended, released) = tokio::join!(scene.fail_over(&[]), release);
    let ended = ended?;
    released?;
    scene.check(&before, &ended, &Expected::all()).await?;
    everything_is_there(&scene).await
}

/// The rows of both domains, on both survivors. (That their tables are equal was checked before.)
async fn everything_is_there(scene: &Scene) -> Result<(), Failure> {
    for server in scene.cluster.replicas() {
        for table in ["zero", "one"] {
            let what = format!("rows of {table} on {}", server.name());
            expect_eq(what, &rows(server, table).await?, &ROWS.to_string())?;
        }
    }
    Ok(())
}

/// One survivor has received less than the other, of both domains, and the rest is on the primary's disk alone.
async fn behind_in_both(spec: ClusterSpec) -> Result<(), Failure> {
    let mut scene = open(spec).await?;
    write(scene.cluster.primary(), 0..2).await?;
    scene.cluster.hold_here(2).await?;
    write(scene.cluster.primary(), 2..4).await?;
    scene.cluster.hold_here(1).await?;
    write(scene.cluster.primary(), 4..ROWS).await?;
    let (_, winner) = scene.survives(&Expected::all()).await?;
    expect_eq("number of the new primary", &winner, &1)?;
    everything_is_there(&scene).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_survivor_is_behind_in_both_by_gtid() -> Result<(), Failure> {
    behind_in_both(spec().by_gtid()).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_survivor_is_behind_in_both_by_position() -> Result<(), Failure> {
    // Without threads of a domain's own: appliers that go by position keep the order of all domains.
    let spec = ClusterSpec::new(KIND).set("slave-parallel-threads", 4);
    behind_in_both(spec).await
}

/// One survivor is ahead in the first domain; in the second the other has another server's transaction of the same number.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_histories_of_one_domain_stop_the_run() -> Result<(), Failure> {
    let scene = open(spec().by_gtid()).await?;
    let [latest, other] = [1, 2].map(|number| scene.cluster.server(number));
    write(scene.cluster.primary(), 0..2).await?;
    scene.cluster.wait_caught_up().await?;
    let behind = other.value("SELECT @@gtid_slave_pos").await?;
    scene.cluster.hold_here(2).await?;
    write(scene.cluster.primary(), 2..ROWS).await?;
    replica::wait_level(latest, scene.cluster.primary()).await?;
    let ahead = latest.value("SELECT @@gtid_slave_pos").await?;
    let domain = |position: &str, number: &str| {
        let found = position.split(',').find(|gtid| gtid.starts_with(number));
        found.unwrap_or_default().to_owned()
    };
    let sequence = domain(&ahead, "1-")
        .rsplit('-')
        .next()
        .unwrap_or_default()
        .to_owned();
    let alone = format!("1-77-{sequence}");
    let set = format!(
        "SET GLOBAL gtid_slave_pos='{},{alone}'",
        domain(&behind, "0-")
    );
    other.exec_all(&["STOP SLAVE", &set]).await?;
    let before = Before::read(&scene.cluster).await?;
    scene.cluster.crash(0)?;
    let run = scene.mha()?.failover(scene.cluster.primary(), &[]).await?;
    expect(run.finished.code == Some(12), "exit code", 12, run.text())?;
    let refused = "have both received transactions that the other lacks";
    let both = [
        domain(&ahead, "0-"),
        domain(&ahead, "1-"),
        domain(&behind, "0-"),
        alone,
    ];
    for text in both.iter().map(String::as_str).chain([refused]) {
        expect(run.mentions(text), "what was printed", text, run.text())?;
    }
    for server in scene.cluster.replicas() {
        let name = server_name(server);
        expect(run.mentions(&name), "what was printed", &name, run.text())?;
        before.channel_is_as_it_was(server).await?;
        before.position_is_as_it_was(server).await?;
    }
    Ok(())
}
