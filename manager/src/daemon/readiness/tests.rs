use super::*;
use crate::facts::Receiver;
use crate::lease::{HeldUpBy, LeaseMode};
use crate::testing::{config, snapshot, survivor_facts};

fn views() -> Vec<ServerView> {
    let mut views = snapshot(&[("1:452", "1:452"), ("1:880", "1:880")]).servers;
    for view in &mut views {
        if let Ok(facts) = &mut view.facts
            && let Some(replica) = &mut facts.replica
        {
            replica.receiver = Receiver::Running;
        }
    }
    let mut primary = survivor_facts(1, "1:4", "1:4");
    primary.replica = None;
    primary.credentials_source = None;
    primary.settings.as_mut().unwrap().read_only = false;
    primary.binlog = Some(crate::facts::OwnBinlog {
        position: Some(crate::testing::at("1:1308")),
        gtid_executed: String::new(),
    });
    views.get_mut(0).unwrap().facts = Ok(primary);
    views
}

fn by() -> HeldUpBy {
    HeldUpBy {
        epoch: 5,
        manager: "m1".to_owned(),
        manager_heard: true,
        vouching: 3,
        agents: 3,
    }
}

fn held() -> LeaseStatus {
    LeaseStatus::Held {
        since_unix_ms: 1,
        until_unix_ms: 1_501,
        by: by(),
    }
}

fn explained(views: &[ServerView], permit: Result<(), Blocked>, deposed: &[String]) -> Explanation {
    let config = config(3);
    explain(&Known {
        config: &config,
        primary: config.servers.first().unwrap(),
        views,
        ping: &Ping::Answered,
        addresses: &[],
        binlog_servers: &[],
        deposed,
        permit,
        of_another: None,
        lease: Some(held()),
        past: &[],
        reading: Duration::from_millis(20),
        unix_ms: 1,
    })
}

fn failing(explanation: &Explanation) -> Vec<&str> {
    explanation
        .conditions
        .iter()
        .filter(|c| !c.holds())
        .map(|c| c.name.as_str())
        .collect()
}

#[test]
fn a_healthy_cluster_is_ready_and_names_winner_losers_and_loss() {
    let explanation = explained(&views(), Ok(()), &[]);
    assert_eq!(failing(&explanation), Vec::<&str>::new());
    assert!(explanation.ready);
    let IfItDied::Promote {
        winner,
        losers,
        loss_if_host_died,
        ..
    } = &explanation.if_it_died
    else {
        panic!("{explanation:?}")
    };
    assert_eq!(winner, "db3");
    assert_eq!(losers.first().unwrap().server, "db2");
    assert!(
        loss_if_host_died.contains("between mysql-bin.000001:880 and mysql-bin.000001:1308"),
        "{loss_if_host_died}"
    );
}

type Change = fn(&mut Vec<ServerView>);

fn of(views: &mut [ServerView], n: usize) -> &mut ServerFacts {
    views.get_mut(n).unwrap().facts.as_mut().unwrap()
}

#[test]
fn each_condition_can_fail() {
    let table: &[(&str, Change)] = &[
        ("the agent of db3 answers", |v| {
            v.get_mut(2).unwrap().facts = Err(crate::observe::Unknown::NotAtAgent);
        }),
        ("db3 answers SQL", |v| {
            of(v, 2).sql_error = Some("gone".into())
        }),
        ("db2 is read-only", |v| {
            of(v, 1).settings.as_mut().unwrap().read_only = false;
        }),
        ("db1 is open for writes", |v| {
            of(v, 0).settings.as_mut().unwrap().read_only = true;
        }),
        ("db2 writes a binary log", |v| {
            of(v, 1).settings.as_mut().unwrap().log_bin = false;
        }),
        ("the agent of db1 can read its logs", |v| {
            of(v, 0).settings.as_mut().unwrap().log_encryption = Some("encrypt_binlog".into());
        }),
        ("the agent of db3 can read its logs", |v| {
            let settings = of(v, 2).settings.as_mut().unwrap();
            settings.binlog_storage_engine = Some("innodb".into());
        }),
        ("db3 is a replica", |v| of(v, 2).replica = None),
        ("the receiver of db3 is connected", |v| {
            of(v, 2).replica.as_mut().unwrap().receiver = Receiver::Connecting;
        }),
        ("the applier of db3 runs", |v| {
            of(v, 2).replica.as_mut().unwrap().applier_running = false;
        }),
        ("the configuration of db1 has read_only=1", |v| {
            of(v, 0).configured_read_only.answer = Answer::No;
        }),
        ("the configuration of db2 has read_only=1", |v| {
            of(v, 1).configured_read_only = crate::facts::Configured::default();
        }),
        (
            "replication credentials of db3 are known to its agent",
            |v| of(v, 2).credentials_source = None,
        ),
    ];
    for (expected, change) in table {
        let mut views = views();
        change(&mut views);
        let explanation = explained(&views, Ok(()), &[]);
        assert_eq!(failing(&explanation), [*expected]);
        assert!(!explanation.ready);
    }
}

