//! From wire messages to facts: the only place where fields of an answer are checked.

use binlog_core::{BinlogPosition, RelayPosition, StreamRange};
use proto::v1;

use crate::facts::{
    Account, Answer, Configured, Flavor, Identity, LastTransaction, LogEnd, LogEndKind, LogSurvey,
    OwnBinlog, Process, Receiver, Replica, ServerFacts, Settings, ThreadError,
};

/// An answer with a field that cannot be.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
#[error("bad answer: {field}: expected {expected}, found `{found}`")]
pub struct BadAnswer {
    /// Which field.
    pub field: &'static str,
    /// What would be right.
    pub expected: &'static str,
    /// What it was.
    pub found: String,
}

impl BadAnswer {
    pub(super) fn new(
        field: &'static str,
        expected: &'static str,
        found: impl Into<String>,
    ) -> Self {
        Self {
            field,
            expected,
            found: found.into(),
        }
    }
}

type Converted<T> = Result<T, BadAnswer>;

pub(super) fn position(
    field: &'static str,
    wire: Option<v1::BinlogPosition>,
) -> Converted<Option<BinlogPosition>> {
    let Some(wire) = wire else { return Ok(None) };
    // MySQL reports an empty name before a replica has read anything.
    if wire.file.is_empty() {
        return Ok(None);
    }
    BinlogPosition::try_from(wire)
        .map(Some)
        .map_err(|e| BadAnswer::new(field, "a position", e.reason))
}

pub(super) fn required(
    field: &'static str,
    wire: Option<v1::BinlogPosition>,
) -> Converted<BinlogPosition> {
    position(field, wire)?.ok_or_else(|| BadAnswer::new(field, "a position", "nothing"))
}

pub(super) fn to_wire(position: &BinlogPosition) -> v1::BinlogPosition {
    position.into()
}

fn relay_position(wire: Option<v1::RelayPosition>) -> Converted<Option<RelayPosition>> {
    let Some(wire) = wire else { return Ok(None) };
    if wire.file.is_empty() {
        return Ok(None);
    }
    RelayPosition::try_from(wire)
        .map(Some)
        .map_err(|e| BadAnswer::new("relay", "a relay log position", e.reason))
}

fn range(field: &'static str, wire: v1::StreamRange) -> Converted<StreamRange> {
    StreamRange::try_from(wire).map_err(|e| BadAnswer::new(field, "a range", e.reason))
}

fn non_empty(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}

fn port(field: &'static str, wire: u32) -> Converted<u16> {
    u16::try_from(wire).map_err(|_| BadAnswer::new(field, "a port", wire.to_string()))
}

pub(super) fn server_facts(wire: v1::ServerState) -> Converted<ServerFacts> {
    let process = match wire.process() {
        v1::ProcessState::Running => Process::Running,
        v1::ProcessState::NotRunning => Process::NotRunning,
        v1::ProcessState::Unknown => Process::Unknown,
        v1::ProcessState::Unspecified => {
            return Err(BadAnswer::new(
                "process",
                "a known state",
                wire.process.to_string(),
            ));
        }
    };
    let sql_error = match (wire.sql_alive, wire.sql_error.is_empty()) {
        (true, _) => None,
        (false, true) => Some("no reason given".to_owned()),
        (false, false) => Some(wire.sql_error),
    };
    Ok(ServerFacts {
        process,
        held_down_by: non_empty(wire.held_down_by),
        sql_error,
        identity: wire.identity.map(identity).transpose()?,
        settings: wire.settings.map(settings),
        binlog: wire
            .binlog
            .map(|b| {
                Ok(OwnBinlog {
                    position: position("binlog.position", b.position)?,
                    gtid_executed: b.gtid_executed,
                })
            })
            .transpose()?,
        replica: wire.replica.map(replica).transpose()?,
        unfinished_replay: non_empty(wire.unfinished_replay),
        credentials_source: non_empty(wire.credentials_source),
        configured_read_only: wire
            .configured_read_only
            .map(configured)
            .transpose()?
            .unwrap_or_default(),
        semi_sync_received: wire.semi_sync_received,
        account: wire.account.map(|account| Account {
            name: account.name,
            missing: account.missing,
        }),
    })
}

