//! An agent of one fake server: speaks the protocol, changes the world. One file per service; those of the daemon's part
//! (watching, leases) stand beside their tests.

mod fence;
mod observed;
mod replication;
mod segments;

use std::pin::Pin;

use binlog_core::BinlogPosition;
use proto::status::AgentError;
use proto::v1::{self, ErrorKind};
use tokio_stream::Stream;
use tonic::{Request, Response, Status};

use super::logs::FILE;
use super::world::{FakeServer, Shared, fault, lock};

/// One agent, one server.
#[derive(Clone)]
pub(crate) struct FakeAgent {
    pub(crate) world: Shared,
    pub(crate) server: String,
}

type Streamed<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

impl FakeAgent {
    /// Serves on a port of its own; returns its address.
    pub(crate) async fn spawn(
        world: Shared,
        server: &str,
    ) -> (String, tokio::task::JoinHandle<()>) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let agent = Self {
            world,
            server: server.to_owned(),
        };
        let serving = tokio::spawn(async move {
            proto::channel::configure_server(tonic::transport::Server::builder())
                .add_service(v1::agent_service_server::AgentServiceServer::new(
                    agent.clone(),
                ))
                .add_service(v1::epoch_service_server::EpochServiceServer::new(
                    agent.clone(),
                ))
                .add_service(v1::fence_service_server::FenceServiceServer::new(
                    agent.clone(),
                ))
                .add_service(v1::log_service_server::LogServiceServer::new(agent.clone()))
                .add_service(v1::watch_service_server::WatchServiceServer::new(
                    agent.clone(),
                ))
                .add_service(v1::lease_service_server::LeaseServiceServer::new(
                    agent.clone(),
                ))
                .add_service(v1::replication_service_server::ReplicationServiceServer::new(agent))
                .serve_with_incoming(tokio_stream::wrappers::TcpListenerStream::new(listener))
                .await
                .unwrap();
        });
        (address, serving)
    }

    pub(crate) async fn fault(&self, call: &'static str) -> Result<(), Status> {
        fault(&self.world, &self.server, call).await
    }

    pub(crate) fn check(&self, context: &Option<v1::CallContext>) -> Result<(), Status> {
        let context = context.as_ref().unwrap();
        assert!(context.deadline_ms > 0);
        assert_eq!(context.cluster, "app1");
        let mut world = lock(&self.world);
        let server = world.server(&self.server);
        let holds = server.epoch == context.epoch
            && server
                .holder
                .as_ref()
                .is_some_and(|(o, _)| *o == context.operation);
        if holds {
            Ok(())
        } else {
            Err(AgentError::new(ErrorKind::StaleEpoch, "not the stored pair").into())
        }
    }

    pub(crate) fn is_binlog_server(&self) -> bool {
        self.server.starts_with("binlog")
    }

    /// Whoever asks a binlog server names the dead primary, and nobody else is asked so.
    fn of_the_dead(&self, primary_server_id: u32) {
        assert_eq!(primary_server_id, u32::from(self.is_binlog_server()));
    }

    pub(crate) fn change<T>(&self, change: impl FnOnce(&mut FakeServer) -> T) -> T {
        change(lock(&self.world).server(&self.server))
    }
}

fn at(offset: u64) -> BinlogPosition {
    BinlogPosition::new(FILE.parse().unwrap(), offset)
}

fn wire(offset: u64) -> Option<v1::BinlogPosition> {
    Some((&at(offset)).into())
}

fn one<T: Send + 'static>(message: T) -> Response<Streamed<T>> {
    Response::new(Box::pin(tokio_stream::iter([Ok(message)])))
}

#[tonic::async_trait]
impl v1::epoch_service_server::EpochService for FakeAgent {
    async fn claim_epoch(
        &self,
        request: Request<v1::ClaimEpochRequest>,
    ) -> Result<Response<v1::ClaimEpochResponse>, Status> {
        self.fault("ClaimEpoch").await?;
        let request = request.into_inner();
        self.change(|s| {
            let same = s
                .holder
                .as_ref()
                .is_some_and(|(o, _)| *o == request.operation);
            let of_another = s
                .of_record
                .as_ref()
                .filter(|manager| **manager != request.manager)
                .cloned();
            let is_newer = request.epoch > s.epoch;
            if is_newer && of_another.is_some() && !request.take_over {
                let of = of_another.unwrap_or_default();
                return Err(AgentError::new(ErrorKind::Held, "of another manager")
                    .with_holder(s.epoch, of)
                    .into());
            }
            if is_newer || (request.epoch == s.epoch && same) {
                s.epoch = request.epoch;
                s.of_record = Some(request.manager.clone());
                s.holder = Some((request.operation, request.manager));
                Ok(Response::new(v1::ClaimEpochResponse {
                    stored_epoch: s.epoch,
                    assignment: s.assignment.clone(),
                    vouched_ms_ago: s.vouched_ms_ago,
                    taken_over_from: of_another.unwrap_or_default(),
                }))
            } else {
                let holder = s.holder.clone().map(|h| h.0).unwrap_or_default();
                Err(AgentError::new(ErrorKind::Held, "another operation")
                    .with_holder(s.epoch, holder)
                    .into())
            }
        })
    }

    async fn release_epoch(
        &self,
        request: Request<v1::ReleaseEpochRequest>,
    ) -> Result<Response<v1::ReleaseEpochResponse>, Status> {
        self.fault("ReleaseEpoch").await?;
        let request = request.into_inner();
        let released = self.change(|s| {
            let held = s
                .holder
                .as_ref()
                .is_some_and(|(o, _)| *o == request.operation)
                && s.epoch == request.epoch;
            if held {
                s.holder = None;
            }
            held
        });
        Ok(Response::new(v1::ReleaseEpochResponse { released }))
    }
}
