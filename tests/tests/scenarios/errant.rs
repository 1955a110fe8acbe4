//! Transactions that one replica alone has, where GTIDs decide: its server does not become the primary, and if that is so of all
//! of them, nobody does. Two replicas of which each has what the other lacks are two histories: the run stops and shows both.

use manager::elect::{Lost, Unfit};
use tests::sandbox::deployment::server_name;
use tests::sandbox::replica;
use tests::sandbox::{ClusterSpec, SandboxError, Server, ServerKind};
use tests::scenario::before::Before;
use tests::scenario::{Expected, Failure, Lag, Plan, Scene, expect, expect_eq};

/// Somebody wrote on a replica: a database without tables, so that the tables of all survivors stay equal.
async fn write_on(server: &Server) -> Result<(), SandboxError> {
    server.exec("CREATE DATABASE errant").await
}

/// How a GTID of this server's own begins.
async fn own(kind: ServerKind, server: &Server) -> Result<String, SandboxError> {
    if kind.is_mariadb() {
        let id = server.value("SELECT @@server_id").await?;
        Ok(format!("0-{id}-"))
    } else {
        let uuid = server.value("SELECT @@server_uuid").await?;
        Ok(format!("{uuid}:1"))
    }
}

/// Two replicas by GTID, the first of which has received more; the rest is only on the primary's disk.
async fn scene(kind: ServerKind) -> Result<Scene, Failure> {
    let mut scene = Scene::open(ClusterSpec::new(kind).by_gtid()).await?;
    let lags = [Lag::behind(3), Lag::behind(1)];
    scene.play(&Plan::rows(&lags)).await?;
    Ok(scene)
}

async fn the_latest_is_passed_over(kind: ServerKind) -> Result<(), Failure> {
    let mut scene = scene(kind).await?;
    let latest = scene.cluster.server(1);
    write_on(latest).await?;
    let (name, own) = (server_name(latest), own(kind, latest).await?);
    let (ended, winner) = scene.survives(&Expected::all()).await?;
    expect_eq("number of the new primary", &winner, &2)?;
    let losers = ended
        .report
        .election
        .iter()
        .flat_map(|election| &election.losers);
    let why: Vec<&Unfit> = losers
        .filter(|(server, _)| *server == name)
        .flat_map(|(_, lost)| match lost {
            Lost::Unfit { why } => why.as_slice(),
            Lost::AfterWinner { .. } => &[],
        })
        .collect();
    let named = matches!(why.as_slice(), [Unfit::Errant { gtids }] if gtids.starts_with(&own));
    expect(
        named,
        format!("why {name} lost"),
        format!("errant {own}.."),
        format!("{why:?}"),
    )
}

async fn nobody_is_left(kind: ServerKind) -> Result<(), Failure> {
    let scene = scene(kind).await?;
    let mut sets = Vec::new();
    for server in scene.cluster.replicas() {
        write_on(server).await?;
        sets.push(own(kind, server).await?);
    }
    let before = Before::read(&scene.cluster).await?;
    scene.cluster.crash(0)?;
    let run = scene.mha()?.failover(scene.cluster.primary(), &[]).await?;
    expect_eq("exit code", &run.finished.code, &Some(12))?;
    for set in &sets {
        expect(run.mentions(set), "what was printed", set, run.text())?;
    }
    for server in scene.cluster.replicas() {
        before.channel_is_as_it_was(server).await?;
        before.position_is_as_it_was(server).await?;
        let applies = replica::must_status(server).await?.sql_running()?;
        expect_eq(
            format!("applier of {} runs", server.name()),
            &applies,
            &true,
        )?;
    }
    Ok(())
}

/// A transaction of this GTID that changes nothing.
async fn write_as(server: &Server, gtid: &str) -> Result<(), SandboxError> {
    let next = format!("SET GTID_NEXT='{gtid}'");
    server
        .exec_all(&[&next, "BEGIN", "COMMIT", "SET GTID_NEXT='AUTOMATIC'"])
        .await
}

/// One replica received more; the other has a transaction under the primary's name that the primary never wrote.
async fn two_leaders(kind: ServerKind) -> Result<(), Failure> {
    let scene = scene(kind).await?;
    let other = scene.cluster.server(2);
    let alone = if kind.is_mariadb() {
        // Where the latest stands, by another server's number.
        let latest = scene
            .cluster
            .server(1)
            .value("SELECT @@gtid_slave_pos")
            .await?;
        let number = latest.rsplit('-').next().unwrap_or_default().to_owned();
        let gtid = format!("0-77-{number}");
        let set = format!("SET GLOBAL gtid_slave_pos='{gtid}'");
        other.exec_all(&["STOP SLAVE", &set]).await?;
        gtid
    } else {
        let uuid = scene
            .cluster
            .primary()
            .value("SELECT @@server_uuid")
            .await?;
        write_as(other, &format!("{uuid}:4711")).await?;
        format!("{uuid}:4711")
    };
    let before = Before::read(&scene.cluster).await?;
    scene.cluster.crash(0)?;
    let run = scene.mha()?.failover(scene.cluster.primary(), &[]).await?;
    expect(run.finished.code == Some(12), "exit code", 12, run.text())?;
    let sets = [
        alone.as_str(),
        "have both received transactions that the other lacks",
    ];
    for text in sets {
        expect(run.mentions(text), "what was printed", text, run.text())?;
    }
    for server in scene.cluster.replicas() {
        expect(
            run.mentions(&server_name(server)),
            "what was printed",
            server.name(),
            run.text(),
        )?;
        before.channel_is_as_it_was(server).await?;
        before.position_is_as_it_was(server).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_leaders_of_mysql_9_7() -> Result<(), Failure> {
    two_leaders(ServerKind::MySql97).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_leaders_of_mariadb_10_11() -> Result<(), Failure> {
    two_leaders(ServerKind::MariaDb1011).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_the_latest_of_mysql_5_7() -> Result<(), Failure> {
    the_latest_is_passed_over(ServerKind::MySql57).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_the_latest_of_mariadb_10_11() -> Result<(), Failure> {
    the_latest_is_passed_over(ServerKind::MariaDb1011).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_all_of_mysql_8_0() -> Result<(), Failure> {
    nobody_is_left(ServerKind::MySql80).await
}