fn configured(wire: v1::ConfiguredReadOnly) -> Converted<Configured> {
    Ok(Configured {
        answer: answer("configured_read_only.answer", wire.answer())?,
        evidence: wire.evidence,
    })
}

pub(super) fn answer(field: &'static str, wire: v1::Answer) -> Converted<Answer> {
    match wire {
        v1::Answer::Yes => Ok(Answer::Yes),
        v1::Answer::No => Ok(Answer::No),
        v1::Answer::Unknown => Ok(Answer::Unknown),
        v1::Answer::Unspecified => Err(BadAnswer::new(field, "a known answer", "nothing")),
    }
}

fn identity(wire: v1::ServerIdentity) -> Converted<Identity> {
    let flavor = match wire.flavor() {
        v1::Flavor::Mysql => Flavor::Mysql,
        v1::Flavor::Mariadb => Flavor::MariaDb,
        v1::Flavor::Unspecified => {
            return Err(BadAnswer::new(
                "identity.flavor",
                "a known family",
                wire.flavor.to_string(),
            ));
        }
    };
    Ok(Identity {
        flavor,
        version: wire.version,
        server_id: wire.server_id,
        server_uuid: wire.server_uuid,
        gtid_mode: wire.gtid_mode,
        binlog_checksum: wire.binlog_checksum,
        log_bin_basename: wire.log_bin_basename,
    })
}

fn settings(wire: v1::ServerSettings) -> Settings {
    let sorted = |mut list: Vec<String>| {
        list.sort_unstable();
        list.dedup();
        list
    };
    Settings {
        read_only: wire.read_only,
        log_bin: wire.log_bin,
        log_replica_updates: wire.log_replica_updates,
        parallel_workers: wire.parallel_workers,
        binlog_filters: sorted(wire.binlog_filters),
        replicate_filters: sorted(wire.replicate_filters),
        log_encryption: non_empty(wire.log_encryption),
        binlog_storage_engine: non_empty(wire.binlog_storage_engine),
        relay_log_recovery: wire.relay_log_recovery,
        semi_sync_source: wire.semi_sync_source,
        semi_sync_replica: wire.semi_sync_replica,
        semi_sync_wait_for: wire.semi_sync_wait_for,
        semi_sync_timeout_ms: wire.semi_sync_timeout_ms,
    }
}

pub(super) fn replica(wire: v1::ReplicaStatus) -> Converted<Replica> {
    let receiver = match wire.receiver() {
        v1::ReceiverState::Running => Receiver::Running,
        v1::ReceiverState::Connecting => Receiver::Connecting,
        v1::ReceiverState::Stopped => Receiver::Stopped,
        v1::ReceiverState::Unspecified => {
            return Err(BadAnswer::new(
                "replica.receiver",
                "a known state",
                wire.receiver.to_string(),
            ));
        }
    };
    let error = |errno: u32, text: String| (errno != 0).then_some(ThreadError { errno, text });
    Ok(Replica {
        source_host: wire.source_host,
        source_port: port("replica.source_port", wire.source_port)?,
        receiver,
        applier_running: wire.applier_running,
        read: position("replica.read", wire.read)?,
        executed: position("replica.executed", wire.executed)?,
        relay: relay_position(wire.relay)?,
        receiver_error: error(wire.receiver_errno, wire.receiver_error),
        applier_error: error(wire.applier_errno, wire.applier_error),
        delay_s: wire.delay_s,
        gtid_position: wire.gtid_position,
        gtid_executed: wire.gtid_executed,
        gtid_received: wire.gtid_received,
        source_server_id: wire.source_server_id,
        source_uuid: wire.source_uuid,
        channels: wire.channels,
    })
}

