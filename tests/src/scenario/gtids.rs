//! What survivors that follow by GTID must agree on.

use std::time::Duration;

use crate::sandbox::wait::{self, Look};
use crate::sandbox::{Cluster, SandboxError, Server};

/// How long a replica may take to have everything of the new primary.
const LIMIT: Duration = Duration::from_secs(60);

/// All survivors have executed the same GTIDs, whatever was written after the failover included. `winner` is the number of
/// the new primary.
pub async fn equal(cluster: &Cluster, winner: usize) -> Result<(), SandboxError> {
    let (of_primary, of_replica) = if cluster.kind().is_mariadb() {
        ("SELECT @@gtid_binlog_pos", "SELECT @@gtid_slave_pos")
    } else {
        let executed = "SELECT @@GLOBAL.gtid_executed";
        (executed, executed)
    };
    let primary = cluster.server(winner);
    for replica in cluster
        .replicas()
        .filter(|server| server.name() != primary.name())
    {
        let what = format!("the GTIDs of {} and {}", primary.name(), replica.name());
        wait::until(&what, LIMIT, || async {
            let (wanted, found) = (
                value(primary, of_primary).await?,
                value(replica, of_replica).await?,
            );
            if wanted == found && !wanted.is_empty() {
                return Ok(Look::Done(()));
            }
            Ok::<_, SandboxError>(Look::NotYet(format!("{wanted} and {found}")))
        })
        .await?;
    }
    Ok(())
}

async fn value(server: &Server, statement: &str) -> Result<String, SandboxError> {
    Ok(server.value(statement).await?.replace('\n', ""))
}
