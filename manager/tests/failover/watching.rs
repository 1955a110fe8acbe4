//! The fake agents' watch service: tells the world as it is, at once when it changes.

use std::time::{Duration, Instant};

use proto::v1;
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::fake::FakeAgent;
use super::world::{FakeServer, lock};

/// How soon a change is told.
const LOOK: Duration = Duration::from_millis(2);
/// Boot id of all hosts.
pub(crate) const BOOT: &str = "b";

fn state(server: &FakeServer) -> v1::WatchedState {
    use v1::{watched_lease, watched_process as process, watched_sql as sql};
    let (process, sql) = match (server.alive, server.hangs) {
        (false, _) => (process::State::Exited, sql::State::Unreachable),
        (true, true) => (process::State::Running, sql::State::NoAnswer),
        (true, false) => (process::State::Running, sql::State::Alive),
    };
    let lease = match &server.assignment {
        Some(known) if known.lease && known.primary == server.name => watched_lease::State::Held,
        _ => watched_lease::State::Off,
    };
    v1::WatchedState {
        server: server.name.clone(),
        cause: v1::WatchCause::Change.into(),
        process: Some(v1::WatchedProcess {
            state: process.into(),
            pid: 7,
            ..Default::default()
        }),
        sql: Some(v1::WatchedSql {
            state: sql.into(),
            ..Default::default()
        }),
        boot_id: BOOT.into(),
        epoch: server.epoch,
        operation: server.holder.clone().unwrap_or_default().0,
        manager_of_record: server.of_record.clone().unwrap_or_default(),
        assignment: server.assignment.clone(),
        lease: Some(v1::WatchedLease {
            state: lease.into(),
            manager_heard: !server.words.is_empty(),
            vouching: 3,
            agents: 3,
            ..Default::default()
        }),
        ..Default::default()
    }
}

#[tonic::async_trait]
impl v1::watch_service_server::WatchService for FakeAgent {
    type WatchServerStream =
        std::pin::Pin<Box<dyn Stream<Item = Result<v1::WatchedState, Status>> + Send>>;

    async fn watch_server(
        &self,
        request: Request<v1::WatchServerRequest>,
    ) -> Result<Response<Self::WatchServerStream>, Status> {
        self.fault("WatchServer").await?;
        let heartbeat = Duration::from_millis(request.get_ref().heartbeat_ms.into());
        let agent = self.clone();
        let (sender, receiver) = tokio::sync::mpsc::channel(1);
        tokio::spawn(async move {
            let (mut last, mut sent) = (None, Instant::now());
            let began = Instant::now();
            loop {
                let (now, silent) = {
                    let mut world = lock(&agent.world);
                    let server = world.server(&agent.server);
                    (state(server), server.silent)
                };
                if !silent && (last.as_ref() != Some(&now) || sent.elapsed() >= heartbeat) {
                    let mut told = now.clone();
                    told.sent = Some(v1::AgentMoment {
                        boottime_ms: began.elapsed().as_millis() as u64,
                        unix_ms: 0,
                    });
                    if sender.send(Ok(told)).await.is_err() {
                        return;
                    }
                    (last, sent) = (Some(now), Instant::now());
                }
                tokio::time::sleep(LOOK).await;
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }

    async fn probe_server(
        &self,
        request: Request<v1::ProbeServerRequest>,
    ) -> Result<Response<v1::ProbeServerResponse>, Status> {
        self.fault("ProbeServer").await?;
        let reaches = lock(&self.world).server(&self.server).reaches_primary;
        let state = if reaches {
            v1::probed_port::State::Handshake
        } else {
            v1::probed_port::State::NoAnswer
        };
        assert!(request.get_ref().deadline_ms > 0);
        Ok(Response::new(v1::ProbeServerResponse {
            port: Some(v1::ProbedPort {
                state: state.into(),
                ..Default::default()
            }),
            ..Default::default()
        }))
    }
}
