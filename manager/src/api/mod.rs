//! The daemon's local service: gRPC on a Unix socket that only its owner may open (mode 0600).
//!
//! Who may open the socket may pause clusters and stop the manager, and nothing else: no call of it starts a failover.

mod client;
mod serve;

use std::path::PathBuf;

pub use client::Client;
pub use serve::{bind, serve};

use proto::v1;

use crate::daemon::{Explanation, Status};
use crate::facts::Process;
use crate::lease::LeaseStatus;

/// Why the local service cannot be offered or used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ApiError {
    /// Another manager serves there.
    #[error("{}: another manager runs already", socket.display())]
    Taken {
        /// The socket.
        socket: PathBuf,
    },
    /// The socket cannot be made.
    #[error("{}", socket.display())]
    Bind {
        /// The socket.
        socket: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Nobody serves there.
    #[error("{}: no manager runs there", socket.display())]
    NotRunning {
        /// The socket.
        socket: PathBuf,
        /// Why.
        #[source]
        source: tonic::transport::Error,
    },
    /// The manager refused, failed, or did not answer in time.
    #[error("{call}: {}", status.message())]
    Call {
        /// Name of the call.
        call: &'static str,
        /// What it said.
        status: Box<tonic::Status>,
    },
}

fn wire(status: &Status, explanation: Option<&Explanation>) -> v1::ClusterStatus {
    v1::ClusterStatus {
        cluster: status.cluster.clone(),
        state: u32::from(status.state.number()),
        state_name: status.state.name().to_owned(),
        primary: status.primary.clone().unwrap_or_default(),
        sentence: status.sentence.clone(),
        since_unix_ms: status.since_unix_ms,
        paused: status.paused,
        blocked: status.blocked.clone().unwrap_or_default(),
        deposed: status.deposed.iter().cloned().collect(),
        servers: status
            .servers
            .iter()
            .map(|heard| v1::WatchedServer {
                name: heard.server.clone(),
                agent_heard: heard.agent,
                process: match heard.process {
                    Process::Running => "running",
                    Process::NotRunning => "not_running",
                    Process::Unknown => "unknown",
                }
                .to_owned(),
            })
            .collect(),
        lease: status.lease.as_ref().map(wire_lease),
        // Of another primary it says nothing any more.
        lacking: explanation
            .filter(|e| Some(&e.primary) == status.primary.as_ref())
            .map(|e| e.gtids.iter().filter(|held| !held.lacks.is_empty()))
            .into_iter()
            .flatten()
            .map(|held| held.sentence.clone())
            .collect(),
        binlog_servers: status.binlog_servers.clone(),
    }
}

fn wire_lease(lease: &LeaseStatus) -> v1::PrimaryLease {
    let (state, since_unix_ms, until_unix_ms, by) = match lease {
        LeaseStatus::Off { .. } => ("off", 0, 0, None),
        LeaseStatus::Unknown { .. } => ("unknown", 0, 0, None),
        LeaseStatus::Held {
            since_unix_ms,
            until_unix_ms,
            by,
        } => ("held", *since_unix_ms, *until_unix_ms, Some(by)),
        LeaseStatus::Lost { since_unix_ms, by } => ("lost", *since_unix_ms, 0, Some(by)),
    };
    v1::PrimaryLease {
        state: state.to_owned(),
        sentence: lease.to_string(),
        since_unix_ms,
        until_unix_ms,
        epoch: by.map_or(0, |by| by.epoch),
        manager: by.map(|by| by.manager.clone()).unwrap_or_default(),
        manager_heard: by.is_some_and(|by| by.manager_heard),
        vouching: by.map_or(0, |by| by.vouching),
        agents: by.map_or(0, |by| by.agents),
    }
}
