//! Calls about logs and segments.

use std::time::Duration;

use binlog_core::{BinlogPosition, ServerId, StreamRange};
use bytes::Bytes;
use proto::v1;
use tonic::{Response, Status, Streaming};

use super::client::{AgentClient, Result, unary, wire_context};
use super::convert::{self, BadAnswer, to_wire};
use super::stream::{self, SegmentOutcome, Step};
use super::values::{Context, GtidPlace, HeldEvent, Logs, SegmentRef};
use crate::config::AgentEndpoint;
use crate::facts::LogSurvey;

impl AgentClient {
    /// What a provider holds. Reads only.
    ///
    /// # Errors
    /// See [`AgentCallError`].
    pub async fn survey(
        &self,
        cluster: &str,
        server: &str,
        logs: Logs,
        from: Option<&BinlogPosition>,
        latest: Option<&BinlogPosition>,
        limit: Duration,
    ) -> Result<LogSurvey> {
        const CALL: &str = "SurveyLogs";
        let request = v1::SurveyLogsRequest {
            cluster: cluster.to_owned(),
            server: server.to_owned(),
            kind: wire_logs(logs).into(),
            from: from.map(to_wire),
            latest: latest.map(to_wire),
            primary_server_id: 0,
        };
        let answer = unary(self.name(), CALL, limit, self.logs().survey_logs(request)).await?;
        convert::survey(answer).map_err(self.bad(CALL))
    }

    /// What a binlog server holds of the log of `primary`. Reads only.
    ///
    /// # Errors
    /// See [`AgentCallError`].
    pub async fn survey_copies(
        &self,
        cluster: &str,
        binlog_server: &str,
        primary: ServerId,
        from: Option<&BinlogPosition>,
        limit: Duration,
    ) -> Result<LogSurvey> {
        const CALL: &str = "SurveyLogs";
        let request = v1::SurveyLogsRequest {
            cluster: cluster.to_owned(),
            server: binlog_server.to_owned(),
            kind: v1::LogKind::Binary.into(),
            from: from.map(to_wire),
            latest: None,
            primary_server_id: primary.0,
        };
        let answer = unary(self.name(), CALL, limit, self.logs().survey_logs(request)).await?;
        convert::survey(answer).map_err(self.bad(CALL))
    }

    /// How far a binlog server's copies of the log of `primary` have come: its newest file and that file's size, and the
    /// directory. Reads only, and little.
    ///
    /// # Errors
    /// See [`AgentCallError`].
    pub async fn observe_binlog_server(
        &self,
        cluster: &str,
        binlog_server: &str,
        primary: ServerId,
        limit: Duration,
    ) -> Result<(BinlogPosition, String)> {
        const CALL: &str = "ObserveBinlogServer";
        let request = v1::ObserveBinlogServerRequest {
            cluster: cluster.to_owned(),
            server: binlog_server.to_owned(),
            primary_server_id: primary.0,
        };
        let mut client = self.logs();
        let answer = unary(
            self.name(),
            CALL,
            limit,
            client.observe_binlog_server(request),
        )
        .await?;
        let newest = convert::required("newest", answer.newest).map_err(self.bad(CALL))?;
        Ok((newest, answer.directory))
    }

    /// Where a server stands that has the GTIDs `held`, and what the log has ever held. `owner` has executed the GTIDs `of_owner`
    /// and received up to `latest`; for a binary log both are of no use. Reads only.
    ///
    /// # Errors
    /// See [`AgentCallError`].
    pub async fn locate_gtids(
        &self,
        cluster: &str,
        (owner, logs): (&str, Logs),
        held: &str,
        of_owner: &str,
        latest: Option<&BinlogPosition>,
        limit: Duration,
    ) -> Result<GtidPlace> {
        const CALL: &str = "LocateGtids";
        let request = v1::LocateGtidsRequest {
            cluster: cluster.to_owned(),
            server: owner.to_owned(),
            kind: wire_logs(logs).into(),
            held: held.to_owned(),
            owner: of_owner.to_owned(),
            latest: latest.map(to_wire),
        };
        let answer = unary(self.name(), CALL, limit, self.logs().locate_gtids(request)).await?;
        Ok(GtidPlace {
            place: convert::position("place", answer.place).map_err(self.bad(CALL))?,
            ever_held: answer.ever_held,
        })
    }

