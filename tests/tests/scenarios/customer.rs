//! The customer's own scenario on MySQL 5.6: five rows written one by one; when the primary dies, the candidate has
//! received the first, the other replica the first three, and the last two are on the dead disk only.

use tests::sandbox::replica::{self, LogPlace};
use tests::sandbox::{ClusterSpec, ServerKind};

use crate::support::{self, Outcome, Running};

const BINLOG: &str = "mysql-bin.000001";
/// Ends of the table's creation with the first row, of the third row, and of the fifth.
const CANDIDATE: u64 = 452;
const LATEST: u64 = 880;
const END: u64 = 1308;

fn place(offset: u64) -> LogPlace {
    LogPlace::new(BINLOG, offset)
}

/// A primary, the candidate `db2` and the other replica `db3`, at the customer's positions; the primary is alive.
async fn at_his_positions() -> Result<Running, tests::sandbox::SandboxError> {
    let spec = ClusterSpec::new(ServerKind::MySql56)
        .set("binlog-format", "STATEMENT")
        .database("sbtest");
    let cluster = support::start(spec).await?;
    assert_eq!(
        replica::binlog_end(cluster.primary()).await?,
        place(120),
        "an empty log of 5.6"
    );
    cluster.hold(1, &place(CANDIDATE));
    cluster.hold(2, &place(LATEST));

    let mut client = cluster.primary().admin().await?;
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
        [452, 666, 880, 1094, 1308],
        "event sizes as on the customer's primary"
    );
    assert_eq!(replica::binlog_end(cluster.primary()).await?, place(END));
    replica::wait_executed(cluster.server(1), &place(CANDIDATE)).await?;
    replica::wait_executed(cluster.server(2), &place(LATEST)).await?;
    Ok(cluster)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn his_positions_are_reached_to_the_byte() -> Outcome {
    let cluster = at_his_positions().await?;
    cluster.crash(0)?;
    let mut relay = Vec::new();
    for number in [1, 2] {
        let status = replica::must_status(cluster.server(number)).await?;
        relay.push((
            status.read()?.offset,
            status.relay()?.offset,
            status.sql_running()?,
        ));
    }
    assert_eq!(relay, [(452, 615, true), (880, 1043, true)]);
    Ok(())
}
