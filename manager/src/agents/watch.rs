//! Watching: an agent's stream about its server, and what a replica's agent sees of the primary's port.

use std::time::Duration;

use proto::channel::MESSAGE_BYTES;
use proto::status::CallError;
use proto::v1;
use tonic::Streaming;
use tonic::transport::Channel;

use super::client::{AgentClient, Result, unary};
use super::convert::BadAnswer;
use super::{AgentCallError, watched};
use crate::config::HostPort;
use crate::lease::Told;
use crate::monitor::AgentState;
use crate::verdict::ReplicaEvidence;

const WATCH: &str = "WatchServer";

/// How much longer than the agent's own limit an answer to a probe is waited for.
const GRACE: Duration = Duration::from_millis(100);

/// A server's states, as its agent sends them.
#[derive(Debug)]
pub struct StateStream {
    agent: String,
    silence: Duration,
    stream: Streaming<v1::WatchedState>,
}

impl StateStream {
    /// The next state.
    ///
    /// # Errors
    /// [`AgentCallError`]: the stream is at its end, broken, or silent for too long; it must not be used again.
    pub async fn next(&mut self) -> Result<(AgentState, Told)> {
        let message = tokio::time::timeout(self.silence, self.stream.message())
            .await
            .map_err(|_| AgentCallError::TimedOut {
                agent: self.agent.clone(),
                call: WATCH,
                limit_ms: self.silence.as_millis(),
            })?
            .map_err(|status| CallError::from_status(&self.agent, &status))?
            .ok_or_else(|| {
                let ended = tonic::Status::unavailable("the stream ended");
                CallError::from_status(&self.agent, &ended)
            })?;
        watched::told(&message)
            .and_then(|told| Ok((watched::state(message)?, told)))
            .map_err(|source| AgentCallError::Answer {
                agent: self.agent.clone(),
                call: WATCH,
                source,
            })
    }
}

impl AgentClient {
    fn watches(&self) -> v1::watch_service_client::WatchServiceClient<Channel> {
        v1::watch_service_client::WatchServiceClient::new(self.channel())
            .max_decoding_message_size(MESSAGE_BYTES)
    }

    /// Opens the stream of a server. `silence` is how long it may say nothing.
    ///
    /// # Errors
    /// See [`AgentCallError`].
    pub async fn watch(
        &self,
        cluster: &str,
        server: &str,
        heartbeat: Duration,
        silence: Duration,
    ) -> Result<StateStream> {
        let request = v1::WatchServerRequest {
            cluster: cluster.to_owned(),
            server: server.to_owned(),
            heartbeat_ms: milliseconds(heartbeat),
        };
        let mut client = self.watches();
        // The first state comes at once, and with it the head of the answer.
        let stream = unary(self.name(), WATCH, silence, client.watch_server(request)).await?;
        Ok(StateStream {
            agent: self.name().to_owned(),
            silence,
            stream,
        })
    }

    /// What this agent's host, where the replica `server` lives, sees of a MySQL port elsewhere.
    ///
    /// # Errors
    /// See [`AgentCallError`].
    pub async fn probe(
        &self,
        cluster: &str,
        server: &str,
        primary: &HostPort,
        limit: Duration,
    ) -> Result<ReplicaEvidence> {
        const CALL: &str = "ProbeServer";
        let request = v1::ProbeServerRequest {
            cluster: cluster.to_owned(),
            server: server.to_owned(),
            host: primary.host.clone(),
            port: u32::from(primary.port),
            deadline_ms: milliseconds(limit),
        };
        let mut client = self.watches();
        let answer = unary(
            self.name(),
            CALL,
            limit + GRACE,
            client.probe_server(request),
        )
        .await?;
        watched::seen(server, answer).map_err(|source: BadAnswer| AgentCallError::Answer {
            agent: self.name().to_owned(),
            call: CALL,
            source,
        })
    }
}

fn milliseconds(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis())
        .unwrap_or(u32::MAX)
        .max(1)
}