#[test]
fn what_blocks_a_failover_is_what_it_would_say() {
    let blocked = Blocked::Unreadable { why: "x".into() };
    let explanation = explained(&views(), Err(blocked), &[]);
    assert!(matches!(&explanation.if_it_died, IfItDied::Refuse { why } if why.contains("x")));
    assert_eq!(failing(&explanation).len(), 1);
}

#[test]
fn a_deposed_server_is_no_condition_until_it_follows() {
    let mut views = views();
    of(&mut views, 2).replica = None;
    of(&mut views, 2).sql_error = Some("held down".into());
    let explanation = explained(&views, Ok(()), &["db3".to_owned()]);
    assert!(explanation.ready, "{explanation:?}");
}

/// What an explanation says of the time, with these earlier failovers.
fn times(views: &[ServerView], past: &[Past]) -> (Expected, Expected) {
    let config = config(3);
    let explanation = explain(&Known {
        config: &config,
        primary: config.servers.first().unwrap(),
        views,
        ping: &Ping::Answered,
        addresses: &[],
        binlog_servers: &[],
        deposed: &[],
        permit: Ok(()),
        of_another: None,
        lease: Some(held()),
        past,
        reading: Duration::from_millis(20),
        unix_ms: 1,
    });
    match explanation.if_it_died {
        IfItDied::Promote {
            time_if_server_died,
            time_if_host_died,
            ..
        } => (time_if_server_died, time_if_host_died),
        refused => panic!("{refused:?}"),
    }
}

fn failover(opened_after_ms: u64, replay: Option<(u64, u64)>) -> Past {
    Past {
        operation: "op".to_owned(),
        dead: "db9".to_owned(),
        begun_unix_ms: 1,
        ended: Some((2, 0)),
        opened: Some("db1".to_owned()),
        opened_after_ms: Some(opened_after_ms),
        replay,
        running: false,
    }
}

#[test]
fn the_expected_time_is_a_sum_of_what_was_measured_and_set() {
    // db3 has executed 880 of 1308.
    let (server, host) = times(&views(), &[]);
    assert!(!server.complete && !host.complete);
    assert_eq!(server.known_ms, 20);
    let past = [
        failover(900, None),
        failover(300, Some((4 << 20, 1000))),
        failover(500, Some((100, 7))),
    ];
    let (server, host) = times(&views(), &past);
    assert!(server.complete && host.complete, "{server:?} {host:?}");
    // Reading, the median, and 428 bytes at 4 MiB a second.
    assert_eq!(server.known_ms, 20 + 500);
    assert!(
        server
            .parts
            .last()
            .unwrap()
            .because
            .starts_with("428 bytes"),
        "{server:?}"
    );
    // 2.5 s of pings, one more question, the reading; the lease is over by then.
    assert_eq!(host.known_ms, 2500 + 300 + 20 + 500);
}

#[test]
fn a_part_that_nobody_measured_is_unknown_and_none_is_needed_without_a_backlog() {
    let mut views = views();
    of(&mut views, 2).replica.as_mut().unwrap().executed = Some(crate::testing::at("1:452"));
    let (_, host) = times(&views, &[failover(300, None)]);
    let last = host.parts.last().unwrap();
    assert_eq!(last.ms, None);
    assert!(last.because.contains("never measured"), "{last:?}");
    of(&mut views, 2).replica.as_mut().unwrap().executed = Some(crate::testing::at("1:880"));
    let (_, host) = times(&views, &[failover(300, None)]);
    assert!(host.complete, "{host:?}");
    // Without the primary's agent its death is noticed by silence.
    views.get_mut(0).unwrap().facts = Err(crate::observe::Unknown::NotAtAgent);
    let (server, _) = times(&views, &[failover(300, None)]);
    assert_eq!(server.parts.first().unwrap().ms, Some(2500));
}

