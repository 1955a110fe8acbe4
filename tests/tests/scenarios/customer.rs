//! The customer's own scenario on MySQL 5.6: five rows written one by one; when the primary dies, the candidate has
//! received the first, the other replica the first three, and the last two are on the dead disk only.

use proto::v1;
use proto::v1::log_service_client::LogServiceClient;
use tests::sandbox::deployment::{self, CLUSTER, Deployment, DeploymentSpec};
use tests::sandbox::replica::{self, LogPlace};
use tests::sandbox::{Client, ClusterSpec, SandboxError, ServerKind, surgery};

use crate::support::{self, Outcome, Running};

const BINLOG: &str = "mysql-bin.000001";
/// Ends of the table's creation with the first row, of the third row, and of the fifth.
const CANDIDATE: u64 = 452;
const LATEST: u64 = 880;
const END: u64 = 1308;
/// The same places of the first two in the relay logs of the replicas that received them.
const CANDIDATE_RELAY: u64 = 615;
const LATEST_RELAY: u64 = 1043;

fn place(offset: u64) -> LogPlace {
    LogPlace::new(BINLOG, offset)
}

/// A primary, the candidate `db2` and the other replica `db3`, with `sbtest` on all three and an empty binary log.
async fn his_cluster() -> Result<Running, SandboxError> {
    let spec = ClusterSpec::new(ServerKind::MySql56)
        .set("binlog-format", "STATEMENT")
        .database("sbtest");
    let cluster = support::start(spec).await?;
    assert_eq!(
        replica::binlog_end(cluster.primary()).await?,
        place(120),
        "an empty log of 5.6"
    );
    Ok(cluster)
}

/// His statements, with his client's settings.
async fn write_his_rows(cluster: &Running) -> Result<(), SandboxError> {
    let mut client: Client = cluster.primary().admin().await?;
    client.exec("SET NAMES utf8").await?;
    client
        .exec("create table sbtest.b(id int,name varchar(10))")
        .await?;
    let mut ends = Vec::new();
    for (id, name) in [(1, 'a'), (2, 'b'), (3, 'c'), (4, 'd'), (5, 'e')] {
        client
            .exec(&format!("insert into sbtest.b values({id},'{name}')"))
            .await?;
        ends.push(replica::binlog_end(cluster.primary()).await?.offset);
    }
    assert_eq!(
        ends,
        [CANDIDATE, 666, LATEST, 1094, END],
        "event sizes as on the customer's primary"
    );
    Ok(())
}

/// His cluster with the replicas at his positions; the primary is alive.
async fn at_his_positions() -> Result<Running, SandboxError> {
    let cluster = his_cluster().await?;
    cluster.hold(1, &place(CANDIDATE));
    cluster.hold(2, &place(LATEST));
    write_his_rows(&cluster).await?;
    for (number, offset, relay) in [(1, CANDIDATE, CANDIDATE_RELAY), (2, LATEST, LATEST_RELAY)] {
        let status = replica::wait_executed(cluster.server(number), &place(offset)).await?;
        assert_eq!(status.relay()?.offset, relay, "db{}", number + 1);
    }
    Ok(cluster)
}

/// Both survivors hold the five rows, and a new row on the new primary reaches the replica.
async fn five_rows_and_a_new_one(cluster: &Running, new_primary: usize, other: usize) -> Outcome {
    let (new_primary, other) = (cluster.server(new_primary), cluster.server(other));
    let five: Vec<String> = ["1a", "2b", "3c", "4d", "5e"].map(str::to_owned).to_vec();
    for server in [new_primary, other] {
        let rows = server
            .rows("SELECT CONCAT(id, name) FROM sbtest.b ORDER BY id")
            .await?;
        let found: Vec<String> = rows
            .iter()
            .filter_map(|row| row.at(0).map(str::to_owned))
            .collect();
        assert_eq!(found, five, "{}", server.name());
    }
    assert_eq!(new_primary.value("SELECT @@read_only").await?, "0");
    assert!(
        replica::status(new_primary).await?.is_none(),
        "the new primary follows nobody"
    );
    assert_eq!(
        replica::must_status(other).await?.source()?,
        new_primary.host_port()
    );

    new_primary
        .exec("insert into sbtest.b values(6,'f')")
        .await?;
    replica::wait_executed(other, &replica::binlog_end(new_primary).await?).await?;
    assert_eq!(
        other
            .value("SELECT COUNT(*) FROM sbtest.b WHERE id=6")
            .await?,
        "1"
    );
    support::tables_equal(&[new_primary, other]).await
}

/// The first is a preferred candidate.
fn his_deployment() -> DeploymentSpec {
    DeploymentSpec::default().candidate(1, "preferred")
}