    /// The event nearest before a position, if the provider holds one in that file. Reads only.
    ///
    /// # Errors
    /// See [`AgentCallError`].
    pub async fn describe_event(
        &self,
        cluster: &str,
        server: &str,
        logs: Logs,
        before: &BinlogPosition,
        latest: Option<&BinlogPosition>,
        limit: Duration,
    ) -> Result<Option<HeldEvent>> {
        let request = v1::DescribeEventRequest {
            cluster: cluster.to_owned(),
            server: server.to_owned(),
            kind: wire_logs(logs).into(),
            before: Some(to_wire(before)),
            latest: latest.map(to_wire),
            primary_server_id: 0,
        };
        self.describe(request, limit).await
    }

    /// The same of a binlog server's copies of the log of `primary`.
    ///
    /// # Errors
    /// See [`AgentCallError`].
    pub async fn describe_copied_event(
        &self,
        cluster: &str,
        binlog_server: &str,
        primary: ServerId,
        before: &BinlogPosition,
        limit: Duration,
    ) -> Result<Option<HeldEvent>> {
        let request = v1::DescribeEventRequest {
            cluster: cluster.to_owned(),
            server: binlog_server.to_owned(),
            kind: v1::LogKind::Binary.into(),
            before: Some(to_wire(before)),
            latest: None,
            primary_server_id: primary.0,
        };
        self.describe(request, limit).await
    }

    async fn describe(
        &self,
        request: v1::DescribeEventRequest,
        limit: Duration,
    ) -> Result<Option<HeldEvent>> {
        const CALL: &str = "DescribeEvent";
        let mut client = self.logs();
        let answer = unary(self.name(), CALL, limit, client.describe_event(request)).await?;
        let Some(event) = answer.event else {
            return Ok(None);
        };
        let convert = || {
            Ok(HeldEvent {
                start: convert::required("event.start", event.start)?,
                end: convert::required("event.end", event.end)?,
                type_code: event.type_code,
                sha256: hex::encode(&event.sha256),
            })
        };
        convert().map(Some).map_err(self.bad(CALL))
    }

    /// Cuts the dead primary's tail.
    ///
    /// # Errors
    /// See [`AgentCallError`].
    pub async fn save_binary_logs(
        &self,
        context: &Context,
        server: &str,
        from: &BinlogPosition,
        stall: Duration,
    ) -> Result<SegmentOutcome> {
        let request = v1::SaveBinaryLogsRequest {
            context: Some(wire_context(context, server, stall)),
            from: Some(to_wire(from)),
            to: None,
            primary_server_id: 0,
        };
        let mut client = self.logs();
        self.segment_stream("SaveBinaryLogs", stall, client.save_binary_logs(request))
            .await
    }

    /// Cuts exactly `range` from a binlog server's copies of the log of `primary`.
    ///
    /// # Errors
    /// See [`AgentCallError`].
    pub async fn save_copies(
        &self,
        context: &Context,
        binlog_server: &str,
        primary: ServerId,
        range: &StreamRange,
        stall: Duration,
    ) -> Result<SegmentOutcome> {
        let request = v1::SaveBinaryLogsRequest {
            context: Some(wire_context(context, binlog_server, stall)),
            from: Some(to_wire(&range.from)),
            to: Some(to_wire(&range.to)),
            primary_server_id: primary.0,
        };
        let mut client = self.logs();
        self.segment_stream("SaveBinaryLogs", stall, client.save_binary_logs(request))
            .await
    }

