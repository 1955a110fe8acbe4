//! What agents see of their servers and of others', while it happens.

use std::time::{Duration, Instant};

use proto::probe::{ProbeOrder, Probed};
use proto::v1;
use proto::v1::epoch_service_client::EpochServiceClient;
use proto::v1::fence_service_client::FenceServiceClient;
use proto::v1::replication_service_client::ReplicationServiceClient;
use proto::v1::watch_service_client::WatchServiceClient;
use proto::watch::{WatchOrder, Watched};
use tests::sandbox::deployment::{CLUSTER, Deployment, server_name};
use tests::sandbox::{SandboxError, Server};
use tonic::transport::Channel;

use crate::support;

mod alive;
mod deposed;
mod ended;
mod lease;
mod reopen;

/// Limit of what must come, on a machine that does much else.
const SOON: Duration = Duration::from_secs(60);
/// Longest silence asked for.
const HEARTBEAT: Duration = Duration::from_millis(100);

/// A stream of one server's states.
struct Stream {
    states: tonic::Streaming<v1::WatchedState>,
}

/// A state and when it came.
struct Seen {
    state: Watched,
    at: Instant,
}

impl Stream {
    /// Watches server `number` through its agent.
    async fn open(deployment: &Deployment, server: &Server, number: usize) -> Self {
        let channel = support::dial(deployment, number, "m1").await;
        let order = WatchOrder {
            cluster: CLUSTER.to_owned(),
            server: server_name(server),
            heartbeat: HEARTBEAT,
        };
        let states = WatchServiceClient::new(channel)
            .watch_server(v1::WatchServerRequest::from(&order))
            .await
            .unwrap()
            .into_inner();
        Self { states }
    }

    async fn next(&mut self) -> Seen {
        let state = tokio::time::timeout(SOON, self.states.message())
            .await
            .expect("silence")
            .unwrap()
            .expect("the end of the stream");
        Seen {
            state: Watched::try_from(state).unwrap(),
            at: Instant::now(),
        }
    }

    /// Reads until a state is `wanted`.
    async fn until(&mut self, what: &str, wanted: impl Fn(&Watched) -> bool) -> Seen {
        let began = Instant::now();
        loop {
            let seen = self.next().await;
            if wanted(&seen.state) {
                return seen;
            }
            assert!(began.elapsed() < SOON, "{what}: {:?}", seen.state);
        }
    }
}

/// What server `number`'s agent sees of `other`, without a gate between them.
async fn probe(deployment: &Deployment, asking: &Server, number: usize, other: &Server) -> Probed {
    probe_for(deployment, asking, number, other, SOON / 2).await
}

/// The same with a limit.
async fn probe_for(
    deployment: &Deployment,
    asking: &Server,
    number: usize,
    other: &Server,
    deadline: Duration,
) -> Probed {
    let channel: Channel = support::dial(deployment, number, "m1").await;
    let order = ProbeOrder {
        cluster: CLUSTER.to_owned(),
        server: server_name(asking),
        host: other.bind_address().to_string(),
        port: other.port(),
        deadline,
    };
    let answer = WatchServiceClient::new(channel)
        .probe_server(v1::ProbeServerRequest::from(&order))
        .await
        .unwrap()
        .into_inner();
    Probed::try_from(answer).unwrap()
}

fn is_read_only(error: &SandboxError) -> bool {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        text.push_str(&inner.to_string());
        cause = inner.source();
    }
    text.contains("read-only")
}

/// The calls of an operation at one server's agent.
struct Operation<'a> {
    deployment: &'a Deployment,
    server: &'a Server,
    number: usize,
    id: &'static str,
    epoch: u64,
}

impl Operation<'_> {
    fn context(&self) -> Option<v1::CallContext> {
        Some(v1::CallContext {
            cluster: CLUSTER.to_owned(),
            server: server_name(self.server),
            operation: self.id.to_owned(),
            epoch: self.epoch,
            deadline_ms: 60_000,
        })
    }

    async fn claim(&self) {
        let channel = support::dial(self.deployment, self.number, "m1").await;
        let request = v1::ClaimEpochRequest {
            cluster: CLUSTER.to_owned(),
            epoch: self.epoch,
            operation: self.id.to_owned(),
            manager: "m1".to_owned(),
            take_over: false,
        };
        EpochServiceClient::new(channel)
            .claim_epoch(request)
            .await
            .unwrap();
    }

    async fn hold_down(&self) {
        let channel = support::dial(self.deployment, self.number, "m1").await;
        let context = self.context();
        let held = FenceServiceClient::new(channel)
            .hold_down(v1::HoldDownRequest { context })
            .await
            .unwrap();
        assert!(held.get_ref().confirmed);
    }

    async fn release_hold(&self) {
        let channel = support::dial(self.deployment, self.number, "m1").await;
        let context = self.context();
        let released = FenceServiceClient::new(channel)
            .release_hold(v1::ReleaseHoldRequest { context })
            .await
            .unwrap();
        assert!(released.get_ref().released);
    }

    async fn make_writable(&self) {
        let channel = support::dial(self.deployment, self.number, "m1").await;
        let context = self.context();
        let made = ReplicationServiceClient::new(channel)
            .make_writable(v1::MakeWritableRequest {
                context,
                wait_for_replicas: false,
            })
            .await
            .unwrap();
        assert!(!made.get_ref().read_only);
    }
}
