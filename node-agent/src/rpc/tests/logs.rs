//! Surveys, searches and cuts through the wire, over synthetic logs of a primary and a replica of it.

use std::path::PathBuf;

use binlog_core::checksum::ChecksumAlgorithm;
use binlog_core::testing::{PrimaryLog, RelayWriter};
use binlog_core::{BinlogPosition, Manifest};
use proto::v1;
use proto::v1::ErrorKind;
use proto::v1::log_service_client::LogServiceClient;
use proto::v1::segment_progress::Event;
use tonic::Status;
use tonic::transport::Channel;

use super::fixture::{Running, claim, context, kind};
use crate::logs::keep::{RelayLocation, StreamSource};
use crate::mysqld::{Identity, Remembered, ServerVersion};

/// A host whose server's own binary log is `log`, and which received the first `received` transactions of it as if it
/// were a replica: both kinds of logs in one data directory.
struct Host {
    agent: Running,
    log: PrimaryLog,
    ends: Vec<BinlogPosition>,
    client: LogServiceClient<Channel>,
}

const RECEIVED: usize = 3;

impl Host {
    async fn new() -> Self {
        let agent = Running::start("db1", None).await;
        let data = agent.folder.join("data");
        let name = "mysql-bin.000001".parse().unwrap();
        let mut log = PrimaryLog::new(name, 1, ChecksumAlgorithm::Crc32);
        let mut ends = vec![log.position().clone()];
        for xid in 0..5 {
            log.transaction(xid, 2, 100);
            ends.push(log.position().clone());
        }
        log.write_to(&data).unwrap();
        let first = "relay-bin.000001".parse().unwrap();
        let mut relay = RelayWriter::new(first, 2, ChecksumAlgorithm::Crc32);
        relay.connect(&log, &ends[0]);
        for event in &log.events {
            if event.start >= ends[0] && event.end <= ends[RECEIVED] {
                relay.receive(&log, event);
            }
        }
        write_relay(&agent, &relay);
        remember(&agent);
        let channel = agent.dial().await;
        claim(&channel, 1, "op-1").await;
        Self {
            client: LogServiceClient::new(channel),
            agent,
            log,
            ends,
        }
    }

    fn segment(&self, id: &str) -> PathBuf {
        self.agent.folder.join("state/segments/op-1").join(id)
    }

    async fn survey(&mut self, kind: v1::LogKind) -> v1::SurveyLogsResponse {
        self.client
            .survey_logs(v1::SurveyLogsRequest {
                cluster: "app1".to_owned(),
                server: "db1:3306".to_owned(),
                kind: kind.into(),
                from: None,
                latest: None,
                ..Default::default()
            })
            .await
            .unwrap()
            .into_inner()
    }

    async fn save(&mut self, from: &BinlogPosition) -> Result<Event, Status> {
        let stream = self
            .client
            .save_binary_logs(v1::SaveBinaryLogsRequest {
                context: Some(context("db1:3306", 1, "op-1")),
                from: Some(from.into()),
                ..Default::default()
            })
            .await?;
        outcome(stream.into_inner()).await
    }

    async fn diff(&mut self, from: usize, to: usize) -> Result<Event, Status> {
        let stream = self
            .client
            .generate_diff_relay_logs(v1::GenerateDiffRelayLogsRequest {
                context: Some(context("db1:3306", 1, "op-1")),
                range: Some(v1::StreamRange {
                    from: Some((&self.ends[from]).into()),
                    to: Some((&self.ends[to]).into()),
                }),
                latest: None,
            })
            .await?;
        outcome(stream.into_inner()).await
    }

    /// Bytes of the primary's events in a range.
    fn events(&self, from: usize, to: usize) -> Vec<u8> {
        self.log
            .events
            .iter()
            .filter(|event| event.start >= self.ends[from] && event.end <= self.ends[to])
            .flat_map(|event| event.bytes.clone())
            .collect()
    }
}

async fn outcome(mut stream: tonic::Streaming<v1::SegmentProgress>) -> Result<Event, Status> {
    while let Some(message) = stream.message().await? {
        match message.event.unwrap() {
            Event::Progress(progress) => assert!(progress.done <= progress.total),
            end => {
                assert!(stream.message().await?.is_none());
                return Ok(end);
            }
        }
    }
    panic!("the stream ended without an outcome");
}

fn write_relay(agent: &Running, relay: &RelayWriter) {
    let data = agent.folder.join("data");
    let files = relay.write_to(&data).unwrap();
    let index: String = files
        .iter()
        .map(|(name, _)| format!("./{name}\n"))
        .collect();
    std::fs::write(data.join("relay-bin.index"), index).unwrap();
}

