//! What agents see of their servers and of others', while it happens.

use std::time::{Duration, Instant};

use proto::probe::{ProbeOrder, Probed};
use proto::v1;
use proto::v1::watch_service_client::WatchServiceClient;
use proto::watch::{WatchOrder, Watched};
use tests::sandbox::Server;
use tests::sandbox::deployment::{CLUSTER, Deployment, server_name};
use tonic::transport::Channel;

use crate::support;

mod alive;
mod deposed;
mod ended;

/// Limit of what must come, on a machine that does much else.
const SOON: Duration = Duration::from_secs(20);
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
    let channel: Channel = support::dial(deployment, number, "m1").await;
    let order = ProbeOrder {
        cluster: CLUSTER.to_owned(),
        server: server_name(asking),
        host: other.bind_address().to_string(),
        port: other.port(),
        deadline: Duration::from_secs(1),
    };
    let answer = WatchServiceClient::new(channel)
        .probe_server(v1::ProbeServerRequest::from(&order))
        .await
        .unwrap()
        .into_inner();
    Probed::try_from(answer).unwrap()
}