/// What an agent answers to FindRelayLogs for a place in the primary's log.
async fn found_in_relay_log(
    cluster: &Running,
    deployment: &Deployment,
    number: usize,
    offset: u64,
) -> v1::FindRelayLogsResponse {
    let request = v1::FindRelayLogsRequest {
        cluster: CLUSTER.to_owned(),
        server: deployment::server_name(cluster.server(number)),
        target: Some(v1::BinlogPosition {
            file: BINLOG.to_owned(),
            offset,
        }),
        latest: None,
    };
    let channel = support::dial(deployment, number, "m1").await;
    LogServiceClient::new(channel)
        .find_relay_logs(request)
        .await
        .unwrap()
        .into_inner()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_candidate_is_behind_and_the_tail_is_on_the_dead_disk() -> Outcome {
    let cluster = at_his_positions().await?;
    let deployment = Deployment::start(&cluster, &his_deployment()).await?;
    cluster.crash(0)?;
    for (number, offset, relay) in [
        (1, CANDIDATE, CANDIDATE_RELAY),
        (2, CANDIDATE, CANDIDATE_RELAY),
        (2, LATEST, LATEST_RELAY),
    ] {
        let found = found_in_relay_log(&cluster, &deployment, number, offset).await;
        assert_eq!(
            found.position.as_ref().map(|position| position.offset),
            Some(relay),
            "db{}",
            number + 1
        );
        assert_eq!(
            found.at_end,
            (number, offset) != (2, CANDIDATE),
            "db{}",
            number + 1
        );
    }
    let run = deployment.failover(cluster.primary(), &[]).await?;
    run.must_end_with(0);
    // What was missing, from where.
    for text in [
        "[mysql-bin.000001:452, mysql-bin.000001:880)",
        "[mysql-bin.000001:880, mysql-bin.000001:1308)",
    ] {
        assert!(run.mentions(text), "{text} in\n{}", run.text());
    }
    five_rows_and_a_new_one(&cluster, 1, 2).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn relay_logs_were_cut_and_replication_did_not_start() -> Outcome {
    let cluster = his_cluster().await?;
    for replica in cluster.replicas() {
        replica.exec("STOP SLAVE SQL_THREAD").await?;
    }
    write_his_rows(&cluster).await?;
    for (number, offset, relay) in [(1, CANDIDATE, CANDIDATE_RELAY), (2, LATEST, LATEST_RELAY)] {
        let server = cluster.server(number);
        replica::wait_read(server, &place(END)).await?;
        let until = format!(
            "START SLAVE SQL_THREAD UNTIL MASTER_LOG_FILE='{BINLOG}', MASTER_LOG_POS={offset}"
        );
        server.exec(&until).await?;
        let status = replica::wait_until(server, "stop at his position", |status| {
            Ok(status.executed()? == place(offset) && !status.sql_running()?)
        })
        .await?;
        assert_eq!(status.relay()?.offset, relay);
        let at = LogPlace::new(&status.relay()?.file, relay);

        server.stop().await?;
        surgery::cut_relay_log(server, &at)?;
        surgery::set_received(server, &place(offset))?;
        surgery::set_executed(server, &at, &place(offset))?;
        server.start_with(&["--skip-slave-start"]).await?;

        let status = replica::must_status(server).await?;
        assert_eq!(
            (status.read()?, status.executed()?),
            (place(offset), place(offset))
        );
        assert_eq!((status.io_running()?, status.sql_running()?), ("No", false));
        assert_eq!(status.sql_error()?.0, 0);
        // The newest relay log was made at the start and holds the server's own format description only.
        let newest = newest_relay_log(server)?;
        assert_eq!(
            std::fs::metadata(&newest).unwrap().len(),
            120,
            "{}",
            newest.display()
        );
        assert_ne!(newest.file_name().unwrap().to_string_lossy(), at.file);
    }
    let deployment = Deployment::start(&cluster, &his_deployment()).await?;
    cluster.crash(0)?;
    let run = deployment.failover(cluster.primary(), &[]).await?;
    run.must_end_with(0);
    five_rows_and_a_new_one(&cluster, 1, 2).await
}

fn newest_relay_log(server: &tests::sandbox::Server) -> Result<std::path::PathBuf, SandboxError> {
    let index =
        std::fs::read_to_string(format!("{}.index", server.relay_base().display())).unwrap();
    Ok(server.datadir().join(index.lines().last().unwrap()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_primary_was_shut_down_and_the_choice_is_forced() -> Outcome {
    let cluster = his_cluster().await?;
    write_his_rows(&cluster).await?;
    cluster.wait_caught_up().await?;
    let deployment = Deployment::start(&cluster, &his_deployment()).await?;
    cluster.shut_down(0).await?;
    let forced = cluster.server(2).host_port();
    let run = deployment
        .failover(cluster.primary(), &["--new-primary", &forced])
        .await?;
    run.must_end_with(0);
    // Not the preferred candidate.
    five_rows_and_a_new_one(&cluster, 2, 1).await
}
