//! Who may not call an agent: nobody without a certificate, no certificate of another role or cluster, no stale epoch.
//! Every mutating call is tried in each of these ways, is refused, and changes nothing.

use std::time::Duration;

use proto::channel::{self, Target};
use proto::status::CallError;
use proto::tls::{TlsMaterial, TlsPaths};
use proto::v1;
use proto::v1::ErrorKind;
use proto::v1::epoch_service_client::EpochServiceClient;
use proto::v1::fence_service_client::FenceServiceClient;
use proto::v1::log_service_client::LogServiceClient;
use proto::v1::replication_service_client::ReplicationServiceClient;
use tests::sandbox::deployment::{self, CLUSTER, Deployment, DeploymentSpec};
use tests::sandbox::snapshot::{Snapshot, Traffic};
use tests::sandbox::{ClusterSpec, SandboxError, ServerKind};
use tonic::Status;
use tonic::transport::Channel;

use crate::support::{self, Outcome, Running};

const LIMIT: Duration = Duration::from_secs(60);
/// The epoch and operation that the cluster is held by in these tests.
const EPOCH: u64 = 5;
const OPERATION: &str = "the-holder";

/// How one call ended.
#[derive(Debug)]
enum Answer {
    /// The agent did it.
    Done,
    /// The agent, or the TLS handshake before it, refused.
    Refused(Status),
}

impl Answer {
    fn of<T>(result: Result<tonic::Response<T>, Status>) -> Self {
        match result {
            Ok(_) => Self::Done,
            Err(status) => Self::Refused(status),
        }
    }

    /// A stream's refusal may come as its first message.
    async fn of_stream<T>(result: Result<tonic::Response<tonic::Streaming<T>>, Status>) -> Self {
        match result {
            Ok(mut stream) => match stream.get_mut().message().await {
                Ok(_) => Self::Done,
                Err(status) => Self::Refused(status),
            },
            Err(status) => Self::Refused(status),
        }
    }

    fn kind(&self) -> Option<ErrorKind> {
        match self {
            Self::Done => None,
            Self::Refused(status) => CallError::from_status("agent", status).kind(),
        }
    }
}

/// One mutating call of an agent, by name, made with the given epoch, operation and cluster.
const MUTATING: [&str; 13] = [
    "HoldDown",
    "ReleaseHold",
    "TakeAddress",
    "DropAddress",
    "SaveBinaryLogs",
    "GenerateDiffRelayLogs",
    "PullSegment",
    "StopReceiver",
    "ApplyLogs",
    "Promote",
    "MakeWritable",
    "Repoint",
    "ResumeReplication",
];

fn context(server: &str, cluster: &str, epoch: u64, operation: &str) -> Option<v1::CallContext> {
    Some(v1::CallContext {
        cluster: cluster.to_owned(),
        server: server.to_owned(),
        operation: operation.to_owned(),
        epoch,
        deadline_ms: 5_000,
    })
}

fn position(offset: u64) -> Option<v1::BinlogPosition> {
    Some(v1::BinlogPosition {
        file: "mysql-bin.000001".to_owned(),
        offset,
    })
}

/// On an interface that no host has.
fn address() -> Option<v1::VirtualAddress> {
    Some(v1::VirtualAddress {
        ip: "192.0.2.100".to_owned(),
        prefix: 24,
        interface: "no-such-one".to_owned(),
    })
}

