//! Real logs on disk, surveyed, cut, sent and read.

use std::path::{Path, PathBuf};

use binlog_core::{BinaryLogs, CutPlan, LogEnd, Manifest, ManifestExtent};
use proto::v1;
use sha2::{Digest, Sha256};
use tonic::{Request, Response, Status};

use super::{FakeAgent, Streamed, at, one, wire};
use crate::logs::{self, FILE};
use crate::world::{FakeServer, lock};

/// The logs of a server as they are now.
fn open(server: &FakeServer) -> BinaryLogs {
    let mut bytes = logs::binary_log(server.received, u8::from(server.diverged));
    if let Some(at) = server.corrupt_at
        && let Some(byte) = bytes.get_mut(at as usize + 25)
    {
        *byte ^= 0xff;
    }
    BinaryLogs::open(&logs::write(&server.folder.join("log"), &bytes)).unwrap()
}

pub(super) fn segment_path(server: &FakeServer, id: &str) -> PathBuf {
    let folder = server.folder.join("segments");
    std::fs::create_dir_all(&folder).unwrap();
    folder.join(id)
}

fn cut(server: &FakeServer, id: &str, from: u64, to: Option<u64>) -> v1::SegmentInfo {
    let path = segment_path(server, id);
    let plan = open(server)
        .plan_cut(&at(from), to.map(at).as_ref())
        .unwrap();
    let CutPlan::Cut(cut) = plan else {
        panic!("nothing to cut: {plan:?}")
    };
    cut.write(&path, &server.name, &mut |_| {}).unwrap();
    if server.drops_a_transaction {
        drop_second_transaction(&path);
    }
    info(server, id)
}

/// A provider that lost a transaction and whose manifest agrees with what is left.
fn drop_second_transaction(path: &Path) {
    let mut manifest = Manifest::load(path).unwrap();
    let mut bytes = std::fs::read(path).unwrap();
    let extent = manifest.extents.remove(0);
    let place = extent.segment_offset;
    bytes.drain(place as usize + 214..place as usize + 428);
    let part = |from, to, segment_offset| ManifestExtent {
        file: extent.file.clone(),
        from,
        to,
        segment_offset,
        length: to - from,
    };
    manifest.extents = vec![
        part(extent.from, extent.from + 214, place),
        part(extent.from + 428, extent.to, place + 214),
    ];
    manifest.transactions -= 1;
    manifest.size = bytes.len() as u64;
    manifest.sha256 = hex::encode(Sha256::digest(&bytes));
    std::fs::write(path, &bytes).unwrap();
    std::fs::write(Manifest::path_for(path), manifest.to_json()).unwrap();
}

fn info(server: &FakeServer, id: &str) -> v1::SegmentInfo {
    let path = segment_path(server, id);
    let manifest = Manifest::load(&path).unwrap();
    v1::SegmentInfo {
        id: id.into(),
        size: manifest.size,
        sha256: hex::decode(&manifest.sha256).unwrap().into(),
        manifest_json: manifest.to_json().into(),
    }
}

fn done(info: v1::SegmentInfo) -> v1::SegmentProgress {
    v1::SegmentProgress {
        event: Some(v1::segment_progress::Event::Done(info)),
    }
}

#[tonic::async_trait]
impl v1::log_service_server::LogService for FakeAgent {
    type SaveBinaryLogsStream = Streamed<v1::SegmentProgress>;
    type GenerateDiffRelayLogsStream = Streamed<v1::SegmentProgress>;
    type PullSegmentStream = Streamed<v1::SegmentProgress>;
    type ReadSegmentStream = Streamed<v1::SegmentChunk>;

    async fn survey_logs(
        &self,
        request: Request<v1::SurveyLogsRequest>,
    ) -> Result<Response<v1::SurveyLogsResponse>, Status> {
        self.fault("SurveyLogs").await?;
        let request = request.into_inner();
        self.of_the_dead(request.primary_server_id);
        let server = self.change(|s| s.clone());
        let from = match request.kind() {
            v1::LogKind::Binary => request.from.map_or(4, |p| p.offset),
            _ => server.held_from,
        };
        if from >= server.received {
            return Ok(Response::new(v1::SurveyLogsResponse::default()));
        }
        let survey = open(&server).survey(Some(&at(from))).unwrap();
        let kind = match survey.end {
            LogEnd::Corrupt { .. } => v1::LogEndKind::Corrupt,
            _ => v1::LogEndKind::InUse,
        };
        Ok(Response::new(v1::SurveyLogsResponse {
            ranges: survey.ranges.iter().map(Into::into).collect(),
            holes: vec![],
            end: Some(v1::LogEnd {
                kind: kind.into(),
                file: FILE.into(),
                offset: survey.end.offset(),
                detail: String::new(),
            }),
            whole_end: survey.whole_end.map(Into::into),
            data_end: survey.data_end.map(Into::into),
            last_transaction: survey.last_transaction.map(|t| v1::TransactionRef {
                end: Some(t.end.into()),
                gtid: String::new(),
                xid: t.xid,
            }),
            walked_bytes: survey.walked_bytes,
        }))
    }