#[test]
fn the_virtual_ip_is_where_the_primary_is_and_every_agent_can_move_it() {
    use crate::agents::AddressFacts;
    let seen = |server: &str, up, trouble: Option<&str>| SeenAt {
        server: server.to_owned(),
        address: proto::address::VirtualAddress::new("192.0.2.100/24", "eth0").unwrap(),
        seen: Ok(AddressFacts {
            up,
            evidence: "e".to_owned(),
            trouble: trouble.map(str::to_owned),
            kept_epoch: None,
        }),
    };
    let failing_with = |addresses: &[SeenAt]| -> Vec<(String, Answer)> {
        let config = config(3);
        let explanation = explain(&Known {
            config: &config,
            primary: config.servers.first().unwrap(),
            views: &views(),
            ping: &Ping::Answered,
            addresses,
            binlog_servers: &[],
            deposed: &[],
            permit: Ok(()),
            of_another: None,
            lease: Some(held()),
            past: &[],
            reading: Duration::ZERO,
            unix_ms: 1,
        });
        let failing = explanation.conditions.into_iter().filter(|c| !c.holds());
        failing.map(|c| (c.name, c.answer)).collect()
    };
    let good = || {
        vec![
            seen("db1", Answer::Yes, None),
            seen("db2", Answer::No, None),
            seen("db3", Answer::No, None),
        ]
    };
    assert_eq!(failing_with(&good()), []);
    let mut all = good();
    all[0] = seen("db1", Answer::No, None);
    all[1] = seen("db2", Answer::Yes, Some("this agent lacks CAP_NET_RAW"));
    all[2].seen = Err("no answer".to_owned());
    assert_eq!(
        failing_with(&all),
        [
            ("the virtual IP is up at db1".to_owned(), Answer::No),
            ("the virtual IP is not up at db2".to_owned(), Answer::No),
            (
                "the agent of db2 can move the virtual IP".to_owned(),
                Answer::No
            ),
            (
                "the virtual IP is not up at db3".to_owned(),
                Answer::Unknown
            ),
            (
                "the agent of db3 can move the virtual IP".to_owned(),
                Answer::Unknown
            ),
        ]
    );
}

#[test]
fn a_lease_that_is_wanted_must_be_held() {
    let mut config = config(3);
    let views = views();
    let lost = LeaseStatus::Lost {
        since_unix_ms: 1,
        by: by(),
    };
    let unknown = LeaseStatus::Unknown {
        why: "the agent of db1 is not heard".to_owned(),
    };
    let off = LeaseStatus::Off {
        why: "switched off by the configuration".to_owned(),
    };
    let cases = [
        (LeaseMode::Auto, held(), Some(Answer::Yes)),
        (LeaseMode::Auto, lost, Some(Answer::No)),
        (LeaseMode::Auto, unknown, Some(Answer::Unknown)),
        (LeaseMode::Auto, off.clone(), Some(Answer::No)),
        (LeaseMode::Off, off, None),
    ];
    for (mode, lease, expected) in cases {
        config.lease = mode;
        let explanation = explain(&Known {
            config: &config,
            primary: config.servers.first().unwrap(),
            views: &views,
            ping: &Ping::Answered,
            addresses: &[],
            binlog_servers: &[],
            deposed: &[],
            permit: Ok(()),
            of_another: None,
            lease: Some(lease.clone()),
            past: &[],
            reading: Duration::from_millis(20),
            unix_ms: 1,
        });
        let condition = explanation
            .conditions
            .iter()
            .find(|condition| condition.name == "db1 holds its lease");
        assert_eq!(condition.map(|c| c.answer), expected, "{lease}");
        assert_eq!(
            explanation.ready,
            expected.is_none_or(|answer| answer == Answer::Yes),
            "{lease}"
        );
        assert_eq!(explanation.lease, Some(lease));
    }
}

