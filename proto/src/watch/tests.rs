//! Each kind of knowledge through the wire and back, and what is refused.

use super::*;
use crate::convert::ConvertError;
use crate::v1;

fn at(ms: u64) -> Moment {
    Moment {
        boottime: Duration::from_millis(ms),
        unix_ms: 1_700_000_000_000 + i64::try_from(ms).unwrap(),
    }
}

fn watched() -> Watched {
    Watched {
        server: "db1:3306".into(),
        cause: Cause::Present,
        sent: at(10),
        boot_id: "b".into(),
        watching_since: at(1),
        process: Process::Running {
            pid: 7,
            since: at(2),
        },
        socket: Socket {
            state: SocketState::Accepts,
            since: at(3),
        },
        sql: Sql {
            state: SqlState::Alive {
                took: Duration::from_micros(250),
            },
            answered: Some(at(9)),
        },
        datadir: Disk {
            directory: Some("/data".into()),
            state: DiskState::Ok {
                took: Duration::from_micros(900),
            },
        },
        binlog_dir: None,
        read_only: Some(false),
        super_read_only: None,
        held_down_by: None,
        epoch: 3,
        operation: Some("op-3".into()),
        manager_of_record: Some("m1".into()),
        guard: Guard::None,
        lease: Lease {
            state: LeaseState::Off,
            vouching: 0,
            agents: 0,
            manager_heard: false,
        },
        assignment: None,
    }
}

/// Values of every kind, one after the other.
fn every_kind() -> Vec<Watched> {
    let mut all = vec![watched()];
    let mut with = |change: &dyn Fn(&mut Watched)| {
        let mut value = watched();
        change(&mut value);
        all.push(value);
    };
    with(&|w| {
        w.assignment = Some(Assigned {
            primary: "db1:3306".into(),
            epoch: 3.try_into().unwrap(),
            operation: "op-3".into(),
            manager: "m1".into(),
            lease: true,
            agents: vec![crate::lease::LeaseAgent {
                name: "db1".into(),
                address: "db1:7306".into(),
            }],
        });
    });
    for cause in [Cause::Change, Cause::Heartbeat] {
        with(&|w| w.cause = cause);
    }
    for how in [None, Some(Exit::Code(1)), Some(Exit::Signal(9))] {
        with(&|w| {
            w.process = Process::Exited {
                pid: 7,
                since: at(5),
                how,
            };
        });
    }
    with(&|w| w.process = Process::NotRunning { since: at(5) });
    with(&|w| {
        w.process = Process::Unknown {
            since: at(5),
            reason: "no data directory".into(),
        };
    });
    for state in [
        SocketState::Refuses,
        SocketState::Absent,
        SocketState::NoAnswer,
        SocketState::Unknown {
            reason: "permission".into(),
        },
    ] {
        with(&|w| w.socket.state = state.clone());
    }
    for state in [
        SqlState::Error {
            errno: 1040,
            text: "Too many connections".into(),
        },
        SqlState::NoAnswer {
            silent: Duration::from_millis(800),
        },
        SqlState::Unreachable {
            text: "refused".into(),
        },
        SqlState::NotConfigured {
            text: "no file".into(),
        },
        SqlState::NotTried,
    ] {
        with(&|w| w.sql.state = state.clone());
    }
    for state in [
        DiskState::NoCompletion {
            silent: Duration::from_secs(2),
        },
        DiskState::Error {
            text: "read-only file system".into(),
        },
        DiskState::Off {
            reason: "not writable".into(),
        },
    ] {
        with(&|w| {
            w.binlog_dir = Some(Disk {
                directory: None,
                state: state.clone(),
            });
        });
    }
    with(&|w| w.held_down_by = Some("op-3".into()));
    with(&|w| w.read_only = None);
    with(&|w| w.super_read_only = Some(true));
    with(&|w| (w.epoch, w.operation) = (0, None));
    with(&|w| w.manager_of_record = None);
    let (reason, since) = ("deposed".to_owned(), at(4));
    with(&|w| {
        w.guard = Guard::Enforcing {
            reason: reason.clone(),
            since,
        };
    });
    with(&|w| {
        w.guard = Guard::ReadOnly {
            reason: reason.clone(),
            since,
        };
    });
    with(&|w| {
        w.lease = Lease {
            state: LeaseState::Held {
                since,
                remaining: Duration::from_millis(1400),
            },
            vouching: 2,
            agents: 3,
            manager_heard: true,
        };
    });
    with(&|w| w.lease.state = LeaseState::Lost { since });
    all
}

