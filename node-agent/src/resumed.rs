//! What an agent does by itself, once it is back, for a replay that it did not finish: see
//! [`crate::replication::make_durable`]. A server that is down meanwhile is asked until it answers.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::agent::{Agent, LocalServer};
use crate::replication;
use crate::state::flight::{Lane, Owner};

/// Between two tries.
const PAUSE: Duration = Duration::from_secs(1);
/// Longest wait for the server in one try.
const LIMIT: Duration = Duration::from_secs(2);

/// Tries until it is done. Beside no act of replication control: one that runs sees to it itself.
pub(crate) async fn run(agent: Arc<Agent>, server: Arc<LocalServer>, stop: CancellationToken) {
    let name = server.config.name.as_str();
    loop {
        match attempt(&agent, &server).await {
            Ok(false) => return,
            Ok(true) => {
                tracing::info!(
                    server = name,
                    "commits are durable one by one again: a replay broke off before its end"
                );
                return;
            }
            Err(error) => {
                tracing::debug!(server = name, error, "commits may still be deferred");
            }
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(PAUSE) => {}
        }
    }
}

async fn attempt(agent: &Agent, server: &LocalServer) -> Result<bool, String> {
    let owner = Owner {
        cluster: server.config.cluster.clone(),
        epoch: 0,
        call: "the end of an interrupted replay",
    };
    let lane = Lane::Replication(server.config.name.clone());
    let _flight = agent
        .flights
        .enter(lane, owner, LIMIT)
        .await
        .map_err(|busy| busy.to_string())?;
    let local = server
        .local()
        .map_err(|error| crate::error::chain(&error))?;
    replication::make_durable(&local, LIMIT)
        .await
        .map_err(|error| crate::error::chain(&error))
}
