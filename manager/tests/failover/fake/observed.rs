//! What an agent says of itself and of its server.

use proto::v1;
use tonic::{Request, Response, Status};

use super::{FakeAgent, wire};
use crate::world::FakeServer;

pub(super) fn status(server: &FakeServer) -> v1::ReplicaStatus {
    let receiver = match (server.receiver_running, server.connected) {
        (false, _) => v1::ReceiverState::Stopped,
        (true, false) => v1::ReceiverState::Connecting,
        (true, true) => v1::ReceiverState::Running,
    };
    v1::ReplicaStatus {
        source_host: server.source_host.clone(),
        source_port: u32::from(server.source_port),
        source_user: "repl".into(),
        receiver: receiver.into(),
        applier_running: server.applier_running,
        read: wire(server.received),
        executed: wire(server.executed),
        applier_errno: server.applier_errno,
        applier_error: if server.applier_errno == 0 {
            ""
        } else {
            "it broke"
        }
        .into(),
        source_server_id: 1,
        source_uuid: "11111111-1111-1111-1111-111111111111".into(),
        channels: server.channels,
        ..Default::default()
    }
}

#[tonic::async_trait]
impl v1::agent_service_server::AgentService for FakeAgent {
    async fn get_agent_info(
        &self,
        _: Request<v1::GetAgentInfoRequest>,
    ) -> Result<Response<v1::GetAgentInfoResponse>, Status> {
        self.fault("GetAgentInfo").await?;
        let (epoch, holder, of_record) =
            self.change(|s| (s.epoch, s.holder.clone(), s.of_record.clone()));
        let (operation, manager) = holder.unwrap_or_default();
        Ok(Response::new(v1::GetAgentInfoResponse {
            name: self.server.clone(),
            version: "0".into(),
            protocol_revision: proto::PROTOCOL_REVISION,
            servers: vec![v1::AgentServer {
                name: self.server.clone(),
                cluster: "app1".into(),
                stored_epoch: epoch,
                holder_operation: operation,
                holder_manager: manager,
                manager_of_record: of_record.unwrap_or_default(),
            }],
            ..Default::default()
        }))
    }

    async fn observe_server(
        &self,
        _: Request<v1::ObserveServerRequest>,
    ) -> Result<Response<v1::ServerState>, Status> {
        self.fault("ObserveServer").await?;
        let server = self.change(|s| s.clone());
        let process = if server.alive {
            v1::ProcessState::Running
        } else {
            v1::ProcessState::NotRunning
        };
        Ok(Response::new(v1::ServerState {
            server: server.name.clone(),
            process: process.into(),
            sql_alive: server.alive,
            sql_error: if server.alive { "" } else { "no socket" }.into(),
            identity: Some(v1::ServerIdentity {
                flavor: v1::Flavor::Mysql.into(),
                version: server.version.into(),
                server_id: server.server_id,
                server_uuid: format!(
                    "{0}{0}{0}{0}{0}{0}{0}{0}-{0}{0}{0}{0}-{0}{0}{0}{0}-{0}{0}{0}{0}-{0}{0}{0}{0}{0}{0}{0}{0}{0}{0}{0}{0}",
                    server.server_id
                ),
                binlog_checksum: "CRC32".into(),
                gtid_mode: "OFF".into(),
                ..Default::default()
            }),
            settings: server.alive.then(|| v1::ServerSettings {
                read_only: server.read_only,
                log_bin: server.log_bin,
                semi_sync_source: server.semi_sync_source,
                semi_sync_replica: server.semi_sync_received.then_some(true),
                ..Default::default()
            }),
            replica: (server.alive && server.replica).then(|| status(&server)),
            credentials_source: "config".into(),
            // It is forgotten where there is no receiver any more.
            semi_sync_received: server.semi_sync_received && server.replica,
            configured_read_only: Some(v1::ConfiguredReadOnly {
                answer: v1::Answer::Yes.into(),
                evidence: "read_only=1 at my.cnf:2".into(),
            }),
            ..Default::default()
        }))
    }
}
