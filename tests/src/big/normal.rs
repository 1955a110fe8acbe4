//! The ceiling: the same load by the servers' own replication.
//!
//! The replicas fetch from the primary itself, not through its gate, so that nothing of ours is between them.

use std::time::{Duration, Instant};

use futures::future::try_join_all;

use super::Load;
use crate::sandbox::accounts::REPLICATION;
use crate::sandbox::dialect::{Channel, Start};
use crate::sandbox::replica::{self, LogPlace};
use crate::sandbox::wait::{self, Look};
use crate::sandbox::{Cluster, Replication, SandboxError, Server};

/// Longest wait for a replica to have it all.
const LIMIT: Duration = Duration::from_secs(3600);

/// Stops all replicas, writes the load, and lets them replicate it at the same time: for each, from START until it is
/// executed. Leaves them replicating through the gate, with everything executed.
pub(super) async fn replicate(
    cluster: &Cluster,
    replication: Replication,
    load: Load,
    round: u64,
) -> Result<Vec<Duration>, SandboxError> {
    let primary = cluster.primary();
    cluster.wait_caught_up().await?;
    let kind = cluster.kind();
    for server in cluster.replicas() {
        server.exec(&kind.statement("STOP SLAVE")).await?;
    }
    let from = replica::binlog_end(primary).await?;
    load.write(primary, round).await?;
    let end = replica::binlog_end(primary).await?;
    for server in cluster.replicas() {
        let start = match replication {
            Replication::Position => Start::At {
                file: from.file.clone(),
                offset: from.offset,
            },
            Replication::SlavePos | Replication::AutoPosition => Start::Gtid,
        };
        let direct = Channel {
            address: primary.bind_address(),
            port: primary.port(),
            account: REPLICATION,
            start,
        };
        server.exec(&kind.change_source(&direct)).await?;
    }
    let times = try_join_all(cluster.replicas().map(|server| one(server, &end))).await?;
    for server in cluster.replicas() {
        server.exec(&kind.statement("STOP SLAVE")).await?;
        cluster.follow(server, primary, replication).await?;
    }
    cluster.wait_caught_up().await?;
    Ok(times)
}

async fn one(server: &Server, end: &LogPlace) -> Result<Duration, SandboxError> {
    let started = Instant::now();
    server.exec(&server.kind().statement("START SLAVE")).await?;
    executed(server, end).await?;
    Ok(started.elapsed())
}

/// Waits until the replica has executed exactly up to `end`, however long that takes.
pub(super) async fn executed(server: &Server, end: &LogPlace) -> Result<(), SandboxError> {
    let what = format!("{} to have executed up to {end}", server.name());
    wait::until(&what, LIMIT, || async {
        let status = replica::must_status(server).await?;
        let (error, text) = status.sql_error()?;
        if error != 0 {
            return Err(SandboxError::Wait {
                what: what.clone(),
                waited: Duration::ZERO,
                seen: text.to_owned(),
            });
        }
        let executed = status.executed()?;
        Ok(if executed == *end {
            Look::Done(())
        } else {
            Look::NotYet(executed.to_string())
        })
    })
    .await
}
