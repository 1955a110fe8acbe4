//! Segments between two agents: whole, cut off at random places, damaged, refused.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::Ordering;

use proto::v1;
use proto::v1::ErrorKind;
use proto::v1::log_service_client::LogServiceClient;
use proto::v1::segment_progress::Event;
use rand::rngs::StdRng;
use rand::{Rng, RngCore, SeedableRng};
use sha2::{Digest, Sha256};
use tonic::Status;

use super::fixture::{Authority, Running, claim, context, kind};
use super::relay::{Fault, Relay};

pub(super) const ID: &str = "tail-mysql-bin.000001-880";
pub(super) const SIZE: usize = 1_500_017;

/// Puts a segment into the agent's store and tells how it is announced.
pub(super) fn put(agent: &Running, size: usize) -> (Vec<u8>, v1::SegmentInfo) {
    let mut bytes = vec![0; size];
    StdRng::seed_from_u64(size as u64).fill_bytes(&mut bytes);
    let sha256: [u8; 32] = Sha256::digest(&bytes).into();
    let manifest = serde_json::json!({
        "format_version": 1,
        "range": {
            "from": {"file": "mysql-bin.000001", "offset": 880},
            "to": {"file": "mysql-bin.000001", "offset": 880 + size - 4},
        },
        "extents": [{
            "file": "mysql-bin.000001", "from": 880, "to": 880 + size - 4, "segment_offset": 4, "length": size - 4,
        }],
        "events": 1,
        "transactions": 1,
        "whole_end": null,
        "size": size,
        "sha256": hex::encode(sha256),
        "provider": "db1:3306",
        "dropped_bytes": 0,
        "original_format_description": "",
        "made_up_rotates": [],
    });
    let manifest_json = serde_json::to_vec(&manifest).unwrap();
    let store = &agent.agent.segments;
    store.prepare("app1", "op-1").unwrap();
    let path = store.path("op-1", ID).unwrap();
    std::fs::write(&path, &bytes).unwrap();
    std::fs::write(binlog_core::Manifest::path_for(&path), &manifest_json).unwrap();
    let info = v1::SegmentInfo {
        id: ID.to_owned(),
        size: size as u64,
        sha256: sha256.to_vec().into(),
        manifest_json: manifest_json.into(),
    };
    (bytes, info)
}

/// Where the receiver would have the segment.
pub(super) fn received(agent: &Running) -> PathBuf {
    agent.folder.join("state/segments/op-1").join(ID)
}

fn part(agent: &Running) -> PathBuf {
    agent
        .folder
        .join("state/segments/op-1")
        .join(format!("{ID}.part"))
}

pub(super) fn request(address: SocketAddr, segment: &v1::SegmentInfo) -> v1::PullSegmentRequest {
    v1::PullSegmentRequest {
        context: Some(context("db2:3306", 1, "op-1")),
        address: address.to_string(),
        certificate_name: "db1".to_owned(),
        segment: Some(segment.clone()),
        provider_server: "db1:3306".to_owned(),
    }
}

/// The last message, after progress that only grows.
async fn pull(
    channel: &tonic::transport::Channel,
    request: v1::PullSegmentRequest,
) -> Result<v1::SegmentInfo, Status> {
    let mut stream = LogServiceClient::new(channel.clone())
        .pull_segment(request)
        .await?
        .into_inner();
    let mut last = 0;
    while let Some(message) = stream.message().await? {
        match message.event.unwrap() {
            Event::Progress(progress) => {
                assert!(progress.done >= last && progress.done <= progress.total);
                last = progress.done;
            }
            Event::Done(info) => {
                assert!(stream.message().await?.is_none());
                return Ok(info);
            }
            Event::Nothing(nothing) => panic!("{nothing:?}"),
        }
    }
    panic!("the stream ended without an outcome");
}

/// A provider with a segment, a receiver that holds the cluster, and a client of the latter.
pub(super) async fn pair() -> (Running, Running, tonic::transport::Channel) {
    let provider = Running::start("db1", None).await;
    let receiver = Running::start("db2", None).await;
    let channel = receiver.dial().await;
    claim(&channel, 1, "op-1").await;
    (provider, receiver, channel)
}

