//! What an operator must find in the text, and that JSON gives the same report back.

use super::*;
use crate::elect;
use crate::plan::{self, Findings, Phase, StepId};
use crate::testing::{agents, config, holds, topology};

fn report() -> Report {
    let config = config(3);
    let topology = topology(&[("1:452", "1:452"), ("1:880", "1:880")]);
    let election = elect::elect(&config, &topology, None).unwrap();
    let holdings = Holdings {
        relay: [
            ("db2".to_owned(), holds(&["1:120 1:452"], Some("1:452"))),
            ("db3".to_owned(), holds(&["1:120 1:880"], Some("1:880"))),
        ]
        .into(),
        dead: DeadLog::Unreachable { why: "gone".into() },
        binlog_servers: plan::BinlogServerLogs::new(),
    };
    let plan = plan::make(Findings {
        topology: &topology,
        election: &election,
        holdings: &holdings,
        agents: &agents(3),
        promoted: None,
        address_script: false,
        await_lease: false,
        assign: &[],
        virtual_ip: None,
    })
    .unwrap();
    let request = Request {
        dead_primary: "db1:3306".into(),
        ..Request::default()
    };
    let mut report = Report::new(&config, &request);
    report.observed(&topology, &election);
    report.operation("op-1", 7, Path::new("/state/op-1.journal"));
    report.frozen(Fence::Unconfirmed, None, None, &topology);
    report.elected("db2", &election);
    report.planned(&holdings, &plan);
    report.timeline(vec![StepTiming {
        stage: 1,
        step: StepId(0),
        phase: Phase::DeadPrimaryShutdown,
        act: "stop the receiver of db2".into(),
        started_us: 1500,
        finished_us: 4700,
        ok: true,
        note: String::new(),
    }]);
    report.recovered.push(Recovered {
        what: "piece 1".into(),
        segment: "diff-db3-1".into(),
        transactions: 2,
        bytes: 500,
        dropped_bytes: 0,
        copy: None,
    });
    report
}

#[test]
fn the_text_says_who_why_what_and_what_is_missing() {
    let mut report = report();
    report.new_primary = Some("db3".into());
    report.needs_care("db2", "it broke".into());
    let code = report.code_after_promotion();
    report.finish(&Ok(code), Instant::now());
    let text = render(&report);
    for expected in [
        "app1: MySQL primary failover db1 to db3",
        "operation op-1, epoch 7",
        "db1 is server dead",
        "New primary: db3 (received most, and nobody is preferred)",
        "at first it was db2; the final facts decided",
        "not db2: fit, but the winner was",
        "db2: received mysql-bin.000001:452, executed mysql-bin.000001:452 before",
        "* Phase 2: Dead Primary Shutdown Phase.. [1.5 ms .. 4.7 ms]",
        "whatever db1 held beyond mysql-bin.000001:880: gone",
        "UNFENCED",
        "db2: it broke",
        "mysqlbinlog STATE_DIR/segments/op-1/diff-db3-1",
        "(exit code 10)",
    ] {
        assert!(text.contains(expected), "{expected}\n---\n{text}");
    }
}

#[test]
fn json_gives_the_same_report_back() {
    let report = report();
    let json = serde_json::to_string(&report).unwrap();
    let back: Report = serde_json::from_str(&json).unwrap();
    assert_eq!(back, report);
}

#[test]
fn every_phase_keeps_its_number() {
    let numbers: Vec<&str> = [
        Phase::ConfigurationCheck,
        Phase::DeadPrimaryShutdown,
        Phase::LatestReplicas,
        Phase::SavingBinlog,
        Phase::NewPrimary,
        Phase::DiffGeneration,
        Phase::LogApply,
        Phase::ReplicaRecovery,
        Phase::Cleanup,
    ]
    .into_iter()
    .map(|p| p.heading().split([' ', ':']).nth(2).unwrap())
    .collect();
    assert_eq!(
        numbers,
        ["1", "2", "3.1", "3.2", "3.3", "3.4", "3.5", "4", "5"]
    );
}

#[test]
fn errors_end_with_their_code_and_their_whole_reason() {
    let mut report = report();
    let refusal = crate::topology::Refusal::NoSurvivor { dead: "db1".into() };
    report.finish(&Err(refusal.into()), Instant::now());
    assert_eq!(report.exit_code, 12);
    assert_eq!(report.summary, "refused: no living replica of db1 is left");
}
