//! A connected agent: who it is, what it observes, its claims and its fence.

use std::time::Duration;

use proto::channel::MESSAGE_BYTES;
use proto::status::CallError;
use proto::v1;
use tonic::transport::Channel;
use tonic::{Response, Status};

use super::AgentCallError;
use super::connect::ServerAtAgent;
use super::convert::{self, BadAnswer};
use super::values::{Claim, ClaimGranted, Context, Held};
use crate::config::AgentEndpoint;
use crate::facts::{Replica, ServerFacts};

pub(super) type Result<T> = std::result::Result<T, AgentCallError>;

/// A connected agent. Cheap to clone; clones share the connection.
#[derive(Debug, Clone)]
pub struct AgentClient {
    endpoint: AgentEndpoint,
    channel: Channel,
    servers: Vec<ServerAtAgent>,
}

/// Waits for a unary answer, at most `limit`.
pub(super) async fn unary<T>(
    agent: &str,
    call: &'static str,
    limit: Duration,
    answer: impl Future<Output = std::result::Result<Response<T>, Status>>,
) -> Result<T> {
    match tokio::time::timeout(limit, answer).await {
        Ok(Ok(response)) => Ok(response.into_inner()),
        Ok(Err(status)) => Err(CallError::from_status(agent, &status).into()),
        Err(_) => Err(AgentCallError::TimedOut {
            agent: agent.to_owned(),
            call,
            limit_ms: limit.as_millis(),
        }),
    }
}

impl AgentClient {
    pub(super) fn new(
        endpoint: AgentEndpoint,
        channel: Channel,
        servers: Vec<ServerAtAgent>,
    ) -> Self {
        Self {
            endpoint,
            channel,
            servers,
        }
    }

    /// The agent's address and names.
    pub fn endpoint(&self) -> &AgentEndpoint {
        &self.endpoint
    }

    /// The agent's servers, as of the first call.
    pub fn servers(&self) -> &[ServerAtAgent] {
        &self.servers
    }

    pub(super) fn channel(&self) -> Channel {
        self.channel.clone()
    }

    pub(super) fn name(&self) -> &str {
        &self.endpoint.name
    }

    pub(super) fn bad(&self, call: &'static str) -> impl FnOnce(BadAnswer) -> AgentCallError {
        let agent = self.endpoint.name.clone();
        move |source| AgentCallError::Answer {
            agent,
            call,
            source,
        }
    }

    pub(super) fn logs(&self) -> v1::log_service_client::LogServiceClient<Channel> {
        v1::log_service_client::LogServiceClient::new(self.channel.clone())
            .max_decoding_message_size(MESSAGE_BYTES)
            .max_encoding_message_size(MESSAGE_BYTES)
    }

    pub(super) fn replication(
        &self,
    ) -> v1::replication_service_client::ReplicationServiceClient<Channel> {
        v1::replication_service_client::ReplicationServiceClient::new(self.channel.clone())
            .max_decoding_message_size(MESSAGE_BYTES)
    }

    fn epochs(&self) -> v1::epoch_service_client::EpochServiceClient<Channel> {
        v1::epoch_service_client::EpochServiceClient::new(self.channel.clone())
    }

    pub(super) fn fences(&self) -> v1::fence_service_client::FenceServiceClient<Channel> {
        v1::fence_service_client::FenceServiceClient::new(self.channel.clone())
    }

    /// Everything about one server. Reads only.
    ///
    /// # Errors
    /// See [`AgentCallError`].
    pub async fn observe(
        &self,
        cluster: &str,
        server: &str,
        limit: Duration,
    ) -> Result<ServerFacts> {
        const CALL: &str = "ObserveServer";
        let mut client = v1::agent_service_client::AgentServiceClient::new(self.channel.clone());
        let request = v1::ObserveServerRequest {
            cluster: cluster.to_owned(),
            server: server.to_owned(),
        };
        let state = unary(self.name(), CALL, limit, client.observe_server(request)).await?;
        if state.server != server {
            return Err(self.bad(CALL)(BadAnswer::new(
                "server",
                "the server that was asked for",
                state.server,
            )));
        }
        convert::server_facts(state).map_err(self.bad(CALL))
    }