#[test]
fn a_ping_that_cannot_log_in_is_told_before_it_matters() {
    let refused = Ping::AnsweredError {
        errno: 3159,
        text: "insecure transport".to_owned(),
    };
    let gone = Ping::NoAnswer { limit_ms: 1000 };
    for (user, ping, expected) in [
        (Some("mha_monitor"), &Ping::Answered, Answer::Yes),
        (Some("mha_monitor"), &refused, Answer::No),
        (None, &refused, Answer::Yes),
        (Some("mha_monitor"), &gone, Answer::Unknown),
    ] {
        let mut config = config(3);
        config.monitor.user = user.map(str::to_owned);
        let explanation = explain(&Known {
            config: &config,
            primary: config.servers.first().unwrap(),
            views: &views(),
            ping,
            addresses: &[],
            binlog_servers: &[],
            deposed: &[],
            permit: Ok(()),
            of_another: None,
            lease: Some(held()),
            past: &[],
            reading: Duration::ZERO,
            unix_ms: 1,
        });
        let condition = explanation
            .conditions
            .iter()
            .find(|condition| condition.name == "the manager logs in at db1")
            .unwrap();
        assert_eq!(condition.answer, expected, "{condition:?}");
        assert_eq!(explanation.ready, expected == Answer::Yes, "{condition:?}");
    }
}

#[test]
fn settings_that_cost_something_are_remarked_and_stand_in_nobodys_way() {
    let table: &[(Change, &str)] = &[
        (|_| {}, ""),
        (
            |v| of(v, 1).replica.as_mut().unwrap().delay_s = 60,
            "db2 is kept 60 s behind on purpose",
        ),
        (
            |v| of(v, 1).settings.as_mut().unwrap().log_replica_updates = false,
            "db2 has log_slave_updates=OFF",
        ),
        (
            |v| of(v, 2).settings.as_mut().unwrap().relay_log_recovery = true,
            "db3 has relay_log_recovery=ON",
        ),
        (
            |v| {
                let filter = "replicate_do_db=a".to_owned();
                of(v, 1).settings.as_mut().unwrap().replicate_filters = vec![filter];
            },
            "db2 has filters (replicate_do_db=a)",
        ),
        (
            |v| {
                of(v, 0).settings.as_mut().unwrap().semi_sync_source = Some(true);
                for n in [1, 2] {
                    let settings = of(v, n).settings.as_mut().unwrap();
                    settings.semi_sync_replica = Some(true);
                    settings.semi_sync_source = (n == 1).then_some(false);
                }
            },
            "commits wait for replicas now, and will not once db3 is the primary: it has no rpl_semi_sync variable",
        ),
        (
            |v| {
                of(v, 0).settings.as_mut().unwrap().semi_sync_source = Some(true);
                for n in [1, 2] {
                    let settings = of(v, n).settings.as_mut().unwrap();
                    settings.semi_sync_source = Some(false);
                    settings.semi_sync_replica = Some(n == 1);
                }
            },
            "but not for db3: its own side of semi-synchronous replication is off",
        ),
        (
            |v| {
                for n in 0..3 {
                    let settings = of(v, n).settings.as_mut().unwrap();
                    settings.semi_sync_source = Some(false);
                    settings.semi_sync_replica = Some(true);
                }
            },
            "commits of db1 wait for nobody, though db2, db3 would acknowledge them",
        ),
    ];
    for (change, expected) in table {
        let mut views = views();
        change(&mut views);
        let explanation = explained(&views, Ok(()), &[]);
        assert!(explanation.ready, "{explanation:?}");
        let told = explanation.remarks.join("\n");
        assert_eq!(
            explanation.remarks.len(),
            usize::from(!expected.is_empty()),
            "{told}"
        );
        assert!(told.contains(expected), "{told}");
    }
}

#[test]
fn an_account_that_lacks_a_privilege_is_found_beforehand_with_the_statement_that_mends_it() {
    let account = |missing: &[&str]| {
        Some(crate::facts::Account {
            name: "'mha_agent'@'localhost'".to_owned(),
            missing: missing.iter().map(ToString::to_string).collect(),
        })
    };
    let mut views = views();
    of(&mut views, 1).account = account(&["SYSTEM_USER"]);
    of(&mut views, 2).account = account(&[]);
    let explanation = explained(&views, Ok(()), &[]);
    let [failing] = explanation
        .conditions
        .iter()
        .filter(|c| !c.holds())
        .collect::<Vec<_>>()[..]
    else {
        panic!("{explanation:?}")
    };
    assert_eq!(
        failing.name,
        "the agent of db2 may end appliers and sessions there"
    );
    assert!(
        failing
            .evidence
            .ends_with("GRANT SYSTEM_USER ON *.* TO 'mha_agent'@'localhost'"),
        "{}",
        failing.evidence
    );
    assert!(!explanation.ready);
}

