//! Work in progress: a caller that leaves, a second one that comes, and a newer epoch.

use std::time::{Duration, Instant};

use proto::v1;
use proto::v1::ErrorKind;
use proto::v1::log_service_client::LogServiceClient;
use tonic::Streaming;
use tonic::transport::Channel;

use super::fixture::{SOON, claim, context, kind};
use super::relay::{Fault, Relay};
use super::transfer::{SIZE, pair, put, received, request};

async fn begin(
    channel: &Channel,
    request: v1::PullSegmentRequest,
) -> Result<Streaming<v1::SegmentProgress>, tonic::Status> {
    LogServiceClient::new(channel.clone())
        .pull_segment(request)
        .await
        .map(tonic::Response::into_inner)
}

#[tokio::test(flavor = "multi_thread")]
async fn work_goes_on_to_its_end_when_its_caller_leaves() {
    let (provider, receiver, channel) = pair().await;
    let (bytes, info) = put(&provider, SIZE);
    drop(
        begin(&channel, request(provider.address, &info))
            .await
            .unwrap(),
    );
    let manifest = binlog_core::Manifest::path_for(&received(&receiver));
    let began = Instant::now();
    while !manifest.exists() {
        assert!(began.elapsed() < SOON, "the segment did not arrive");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(std::fs::read(received(&receiver)).unwrap(), bytes);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_call_waits_for_the_first_and_is_told_what_runs() {
    let (provider, receiver, channel) = pair().await;
    let (_, info) = put(&provider, SIZE);
    let mute = Relay::start(provider.address, Fault::Mute, 0).await;
    let mut mute = request(mute.address, &info);
    if let Some(context) = &mut mute.context {
        context.deadline_ms = 5_000;
    }
    let mut first = begin(&channel, mute).await.unwrap();
    assert_eq!(receiver.agent.flights.in_progress(), ["PullSegment"]);
    let mut again = request(provider.address, &info);
    if let Some(context) = &mut again.context {
        context.deadline_ms = 200;
    }
    let status = begin(&channel, again).await.unwrap_err();
    assert_eq!(kind(&status), ErrorKind::Conflict);
    assert!(
        status.message().contains("PullSegment is still running"),
        "{status:?}"
    );
    // Another segment is no repetition.
    let other = v1::SegmentInfo {
        id: "tail-mysql-bin.000001-4".to_owned(),
        ..info
    };
    let mut other = begin(&channel, request(provider.address, &other))
        .await
        .unwrap();
    let status = other.message().await.unwrap_err();
    assert_eq!(kind(&status), ErrorKind::UnknownSegment);
    let status = first.message().await.unwrap_err();
    assert_eq!(kind(&status), ErrorKind::NoProgress);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newer_epoch_ends_the_work_of_the_older_one_before_it_is_granted() {
    let (provider, receiver, channel) = pair().await;
    let (_, info) = put(&provider, SIZE);
    let mute = Relay::start(provider.address, Fault::Mute, 0).await;
    let mut old = begin(&channel, request(mute.address, &info)).await.unwrap();
    claim(&channel, 2, "op-2").await;
    assert!(receiver.agent.flights.in_progress().is_empty());
    let status = old.message().await.unwrap_err();
    assert_eq!(kind(&status), ErrorKind::StaleEpoch);
    // Nor does it begin again.
    let status = begin(&channel, request(provider.address, &info))
        .await
        .unwrap_err();
    assert_eq!(kind(&status), ErrorKind::StaleEpoch);
    let mut newer = request(provider.address, &info);
    newer.context = Some(context("db2:3306", 2, "op-2"));
    let mut stream = begin(&channel, newer).await.unwrap();
    // The provider holds the segment for op-1 only.
    assert_eq!(
        kind(&stream.message().await.unwrap_err()),
        ErrorKind::UnknownSegment
    );
}
