//! From values to the messages of answers.

use binlog_core::{EventDigest, LogEnd, Survey, TransactionRef};
use bytes::Bytes;
use proto::v1;

use crate::logs::cut::CutOutcome;
use crate::logs::store::Stored;

pub(super) fn log_end(end: &LogEnd) -> v1::LogEnd {
    let kind = match end {
        LogEnd::Clean { .. } => v1::LogEndKind::Clean,
        LogEnd::InUse { .. } => v1::LogEndKind::InUse,
        LogEnd::Torn { .. } => v1::LogEndKind::Torn,
        LogEnd::Corrupt { .. } => v1::LogEndKind::Corrupt,
    };
    v1::LogEnd {
        kind: kind.into(),
        file: end.file().to_owned(),
        offset: end.offset(),
        detail: end.detail().to_owned(),
    }
}

pub(super) fn survey(survey: Survey) -> v1::SurveyLogsResponse {
    v1::SurveyLogsResponse {
        ranges: survey.ranges.iter().map(Into::into).collect(),
        holes: survey.holes.iter().map(Into::into).collect(),
        end: Some(log_end(&survey.end)),
        whole_end: survey.whole_end.as_ref().map(Into::into),
        data_end: survey.data_end.as_ref().map(Into::into),
        last_transaction: survey.last_transaction.map(transaction),
        walked_bytes: survey.walked_bytes,
    }
}

fn transaction(transaction: TransactionRef) -> v1::TransactionRef {
    v1::TransactionRef {
        end: Some((&transaction.end).into()),
        gtid: transaction.gtid.unwrap_or_default(),
        xid: transaction.xid,
    }
}

pub(super) fn event_digest(digest: EventDigest) -> v1::EventDigest {
    v1::EventDigest {
        start: Some((&digest.start).into()),
        end: Some((&digest.end).into()),
        type_code: digest.type_code.into(),
        sha256: Bytes::copy_from_slice(&digest.sha256),
    }
}

/// A stored segment. The digest of its manifest was made by this program, so it is hex; if it were not, an empty digest
/// is refused by every receiver.
pub(super) fn segment(stored: Stored) -> v1::SegmentInfo {
    v1::SegmentInfo {
        id: stored.id,
        size: stored.manifest.size,
        sha256: hex::decode(&stored.manifest.sha256)
            .unwrap_or_default()
            .into(),
        manifest_json: stored.manifest_json.into(),
    }
}

pub(super) fn moving(done: u64, total: u64) -> v1::SegmentProgress {
    event(v1::segment_progress::Event::Progress(v1::ByteProgress {
        done,
        total,
    }))
}

pub(super) fn cut_outcome(outcome: CutOutcome) -> v1::SegmentProgress {
    event(match outcome {
        CutOutcome::Done(stored) => v1::segment_progress::Event::Done(segment(*stored)),
        CutOutcome::Nothing(nothing) => v1::segment_progress::Event::Nothing(v1::NothingToSave {
            end: Some(log_end(&nothing.end)),
            at: Some((&nothing.at).into()),
            reason: nothing.reason.to_string(),
        }),
    })
}

pub(super) fn arrived(stored: Stored) -> v1::SegmentProgress {
    event(v1::segment_progress::Event::Done(segment(stored)))
}

fn event(event: v1::segment_progress::Event) -> v1::SegmentProgress {
    v1::SegmentProgress { event: Some(event) }
}