/// Makes one mutating call with arguments that would be in order.
async fn mutate(channel: &Channel, call: &str, context: Option<v1::CallContext>) -> Answer {
    let mut fence = FenceServiceClient::new(channel.clone());
    let mut logs = LogServiceClient::new(channel.clone());
    let mut replication = ReplicationServiceClient::new(channel.clone());
    let source = Some(v1::SourceIdentity {
        server_id: 1,
        server_uuid: "7a3b1c1e-0000-11ee-8c99-0242ac120002".to_owned(),
        flavor: v1::Flavor::Mysql.into(),
        version: "5.6.24".to_owned(),
        gtid_mode: "OFF".to_owned(),
        binlog_checksum: "CRC32".to_owned(),
    });
    match call {
        "HoldDown" => Answer::of(fence.hold_down(v1::HoldDownRequest { context }).await),
        "ReleaseHold" => Answer::of(fence.release_hold(v1::ReleaseHoldRequest { context }).await),
        "TakeAddress" => {
            let request = v1::TakeAddressRequest {
                context,
                address: address(),
                holder_fenced: true,
            };
            Answer::of(fence.take_address(request).await)
        }
        "DropAddress" => {
            let request = v1::DropAddressRequest {
                context,
                address: address(),
            };
            Answer::of(fence.drop_address(request).await)
        }
        "SaveBinaryLogs" => {
            let request = v1::SaveBinaryLogsRequest {
                context,
                from: position(120),
                ..Default::default()
            };
            Answer::of_stream(logs.save_binary_logs(request).await).await
        }
        "GenerateDiffRelayLogs" => {
            let range = Some(v1::StreamRange {
                from: position(120),
                to: position(452),
            });
            let request = v1::GenerateDiffRelayLogsRequest {
                context,
                range,
                latest: position(452),
            };
            Answer::of_stream(logs.generate_diff_relay_logs(request).await).await
        }
        "PullSegment" => {
            let segment = v1::SegmentInfo {
                id: "tail-mysql-bin.000001-120".to_owned(),
                size: 1,
                sha256: vec![0; 32].into(),
                manifest_json: b"{}".to_vec().into(),
            };
            let request = v1::PullSegmentRequest {
                context,
                address: "127.0.0.1:1".to_owned(),
                certificate_name: "db9".to_owned(),
                segment: Some(segment),
                provider_server: "db9:3306".to_owned(),
            };
            Answer::of_stream(logs.pull_segment(request).await).await
        }
        "StopReceiver" => Answer::of(
            replication
                .stop_receiver(v1::StopReceiverRequest { context })
                .await,
        ),
        "ApplyLogs" => {
            let request = v1::ApplyLogsRequest {
                context,
                segment_ids: Vec::new(),
                until: position(120),
                source,
                standing: None,
            };
            Answer::of_stream(replication.apply_logs(request).await).await
        }
        "Promote" => {
            let request = v1::PromoteRequest {
                context,
                executed_at_least: position(120),
                continues: String::new(),
            };
            Answer::of(replication.promote(request).await)
        }
        "MakeWritable" => Answer::of(
            replication
                .make_writable(v1::MakeWritableRequest {
                    context,
                    wait_for_replicas: false,
                })
                .await,
        ),
        "Repoint" => {
            let request = v1::RepointRequest {
                context,
                host: "127.0.0.1".to_owned(),
                port: 3306,
                position: position(120),
                keep_gtid_mode: false,
                executed_at_least: position(120),
            };
            Answer::of(replication.repoint(request).await)
        }
        "ResumeReplication" => Answer::of(
            replication
                .resume_replication(v1::ResumeReplicationRequest { context })
                .await,
        ),
        other => panic!("no call {other}"),
    }
}

async fn claim(channel: &Channel, epoch: u64, operation: &str) -> Answer {
    let request = v1::ClaimEpochRequest {
        cluster: CLUSTER.to_owned(),
        epoch,
        operation: operation.to_owned(),
        manager: "m1".to_owned(),
        take_over: false,
    };
    Answer::of(
        EpochServiceClient::new(channel.clone())
            .claim_epoch(request)
            .await,
    )
}

/// A running cluster with agents, held by [`OPERATION`] at [`EPOCH`].
async fn held_cluster() -> Result<(Running, Deployment), SandboxError> {
    let cluster = support::start(ClusterSpec::new(ServerKind::MySql56).database("sbtest")).await?;
    let deployment = Deployment::start(&cluster, &DeploymentSpec::default()).await?;
    deployment.issue("observer", "o1").await?;
    deployment.issue_for("another", "manager", "m2").await?;
    cluster
        .primary()
        .exec("CREATE TABLE sbtest.t(id INT PRIMARY KEY)")
        .await?;
    cluster.wait_caught_up().await?;
    for number in 0..cluster.servers().len() {
        let channel = support::dial(&deployment, number, "m1").await;
        assert!(matches!(
            claim(&channel, EPOCH, OPERATION).await,
            Answer::Done
        ));
    }
    Ok((cluster, deployment))
}

