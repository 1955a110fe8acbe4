//! From the wire's states to the monitor's. An enum value that is not known here is a bad answer, never a guess.

use std::time::Duration;

use proto::lease::Assigned;
use proto::v1;
use v1::probed_port::State as PortState;
use v1::watched_disk::State as DiskState;
use v1::watched_lease::State as LeaseState;
use v1::watched_process::State as ProcessState;
use v1::watched_sql::State as SqlState;

use super::client::bad_assignment;
use super::convert::BadAnswer;
use crate::facts::{Process, Receiver};
use crate::lease::{Told, ToldLease};
use crate::monitor::{AgentState, Disk, LocalSql};
use crate::verdict::{Port, ReplicaEvidence};

fn absent(field: &'static str) -> BadAnswer {
    BadAnswer::new(field, "a value", "nothing")
}

fn unknown(field: &'static str, value: i32) -> BadAnswer {
    BadAnswer::new(field, "a known state", value.to_string())
}

/// One message of a stream.
pub(super) fn state(wire: v1::WatchedState) -> Result<AgentState, BadAnswer> {
    let process = wire.process.ok_or_else(|| absent("process"))?;
    let sql = wire.sql.ok_or_else(|| absent("sql"))?;
    let (kind, ended) = match ProcessState::try_from(process.state) {
        Ok(ProcessState::Running) => (Process::Running, None),
        Ok(ProcessState::Exited) => (Process::NotRunning, Some(how_it_ended(&process))),
        Ok(ProcessState::NotRunning) => (Process::NotRunning, None),
        Ok(ProcessState::Unknown) => (Process::Unknown, None),
        Ok(ProcessState::Unspecified) | Err(_) => {
            return Err(unknown("process.state", process.state));
        }
    };
    let sql = match SqlState::try_from(sql.state) {
        Ok(SqlState::Alive | SqlState::Error) => LocalSql::Alive,
        Ok(SqlState::NoAnswer | SqlState::Unreachable) => LocalSql::Silent,
        Ok(SqlState::NotConfigured | SqlState::NotTried) => LocalSql::NotKnown,
        Ok(SqlState::Unspecified) | Err(_) => return Err(unknown("sql.state", sql.state)),
    };
    Ok(AgentState {
        process: kind,
        ended,
        sql,
        datadir: wire.datadir.map(disk).transpose()?,
    })
}

/// What it tells of leases.
pub(super) fn told(wire: &v1::WatchedState) -> Result<Told, BadAnswer> {
    let assignment = wire.assignment.clone().map(Assigned::try_from).transpose();
    let lease = wire.lease.as_ref();
    Ok(Told {
        boot_id: wire.boot_id.clone(),
        sent: wire
            .sent
            .as_ref()
            .map(|sent| Duration::from_millis(sent.boottime_ms)),
        epoch: wire.epoch,
        held_by: (!wire.operation.is_empty()).then(|| wire.operation.clone()),
        of_record: (!wire.manager_of_record.is_empty()).then(|| wire.manager_of_record.clone()),
        assignment: assignment.map_err(|e| bad_assignment(&e))?,
        manager_heard: lease.is_some_and(|lease| lease.manager_heard),
        vouching: lease.map_or(0, |lease| lease.vouching),
        lease: lease.map_or(Ok(ToldLease::None), |lease| {
            told_lease(lease, wire.sent.as_ref())
        })?,
    })
}

fn told_lease(
    lease: &v1::WatchedLease,
    sent: Option<&v1::AgentMoment>,
) -> Result<ToldLease, BadAnswer> {
    let unix = |moment: Option<&v1::AgentMoment>| {
        u64::try_from(moment.map_or(0, |moment| moment.unix_ms)).unwrap_or(0)
    };
    let since_unix_ms = unix(lease.since.as_ref());
    match LeaseState::try_from(lease.state) {
        Ok(LeaseState::Off) => Ok(ToldLease::None),
        Ok(LeaseState::Held) => Ok(ToldLease::Held {
            since_unix_ms,
            until_unix_ms: unix(sent).saturating_add(lease.remaining_ms),
        }),
        Ok(LeaseState::Lost) => Ok(ToldLease::Lost { since_unix_ms }),
        Ok(LeaseState::Unspecified) | Err(_) => Err(unknown("lease.state", lease.state)),
    }
}

fn how_it_ended(process: &v1::WatchedProcess) -> String {
    match (process.signal, process.exit_code) {
        (Some(signal), _) => format!("process {} was ended by signal {signal}", process.pid),
        (None, Some(code)) => format!("process {} ended with exit code {code}", process.pid),
        (None, None) => format!("process {} ended", process.pid),
    }
}

fn disk(wire: v1::WatchedDisk) -> Result<Disk, BadAnswer> {
    let silent = match DiskState::try_from(wire.state) {
        Ok(DiskState::NoCompletion) => Some(Duration::from_millis(wire.silent_ms)),
        Ok(DiskState::Ok | DiskState::Error | DiskState::Off) => None,
        Ok(DiskState::Unspecified) | Err(_) => return Err(unknown("datadir.state", wire.state)),
    };
    Ok(Disk {
        directory: wire.directory,
        silent,
    })
}