pub(super) fn log_end(wire: v1::LogEnd) -> Converted<LogEnd> {
    let kind = match wire.kind() {
        v1::LogEndKind::Clean => LogEndKind::Clean,
        v1::LogEndKind::InUse => LogEndKind::InUse,
        v1::LogEndKind::Torn => LogEndKind::Torn,
        v1::LogEndKind::Corrupt => LogEndKind::Corrupt,
        v1::LogEndKind::Unspecified => {
            return Err(BadAnswer::new(
                "end.kind",
                "a known kind",
                wire.kind.to_string(),
            ));
        }
    };
    Ok(LogEnd {
        kind,
        file: wire.file,
        offset: wire.offset,
        detail: wire.detail,
    })
}

pub(super) fn survey(wire: v1::SurveyLogsResponse) -> Converted<LogSurvey> {
    let ranges: Vec<StreamRange> = wire
        .ranges
        .into_iter()
        .map(|r| range("ranges", r))
        .collect::<Converted<_>>()?;
    for pair in ranges.windows(2) {
        if let [one, next] = pair
            && one.to > next.from
        {
            return Err(BadAnswer::new(
                "ranges",
                "ascending ranges that do not overlap",
                format!("{one} before {next}"),
            ));
        }
    }
    Ok(LogSurvey {
        ranges,
        end: wire.end.map(log_end).transpose()?,
        whole_end: position("whole_end", wire.whole_end)?,
        data_end: position("data_end", wire.data_end)?,
        last_transaction: wire
            .last_transaction
            .map(|t| {
                Ok(LastTransaction {
                    end: required("last_transaction.end", t.end)?,
                    gtid: non_empty(t.gtid),
                    xid: t.xid,
                })
            })
            .transpose()?,
        walked_bytes: wire.walked_bytes,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wire_position(file: &str, offset: u64) -> Option<v1::BinlogPosition> {
        Some(v1::BinlogPosition {
            file: file.into(),
            offset,
        })
    }

    #[test]
    fn positions_are_checked() {
        assert_eq!(position("x", None), Ok(None));
        assert_eq!(position("x", wire_position("", 0)), Ok(None));
        assert_eq!(
            position("x", wire_position("b.000001", 4))
                .unwrap()
                .unwrap()
                .to_string(),
            "b.000001:4"
        );
        for bad in ["../b.000001", "b", "b.0a", "b."] {
            assert!(position("x", wire_position(bad, 4)).is_err(), "{bad}");
        }
        assert!(required("x", None).is_err());
    }

    #[test]
    fn unspecified_enums_are_refused() {
        assert!(server_facts(v1::ServerState::default()).is_err());
        assert!(replica(v1::ReplicaStatus::default()).is_err());
        assert!(identity(v1::ServerIdentity::default()).is_err());
        assert!(log_end(v1::LogEnd::default()).is_err());
        assert!(configured(v1::ConfiguredReadOnly::default()).is_err());
    }

    #[test]
    fn an_agent_that_does_not_look_leaves_the_configuration_unknown() {
        let state = v1::ServerState {
            process: v1::ProcessState::Running.into(),
            ..Default::default()
        };
        let found = server_facts(state).unwrap().configured_read_only;
        assert_eq!(found.answer, Answer::Unknown);
    }

    #[test]
    fn unknown_life_is_never_life() {
        let facts = server_facts(v1::ServerState {
            process: v1::ProcessState::NotRunning.into(),
            ..Default::default()
        })
        .unwrap();
        assert!(!facts.sql_alive());
        assert_eq!(facts.process, Process::NotRunning);
        assert_eq!(facts.replica, None);
    }

    #[test]
    fn ranges_must_ascend() {
        let range = |from, to| v1::StreamRange {
            from: wire_position("b.000001", from),
            to: wire_position("b.000001", to),
        };
        let survey_of = |ranges| {
            survey(v1::SurveyLogsResponse {
                ranges,
                ..Default::default()
            })
        };
        assert!(survey_of(vec![range(4, 100), range(100, 200)]).is_ok());
        assert!(survey_of(vec![range(4, 100), range(50, 200)]).is_err());
        assert!(survey_of(vec![range(100, 4)]).is_err());
    }
}