/// Makes every mutating call through `channel` at server `number`; each must be refused with one of `kinds`.
async fn all_refused(
    cluster: &Running,
    channel: &Channel,
    number: usize,
    (name, epoch, operation): (&str, u64, &str),
    kinds: &[ErrorKind],
) {
    let server = deployment::server_name(cluster.server(number));
    for call in MUTATING {
        let answer = mutate(channel, call, context(&server, name, epoch, operation)).await;
        let kind = answer.kind();
        assert!(
            kind.is_some_and(|kind| kinds.contains(&kind)),
            "{call} at {server}: {answer:?}, wanted {kinds:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_and_stale_epochs_are_refused_and_change_nothing() -> Outcome {
    let (cluster, deployment) = held_cluster().await?;
    let before = Snapshot::take(&cluster, &deployment, Traffic::None).await?;

    for number in 0..cluster.servers().len() {
        // An agent may pull segments and an observer may read; neither may change anything.
        for certificate in ["db3", "o1", "m2"] {
            let channel = support::dial(&deployment, number, certificate).await;
            let right = (CLUSTER, EPOCH, OPERATION);
            all_refused(
                &cluster,
                &channel,
                number,
                right,
                &[ErrorKind::NotAuthorised],
            )
            .await;
            let answer = claim(&channel, EPOCH + 10, "a-stranger").await;
            assert_eq!(
                answer.kind(),
                Some(ErrorKind::NotAuthorised),
                "claim by {certificate}: {answer:?}"
            );
        }
        let channel = support::dial(&deployment, number, "m1").await;
        for (epoch, operation) in [
            (EPOCH - 1, OPERATION),
            (EPOCH, "another"),
            (EPOCH + 1, OPERATION),
            (EPOCH + 1, "x"),
        ] {
            let stale = (CLUSTER, epoch, operation);
            all_refused(
                &cluster,
                &channel,
                number,
                stale,
                &[ErrorKind::StaleEpoch, ErrorKind::Held],
            )
            .await;
        }
        for (epoch, operation) in [(EPOCH - 1, "older"), (EPOCH, "equal")] {
            let answer = claim(&channel, epoch, operation).await;
            let refused = [Some(ErrorKind::StaleEpoch), Some(ErrorKind::Held)];
            assert!(
                refused.contains(&answer.kind()),
                "claim of {epoch} by {operation}: {answer:?}"
            );
        }
        // A cluster that this agent has no server of, by a manager whose certificate does not cover it.
        let answer = mutate(
            &channel,
            "MakeWritable",
            context("db1:1", "another", EPOCH, OPERATION),
        )
        .await;
        let refused = [
            Some(ErrorKind::NotAuthorised),
            Some(ErrorKind::UnknownServer),
        ];
        assert!(
            refused.contains(&answer.kind()),
            "another cluster: {answer:?}"
        );
    }

    let after = Snapshot::take(&cluster, &deployment, Traffic::None).await?;
    assert_eq!(before.changes(&after), Vec::<String>::new());
    logged(&deployment, &["call refused", "is not the stored one"]);
    Ok(())
}

/// Every agent has logged refusals with these words.
fn logged(deployment: &Deployment, words: &[&str]) {
    for agent in deployment.agents() {
        let log = std::fs::read_to_string(agent.log()).unwrap();
        for word in words {
            assert!(log.contains(word), "{} in {}", word, agent.log().display());
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_of_an_operation_that_is_over_are_refused_when_they_are_replayed() -> Outcome {
    let (cluster, deployment) = held_cluster().await?;
    for number in 0..cluster.servers().len() {
        let channel = support::dial(&deployment, number, "m1").await;
        let request = v1::ReleaseEpochRequest {
            cluster: CLUSTER.to_owned(),
            epoch: EPOCH,
            operation: OPERATION.to_owned(),
        };
        let mut epochs = EpochServiceClient::new(channel);
        assert!(
            epochs
                .release_epoch(request)
                .await
                .unwrap()
                .get_ref()
                .released
        );
    }
    let before = Snapshot::take(&cluster, &deployment, Traffic::None).await?;
    for number in 0..cluster.servers().len() {
        let channel = support::dial(&deployment, number, "m1").await;
        // The very epoch and operation that were granted.
        let replayed = (CLUSTER, EPOCH, OPERATION);
        all_refused(
            &cluster,
            &channel,
            number,
            replayed,
            &[ErrorKind::StaleEpoch],
        )
        .await;
        let answer = claim(&channel, EPOCH, OPERATION).await;
        assert_eq!(answer.kind(), Some(ErrorKind::StaleEpoch), "{answer:?}");
    }
    let after = Snapshot::take(&cluster, &deployment, Traffic::None).await?;
    assert_eq!(before.changes(&after), Vec::<String>::new());
    logged(&deployment, &["is not the stored one"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_gets_in_without_a_certificate_of_our_authority() -> Outcome {
    let (cluster, deployment) = held_cluster().await?;
    let before = Snapshot::take(&cluster, &deployment, Traffic::None).await?;
    let server = deployment::server_name(cluster.server(1));
    let agent = deployment.agent(1);
    let authority = std::fs::read(deployment.certificates().join("ca.pem")).unwrap();

    // Without any certificate, with our authority trusted.
    let tls = tonic::transport::ClientTlsConfig::new()
        .ca_certificate(tonic::transport::Certificate::from_pem(authority))
        .domain_name(format!("{}.{CLUSTER}.agent.mha", agent.name()));
    let nobody = tonic::transport::Endpoint::from_shared(format!("https://{}", agent.address()))
        .unwrap()
        .timeout(LIMIT)
        .tls_config(tls)
        .unwrap();
    // In plain text.
    let plain = tonic::transport::Endpoint::from_shared(format!("http://{}", agent.address()))
        .unwrap()
        .timeout(LIMIT);

    for endpoint in [nobody, plain] {
        // Lazily, so that a handshake that fails only at the first bytes shows at the call.
        let channel = endpoint.connect_lazy();
        for call in MUTATING {
            let answer = mutate(&channel, call, context(&server, CLUSTER, EPOCH, OPERATION)).await;
            assert!(matches!(answer, Answer::Refused(_)), "{call}: {answer:?}");
            // The connection never came to the agent's services, so no agent's answer can be in the status.
            assert_eq!(answer.kind(), None, "{call}: {answer:?}");
        }
    }

    // With a certificate of another authority that names itself a manager.
    let foreign = deployment.foreign_authority("m1").await?;
    let name = format!("{}.{CLUSTER}.agent.mha", agent.name());
    let mut ours_trusted = TlsPaths {
        ca: deployment.certificates().join("ca.pem"),
        ..foreign
    };
    let target = |paths: &TlsPaths| Target {
        address: agent.address().to_string(),
        tls: Some((TlsMaterial::load(paths).unwrap(), name.clone())),
    };
    if let Ok(channel) = channel::connect(&target(&ours_trusted), LIMIT).await {
        for call in MUTATING {
            let answer = mutate(&channel, call, context(&server, CLUSTER, EPOCH, OPERATION)).await;
            assert!(matches!(answer, Answer::Refused(_)), "{call}: {answer:?}");
            assert_eq!(answer.kind(), None, "{call}: {answer:?}");
        }
    }
    // The same files of our own authority do work: the refusals above are about the certificate.
    ours_trusted.cert = deployment.certificates().join("m1.pem");
    ours_trusted.key = deployment.certificates().join("m1.key");
    let channel = channel::connect(&target(&ours_trusted), LIMIT)
        .await
        .unwrap();
    assert!(matches!(
        claim(&channel, EPOCH, OPERATION).await,
        Answer::Done
    ));

    let after = Snapshot::take(&cluster, &deployment, Traffic::None).await?;
    assert_eq!(before.changes(&after), Vec::<String>::new());
    Ok(())
}
