//! A binlog server through the wire: its copies surveyed, compared, cut and read like a dead primary's own log.

use binlog_core::checksum::ChecksumAlgorithm;
use binlog_core::testing::PrimaryLog;
use binlog_core::{BinlogPosition, Manifest};
use proto::v1;
use proto::v1::ErrorKind;
use proto::v1::log_service_client::LogServiceClient;
use proto::v1::segment_progress::Event;
use tonic::Status;
use tonic::transport::Channel;

use super::fixture::{Running, claim, context, kind};

const PRIMARY: u32 = 1;
const SECTION: &str = "binlog_servers: [{ name: binlog1, cluster: app1, directory: copies }]\n";

/// An agent with copies of five transactions of server 1; `ends[n]` is where the n-th ends.
struct Host {
    agent: Running,
    channel: Channel,
    ends: Vec<BinlogPosition>,
    client: LogServiceClient<Channel>,
}

impl Host {
    async fn new() -> Self {
        let agent = Running::start_with("db1", None, SECTION).await;
        let copies = agent.folder.join("copies");
        std::fs::create_dir(&copies).unwrap();
        let name = "mysql-bin.000001".parse().unwrap();
        let mut log = PrimaryLog::new(name, PRIMARY, ChecksumAlgorithm::Crc32);
        let mut ends = vec![log.position().clone()];
        for xid in 0..5 {
            log.transaction(xid, 2, 100);
            ends.push(log.position().clone());
        }
        log.write_to(&copies).unwrap();
        std::fs::remove_file(copies.join("mysql-bin.index")).unwrap();
        let channel = agent.dial().await;
        Self {
            client: LogServiceClient::new(channel.clone()),
            channel,
            agent,
            ends,
        }
    }

    async fn survey(
        &mut self,
        cluster: &str,
        kind: v1::LogKind,
        primary_server_id: u32,
    ) -> Result<v1::SurveyLogsResponse, Status> {
        let request = v1::SurveyLogsRequest {
            cluster: cluster.to_owned(),
            server: "binlog1".to_owned(),
            kind: kind.into(),
            from: Some((&self.ends[1]).into()),
            latest: None,
            primary_server_id,
        };
        Ok(self.client.survey_logs(request).await?.into_inner())
    }

    async fn observe(&mut self) -> Result<v1::ObserveBinlogServerResponse, Status> {
        let request = v1::ObserveBinlogServerRequest {
            cluster: "app1".to_owned(),
            server: "binlog1".to_owned(),
            primary_server_id: PRIMARY,
        };
        Ok(self
            .client
            .observe_binlog_server(request)
            .await?
            .into_inner())
    }

    async fn save(&mut self, epoch: u64, to: Option<usize>) -> Result<Event, Status> {
        let request = v1::SaveBinaryLogsRequest {
            context: Some(context("binlog1", epoch, "op-1")),
            from: Some((&self.ends[1]).into()),
            to: to.map(|to| (&self.ends[to]).into()),
            primary_server_id: PRIMARY,
        };
        let stream = self.client.save_binary_logs(request).await?;
        let mut stream = stream.into_inner();
        while let Some(message) = stream.message().await? {
            match message.event.unwrap() {
                Event::Progress(_) => {}
                end => return Ok(end),
            }
        }
        panic!("the stream ended without an outcome");
    }
}

#[tokio::test]
async fn copies_are_surveyed_compared_cut_and_read() {
    let mut host = Host::new().await;
    let newest = host.observe().await.unwrap();
    assert_eq!(newest.newest, Some((&host.ends[5]).into()));
    assert!(newest.directory.ends_with("copies"), "{newest:?}");

    let survey = host
        .survey("app1", v1::LogKind::Binary, PRIMARY)
        .await
        .unwrap();
    assert_eq!(survey.ranges.len(), 1);
    assert_eq!(
        survey.last_transaction.unwrap().end,
        Some((&host.ends[5]).into())
    );

    let event = host
        .client
        .describe_event(v1::DescribeEventRequest {
            cluster: "app1".to_owned(),
            server: "binlog1".to_owned(),
            kind: v1::LogKind::Binary.into(),
            before: Some((&host.ends[3]).into()),
            latest: None,
            primary_server_id: PRIMARY,
        })
        .await
        .unwrap()
        .into_inner()
        .event
        .unwrap();
    assert_eq!(event.end, Some((&host.ends[3]).into()));

    claim(&host.channel, 1, "op-1").await;
    // More may arrive meanwhile: exactly what was asked for is cut.
    let Event::Done(segment) = host.save(1, Some(4)).await.unwrap() else {
        panic!("nothing was cut")
    };
    let stored = host
        .agent
        .folder
        .join("state/segments/op-1")
        .join(&segment.id);
    let manifest = Manifest::load(&stored).unwrap();
    assert_eq!(manifest.range.from, host.ends[1]);
    assert_eq!(manifest.range.to, host.ends[4]);
    assert_eq!(manifest.transactions, 3);
    let read = host
        .client
        .read_segment(v1::ReadSegmentRequest {
            cluster: "app1".to_owned(),
            server: "binlog1".to_owned(),
            operation: "op-1".to_owned(),
            segment_id: segment.id,
            offset: 0,
        })
        .await
        .unwrap()
        .into_inner()
        .message()
        .await
        .unwrap()
        .unwrap();
    assert_eq!(read.data, std::fs::read(stored).unwrap());
}

#[tokio::test]
async fn what_copies_cannot_serve_is_refused() {
    let mut host = Host::new().await;
    let refused = |answer: Result<v1::SurveyLogsResponse, Status>| kind(&answer.unwrap_err());
    let binary = v1::LogKind::Binary;
    // Another cluster's, no primary named, another primary's, and no relay log.
    for (cluster, logs, primary, expected) in [
        ("app2", binary, PRIMARY, ErrorKind::UnknownServer),
        ("app1", binary, 0, ErrorKind::InvalidArgument),
        ("app1", binary, 7, ErrorKind::RangeNotHeld),
        (
            "app1",
            v1::LogKind::Relay,
            PRIMARY,
            ErrorKind::InvalidArgument,
        ),
    ] {
        let found = refused(host.survey(cluster, logs, primary).await);
        assert_eq!(found, expected, "{cluster} {logs:?} {primary}");
    }
    // A cut is a change: by whoever holds the cluster only, and it names its end.
    let unclaimed = host.save(1, Some(4)).await.unwrap_err();
    assert_eq!(kind(&unclaimed), ErrorKind::StaleEpoch);
    claim(&host.channel, 1, "op-1").await;
    let endless = host.save(1, None).await.unwrap_err();
    assert_eq!(kind(&endless), ErrorKind::InvalidArgument);
    // The directory goes away: whoever asks is told which one.
    std::fs::remove_dir_all(host.agent.folder.join("copies")).unwrap();
    let gone = host.observe().await.unwrap_err();
    assert_eq!(kind(&gone), ErrorKind::LogUnreadable);
    assert!(gone.message().contains("copies"), "{gone:?}");
}