    /// Claims the cluster; durable before the answer.
    ///
    /// # Errors
    /// See [`AgentCallError`]; kinds HELD and STALE_EPOCH name the holder.
    pub async fn claim(&self, claim: &Claim, limit: Duration) -> Result<ClaimGranted> {
        const CALL: &str = "ClaimEpoch";
        let request = v1::ClaimEpochRequest {
            cluster: claim.cluster.clone(),
            epoch: claim.epoch,
            operation: claim.operation.clone(),
            manager: claim.manager.clone(),
            take_over: claim.take_over,
        };
        let answer = unary(self.name(), CALL, limit, self.epochs().claim_epoch(request)).await?;
        if answer.stored_epoch != claim.epoch {
            return Err(self.bad(CALL)(BadAnswer::new(
                "stored_epoch",
                "the claimed epoch",
                answer.stored_epoch.to_string(),
            )));
        }
        Ok(ClaimGranted {
            assigned: answer
                .assignment
                .map(|a| proto::lease::Assigned::try_from(a).map_err(|e| bad_assignment(&e)))
                .transpose()
                .map_err(self.bad(CALL))?,
            vouched_ago: answer.vouched_ms_ago.map(Duration::from_millis),
            taken_over_from: Some(answer.taken_over_from).filter(|name| !name.is_empty()),
        })
    }

    /// Gives a claim back; true if this call did.
    ///
    /// # Errors
    /// See [`AgentCallError`].
    pub async fn release(&self, context: &Context, limit: Duration) -> Result<bool> {
        let request = v1::ReleaseEpochRequest {
            cluster: context.cluster.clone(),
            epoch: context.epoch,
            operation: context.operation.clone(),
        };
        let mut client = self.epochs();
        let answer = unary(
            self.name(),
            "ReleaseEpoch",
            limit,
            client.release_epoch(request),
        );
        Ok(answer.await?.released)
    }

    /// Holds mysqld down. Idempotent.
    ///
    /// # Errors
    /// See [`AgentCallError`].
    pub async fn hold_down(
        &self,
        context: &Context,
        server: &str,
        limit: Duration,
    ) -> Result<Held> {
        let request = v1::HoldDownRequest {
            context: Some(wire_context(context, server, limit)),
        };
        let answer = unary(
            self.name(),
            "HoldDown",
            limit,
            self.fences().hold_down(request),
        )
        .await?;
        Ok(Held {
            was_running: answer.was_running,
            confirmed: answer.confirmed,
            how: answer.how,
        })
    }

    /// Ends a hold; true if there was one.
    ///
    /// # Errors
    /// See [`AgentCallError`].
    pub async fn release_hold(
        &self,
        context: &Context,
        server: &str,
        limit: Duration,
    ) -> Result<bool> {
        let request = v1::ReleaseHoldRequest {
            context: Some(wire_context(context, server, limit)),
        };
        let mut client = self.fences();
        let answer = unary(
            self.name(),
            "ReleaseHold",
            limit,
            client.release_hold(request),
        );
        Ok(answer.await?.released)
    }

    pub(super) fn status(
        &self,
        call: &'static str,
        wire: Option<v1::ReplicaStatus>,
    ) -> Result<Replica> {
        wire.ok_or_else(|| BadAnswer::new("status", "a replication status", "nothing"))
            .and_then(convert::replica)
            .map_err(self.bad(call))
    }
}

pub(super) fn bad_assignment(error: &proto::convert::ConvertError) -> BadAnswer {
    BadAnswer::new("assignment", "an assignment", error.to_string())
}

pub(super) fn wire_context(context: &Context, server: &str, limit: Duration) -> v1::CallContext {
    v1::CallContext {
        cluster: context.cluster.clone(),
        server: server.to_owned(),
        operation: context.operation.clone(),
        epoch: context.epoch,
        deadline_ms: u64::try_from(limit.as_millis()).unwrap_or(u64::MAX).max(1),
    }
}
