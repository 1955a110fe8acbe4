//! One row per reason not to act, and what ends it.

use std::sync::Arc;

use super::*;
use crate::config::HostPort;
use crate::journal::{Begin, Journal, NoHook, Record, StepOutcome};
use crate::plan::{Act, Step, StepId};

const NOW: u64 = 1_800_000_000_000;
const HOUR: u64 = 3_600_000;

fn past(operation: &str, dead: &str, begun: u64, ended: Option<(u64, u8)>) -> Past {
    Past {
        operation: operation.to_owned(),
        dead: dead.to_owned(),
        begun_unix_ms: begun,
        ended,
        opened: None,
        opened_after_ms: None,
        replay: None,
        running: false,
    }
}

fn ask(
    dead: &str,
    origin: Origin,
    ignore_last_failover: bool,
    cluster: &[Past],
    standing: &Standing,
) -> Result<(), Blocked> {
    permit(&Question {
        dead,
        origin,
        ignore_last_failover,
        cluster,
        fleet: cluster,
        standing,
        policy: &FailoverPolicy::default(),
        now_unix_ms: NOW,
    })
}

/// Name, earlier operations, the dead primary, who asks, what blocks.
type Row<'a> = (&'a str, Vec<Past>, &'a str, Origin, Option<&'a str>);

#[test]
fn table_of_permissions() {
    use Origin::{Daemon, Operator};
    let done = |ago: u64, code| vec![past("op1", "db1", NOW - ago - 5, Some((NOW - ago, code)))];
    let killed = || vec![past("op1", "db1", NOW - HOUR, None)];
    let mut runs = killed();
    runs[0].running = true;
    let table: &[Row<'_>] = &[
        ("nothing happened before", vec![], "db1", Daemon, None),
        (
            "done an hour ago",
            done(HOUR, 0),
            "db2",
            Daemon,
            Some("none may follow within 8h"),
        ),
        (
            "done with care an hour ago",
            done(HOUR, 10),
            "db2",
            Daemon,
            Some("ended 1h ago"),
        ),
        (
            "by hand too",
            done(HOUR, 0),
            "db2",
            Operator,
            Some("none may follow"),
        ),
        (
            "the same server again",
            done(HOUR, 0),
            "db1",
            Daemon,
            Some("none may follow"),
        ),
        (
            "done nine hours ago",
            done(9 * HOUR, 0),
            "db2",
            Daemon,
            None,
        ),
        (
            "refused a minute ago",
            done(60_000, 12),
            "db2",
            Daemon,
            None,
        ),
        ("undone a minute ago", done(60_000, 1), "db2", Daemon, None),
        (
            "broken off long ago",
            done(99 * HOUR, 11),
            "db2",
            Daemon,
            Some("exit code 11"),
        ),
        (
            "broken off, the same, the daemon",
            done(HOUR, 11),
            "db1",
            Daemon,
            Some("exit code 11"),
        ),
        (
            "broken off, the same, by hand",
            done(HOUR, 11),
            "db1",
            Operator,
            None,
        ),
        (
            "broken off, another, by hand",
            done(HOUR, 14),
            "db2",
            Operator,
            Some("exit code 14"),
        ),
        ("manager died, the same", killed(), "db1", Daemon, None),
        (
            "manager died, another",
            killed(),
            "db2",
            Daemon,
            Some("when its manager died"),
        ),
        (
            "one is running: its claims stand in the way",
            runs,
            "db1",
            Daemon,
            None,
        ),
    ];
    for (story, cluster, dead, origin, expected) in table {
        let blocked = ask(dead, *origin, false, cluster, &Standing::default());
        match (expected, &blocked) {
            (None, Ok(())) => {}
            (Some(words), Err(why)) => {
                assert!(why.to_string().contains(words), "{story}: {why}");
            }
            _ => panic!("{story}: {blocked:?}"),
        }
        // The override goes on, and so does an acknowledgement.
        assert_eq!(
            ask(dead, *origin, true, cluster, &Standing::default()),
            Ok(()),
            "{story}"
        );
        let seen = Standing {
            acknowledged: ["op1".to_owned()].into(),
            paused: None,
        };
        assert_eq!(ask(dead, *origin, false, cluster, &seen), Ok(()), "{story}");
    }
}

#[test]
fn a_pause_holds_the_daemon_and_not_a_person() {
    let paused = Standing {
        paused: Some(Pause {
            by: "alice".into(),
            unix_ms: NOW,
        }),
        ..Standing::default()
    };
    let blocked = ask("db1", Origin::Daemon, true, &[], &paused).unwrap_err();
    assert!(blocked.to_string().contains("by alice"), "{blocked}");
    assert_eq!(ask("db1", Origin::Operator, false, &[], &paused), Ok(()));
}

