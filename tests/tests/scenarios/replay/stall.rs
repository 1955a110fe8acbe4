//! The local source has nothing to send for longer than `slave_net_timeout`, as when a segment is still on its way.

use std::time::Duration;

use tests::sandbox::ServerKind;
use tests::scenario::{Act, Expected, Failure, Form, Lag, Plan, Scene, expect};

/// How long the source has nothing to send.
const STALL: Duration = Duration::from_secs(12);
/// `slave_net_timeout` of the replicas, who then ask again; heartbeats come after half of it.
const NET_TIMEOUT: Duration = Duration::from_secs(8);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stall_with_heartbeats_keeps_the_connection_on_mysql_5_6() -> Result<(), Failure> {
    stalled(Form::new(ServerKind::MySql56, 2), "stall", 1..=1, STALL).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stall_with_heartbeats_keeps_the_connection_on_mariadb_10_11() -> Result<(), Failure> {
    stalled(Form::new(ServerKind::MariaDb1011, 2), "stall", 1..=1, STALL).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_source_is_asked_again_on_mysql_5_6() -> Result<(), Failure> {
    stalled(
        Form::new(ServerKind::MySql56, 2),
        "freeze",
        2..=9,
        NET_TIMEOUT,
    )
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_source_is_asked_again_on_mariadb_10_11() -> Result<(), Failure> {
    stalled(
        Form::new(ServerKind::MariaDb1011, 2),
        "freeze",
        2..=9,
        NET_TIMEOUT,
    )
    .await
}

/// The fault comes inside a transaction, with a temporary table open, and lasts longer than `slave_net_timeout`.
async fn stalled(
    form: Form,
    fault: &str,
    connections: std::ops::RangeInclusive<u32>,
    at_least: Duration,
) -> Result<(), Failure> {
    let spec = form
        .cluster()
        .set("binlog-format", "STATEMENT")
        .set("slave-net-timeout", NET_TIMEOUT.as_secs());
    let mut scene = Scene::open(spec).await?;
    let plan = Plan {
        batches: vec![
            vec![
                Act::Sql("CREATE TABLE kept (id INT) ENGINE=InnoDB"),
                Act::Sql("CREATE TEMPORARY TABLE passing (id INT)"),
                Act::Sql("INSERT INTO passing VALUES (1)"),
                Act::Rows(1),
            ],
            vec![
                Act::Together(40),
                Act::Sql("INSERT INTO kept SELECT id FROM passing"),
                Act::Rows(2),
            ],
        ],
        lags: vec![Lag::behind(1); 2],
    };
    scene.play(&plan).await?;
    for number in form.replica_numbers() {
        scene
            .inject(
                number,
                &[format!("{fault} {} s after 20 events", STALL.as_secs())],
            )
            .await?;
    }
    let (ended, _) = scene.survives(&Expected::all()).await?;
    for found in ended.connections()? {
        expect(
            connections.contains(&found),
            "connections of a survivor to its local source",
            format!("{connections:?}"),
            found,
        )?;
    }
    expect(
        ended.finished.took > at_least,
        "time of the failover",
        format!("more than {at_least:?}"),
        format!("{:?}", ended.finished.took),
    )
}
