//! Looking at binlog servers: what each holds of the primary's log, right after it was read how far that goes. Reads only.

use std::time::{Duration, Instant};

use binlog_core::{BinlogPosition, ServerId};
use futures::future::join_all;

use crate::config::{BinlogServerConfig, ClusterConfig};
use crate::observe::{Agents, chain};

/// How long copies may take to reach what the primary had written before they were looked at.
const CATCH_UP: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_millis(200);

/// What is seen of a binlog server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SeenCopies {
    /// Name of the binlog server.
    pub(super) server: String,
    /// Its newest file of the primary with its size, and its directory; or why nothing is known.
    pub(super) newest: Result<(BinlogPosition, String), String>,
}

/// Looks at all of them at once; one that is behind `written`, where the primary was before, is looked at again for a moment.
pub(super) async fn look(
    config: &ClusterConfig,
    connected: &Agents,
    primary: Option<u32>,
    written: Option<&BinlogPosition>,
) -> Vec<SeenCopies> {
    if config.binlog_servers.is_empty() {
        return Vec::new();
    }
    let agents = connected
        .clone()
        .with(Agents::of_binlog_servers(config).await);
    let looks = config.binlog_servers.iter().map(async |server| SeenCopies {
        server: server.name.clone(),
        newest: match primary {
            Some(id) => look_at(config, &agents, server, ServerId(id), written).await,
            None => Err("which primary it should follow is not known".to_owned()),
        },
    });
    join_all(looks).await
}

async fn look_at(
    config: &ClusterConfig,
    agents: &Agents,
    server: &BinlogServerConfig,
    primary: ServerId,
    written: Option<&BinlogPosition>,
) -> Result<(BinlogPosition, String), String> {
    let client = agents.of_binlog_server(server)?;
    let limit = config.failover.call_timeout;
    let give_up = Instant::now() + CATCH_UP;
    loop {
        let seen = client
            .observe_binlog_server(&config.cluster, &server.name, primary, limit)
            .await
            .map_err(|error| chain(&error))?;
        let behind = written.is_some_and(|written| seen.0 < *written);
        if !behind || Instant::now() >= give_up {
            return Ok(seen);
        }
        tokio::time::sleep(PAUSE).await;
    }
}
