//! Watching, between messages and values; see [`crate::convert`] for the rules.

use std::path::PathBuf;
use std::time::Duration;

use super::{
    Cause, Disk, DiskState, Exit, Guard, HEARTBEAT_MAX, HEARTBEAT_MIN, Lease, LeaseState, Moment,
    Process, Socket, SocketState, Sql, SqlState, WatchOrder, Watched,
};
use crate::convert::{ConvertError, convert, millis, name, optional, required};
use crate::v1;

use v1::{
    watched_disk, watched_guard, watched_lease, watched_process, watched_socket, watched_sql,
};

fn unspecified<T>(field: &'static str) -> Result<T, ConvertError> {
    Err(ConvertError::new(field, "unspecified"))
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// Empty text is how the wire says that there is none.
fn some_text(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}

impl TryFrom<v1::WatchServerRequest> for WatchOrder {
    type Error = ConvertError;

    fn try_from(r: v1::WatchServerRequest) -> Result<Self, ConvertError> {
        let heartbeat = Duration::from_millis(r.heartbeat_ms.into());
        if !(HEARTBEAT_MIN..=HEARTBEAT_MAX).contains(&heartbeat) {
            return Err(ConvertError::new(
                "WatchServerRequest.heartbeat_ms",
                format!(
                    "{} is not between {} and {}",
                    r.heartbeat_ms,
                    HEARTBEAT_MIN.as_millis(),
                    HEARTBEAT_MAX.as_millis()
                ),
            ));
        }
        Ok(Self {
            cluster: name(r.cluster, "WatchServerRequest.cluster")?,
            server: name(r.server, "WatchServerRequest.server")?,
            heartbeat,
        })
    }
}

impl From<&WatchOrder> for v1::WatchServerRequest {
    fn from(o: &WatchOrder) -> Self {
        Self {
            cluster: o.cluster.clone(),
            server: o.server.clone(),
            heartbeat_ms: u32::try_from(o.heartbeat.as_millis()).unwrap_or(u32::MAX),
        }
    }
}

impl TryFrom<v1::AgentMoment> for Moment {
    type Error = ConvertError;

    fn try_from(m: v1::AgentMoment) -> Result<Self, ConvertError> {
        Ok(Self {
            boottime: Duration::from_millis(m.boottime_ms),
            unix_ms: m.unix_ms,
        })
    }
}

impl From<Moment> for v1::AgentMoment {
    fn from(m: Moment) -> Self {
        Self {
            boottime_ms: millis(m.boottime),
            unix_ms: m.unix_ms,
        }
    }
}

impl TryFrom<v1::WatchedState> for Watched {
    type Error = ConvertError;

    fn try_from(w: v1::WatchedState) -> Result<Self, ConvertError> {
        let cause = match w.cause() {
            v1::WatchCause::Unspecified => return unspecified("WatchedState.cause"),
            v1::WatchCause::Present => Cause::Present,
            v1::WatchCause::Change => Cause::Change,
            v1::WatchCause::Heartbeat => Cause::Heartbeat,
        };
        Ok(Self {
            server: name(w.server, "WatchedState.server")?,
            cause,
            sent: convert(w.sent, "WatchedState.sent")?,
            boot_id: w.boot_id,
            watching_since: convert(w.watching_since, "WatchedState.watching_since")?,
            process: convert(w.process, "WatchedState.process")?,
            socket: convert(w.socket, "WatchedState.socket")?,
            sql: convert(w.sql, "WatchedState.sql")?,
            datadir: convert(w.datadir, "WatchedState.datadir")?,
            binlog_dir: optional(w.binlog_dir)?,
            read_only: w.read_only,
            super_read_only: w.super_read_only,
            held_down_by: some_text(w.held_down_by),
            epoch: w.epoch,
            operation: some_text(w.operation),
            manager_of_record: some_text(w.manager_of_record),
            guard: convert(w.guard, "WatchedState.guard")?,
            lease: convert(w.lease, "WatchedState.lease")?,
            assignment: optional(w.assignment)?,
        })
    }
}

impl From<&Watched> for v1::WatchedState {
    fn from(w: &Watched) -> Self {
        let cause = match w.cause {
            Cause::Present => v1::WatchCause::Present,
            Cause::Change => v1::WatchCause::Change,
            Cause::Heartbeat => v1::WatchCause::Heartbeat,
        };
        Self {
            server: w.server.clone(),
            cause: cause.into(),
            sent: Some(w.sent.into()),
            boot_id: w.boot_id.clone(),
            watching_since: Some(w.watching_since.into()),
            process: Some((&w.process).into()),
            socket: Some((&w.socket).into()),
            sql: Some((&w.sql).into()),
            datadir: Some((&w.datadir).into()),
            binlog_dir: w.binlog_dir.as_ref().map(Into::into),
            read_only: w.read_only,
            super_read_only: w.super_read_only,
            held_down_by: w.held_down_by.clone().unwrap_or_default(),
            epoch: w.epoch,
            operation: w.operation.clone().unwrap_or_default(),
            manager_of_record: w.manager_of_record.clone().unwrap_or_default(),
            guard: Some((&w.guard).into()),
            lease: Some((&w.lease).into()),
            assignment: w.assignment.as_ref().map(Into::into),
        }
    }
}

// === process ===

impl TryFrom<v1::WatchedProcess> for Process {
    type Error = ConvertError;

    fn try_from(p: v1::WatchedProcess) -> Result<Self, ConvertError> {
        let since = convert(p.since, "WatchedProcess.since")?;
        let known_pid = |pid| match pid {
            0 => Err(ConvertError::new("WatchedProcess.pid", "0")),
            pid => Ok(pid),
        };
        Ok(match p.state() {
            watched_process::State::Unspecified => return unspecified("WatchedProcess.state"),
            watched_process::State::Running => Self::Running {
                pid: known_pid(p.pid)?,
                since,
            },
            watched_process::State::Exited => Self::Exited {
                pid: known_pid(p.pid)?,
                since,
                how: exit(p.signal, p.exit_code)?,
            },
            watched_process::State::NotRunning => Self::NotRunning { since },
            watched_process::State::Unknown => Self::Unknown {
                since,
                reason: p.reason,
            },
        })
    }
}

fn exit(signal: Option<u32>, code: Option<u32>) -> Result<Option<Exit>, ConvertError> {
    let byte = |number: u32, field| {
        u8::try_from(number).map_err(|_| ConvertError::new(field, format!("{number}")))
    };
    match (signal, code) {
        (None, None) => Ok(None),
        (Some(signal), None) => {
            byte(signal, "WatchedProcess.signal").map(|s| Some(Exit::Signal(s)))
        }
        (None, Some(code)) => byte(code, "WatchedProcess.exit_code").map(|c| Some(Exit::Code(c))),
        (Some(_), Some(_)) => Err(ConvertError::new(
            "WatchedProcess.exit_code",
            "beside a signal",
        )),
    }
}

impl From<&Process> for v1::WatchedProcess {
    fn from(p: &Process) -> Self {
        let mut wire = Self::default();
        let since = match p {
            Process::Running { pid, since } => {
                wire.set_state(watched_process::State::Running);
                wire.pid = *pid;
                since
            }
            Process::Exited { pid, since, how } => {
                wire.set_state(watched_process::State::Exited);
                wire.pid = *pid;
                match how {
                    Some(Exit::Code(code)) => wire.exit_code = Some((*code).into()),
                    Some(Exit::Signal(signal)) => wire.signal = Some((*signal).into()),
                    None => {}
                }
                since
            }
            Process::NotRunning { since } => {
                wire.set_state(watched_process::State::NotRunning);
                since
            }
            Process::Unknown { since, reason } => {
                wire.set_state(watched_process::State::Unknown);
                wire.reason.clone_from(reason);
                since
            }
        };
        wire.since = Some((*since).into());
        wire
    }
}

// === socket ===

impl TryFrom<v1::WatchedSocket> for Socket {
    type Error = ConvertError;

    fn try_from(s: v1::WatchedSocket) -> Result<Self, ConvertError> {
        let state = match s.state() {
            watched_socket::State::Unspecified => return unspecified("WatchedSocket.state"),
            watched_socket::State::Accepts => SocketState::Accepts,
            watched_socket::State::Refuses => SocketState::Refuses,
            watched_socket::State::Absent => SocketState::Absent,
            watched_socket::State::NoAnswer => SocketState::NoAnswer,
            watched_socket::State::Unknown => SocketState::Unknown { reason: s.reason },
        };
        Ok(Self {
            state,
            since: convert(s.since, "WatchedSocket.since")?,
        })
    }
}

impl From<&Socket> for v1::WatchedSocket {
    fn from(s: &Socket) -> Self {
        let (state, reason) = match &s.state {
            SocketState::Accepts => (watched_socket::State::Accepts, ""),
            SocketState::Refuses => (watched_socket::State::Refuses, ""),
            SocketState::Absent => (watched_socket::State::Absent, ""),
            SocketState::NoAnswer => (watched_socket::State::NoAnswer, ""),
            SocketState::Unknown { reason } => (watched_socket::State::Unknown, reason.as_str()),
        };
        Self {
            state: state.into(),
            since: Some(s.since.into()),
            reason: reason.to_owned(),
        }
    }
}

// === SQL ===

impl TryFrom<v1::WatchedSql> for Sql {
    type Error = ConvertError;

    fn try_from(s: v1::WatchedSql) -> Result<Self, ConvertError> {
        let state = match s.state() {
            watched_sql::State::Unspecified => return unspecified("WatchedSql.state"),
            watched_sql::State::Alive => SqlState::Alive {
                took: Duration::from_micros(s.took_us),
            },
            watched_sql::State::Error => SqlState::Error {
                errno: u16::try_from(s.errno)
                    .ok()
                    .filter(|errno| *errno != 0)
                    .ok_or_else(|| ConvertError::new("WatchedSql.errno", s.errno.to_string()))?,
                text: s.text,
            },
            watched_sql::State::NoAnswer => SqlState::NoAnswer {
                silent: Duration::from_millis(s.silent_ms),
            },
            watched_sql::State::Unreachable => SqlState::Unreachable { text: s.text },
            watched_sql::State::NotConfigured => SqlState::NotConfigured { text: s.text },
            watched_sql::State::NotTried => SqlState::NotTried,
        };
        Ok(Self {
            state,
            answered: optional(s.answered)?,
        })
    }
}

impl From<&Sql> for v1::WatchedSql {
    fn from(s: &Sql) -> Self {
        let mut wire = Self {
            answered: s.answered.map(Into::into),
            ..Self::default()
        };
        match &s.state {
            SqlState::Alive { took } => {
                wire.set_state(watched_sql::State::Alive);
                wire.took_us = micros(*took);
            }
            SqlState::Error { errno, text } => {
                wire.set_state(watched_sql::State::Error);
                wire.errno = (*errno).into();
                wire.text.clone_from(text);
            }
            SqlState::NoAnswer { silent } => {
                wire.set_state(watched_sql::State::NoAnswer);
                wire.silent_ms = millis(*silent);
            }
            SqlState::Unreachable { text } => {
                wire.set_state(watched_sql::State::Unreachable);
                wire.text.clone_from(text);
            }
            SqlState::NotConfigured { text } => {
                wire.set_state(watched_sql::State::NotConfigured);
                wire.text.clone_from(text);
            }
            SqlState::NotTried => wire.set_state(watched_sql::State::NotTried),
        }
        wire
    }
}

// === disk ===

impl TryFrom<v1::WatchedDisk> for Disk {
    type Error = ConvertError;

    fn try_from(d: v1::WatchedDisk) -> Result<Self, ConvertError> {
        let state = match d.state() {
            watched_disk::State::Unspecified => return unspecified("WatchedDisk.state"),
            watched_disk::State::Ok => DiskState::Ok {
                took: Duration::from_micros(d.took_us),
            },
            watched_disk::State::NoCompletion => DiskState::NoCompletion {
                silent: Duration::from_millis(d.silent_ms),
            },
            watched_disk::State::Error => DiskState::Error { text: d.text },
            watched_disk::State::Off => DiskState::Off { reason: d.text },
        };
        Ok(Self {
            directory: some_text(d.directory).map(PathBuf::from),
            state,
        })
    }
}

impl From<&Disk> for v1::WatchedDisk {
    fn from(d: &Disk) -> Self {
        let mut wire = Self::default();
        if let Some(directory) = &d.directory {
            wire.directory = directory.display().to_string();
        }
        match &d.state {
            DiskState::Ok { took } => {
                wire.set_state(watched_disk::State::Ok);
                wire.took_us = micros(*took);
            }
            DiskState::NoCompletion { silent } => {
                wire.set_state(watched_disk::State::NoCompletion);
                wire.silent_ms = millis(*silent);
            }
            DiskState::Error { text } => {
                wire.set_state(watched_disk::State::Error);
                wire.text.clone_from(text);
            }
            DiskState::Off { reason } => {
                wire.set_state(watched_disk::State::Off);
                wire.text.clone_from(reason);
            }
        }
        wire
    }
}

// === guard and lease ===

impl TryFrom<v1::WatchedGuard> for Guard {
    type Error = ConvertError;

    fn try_from(g: v1::WatchedGuard) -> Result<Self, ConvertError> {
        let state = g.state();
        let reason = g.reason;
        let since = |since| convert(since, "WatchedGuard.since");
        Ok(match state {
            watched_guard::State::Unspecified => return unspecified("WatchedGuard.state"),
            watched_guard::State::None => Self::None,
            watched_guard::State::Enforcing => Self::Enforcing {
                reason,
                since: since(g.since)?,
            },
            watched_guard::State::ReadOnly => Self::ReadOnly {
                reason,
                since: since(g.since)?,
            },
        })
    }
}

impl From<&Guard> for v1::WatchedGuard {
    fn from(g: &Guard) -> Self {
        let (state, told) = match g {
            Guard::None => (watched_guard::State::None, None),
            Guard::Enforcing { reason, since } => {
                (watched_guard::State::Enforcing, Some((reason, since)))
            }
            Guard::ReadOnly { reason, since } => {
                (watched_guard::State::ReadOnly, Some((reason, since)))
            }
        };
        Self {
            state: state.into(),
            reason: told.map(|(reason, _)| reason.clone()).unwrap_or_default(),
            since: told.map(|(_, since)| (*since).into()),
        }
    }
}

impl TryFrom<v1::WatchedLease> for Lease {
    type Error = ConvertError;

    fn try_from(l: v1::WatchedLease) -> Result<Self, ConvertError> {
        let since = || -> Result<Moment, ConvertError> {
            Moment::try_from(required(l.since, "WatchedLease.since")?)
        };
        let state = match l.state() {
            watched_lease::State::Unspecified => return unspecified("WatchedLease.state"),
            watched_lease::State::Off => LeaseState::Off,
            watched_lease::State::Held => LeaseState::Held {
                since: since()?,
                remaining: Duration::from_millis(l.remaining_ms),
            },
            watched_lease::State::Lost => LeaseState::Lost { since: since()? },
        };
        if l.vouching > l.agents {
            return Err(ConvertError::new(
                "WatchedLease.vouching",
                format!("{} of {} agents", l.vouching, l.agents),
            ));
        }
        Ok(Self {
            state,
            vouching: l.vouching,
            agents: l.agents,
            manager_heard: l.manager_heard,
        })
    }
}

impl From<&Lease> for v1::WatchedLease {
    fn from(l: &Lease) -> Self {
        let (state, since, remaining) = match l.state {
            LeaseState::Off => (watched_lease::State::Off, None, Duration::ZERO),
            LeaseState::Held { since, remaining } => {
                (watched_lease::State::Held, Some(since), remaining)
            }
            LeaseState::Lost { since } => (watched_lease::State::Lost, Some(since), Duration::ZERO),
        };
        Self {
            state: state.into(),
            remaining_ms: millis(remaining),
            since: since.map(Into::into),
            vouching: l.vouching,
            agents: l.agents,
            manager_heard: l.manager_heard,
        }
    }
}
