//! Every method against every role, with real TLS.

use prost::Message;
use proto::identity::Role;
use proto::v1::ErrorKind;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};
use tonic_prost::ProstCodec;

use super::fixture::{Authority, Running, kind};
use crate::rpc::authorise::METHODS;

/// Every method of every service in the `.proto` files that agents serve, as a path: all but the manager's own.
fn methods() -> Vec<String> {
    let set = prost_types::FileDescriptorSet::decode(proto::DESCRIPTOR_SET).unwrap();
    let mut methods = Vec::new();
    for file in set
        .file
        .iter()
        .filter(|file| file.name() != "mha/v1/manager.proto")
    {
        for service in &file.service {
            for method in &service.method {
                methods.push(format!(
                    "/{}.{}/{}",
                    file.package(),
                    service.name(),
                    method.name()
                ));
            }
        }
    }
    methods.sort();
    methods
}

#[test]
fn the_table_has_every_method_once_and_no_other() {
    let mut table: Vec<String> = METHODS.iter().map(|(path, _)| (*path).to_owned()).collect();
    table.sort();
    assert_eq!(table, methods());
    assert!(
        METHODS
            .iter()
            .all(|(_, roles)| roles.contains(&Role::Manager))
    );
}

/// Calls a method with an empty message, which reads as any message with nothing in it.
async fn call(channel: &Channel, path: &str) -> Result<(), Status> {
    let mut client = tonic::client::Grpc::new(channel.clone());
    client.ready().await.unwrap();
    let codec: ProstCodec<(), ()> = ProstCodec::default();
    let path = path.parse::<PathAndQuery>().unwrap();
    let response = client
        .server_streaming(Request::new(()), path, codec)
        .await?;
    let mut answers = response.into_inner();
    while answers.message().await?.is_some() {}
    Ok(())
}