#[test]
fn the_fleet_brake_holds_at_its_number() {
    let policy = FailoverPolicy {
        fleet_limit: 3,
        ..FailoverPolicy::default()
    };
    for (others, blocked) in [(2, false), (3, true), (4, true)] {
        let mut fleet: Vec<Past> = (0..others)
            .map(|n| {
                past(
                    &format!("op{n}"),
                    "x",
                    NOW - 60_000,
                    Some((NOW - 50_000, 0)),
                )
            })
            .collect();
        // Too old, refused, and running: not counted.
        fleet.push(past("old", "x", NOW - HOUR, Some((NOW - HOUR, 0))));
        fleet.push(past("refused", "x", NOW - 60_000, Some((NOW - 50_000, 12))));
        let answer = permit(&Question {
            dead: "db1",
            origin: Origin::Daemon,
            ignore_last_failover: false,
            cluster: &[],
            fleet: &fleet,
            standing: &Standing::default(),
            policy: &policy,
            now_unix_ms: NOW,
        });
        assert_eq!(answer.is_err(), blocked, "{others}: {answer:?}");
    }
}

#[test]
fn what_was_said_survives_and_damage_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(
        Standing::load(dir.path(), "app1").unwrap(),
        Standing::default()
    );
    let said = Standing {
        paused: Some(Pause {
            by: "alice".into(),
            unix_ms: NOW,
        }),
        acknowledged: ["op1".to_owned()].into(),
    };
    said.save(dir.path(), "app1").unwrap();
    assert_eq!(Standing::load(dir.path(), "app1").unwrap(), said);
    assert_eq!(
        Standing::load(dir.path(), "app2").unwrap(),
        Standing::default()
    );
    let path = journal_folder(dir.path()).join("standing.json");
    std::fs::write(&path, "{").unwrap();
    assert!(Standing::load(dir.path(), "app1").is_err());
}

fn journal_folder(dir: &std::path::Path) -> std::path::PathBuf {
    crate::journal::folder(dir, "app1")
}

async fn write(dir: &std::path::Path, operation: &str, dead: &str, opens: &str, ends: bool) {
    let journal = Journal::create(dir, "app1", operation, Arc::new(NoHook)).unwrap();
    let begin = Record::Begin(Box::new(Begin {
        format_version: 1,
        program: "0".into(),
        unix_ms: NOW,
        cluster: "app1".into(),
        operation: operation.into(),
        epoch: 1,
        manager: "m1".into(),
        dead: dead.into(),
        dead_address: HostPort {
            host: dead.into(),
            port: 3306,
        },
        forced: None,
        accept_loss: false,
        agents: std::collections::BTreeMap::new(),
    }));
    let started = Record::Started {
        unix_ms: NOW,
        stage: 2,
        step: Step {
            id: StepId(7),
            act: Act::MakeWritable {
                server: opens.into(),
                wait_for_replicas: false,
            },
            after: vec![],
        },
    };
    let opened = Record::Done {
        unix_ms: NOW + 300,
        stage: 2,
        step: StepId(7),
        outcome: Box::new(StepOutcome::Writable { waits: None }),
    };
    let end = Record::End {
        unix_ms: NOW + 305,
        exit_code: 0,
        summary: String::new(),
    };
    journal.append(&begin).await.unwrap();
    journal.append(&started).await.unwrap();
    journal.append(&opened).await.unwrap();
    if ends {
        journal.append(&end).await.unwrap();
    }
    let path = journal.path();
    drop(journal);
    while crate::journal::is_running(&path).unwrap() {
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn journals_tell_who_was_replaced_and_who_came_back() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "failover-1", "db1", "db2", true).await;
    write(dir.path(), "failover-2", "db2", "db3", false).await;
    let all = of_cluster(dir.path(), "app1").unwrap();
    assert_eq!(all.len(), 2);
    assert_eq!(all[0].ended, Some((NOW + 305, 0)));
    assert_eq!(all[0].opened.as_deref(), Some("db2"));
    assert_eq!(all[0].opened_after_ms, Some(300));
    assert!(all[1].was_interrupted() && !all[0].was_interrupted());
    assert_eq!(deposed(&all), ["db1".to_owned(), "db2".to_owned()].into());
    write(dir.path(), "failover-3", "db3", "db1", true).await;
    let all = of_cluster(dir.path(), "app1").unwrap();
    assert_eq!(deposed(&all), ["db2".to_owned(), "db3".to_owned()].into());
    assert_eq!(of_all(dir.path()).unwrap(), all);
}

#[test]
fn spans_are_readable() {
    for (seconds, text) in [
        (0, "0s"),
        (59, "59s"),
        (61, "1m 1s"),
        (3600, "1h"),
        (8 * 3600 + 65, "8h 1m"),
    ] {
        assert_eq!(span(std::time::Duration::from_secs(seconds)), text);
    }
}
