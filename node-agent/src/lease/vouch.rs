//! Asking the other agents whether they vouch: each in a task of its own, so that one that hangs delays no other.

use std::sync::Arc;
use std::time::Duration;

use proto::channel::connect;
use proto::v1::VouchRequest;
use proto::v1::lease_service_client::LeaseServiceClient;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::AgentAddress;
use crate::agent::{Agent, LocalServer};
use crate::peers;
use crate::watch::clock;

/// Pause between two questions: several fit into a lease.
const PAUSE: Duration = Duration::from_millis(300);
/// Longest wait for a connection, or an answer.
const LIMIT: Duration = Duration::from_millis(500);

/// Asks all others for this lease until `stop`.
pub(super) fn start(
    agent: &Arc<Agent>,
    server: &Arc<LocalServer>,
    generation: u64,
    stop: &CancellationToken,
) {
    let Some(made) = server.lease.assignment() else {
        return;
    };
    let question = VouchRequest {
        cluster: server.config.cluster.clone(),
        primary: made.primary.clone(),
        epoch: made.epoch,
    };
    for peer in server.lease.peers(&made) {
        let asking = ask(
            Arc::clone(agent),
            Arc::clone(server),
            generation,
            peer.clone(),
            question.clone(),
        );
        let stop = stop.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = asking => {}
            }
        });
    }
}

/// Asks one agent again and again.
async fn ask(
    agent: Arc<Agent>,
    server: Arc<LocalServer>,
    generation: u64,
    peer: AgentAddress,
    question: VouchRequest,
) {
    // One line per change, not one per question.
    let mut last: Option<Result<(), String>> = None;
    let mut client = None;
    loop {
        let answered = match &mut client {
            Some(open) => Ok(open),
            None => dial(&agent, &server.config.cluster, &peer)
                .await
                .map(|fresh| client.insert(fresh)),
        };
        let outcome = match answered {
            Err(error) => Err(error),
            Ok(open) => {
                // From here on the answer counts, however late it comes.
                let asked = clock::boottime();
                match timeout(LIMIT, open.vouch(question.clone())).await {
                    Ok(Ok(answer)) => {
                        let answer = answer.into_inner();
                        if answer.vouches {
                            server.lease.peer_heard(generation, &peer.name, asked);
                            Ok(())
                        } else {
                            Err(answer.reason)
                        }
                    }
                    Ok(Err(status)) => {
                        client = None;
                        Err(status.message().to_owned())
                    }
                    Err(_) => {
                        client = None;
                        Err(format!("no answer within {LIMIT:?}"))
                    }
                }
            }
        };
        if last.as_ref() != Some(&outcome) {
            match &outcome {
                Ok(()) => tracing::info!(server = server.config.name, agent = peer.name, "vouches"),
                Err(reason) => {
                    tracing::warn!(
                        server = server.config.name,
                        agent = peer.name,
                        reason,
                        "does not vouch"
                    );
                }
            }
            last = Some(outcome);
        }
        sleep(PAUSE).await;
    }
}

type Client = LeaseServiceClient<tonic::transport::Channel>;

async fn dial(agent: &Agent, cluster: &str, peer: &AgentAddress) -> Result<Client, String> {
    let target = peers::target(agent, cluster, peer.address.clone(), &peer.name)
        .map_err(|error| error.to_string())?;
    connect(&target, LIMIT)
        .await
        .map(LeaseServiceClient::new)
        .map_err(|error| crate::error::chain(&error))
}