/// What the server would have said while it lived.
fn remember(agent: &Running) {
    let data = agent.folder.join("data");
    let server = &agent.agent.servers["db1:3306"];
    let remembered = Remembered {
        datadir: data.clone(),
        log_bin_basename: Some(data.join("mysql-bin")),
        log_bin_index: Some(data.join("mysql-bin.index")),
        relay_log_basename: Some(data.join("relay-bin")),
        relay_log_index: Some(data.join("relay-bin.index")),
        relay_log_info_file: data.join("relay-log.info"),
        master_info_file: data.join("master.info"),
        pid_file: None,
        identity: Identity {
            version: ServerVersion::parse("5.6.24-log").unwrap(),
            server_id: 2,
            server_uuid: String::new(),
            hostname: "db1".to_owned(),
            port: 3306,
            datadir: data.clone(),
            log_bin_basename: Some(data.join("mysql-bin")),
            gtid_mode: "OFF".to_owned(),
            binlog_checksum: "CRC32".to_owned(),
        },
        semi_sync: false,
    };
    remembered.store(&server.config.state_dir).unwrap();
    let index = data.join("relay-bin.index");
    let location = RelayLocation::new(&data.join("relay-bin"), Some(index)).unwrap();
    server.keeper.learn_location(location);
    server.keeper.protect_now().unwrap();
    // Asked after the relay logs had been seen.
    server
        .keeper
        .learn_source(primary(), std::time::Instant::now());
    server.keeper.protect_now().unwrap();
}

