//! The gRPC surface: thin handlers, one file per call.
//!
//! Every call goes the same way: [`authorise`] lets it in by role; the handler converts the message, checks that the
//! caller's certificate is for the cluster and, for a change, that (epoch, operation) is the stored pair ([`admit`]);
//! changes run as a flight of their lane ([`work`]); the answer or the typed error ([`failure`]) is converted back.

use std::sync::Arc;

use proto::status::AgentError;
use proto::v1;
use tonic::{Request, Response, Status};

use crate::agent::Agent;

mod admit;
mod authorise;
mod failure;
mod replica;
mod server;
#[cfg(test)]
mod tests;
mod wire;
mod work;

mod apply_logs;
mod assign_primary;
mod claim_epoch;
mod describe_event;
mod drop_address;
mod find_relay_logs;
mod generate_diff_relay_logs;
mod get_address;
mod get_agent_info;
mod hold_down;
mod locate_gtids;
mod make_writable;
mod observe_binlog_server;
mod observe_server;
mod probe_server;
mod promote;
mod pull_segment;
mod read_segment;
mod release_epoch;
mod release_hold;
mod renew_lease;
mod repoint;
mod resume_replication;
mod save_binary_logs;
mod stop_receiver;
mod survey_logs;
mod take_address;
mod vouch;
mod watch_server;

pub use server::serve;

/// Implements all services by their handlers.
#[derive(Debug, Clone)]
struct Rpc(Arc<Agent>);

impl Rpc {
    /// The status of a failed call, with this agent's name in it.
    fn status(&self, method: &'static str, error: AgentError) -> Status {
        let error = if error.host.is_empty() {
            error.with_host(&self.0.config.name)
        } else {
            error
        };
        tracing::info!(method, %error, "call failed");
        error.into()
    }
}

/// A service whose every method calls the handler of the same name.
macro_rules! service {
    (
        $service:path {
            $([$stream:ident = $item:ty])*
            $($name:ident: $request:ident => $response:ty;)*
        }
    ) => {
        #[tonic::async_trait]
        impl $service for Rpc {
            $(type $stream = $item;)*
            $(
                async fn $name(
                    &self,
                    request: Request<v1::$request>,
                ) -> Result<Response<$response>, Status> {
                    $name::handle(&self.0, request)
                        .await
                        .map_err(|error| self.status(stringify!($name), error))
                }
            )*
        }
    };
}

service! {
    v1::agent_service_server::AgentService {
        get_agent_info: GetAgentInfoRequest => v1::GetAgentInfoResponse;
        observe_server: ObserveServerRequest => v1::ServerState;
    }
}

service! {
    v1::epoch_service_server::EpochService {
        claim_epoch: ClaimEpochRequest => v1::ClaimEpochResponse;
        release_epoch: ReleaseEpochRequest => v1::ReleaseEpochResponse;
    }
}

service! {
    v1::fence_service_server::FenceService {
        hold_down: HoldDownRequest => v1::HoldDownResponse;
        release_hold: ReleaseHoldRequest => v1::ReleaseHoldResponse;
        take_address: TakeAddressRequest => v1::TakeAddressResponse;
        drop_address: DropAddressRequest => v1::DropAddressResponse;
        get_address: GetAddressRequest => v1::GetAddressResponse;
    }
}

service! {
    v1::log_service_server::LogService {
        [SaveBinaryLogsStream = work::Progressing<v1::SegmentProgress>]
        [GenerateDiffRelayLogsStream = work::Progressing<v1::SegmentProgress>]
        [PullSegmentStream = work::Progressing<v1::SegmentProgress>]
        [ReadSegmentStream = read_segment::Chunks]

        survey_logs: SurveyLogsRequest => v1::SurveyLogsResponse;
        observe_binlog_server: ObserveBinlogServerRequest => v1::ObserveBinlogServerResponse;
        find_relay_logs: FindRelayLogsRequest => v1::FindRelayLogsResponse;
        locate_gtids: LocateGtidsRequest => v1::LocateGtidsResponse;
        describe_event: DescribeEventRequest => v1::DescribeEventResponse;
        save_binary_logs: SaveBinaryLogsRequest => Self::SaveBinaryLogsStream;
        generate_diff_relay_logs: GenerateDiffRelayLogsRequest => Self::GenerateDiffRelayLogsStream;
        pull_segment: PullSegmentRequest => Self::PullSegmentStream;
        read_segment: ReadSegmentRequest => Self::ReadSegmentStream;
    }
}

service! {
    v1::replication_service_server::ReplicationService {
        [ApplyLogsStream = work::Progressing<v1::ApplyProgress>]

        stop_receiver: StopReceiverRequest => v1::StopReceiverResponse;
        apply_logs: ApplyLogsRequest => Self::ApplyLogsStream;
        promote: PromoteRequest => v1::PromoteResponse;
        make_writable: MakeWritableRequest => v1::MakeWritableResponse;
        repoint: RepointRequest => v1::RepointResponse;
        resume_replication: ResumeReplicationRequest => v1::ResumeReplicationResponse;
    }
}

service! {
    v1::watch_service_server::WatchService {
        [WatchServerStream = watch_server::States]

        watch_server: WatchServerRequest => Self::WatchServerStream;
        probe_server: ProbeServerRequest => v1::ProbeServerResponse;
    }
}

service! {
    v1::lease_service_server::LeaseService {
        assign_primary: AssignPrimaryRequest => v1::AssignPrimaryResponse;
        renew_lease: RenewLeaseRequest => v1::RenewLeaseResponse;
        vouch: VouchRequest => v1::VouchResponse;
    }
}