/// Whether the table let the call in; it then fails on its empty message or is answered.
async fn let_in(channel: &Channel, path: &str) -> bool {
    match call(channel, path).await {
        Ok(()) => true,
        // The answer of a method that has one does not read as the empty message: it was answered.
        Err(status) if status.details().is_empty() => {
            assert_eq!(status.code(), Code::Internal, "{path}: {status:?}");
            true
        }
        Err(status) => {
            let refused = kind(&status) == ErrorKind::NotAuthorised
                && status.message().contains("the certificate");
            // An empty cluster is covered by no certificate: past the table, before anything else.
            !refused || status.message().contains("is not for this cluster")
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_method_lets_in_exactly_its_roles() {
    let authority = Authority::new();
    let agent = Running::start("db1", Some(&authority)).await;
    for role in [Role::Manager, Role::Agent, Role::Observer] {
        let uri = format!("mha://app1/{role}/peer");
        let channel = authority.dial(&agent, &[&uri]).await;
        for (path, roles) in METHODS {
            assert_eq!(
                let_in(&channel, path).await,
                roles.contains(&role),
                "{role} calls {path}"
            );
        }
        let error = call(&channel, "/mha.v1.AgentService/Shutdown").await;
        assert_eq!(kind(&error.unwrap_err()), ErrorKind::NotAuthorised);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_without_a_usable_identity_are_refused() {
    let authority = Authority::new();
    let agent = Running::start("db1", Some(&authority)).await;
    for uris in [
        &["https://example.org/manager"][..],
        &[],
        // One that breaks the rules spoils the whole certificate.
        &["mha://app1/manager/m1", "mha://*/agent/db9"],
        &["mha://app1/root/m1"],
    ] {
        let channel = authority.dial(&agent, uris).await;
        for (path, _) in METHODS {
            let status = call(&channel, path).await.unwrap_err();
            assert_eq!(kind(&status), ErrorKind::NotAuthorised, "{uris:?} {path}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_certificate_or_one_of_another_authority_gets_no_connection() {
    let authority = Authority::new();
    let agent = Running::start("db1", Some(&authority)).await;
    let stranger = Authority::new();
    let pair = stranger.issue(&["mha://app1/manager/m1"]);
    // The stranger trusts the agent's authority, but its own certificate is of another one.
    let material = authority.material(&pair);
    let target = proto::channel::Target {
        address: agent.address.to_string(),
        tls: Some((material, "db1.app1.agent.mha".to_owned())),
    };
    let plain = proto::channel::Target {
        address: agent.address.to_string(),
        tls: None,
    };
    for target in [target, plain] {
        // With TLS 1.3 the refusal may come after the client believes to be connected.
        if let Ok(channel) = proto::channel::connect(&target, super::fixture::SOON).await {
            let status = call(&channel, "/mha.v1.AgentService/GetAgentInfo").await;
            assert!(
                status.unwrap_err().details().is_empty(),
                "an agent answered"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_sees_and_touches_its_own_cluster_only() {
    use proto::v1;
    let authority = Authority::new();
    let agent = Running::start("db1", Some(&authority)).await;
    for (uri, expected) in [
        ("mha://app1/manager/m1", vec!["db1:3306"]),
        ("mha://app2/observer/o1", vec!["db1:3307"]),
        ("mha://app3/manager/m1", vec![]),
        ("mha://*/manager/m1", vec!["db1:3306", "db1:3307"]),
    ] {
        let channel = authority.dial(&agent, &[uri]).await;
        let mut client = v1::agent_service_client::AgentServiceClient::new(channel.clone());
        let info = client
            .get_agent_info(v1::GetAgentInfoRequest {
                protocol_revision: proto::PROTOCOL_REVISION,
            })
            .await
            .unwrap()
            .into_inner();
        let servers: Vec<_> = info.servers.iter().map(|s| s.name.as_str()).collect();
        assert_eq!(servers, expected, "{uri}");
        assert_eq!((info.name.as_str(), info.boot_id.len()), ("db1", 36));

        for (cluster, server) in [("app1", "db1:3306"), ("app2", "db1:3307")] {
            let state = client
                .observe_server(v1::ObserveServerRequest {
                    cluster: cluster.to_owned(),
                    server: server.to_owned(),
                })
                .await;
            match state {
                Ok(state) => {
                    assert!(expected.contains(&server), "{uri} saw {server}");
                    assert!(!state.get_ref().sql_alive);
                }
                Err(status) => {
                    assert!(!expected.contains(&server), "{uri}: {status:?}");
                    assert_eq!(kind(&status), ErrorKind::NotAuthorised);
                }
            }
        }
    }
    // The right cluster with a server of another one is an unknown server, as if it did not exist.
    let channel = authority.dial(&agent, &["mha://app1/manager/m1"]).await;
    let mut client = v1::agent_service_client::AgentServiceClient::new(channel);
    for server in ["db1:3307", "db9:3306"] {
        let status = client
            .observe_server(v1::ObserveServerRequest {
                cluster: "app1".to_owned(),
                server: server.to_owned(),
            })
            .await
            .unwrap_err();
        assert_eq!(kind(&status), ErrorKind::UnknownServer);
    }
    let status = client
        .get_agent_info(v1::GetAgentInfoRequest {
            protocol_revision: proto::PROTOCOL_REVISION + 2,
        })
        .await
        .unwrap_err();
    assert_eq!(kind(&status), ErrorKind::Unsupported);
}

#[tokio::test(flavor = "multi_thread")]
async fn health_and_reflection_answer_behind_the_same_certificates() {
    use tonic_health::pb::health_client::HealthClient;
    use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus};
    let authority = Authority::new();
    let agent = Running::start("db1", Some(&authority)).await;
    let channel = authority.dial(&agent, &["mha://app1/observer/o1"]).await;
    let answer = HealthClient::new(channel.clone())
        .check(HealthCheckRequest {
            service: "mha.v1.LogService".to_owned(),
        })
        .await
        .unwrap();
    assert_eq!(answer.get_ref().status(), ServingStatus::Serving);

    use tonic_reflection::pb::v1::ServerReflectionRequest;
    use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
    use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
    use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
    let request = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let mut answers = ServerReflectionClient::new(channel)
        .server_reflection_info(tokio_stream::once(request))
        .await
        .unwrap()
        .into_inner();
    let Some(MessageResponse::ListServicesResponse(services)) =
        answers.message().await.unwrap().unwrap().message_response
    else {
        panic!("no list of services");
    };
    let names: Vec<_> = services.service.iter().map(|s| s.name.as_str()).collect();
    for path in methods() {
        let service = path.trim_start_matches('/').split('/').next().unwrap();
        assert!(names.contains(&service), "{service} in {names:?}");
    }
}