    /// Cuts a range of relay logs.
    ///
    /// # Errors
    /// See [`AgentCallError`].
    pub async fn generate_diff(
        &self,
        context: &Context,
        server: &str,
        range: &StreamRange,
        latest: Option<&BinlogPosition>,
        stall: Duration,
    ) -> Result<SegmentOutcome> {
        let request = v1::GenerateDiffRelayLogsRequest {
            context: Some(wire_context(context, server, stall)),
            range: Some(v1::StreamRange {
                from: Some(to_wire(&range.from)),
                to: Some(to_wire(&range.to)),
            }),
            latest: latest.map(to_wire),
        };
        let mut client = self.logs();
        self.segment_stream(
            "GenerateDiffRelayLogs",
            stall,
            client.generate_diff_relay_logs(request),
        )
        .await
    }

    /// Makes this agent fetch a segment from another.
    ///
    /// # Errors
    /// See [`AgentCallError`].
    pub async fn pull_segment(
        &self,
        context: &Context,
        server: &str,
        segment: &SegmentRef,
        provider: &AgentEndpoint,
        provider_server: &str,
        stall: Duration,
    ) -> Result<SegmentOutcome> {
        let request = v1::PullSegmentRequest {
            context: Some(wire_context(context, server, stall)),
            address: provider.address.clone(),
            certificate_name: provider.dns_name.clone(),
            segment: Some(segment.wire.clone()),
            provider_server: provider_server.to_owned(),
        };
        let mut client = self.logs();
        self.segment_stream("PullSegment", stall, client.pull_segment(request))
            .await
    }

    async fn segment_stream(
        &self,
        call: &'static str,
        stall: Duration,
        opening: impl Future<
            Output = std::result::Result<Response<Streaming<v1::SegmentProgress>>, Status>,
        >,
    ) -> Result<SegmentOutcome> {
        stream::drive(self.name(), call, stall, opening, stream::segment_step()).await
    }

    /// Reads a stored segment; `sink` gets the chunks in order, each with its offset, checked by CRC. Returns the number of bytes.
    ///
    /// # Errors
    /// See [`AgentCallError`]; an error of `sink` is a bad answer that names it.
    pub async fn read_segment(
        &self,
        context: &Context,
        server: &str,
        segment: &SegmentRef,
        stall: Duration,
        mut sink: impl FnMut(&Bytes) -> std::io::Result<()>,
    ) -> Result<()> {
        const CALL: &str = "ReadSegment";
        let size = segment.manifest.size;
        if size == 0 {
            return Ok(());
        }
        let request = v1::ReadSegmentRequest {
            cluster: context.cluster.clone(),
            server: server.to_owned(),
            operation: context.operation.clone(),
            segment_id: segment.id.clone(),
            offset: 0,
        };
        let mut client = self.logs();
        let mut expected = 0u64;
        let step = |chunk: v1::SegmentChunk| {
            if chunk.offset != expected || chunk.data.is_empty() {
                return Err(BadAnswer::new(
                    "chunk.offset",
                    "the next offset and some bytes",
                    format!("{} with {} bytes", chunk.offset, chunk.data.len()),
                ));
            }
            if crc32fast::hash(&chunk.data) != chunk.crc32 {
                return Err(BadAnswer::new(
                    "chunk.crc32",
                    "the checksum of the bytes",
                    format!("{:08x}", chunk.crc32),
                ));
            }
            expected += chunk.data.len() as u64;
            if expected > size {
                return Err(BadAnswer::new(
                    "chunk",
                    "no more bytes than announced",
                    expected.to_string(),
                ));
            }
            sink(&chunk.data)
                .map_err(|e| BadAnswer::new("chunk", "room to write it", e.to_string()))?;
            Ok(if expected == size {
                Step::Done(())
            } else {
                Step::Moved
            })
        };
        stream::drive(self.name(), CALL, stall, client.read_segment(request), step).await
    }
}

fn wire_logs(logs: Logs) -> v1::LogKind {
    match logs {
        Logs::Binary | Logs::BinlogServer => v1::LogKind::Binary,
        Logs::Relay => v1::LogKind::Relay,
    }
}