fn primary() -> StreamSource {
    StreamSource {
        server_id: 1,
        server_uuid: String::new(),
        host: "db0".to_owned(),
        port: 3306,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn surveys_tell_what_each_log_holds() {
    let mut host = Host::new().await;
    let binary = host.survey(v1::LogKind::Binary).await;
    assert_eq!(binary.whole_end, Some((&host.ends[5]).into()));
    assert_eq!(binary.end.unwrap().kind(), v1::LogEndKind::InUse);
    assert_eq!(binary.last_transaction.unwrap().xid, Some(4));
    let relay = host.survey(v1::LogKind::Relay).await;
    let range = v1::StreamRange {
        from: Some((&host.ends[0]).into()),
        to: Some((&host.ends[RECEIVED]).into()),
    };
    assert_eq!(relay.ranges, [range]);
    assert!(relay.holes.is_empty() && relay.walked_bytes > 0);
    assert_eq!(relay.whole_end, Some((&host.ends[RECEIVED]).into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_position_is_found_and_the_event_before_it_is_the_same_in_both_logs() {
    let mut host = Host::new().await;
    for number in 1..=RECEIVED {
        let target = v1::BinlogPosition::from(&host.ends[number]);
        let found = host
            .client
            .find_relay_logs(v1::FindRelayLogsRequest {
                cluster: "app1".to_owned(),
                server: "db1:3306".to_owned(),
                target: Some(target.clone()),
                latest: None,
            })
            .await
            .unwrap()
            .into_inner();
        assert_eq!(found.at_end, number == RECEIVED);
        assert_eq!(found.position.unwrap().file, "relay-bin.000002");
        let mut digests = Vec::new();
        for kind in [v1::LogKind::Binary, v1::LogKind::Relay] {
            let described = host
                .client
                .describe_event(v1::DescribeEventRequest {
                    cluster: "app1".to_owned(),
                    server: "db1:3306".to_owned(),
                    kind: kind.into(),
                    before: Some(target.clone()),
                    latest: None,
                    ..Default::default()
                })
                .await
                .unwrap()
                .into_inner();
            digests.push(described.event.unwrap());
        }
        assert_eq!(digests[0], digests[1]);
        assert_eq!(digests[0].end, Some(target));
        assert_eq!(digests[0].sha256.len(), 32);
    }
    let beyond = host
        .client
        .find_relay_logs(v1::FindRelayLogsRequest {
            cluster: "app1".to_owned(),
            server: "db1:3306".to_owned(),
            target: Some((&host.ends[4]).into()),
            latest: None,
        })
        .await
        .unwrap_err();
    assert_eq!(kind(&beyond), ErrorKind::RangeNotHeld);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tail_is_cut_once_and_nothing_is_a_value() {
    let mut host = Host::new().await;
    let from = host.ends[RECEIVED].clone();
    let Event::Done(info) = host.save(&from).await.unwrap() else {
        panic!("nothing was saved");
    };
    assert_eq!(info.id, format!("tail-mysql-bin.000001-{}", from.offset));
    let path = host.segment(&info.id);
    let bytes = std::fs::read(&path).unwrap();
    assert!(bytes.ends_with(&host.events(RECEIVED, 5)));
    assert_eq!(bytes.len() as u64, info.size);
    assert_eq!(
        std::fs::read(Manifest::path_for(&path)).unwrap(),
        info.manifest_json
    );
    let manifest = Manifest::from_json(&info.manifest_json, &path).unwrap();
    assert_eq!(
        (manifest.transactions, manifest.provider.as_str()),
        (2, "db1:3306")
    );
    // The same call again gives the same segment, untouched.
    let written = std::fs::metadata(&path).unwrap().modified().unwrap();
    assert_eq!(host.save(&from).await.unwrap(), Event::Done(info));
    assert_eq!(
        std::fs::metadata(&path).unwrap().modified().unwrap(),
        written
    );

    let end = host.ends[5].clone();
    let Event::Nothing(nothing) = host.save(&end).await.unwrap() else {
        panic!("there is nothing behind the end");
    };
    assert_eq!(nothing.at, Some((&end).into()));
    assert!(!nothing.reason.is_empty());
    let inside = BinlogPosition::new(end.file, from.offset + 3);
    let status = host.save(&inside).await.unwrap_err();
    assert_eq!(kind(&status), ErrorKind::NotABoundary);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_cannot_be_read_is_named() {
    let mut host = Host::new().await;
    std::fs::remove_file(host.agent.folder.join("data/mysql-bin.000001")).unwrap();
    let from = host.ends[1].clone();
    let status = host.save(&from).await.unwrap_err();
    assert_eq!(kind(&status), ErrorKind::LogUnreadable);
    assert!(status.message().contains("mysql-bin.000001"), "{status:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_diff_is_exactly_the_range_and_what_is_not_held_is_refused() {
    let mut host = Host::new().await;
    let Event::Done(info) = host.diff(1, RECEIVED).await.unwrap() else {
        panic!("nothing was cut");
    };
    assert_eq!(
        info.id,
        format!("diff-db1_3306-mysql-bin.000001-{}", host.ends[1].offset)
    );
    let bytes = std::fs::read(host.segment(&info.id)).unwrap();
    assert!(bytes.ends_with(&host.events(1, RECEIVED)));
    // Another range under the same id replaces it.
    let Event::Done(shorter) = host.diff(1, 2).await.unwrap() else {
        panic!("nothing was cut");
    };
    assert_eq!(shorter.id, info.id);
    assert!(shorter.size < info.size);
    let status = host.diff(1, 5).await.unwrap_err();
    assert_eq!(kind(&status), ErrorKind::RangeNotHeld);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_received_before_an_interrupted_replay_is_still_offered() {
    let mut host = Host::new().await;
    let data = host.agent.folder.join("data");
    // CHANGE to the local source at the executed position: the relay logs are gone and begin again at 1.
    for number in [1, 2] {
        std::fs::remove_file(data.join(format!("relay-bin.{number:06}"))).unwrap();
    }
    let first = "relay-bin.000001".parse().unwrap();
    let mut relay = RelayWriter::new(first, 2, ChecksumAlgorithm::Crc32);
    relay.connect(&host.log, &host.ends[2]);
    for event in &host.log.events {
        if event.start >= host.ends[2] && event.end <= host.ends[4] {
            relay.receive(&host.log, event);
        }
    }
    write_relay(&host.agent, &relay);
    let keeper = &host.agent.agent.servers["db1:3306"].keeper;
    keeper.protect_now().unwrap();
    keeper.learn_source(primary(), std::time::Instant::now());
    let relay = host.survey(v1::LogKind::Relay).await;
    let range = v1::StreamRange {
        from: Some((&host.ends[0]).into()),
        to: Some((&host.ends[4]).into()),
    };
    assert_eq!(relay.ranges, [range]);
    assert_eq!(relay.whole_end, Some((&host.ends[4]).into()));
    // Cut from the old relay logs, and from the new ones.
    for (from, to) in [(0, 2), (1, 3), (2, 4)] {
        let Event::Done(info) = host.diff(from, to).await.unwrap() else {
            panic!("nothing was cut");
        };
        let bytes = std::fs::read(host.segment(&info.id)).unwrap();
        assert!(bytes.ends_with(&host.events(from, to)), "{from}..{to}");
    }
}
