//! Calls about leases.

use std::num::NonZeroU64;
use std::time::Duration;

use proto::lease::{AssignOrder, RenewOrder};
use proto::v1;
use tonic::transport::Channel;

use super::client::{AgentClient, Result, unary, wire_context};
use super::convert::BadAnswer;
use super::values::Context;
use crate::config::ClusterConfig;
use crate::lease;

/// The manager's word for a lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Word {
    /// Epoch of the assignment.
    pub epoch: NonZeroU64,
    /// Boot id in the newest state of the primary's agent.
    pub boot_id: String,
    /// When that state was sent.
    pub seen: Duration,
}

/// Who the primary is, as it is told to one server's agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Primary<'a> {
    /// Server name.
    pub name: &'a str,
    /// The server that is told was the primary before, and does not follow it.
    pub replaced_called: bool,
}

impl AgentClient {
    fn leases(&self) -> v1::lease_service_client::LeaseServiceClient<Channel> {
        v1::lease_service_client::LeaseServiceClient::new(self.channel())
    }

    /// Tells the agent of `server` who the primary is; true if it holds a lease now. Idempotent.
    ///
    /// # Errors
    /// See [`AgentCallError`](super::AgentCallError).
    pub async fn assign_primary(
        &self,
        config: &ClusterConfig,
        context: &Context,
        server: &str,
        primary: &Primary<'_>,
        limit: Duration,
    ) -> Result<bool> {
        const CALL: &str = "AssignPrimary";
        let context = proto::convert::Context::try_from(wire_context(context, server, limit))
            .map_err(|e| self.bad(CALL)(BadAnswer::new("context", "a context", e.to_string())))?;
        let order = AssignOrder {
            context,
            primary: primary.name.to_owned(),
            agents: lease::agents(config),
            manager: config.manager_name.clone(),
            lease: lease::wanted(config),
            replaced: primary.replaced_called,
        };
        let request = v1::AssignPrimaryRequest::from(&order);
        let mut client = self.leases();
        let answer = unary(self.name(), CALL, limit, client.assign_primary(request)).await?;
        Ok(answer.lease)
    }

    /// Gives the manager's word for the lease of `server`.
    ///
    /// # Errors
    /// See [`AgentCallError`](super::AgentCallError).
    pub async fn renew_lease(
        &self,
        config: &ClusterConfig,
        server: &str,
        word: &Word,
        limit: Duration,
    ) -> Result<()> {
        let order = RenewOrder {
            cluster: config.cluster.clone(),
            server: server.to_owned(),
            epoch: word.epoch,
            boot_id: word.boot_id.clone(),
            seen: word.seen,
            manager: config.manager_name.clone(),
        };
        let request = v1::RenewLeaseRequest::from(&order);
        let mut client = self.leases();
        unary(
            self.name(),
            "RenewLease",
            limit,
            client.renew_lease(request),
        )
        .await?;
        Ok(())
    }
}