#[test]
fn what_replicas_lack_by_gtids_is_told_also_where_two_leaders_stop_a_failover() {
    let mut views = views();
    let set = |rest: &str| format!("{}:{rest}", crate::testing::uuid(1));
    for (n, rest) in [(1, "1-5:7"), (2, "1-6")] {
        let replica = of(&mut views, n).replica.as_mut().unwrap();
        replica.gtid_position = true;
        replica.gtid_executed = set(rest);
    }
    let explanation = explained(&views, Ok(()), &[]);
    let told: Vec<&str> = explanation
        .gtids
        .iter()
        .map(|held| held.sentence.as_str())
        .collect();
    assert_eq!(
        told,
        [
            "db2 has db1:1-5:7, and lacks 1 transaction: db1:6",
            "db3 has db1:1-6, and lacks 1 transaction: db1:7",
        ]
    );
    let IfItDied::Refuse { why } = &explanation.if_it_died else {
        panic!("{explanation:?}")
    };
    for words in ["only db2 has", "only db3 has"] {
        assert!(why.contains(words), "{why}");
    }
}

#[test]
fn binlog_servers_are_read_follow_the_primary_and_hold_what_replicas_lack() {
    use crate::testing::at;
    let seen = |server: &str, newest: Result<&str, &str>| SeenCopies {
        server: server.to_owned(),
        newest: newest
            .map(|newest| (at(newest), "/copies".to_owned()))
            .map_err(str::to_owned),
    };
    let explained = |views: &[ServerView], copies: &[SeenCopies]| {
        let config = config(3);
        explain(&Known {
            config: &config,
            primary: config.servers.first().unwrap(),
            views,
            ping: &Ping::Answered,
            addresses: &[],
            binlog_servers: copies,
            deposed: &[],
            permit: Ok(()),
            of_another: None,
            lease: Some(held()),
            past: &[],
            reading: Duration::ZERO,
            unix_ms: 1,
        })
    };
    let answers = |explanation: &Explanation| -> Vec<Answer> {
        let of_copies = explanation.conditions.iter();
        of_copies
            .filter(|condition| condition.name.contains("binlog server"))
            .map(|condition| condition.answer)
            .collect()
    };
    let loss = |explanation: &Explanation| match &explanation.if_it_died {
        IfItDied::Promote {
            loss_if_host_died, ..
        } => loss_if_host_died.clone(),
        IfItDied::Refuse { why } => panic!("{why}"),
    };
    // The primary stands at 1:1308, its replicas have received up to 1:880.
    let table = [
        (
            Ok("1:1308"),
            [Answer::Yes, Answer::Yes],
            "binlog1 follows db1",
            "nothing when this was read: binlog server binlog1 holds up to mysql-bin.000001:1308",
        ),
        (
            Ok("2:120"),
            [Answer::Yes, Answer::Yes],
            "binlog1 follows db1",
            "nothing when this was read: binlog server binlog1 holds up to mysql-bin.000002:120",
        ),
        (
            Ok("1:1094"),
            [Answer::Yes, Answer::No],
            "binlog1: it holds up to mysql-bin.000001:1094, and the primary had written up to mysql-bin.000001:1308",
            "only the primary held what is between mysql-bin.000001:1094",
        ),
        (
            Ok("1:120"),
            [Answer::Yes, Answer::No],
            "binlog1: it holds up to mysql-bin.000001:120",
            "only the primary held what is between mysql-bin.000001:880",
        ),
        (
            Err("no such directory"),
            [Answer::No, Answer::Unknown],
            "binlog1: no such directory",
            "only the primary held what is between mysql-bin.000001:880",
        ),
    ];
    for (newest, expected, sentence, lost) in table {
        let explanation = explained(&views(), &[seen("binlog1", newest)]);
        assert_eq!(answers(&explanation), expected, "{newest:?}");
        assert_eq!(explanation.ready, expected[1] == Answer::Yes, "{newest:?}");
        let told = explanation.binlog_servers.join("\n");
        assert!(told.starts_with(sentence), "{newest:?}: {told}");
        let found = loss(&explanation);
        assert!(found.contains(lost), "{newest:?}: {found}");
    }
    // The one that goes furthest counts; a primary that cannot be asked leaves open who follows it.
    let two = [seen("binlog1", Ok("1:1094")), seen("binlog2", Ok("1:1308"))];
    let explanation = explained(&views(), &two);
    assert!(loss(&explanation).contains("binlog server binlog2 holds up to"));
    let mut silent = views();
    of(&mut silent, 0).binlog = None;
    let explanation = explained(&silent, &two[1..]);
    assert_eq!(answers(&explanation), [Answer::Yes, Answer::Unknown]);
}