/// What a replica's agent sees.
pub(super) fn seen(
    server: &str,
    wire: v1::ProbeServerResponse,
) -> Result<ReplicaEvidence, BadAnswer> {
    let port = wire.port.ok_or_else(|| absent("port"))?;
    let port = match PortState::try_from(port.state) {
        Ok(PortState::Handshake | PortState::ErrorPacket) => Port::Answered,
        Ok(PortState::Refused) => Port::Refused,
        Ok(PortState::NoAnswer | PortState::Unreachable) => Port::NoAnswer,
        Ok(PortState::NotMysql) => Port::Unclear,
        Ok(PortState::Unspecified) | Err(_) => return Err(unknown("port.state", port.state)),
    };
    let receiver = match wire.receiver {
        None => None,
        Some(receiver) => Some(match v1::ReceiverState::try_from(receiver.state) {
            Ok(v1::ReceiverState::Running) => Receiver::Running,
            Ok(v1::ReceiverState::Connecting) => Receiver::Connecting,
            Ok(v1::ReceiverState::Stopped) => Receiver::Stopped,
            Ok(v1::ReceiverState::Unspecified) | Err(_) => {
                return Err(unknown("receiver.state", receiver.state));
            }
        }),
    };
    Ok(ReplicaEvidence {
        server: server.to_owned(),
        receiver,
        port: Some(port),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wire(process: ProcessState, sql: SqlState, disk: DiskState) -> v1::WatchedState {
        v1::WatchedState {
            process: Some(v1::WatchedProcess {
                state: process.into(),
                pid: 42,
                signal: Some(9),
                ..Default::default()
            }),
            sql: Some(v1::WatchedSql {
                state: sql.into(),
                ..Default::default()
            }),
            datadir: Some(v1::WatchedDisk {
                state: disk.into(),
                directory: "/data".into(),
                silent_ms: 1500,
                ..Default::default()
            }),
            ..Default::default()
        }
    }

    #[test]
    fn states_are_read_and_unspecified_ones_are_refused() {
        let seen = state(wire(
            ProcessState::Exited,
            SqlState::Unreachable,
            DiskState::NoCompletion,
        ))
        .unwrap();
        assert_eq!(seen.process, Process::NotRunning);
        assert_eq!(
            seen.ended.as_deref(),
            Some("process 42 was ended by signal 9")
        );
        assert_eq!(seen.sql, LocalSql::Silent);
        assert_eq!(
            seen.datadir.unwrap().silent,
            Some(Duration::from_millis(1500))
        );
        for (sql, expected) in [
            (SqlState::Alive, LocalSql::Alive),
            (SqlState::Error, LocalSql::Alive),
            (SqlState::NoAnswer, LocalSql::Silent),
            (SqlState::NotConfigured, LocalSql::NotKnown),
            (SqlState::NotTried, LocalSql::NotKnown),
        ] {
            let seen = state(wire(ProcessState::Running, sql, DiskState::Ok)).unwrap();
            assert_eq!((seen.sql, seen.datadir.unwrap().silent), (expected, None));
        }
        let mut assigned = wire(ProcessState::Running, SqlState::Alive, DiskState::Ok);
        assigned.assignment = Some(v1::Assignment {
            primary: "db1".into(),
            epoch: 3,
            ..Default::default()
        });
        assert_eq!(told(&assigned).unwrap().assignment.unwrap().epoch.get(), 3);
        assigned.assignment.as_mut().unwrap().epoch = 0;
        assert!(told(&assigned).is_err());
        for bad in [
            wire(ProcessState::Unspecified, SqlState::Alive, DiskState::Ok),
            wire(ProcessState::Running, SqlState::Unspecified, DiskState::Ok),
            wire(
                ProcessState::Running,
                SqlState::Alive,
                DiskState::Unspecified,
            ),
            v1::WatchedState::default(),
        ] {
            assert!(state(bad).is_err());
        }
    }

    #[test]
    fn ports_are_read_and_unspecified_ones_are_refused() {
        let answer = |port: PortState| v1::ProbeServerResponse {
            port: Some(v1::ProbedPort {
                state: port.into(),
                ..Default::default()
            }),
            ..Default::default()
        };
        for (port, expected) in [
            (PortState::Handshake, Port::Answered),
            (PortState::ErrorPacket, Port::Answered),
            (PortState::Refused, Port::Refused),
            (PortState::NoAnswer, Port::NoAnswer),
            (PortState::Unreachable, Port::NoAnswer),
            (PortState::NotMysql, Port::Unclear),
        ] {
            assert_eq!(seen("db2", answer(port)).unwrap().port, Some(expected));
        }
        assert!(seen("db2", answer(PortState::Unspecified)).is_err());
        assert!(seen("db2", v1::ProbeServerResponse::default()).is_err());
    }
}
