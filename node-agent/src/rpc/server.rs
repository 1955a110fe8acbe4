//! The gRPC server: takes a bound listener and a shutdown future, so that a test runs it without a process.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use proto::channel::{MESSAGE_BYTES, configure_server};
use proto::v1;
use tokio::net::TcpListener;
use tonic::server::NamedService;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;

use super::Rpc;
use super::authorise::Authorised;
use crate::agent::Agent;
use crate::error::Error;

/// How long a shutdown waits for calls in progress.
const DRAIN_LIMIT: Duration = Duration::from_secs(5);

/// Serves until `shutdown`, then finishes the calls in progress within a limit and says which were abandoned.
///
/// # Errors
/// TLS material that cannot be used; a listener that failed.
pub async fn serve(
    agent: Arc<Agent>,
    listener: TcpListener,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<(), Error> {
    let tls = agent.tls.is_some();
    let mut server = configure_server(Server::builder());
    if let Some(material) = &agent.tls {
        server = server
            .tls_config(material.server_config())
            .map_err(Error::Serve)?;
    }
    let (health_reporter, health) = tonic_health::server::health_reporter();
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(proto::DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()
        .map_err(Error::Reflection)?;
    let rpc = Rpc(Arc::clone(&agent));
    let agents = v1::agent_service_server::AgentServiceServer::new(rpc.clone());
    let epochs = v1::epoch_service_server::EpochServiceServer::new(rpc.clone());
    let fences = v1::fence_service_server::FenceServiceServer::new(rpc.clone());
    let logs = v1::log_service_server::LogServiceServer::new(rpc.clone())
        .max_decoding_message_size(MESSAGE_BYTES)
        .max_encoding_message_size(MESSAGE_BYTES);
    let replication = v1::replication_service_server::ReplicationServiceServer::new(rpc.clone());
    let leases = v1::lease_service_server::LeaseServiceServer::new(rpc.clone());
    let watches = v1::watch_service_server::WatchServiceServer::new(rpc.clone());
    for name in [
        name_of(&agents),
        name_of(&epochs),
        name_of(&fences),
        name_of(&logs),
        name_of(&replication),
        name_of(&watches),
        name_of(&leases),
    ] {
        health_reporter
            .set_service_status(name, tonic_health::ServingStatus::Serving)
            .await;
    }
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let serving = server
        .add_service(health)
        .add_service(reflection)
        .add_service(Authorised::new(agents, tls))
        .add_service(Authorised::new(epochs, tls))
        .add_service(Authorised::new(fences, tls))
        .add_service(Authorised::new(logs, tls))
        .add_service(Authorised::new(replication, tls))
        .add_service(Authorised::new(watches, tls))
        .add_service(Authorised::new(leases, tls))
        .serve_with_incoming_shutdown(
            TcpIncoming::from(listener).with_nodelay(Some(true)),
            async {
                // An error means that the other end is gone, which ends the serving as well.
                let _ = stopped.await;
            },
        );
    tokio::pin!(serving, shutdown);
    tokio::select! {
        ended = &mut serving => return ended.map_err(Error::Serve),
        () = &mut shutdown => {}
    }
    health_reporter
        .set_service_status("", tonic_health::ServingStatus::NotServing)
        .await;
    agent.stopping.cancel();
    let _ = stop.send(());
    if let Ok(ended) = tokio::time::timeout(DRAIN_LIMIT, &mut serving).await {
        ended.map_err(Error::Serve)?;
    }
    let abandoned = agent.flights.in_progress();
    if !abandoned.is_empty() {
        tracing::warn!(calls = abandoned.join(", "), "abandoned at the shutdown");
    }
    Ok(())
}

fn name_of<S: NamedService>(_: &S) -> &'static str {
    S::NAME
}
