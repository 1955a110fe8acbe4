//! Asking the other agents whether they vouch: each in a task of its own, so that one that hangs delays no other.
//!
//! When is decided by [`super::ask`]. An answer counts from when its question was asked, so none is thrown away for being late;
//! its wait ends when it could renew nothing any more.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::future::{BoxFuture, FutureExt, OptionFuture};
use futures::stream::FuturesUnordered;
use proto::channel::connect;
use proto::v1::VouchRequest;
use proto::v1::lease_service_client::LeaseServiceClient;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;

use super::AgentAddress;
use super::ask::{Asking, LIMIT, PAUSE};
use crate::agent::{Agent, LocalServer};
use crate::peers;
use crate::watch::clock;

type Client = LeaseServiceClient<tonic::transport::Channel>;

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
        let asking = Asker {
            agent: Arc::clone(agent),
            server: Arc::clone(server),
            generation,
            peer: peer.clone(),
            question: question.clone(),
            client: None,
            said: None,
        }
        .run();
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
struct Asker {
    agent: Arc<Agent>,
    server: Arc<LocalServer>,
    generation: u64,
    peer: AgentAddress,
    question: VouchRequest,
    client: Option<Client>,
    /// One line per change, not one per question.
    said: Option<Result<(), String>>,
}

/// What became of a question.
struct Answer {
    line: u64,
    asked: Duration,
    /// `None`: nothing, in time.
    result: Option<Result<proto::v1::VouchResponse, tonic::Status>>,
}

impl Asker {
    async fn run(mut self) {
        let mut asking = Asking::default();
        let mut turns = interval(PAUSE);
        turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut rounds = self.server.lease.asking.subscribe();
        let mut answers: FuturesUnordered<BoxFuture<'static, Answer>> = FuturesUnordered::new();
        let mut dialling: OptionFuture<BoxFuture<'static, Result<Client, String>>> = None.into();
        loop {
            tokio::select! {
                // What is known is taken in before anything more is asked.
                biased;
                Some(answer) = answers.next(), if !answers.is_empty() => {
                    if !self.take(&mut asking, answer) {
                        continue;
                    }
                }
                Some(dialled) = &mut dialling => {
                    dialling = None.into();
                    match dialled {
                        Ok(client) => {
                            self.client = Some(client);
                            asking.connected();
                        }
                        Err(reason) => {
                            asking.not_connected(clock::boottime());
                            self.say(Err(reason));
                            continue;
                        }
                    }
                }
                changed = rounds.changed() => if changed.is_err() { return },
                _ = turns.tick() => {}
            }
            let due = asking.turn(clock::boottime());
            if let (Some(line), Some(client)) = (due.ask, &self.client) {
                answers.push(ask(client.clone(), self.question.clone(), line).boxed());
            }
            if due.dial {
                let (agent, peer) = (Arc::clone(&self.agent), self.peer.clone());
                let cluster = self.question.cluster.clone();
                let dial = async move { dial(&agent, &cluster, &peer).await };
                dialling = Some(dial.boxed()).into();
            }
        }
    }

    /// Takes an answer in; `true` if another connection is needed.
    fn take(&mut self, asking: &mut Asking, answer: Answer) -> bool {
        match answer.result {
            Some(Ok(said)) => {
                asking.answered(answer.line);
                let outcome = if said.vouches {
                    let lease = &self.server.lease;
                    lease.peer_heard(self.generation, &self.peer.name, answer.asked);
                    Ok(())
                } else {
                    Err(said.reason)
                };
                self.say(outcome);
                false
            }
            Some(Err(status)) => {
                asking.broke(answer.line);
                self.say(Err(status.message().to_owned()));
                true
            }
            None => {
                asking.unanswered();
                self.say(Err(format!("no answer within {LIMIT:?}")));
                false
            }
        }
    }

    fn say(&mut self, outcome: Result<(), String>) {
        if self.said.as_ref() == Some(&outcome) {
            return;
        }
        let (server, agent) = (&self.server.config.name, &self.peer.name);
        match &outcome {
            Ok(()) => tracing::info!(server, agent, "vouches"),
            Err(reason) => tracing::warn!(server, agent, reason, "does not vouch"),
        }
        self.said = Some(outcome);
    }
}

async fn ask(mut client: Client, question: VouchRequest, line: u64) -> Answer {
    // The answer counts from here, however late it comes.
    let asked = clock::boottime();
    let result = timeout(LIMIT, client.vouch(question)).await;
    Answer {
        line,
        asked,
        result: result
            .ok()
            .map(|answer| answer.map(tonic::Response::into_inner)),
    }
}

async fn dial(agent: &Agent, cluster: &str, peer: &AgentAddress) -> Result<Client, String> {
    let target = peers::target(agent, cluster, peer.address.clone(), &peer.name)
        .map_err(|error| error.to_string())?;
    connect(&target, LIMIT)
        .await
        .map(LeaseServiceClient::new)
        .map_err(|error| crate::error::chain(&error))
}