    async fn observe_binlog_server(
        &self,
        request: Request<v1::ObserveBinlogServerRequest>,
    ) -> Result<Response<v1::ObserveBinlogServerResponse>, Status> {
        self.fault("ObserveBinlogServer").await?;
        assert_eq!(request.into_inner().primary_server_id, 1);
        let (received, folder) = self.change(|s| (s.received, s.folder.clone()));
        Ok(Response::new(v1::ObserveBinlogServerResponse {
            directory: folder.display().to_string(),
            newest: wire(received),
        }))
    }

    async fn find_relay_logs(
        &self,
        _: Request<v1::FindRelayLogsRequest>,
    ) -> Result<Response<v1::FindRelayLogsResponse>, Status> {
        Err(Status::unimplemented("not asked by a failover"))
    }

    async fn locate_gtids(
        &self,
        _: Request<v1::LocateGtidsRequest>,
    ) -> Result<Response<v1::LocateGtidsResponse>, Status> {
        Err(Status::unimplemented("the fake servers have no GTIDs"))
    }

    async fn describe_event(
        &self,
        request: Request<v1::DescribeEventRequest>,
    ) -> Result<Response<v1::DescribeEventResponse>, Status> {
        self.fault("DescribeEvent").await?;
        let request = request.into_inner();
        self.of_the_dead(request.primary_server_id);
        let before = request.before.unwrap().offset;
        let server = self.change(|s| s.clone());
        let event = open(&server)
            .event_before(&at(before))
            .unwrap()
            .filter(|e| e.start.offset >= server.held_from)
            .map(|e| v1::EventDigest {
                start: Some(e.start.into()),
                end: Some(e.end.into()),
                type_code: u32::from(e.type_code),
                sha256: e.sha256.to_vec().into(),
            });
        Ok(Response::new(v1::DescribeEventResponse { event }))
    }

    async fn save_binary_logs(
        &self,
        request: Request<v1::SaveBinaryLogsRequest>,
    ) -> Result<Response<Self::SaveBinaryLogsStream>, Status> {
        self.fault("SaveBinaryLogs").await?;
        let request = request.into_inner();
        self.check(&request.context)?;
        let from = request.from.unwrap().offset;
        self.of_the_dead(request.primary_server_id);
        // Copies may still grow: only of them an exact end is asked for.
        assert_eq!(self.is_binlog_server(), request.to.is_some());
        let kind = if self.is_binlog_server() {
            "copy"
        } else {
            "tail"
        };
        let id = format!("{kind}-{FILE}-{from}");
        let segment = self.change(|s| {
            assert!(!s.alive, "mysqld runs while its log is read");
            cut(s, &id, from, request.to.map(|to| to.offset))
        });
        Ok(one(done(segment)))
    }

    async fn generate_diff_relay_logs(
        &self,
        request: Request<v1::GenerateDiffRelayLogsRequest>,
    ) -> Result<Response<Self::GenerateDiffRelayLogsStream>, Status> {
        self.fault("GenerateDiffRelayLogs").await?;
        let request = request.into_inner();
        self.check(&request.context)?;
        let range = request.range.unwrap();
        let (from, to) = (range.from.unwrap().offset, range.to.unwrap().offset);
        let id = format!("diff-{}-{FILE}-{from}", self.server);
        let segment = self.change(|s| {
            assert!(s.held_from <= from && to <= s.received);
            cut(s, &id, from, Some(to))
        });
        Ok(one(done(segment)))
    }

    async fn pull_segment(
        &self,
        request: Request<v1::PullSegmentRequest>,
    ) -> Result<Response<Self::PullSegmentStream>, Status> {
        self.fault("PullSegment").await?;
        let request = request.into_inner();
        self.check(&request.context)?;
        let segment = request.segment.unwrap();
        let theirs = segment_path(
            lock(&self.world).server(&request.provider_server),
            &segment.id,
        );
        let ours = self.change(|s| {
            let ours = segment_path(s, &segment.id);
            std::fs::copy(&theirs, &ours).unwrap();
            std::fs::copy(Manifest::path_for(&theirs), Manifest::path_for(&ours)).unwrap();
            info(s, &segment.id)
        });
        Ok(one(done(ours)))
    }

    async fn read_segment(
        &self,
        request: Request<v1::ReadSegmentRequest>,
    ) -> Result<Response<Self::ReadSegmentStream>, Status> {
        self.fault("ReadSegment").await?;
        let id = request.into_inner().segment_id;
        let path = self.change(|s| segment_path(s, &id));
        let data: bytes::Bytes = std::fs::read(path).unwrap().into();
        Ok(one(v1::SegmentChunk {
            offset: 0,
            crc32: crc32fast::hash(&data),
            data,
        }))
    }
}