/// The same with TLS between all of them.
async fn pair_with_certificates() -> (Running, Running, tonic::transport::Channel) {
    let authority = Authority::new();
    let provider = Running::start("db1", Some(&authority)).await;
    let receiver = Running::start("db2", Some(&authority)).await;
    let material = authority.material(&authority.issue(&["mha://app1/manager/m1"]));
    let target = proto::channel::Target {
        address: receiver.address.to_string(),
        tls: Some((material, "db2.app1.agent.mha".to_owned())),
    };
    let channel = proto::channel::connect(&target, super::fixture::SOON)
        .await
        .unwrap();
    claim(&channel, 1, "op-1").await;
    (provider, receiver, channel)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_segment_arrives_byte_for_byte_and_once() {
    let (provider, receiver, channel) = pair().await;
    let (bytes, info) = put(&provider, SIZE);
    let relay = Relay::start(provider.address, Fault::None, 0).await;
    let done = pull(&channel, request(relay.address, &info)).await.unwrap();
    assert_eq!(done, info);
    assert_eq!(std::fs::read(received(&receiver)).unwrap(), bytes);
    let manifest = binlog_core::Manifest::path_for(&received(&receiver));
    assert_eq!(std::fs::read(manifest).unwrap(), info.manifest_json);
    assert!(!part(&receiver).exists());
    // Again: it is there already, nobody is asked.
    assert_eq!(relay.connections.load(Ordering::SeqCst), 1);
    let again = pull(&channel, request(relay.address, &info)).await.unwrap();
    assert_eq!(again, info);
    assert_eq!(relay.connections.load(Ordering::SeqCst), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_cut_at_random_places_costs_only_what_was_under_way() {
    for seed in 0..6 {
        let (provider, receiver, channel) = pair().await;
        let (bytes, info) = put(&provider, SIZE);
        let relay = Relay::start(provider.address, Fault::CutWithin(600_000), seed).await;
        pull(&channel, request(relay.address, &info)).await.unwrap();
        assert_eq!(std::fs::read(received(&receiver)).unwrap(), bytes);
        let connections = relay.connections.load(Ordering::SeqCst);
        assert!(connections > 2, "seed {seed}: {connections} connections");
        // At most one chunk and the protocol's own bytes are sent twice per connection.
        let sent = relay.bytes.load(Ordering::SeqCst);
        let limit = SIZE as u64 + connections * (256 + 8) * 1024;
        assert!(sent <= limit, "seed {seed}: {sent} > {limit}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tls_connection_cut_anywhere_goes_on_behind_the_last_whole_chunk() {
    /// What TLS and HTTP/2 add on two connections, certificates included.
    const AROUND: u64 = 24 << 10;
    let (provider, receiver, channel) = pair_with_certificates().await;
    let (bytes, info) = put(&provider, SIZE);
    let (size, chunk) = (SIZE as u64, proto::channel::CHUNK_BYTES as u64);
    let mut random = StdRng::seed_from_u64(20);
    // In the handshake, in the first chunk, where one ends, in the last one, and anywhere.
    let mut cuts = vec![1_000, chunk / 2, 2 * chunk, size - 2_000];
    cuts.extend((0..6).map(|_| random.random_range(4_000..size)));
    for cut in cuts {
        let relay = Relay::start(provider.address, Fault::CutOnceAt(cut), 0).await;
        pull(&channel, request(relay.address, &info)).await.unwrap();
        let arrived = received(&receiver);
        assert!(std::fs::read(&arrived).unwrap() == bytes, "cut at {cut}");
        assert_eq!(relay.connections.load(Ordering::SeqCst), 2, "cut at {cut}");
        let twice = relay.bytes.load(Ordering::SeqCst).saturating_sub(size);
        assert!(twice <= chunk + AROUND, "cut at {cut}: {twice} sent twice");
        std::fs::remove_file(binlog_core::Manifest::path_for(&arrived)).unwrap();
        std::fs::remove_file(arrived).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_falls_silent_is_noticed_by_both_ends_and_replaced() {
    let (provider, receiver, channel) = pair_with_certificates().await;
    let (bytes, info) = put(&provider, SIZE);
    let relay = Relay::start(provider.address, Fault::SilentAfter(700_000), 0).await;
    let mut patient = request(relay.address, &info);
    let limit = 2 * super::fixture::SOON;
    if let Some(context) = &mut patient.context {
        context.deadline_ms = limit.as_millis().try_into().unwrap();
    }
    let began = std::time::Instant::now();
    pull(&channel, patient).await.unwrap();
    let took = began.elapsed();
    assert_eq!(std::fs::read(received(&receiver)).unwrap(), bytes);
    assert_eq!(relay.connections.load(Ordering::SeqCst), 2);
    // Not before a peer that only paused could have answered, and not by the call's limit.
    assert!(took >= proto::channel::KEEPALIVE_TIMEOUT, "{took:?}");
    assert!(took < limit / 2, "{took:?}");
    // The provider does not keep its end for ever either.
    while relay.closed_by_server.load(Ordering::SeqCst) == 0 {
        assert!(began.elapsed() < limit, "the provider still waits");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_byte_changed_on_the_way_never_arrives() {
    for seed in 0..6 {
        let (provider, receiver, channel) = pair().await;
        let (bytes, info) = put(&provider, SIZE);
        let fault = Fault::FlipWithin {
            bytes: SIZE as u64,
            connections: 3,
        };
        let relay = Relay::start(provider.address, fault, seed).await;
        pull(&channel, request(relay.address, &info)).await.unwrap();
        assert_eq!(
            std::fs::read(received(&receiver)).unwrap(),
            bytes,
            "seed {seed}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transfer_goes_on_behind_what_an_earlier_run_left() {
    let (provider, receiver, channel) = pair().await;
    let (bytes, info) = put(&provider, SIZE);
    receiver.agent.segments.prepare("app1", "op-1").unwrap();
    std::fs::write(part(&receiver), &bytes[..1_400_000]).unwrap();
    let relay = Relay::start(provider.address, Fault::None, 0).await;
    pull(&channel, request(relay.address, &info)).await.unwrap();
    assert_eq!(std::fs::read(received(&receiver)).unwrap(), bytes);
    assert!(relay.bytes.load(Ordering::SeqCst) < 150_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_that_are_not_the_announced_ones_are_refused_and_removed() {
    let (provider, receiver, channel) = pair().await;
    let (bytes, info) = put(&provider, SIZE);
    // The provider's disk changed one byte after the segment was announced.
    let mut altered = bytes.clone();
    altered[1_000_000] ^= 1;
    let path = provider.agent.segments.path("op-1", ID).unwrap();
    std::fs::write(&path, &altered).unwrap();
    let status = pull(&channel, request(provider.address, &info))
        .await
        .unwrap_err();
    assert_eq!(kind(&status), ErrorKind::DigestMismatch, "{status:?}");
    assert!(!received(&receiver).exists() && !part(&receiver).exists());
    // A part of something else, left by an earlier run, is found out in the same way, and costs only time.
    std::fs::write(&path, &bytes).unwrap();
    std::fs::write(part(&receiver), &altered[..1_400_000]).unwrap();
    pull(&channel, request(provider.address, &info))
        .await
        .unwrap();
    assert_eq!(std::fs::read(received(&receiver)).unwrap(), bytes);
}

#[tokio::test(flavor = "multi_thread")]
async fn announcements_that_cannot_be_are_refused_at_once() {
    let (provider, _receiver, channel) = pair().await;
    let (_, info) = put(&provider, 1000);
    let wrong_size = v1::SegmentInfo {
        size: 999,
        ..info.clone()
    };
    let wrong_digest = v1::SegmentInfo {
        sha256: vec![7; 32].into(),
        ..info.clone()
    };
    let short_digest = v1::SegmentInfo {
        sha256: vec![7; 31].into(),
        ..info.clone()
    };
    let way_out = v1::SegmentInfo {
        id: "../../epochs/app1.json".to_owned(),
        ..info.clone()
    };
    let no_manifest = v1::SegmentInfo {
        manifest_json: "{".into(),
        ..info.clone()
    };
    for segment in [wrong_size, wrong_digest, short_digest, way_out, no_manifest] {
        let status = pull(&channel, request(provider.address, &segment))
            .await
            .unwrap_err();
        assert_eq!(kind(&status), ErrorKind::InvalidArgument, "{segment:?}");
    }
    let mut far = request(provider.address, &info);
    far.address = "192.0.2.1:7306".to_owned();
    let status = pull(&channel, far).await.unwrap_err();
    assert_eq!(
        kind(&status),
        ErrorKind::InvalidArgument,
        "plain text stays on the host"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_provider_refuses_is_final_and_a_dead_one_is_told_from_a_mute_one() {
    let (provider, _receiver, channel) = pair().await;
    let (_, info) = put(&provider, 1000);
    let other = v1::SegmentInfo {
        id: "tail-mysql-bin.000001-4".to_owned(),
        ..info.clone()
    };
    let status = pull(&channel, request(provider.address, &other))
        .await
        .unwrap_err();
    assert_eq!(kind(&status), ErrorKind::UnknownSegment);

    let hurried = |address| {
        let mut request = request(address, &info);
        if let Some(context) = &mut request.context {
            // Enough to connect, whatever else the machine does.
            context.deadline_ms = 3_000;
        }
        request
    };
    // Taken, so that nobody else listens there, and nobody does.
    let nobody = tokio::net::TcpSocket::new_v4().unwrap();
    nobody.bind(([127, 0, 0, 1], 0).into()).unwrap();
    let address = nobody.local_addr().unwrap();
    let status = pull(&channel, hurried(address)).await.unwrap_err();
    assert_eq!(kind(&status), ErrorKind::PeerUnreachable, "{status:?}");

    let mute = Relay::start(provider.address, Fault::Mute, 0).await;
    let status = pull(&channel, hurried(mute.address)).await.unwrap_err();
    assert_eq!(kind(&status), ErrorKind::NoProgress, "{status:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn agents_pull_from_each_other_with_their_certificates() {
    let (provider, receiver, channel) = pair_with_certificates().await;
    let (bytes, info) = put(&provider, SIZE);
    // Whoever answers at the address must carry the name that was given.
    let mut impostor = request(provider.address, &info);
    impostor.certificate_name = "db3".to_owned();
    if let Some(context) = &mut impostor.context {
        context.deadline_ms = 400;
    }
    let status = pull(&channel, impostor).await.unwrap_err();
    assert_eq!(kind(&status), ErrorKind::PeerUnreachable, "{status:?}");
    pull(&channel, request(provider.address, &info))
        .await
        .unwrap();
    assert_eq!(std::fs::read(received(&receiver)).unwrap(), bytes);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_segment_is_read_from_any_offset_by_its_own_cluster_only() {
    let authority = Authority::new();
    let provider = Running::start("db1", Some(&authority)).await;
    let (bytes, _) = put(&provider, 600_000);
    let read = async |uri: &str, request: v1::ReadSegmentRequest| {
        let channel = authority.dial(&provider, &[uri]).await;
        let mut stream = LogServiceClient::new(channel)
            .read_segment(request)
            .await?
            .into_inner();
        let mut read = Vec::new();
        while let Some(chunk) = stream.message().await? {
            assert!(chunk.data.len() <= proto::channel::CHUNK_BYTES);
            assert_eq!(chunk.crc32, crc32fast::hash(&chunk.data));
            read.extend_from_slice(&chunk.data);
        }
        Ok::<_, Status>(read)
    };
    let request = |offset| v1::ReadSegmentRequest {
        cluster: "app1".to_owned(),
        server: "db1:3306".to_owned(),
        operation: "op-1".to_owned(),
        segment_id: ID.to_owned(),
        offset,
    };
    for offset in [0, 1, 262_144, 599_999, 600_000] {
        let from = usize::try_from(offset).unwrap();
        for uri in ["mha://app1/agent/db2", "mha://app1/manager/m1"] {
            assert_eq!(read(uri, request(offset)).await.unwrap(), bytes[from..]);
        }
    }
    let other_cluster = v1::ReadSegmentRequest {
        cluster: "app2".to_owned(),
        server: "db1:3307".to_owned(),
        ..request(0)
    };
    let traversal = v1::ReadSegmentRequest {
        segment_id: "../op-1/x".to_owned(),
        ..request(0)
    };
    let manifest = v1::ReadSegmentRequest {
        segment_id: format!("{ID}.manifest.json"),
        ..request(0)
    };
    let other_operation = v1::ReadSegmentRequest {
        operation: "op-2".to_owned(),
        ..request(0)
    };
    for (uri, request, expected) in [
        (
            "mha://app1/agent/db2",
            request(600_001),
            ErrorKind::InvalidArgument,
        ),
        (
            "mha://app1/agent/db2",
            traversal,
            ErrorKind::InvalidArgument,
        ),
        ("mha://app1/agent/db2", manifest, ErrorKind::InvalidArgument),
        (
            "mha://app1/agent/db2",
            other_operation,
            ErrorKind::UnknownSegment,
        ),
        ("mha://app2/agent/db2", request(0), ErrorKind::NotAuthorised),
        // Its own server, another cluster's operation.
        (
            "mha://app2/agent/db2",
            other_cluster,
            ErrorKind::NotAuthorised,
        ),
        (
            "mha://app1/observer/o1",
            request(0),
            ErrorKind::NotAuthorised,
        ),
    ] {
        let status = read(uri, request.clone()).await.unwrap_err();
        assert_eq!(kind(&status), expected, "{uri} {request:?}");
    }
}