#[test]
fn every_kind_survives_the_wire() {
    for value in every_kind() {
        let wire = v1::WatchedState::from(&value);
        assert_eq!(Watched::try_from(wire).unwrap(), value);
    }
}

#[test]
fn every_kind_is_news_beside_the_first_and_durations_are_not() {
    let first = watched();
    for value in every_kind() {
        let only_cause = Watched {
            cause: first.cause,
            ..value.clone()
        } == first;
        assert_eq!(first.same_facts(&value), only_cause, "{value:?}");
    }
    let mut later = watched();
    later.sent = at(500);
    later.sql.state = SqlState::Alive {
        took: Duration::from_micros(1),
    };
    later.sql.answered = Some(at(400));
    later.datadir.state = DiskState::Ok {
        took: Duration::from_micros(1),
    };
    assert!(first.same_facts(&later));
}

#[test]
fn what_is_missing_or_contradicts_itself_is_named() {
    type Spoil = fn(&mut v1::WatchedState);
    let cases: [(&str, Spoil); 15] = [
        ("server", |w| w.server.clear()),
        ("cause", |w| w.cause = 0),
        ("cause", |w| w.cause = 99),
        ("sent", |w| w.sent = None),
        ("watching_since", |w| w.watching_since = None),
        ("process", |w| w.process = None),
        ("pid", |w| w.process.as_mut().unwrap().pid = 0),
        ("exit_code", |w| {
            let process = w.process.as_mut().unwrap();
            process.set_state(v1::watched_process::State::Exited);
            (process.signal, process.exit_code) = (Some(9), Some(0));
        }),
        ("signal", |w| {
            let process = w.process.as_mut().unwrap();
            process.set_state(v1::watched_process::State::Exited);
            process.signal = Some(256);
        }),
        ("state", |w| w.socket.as_mut().unwrap().state = 0),
        ("errno", |w| {
            w.sql
                .as_mut()
                .unwrap()
                .set_state(v1::watched_sql::State::Error);
        }),
        ("state", |w| w.datadir.as_mut().unwrap().state = 0),
        ("since", |w| {
            w.guard
                .as_mut()
                .unwrap()
                .set_state(v1::watched_guard::State::Enforcing);
        }),
        ("since", |w| {
            w.lease
                .as_mut()
                .unwrap()
                .set_state(v1::watched_lease::State::Held);
        }),
        ("vouching", |w| w.lease.as_mut().unwrap().vouching = 1),
    ];
    for (field, spoil) in cases {
        let mut wire = v1::WatchedState::from(&watched());
        spoil(&mut wire);
        let error = Watched::try_from(wire).unwrap_err();
        assert!(error.field.ends_with(field), "{field}: {error}");
    }
}

#[test]
fn a_heartbeat_is_bounded() {
    let order = |heartbeat_ms| {
        WatchOrder::try_from(v1::WatchServerRequest {
            cluster: "app1".into(),
            server: "db1:3306".into(),
            heartbeat_ms,
        })
    };
    for bad in [0, 19, 60_001, u32::MAX] {
        let ConvertError { field, .. } = order(bad).unwrap_err();
        assert_eq!(field, "WatchServerRequest.heartbeat_ms");
    }
    for good in [20, 300, 60_000] {
        let value = order(good).unwrap();
        assert_eq!(v1::WatchServerRequest::from(&value).heartbeat_ms, good);
    }
}
