//! Binlog servers beside a dead primary: the one that reaches furthest serves, and no trouble with one stops a failover.

use manager::exit_code::ExitCode;
use manager::proof::ProofVerdict;
use manager::report::Report;
use proto::v1::ErrorKind;

use super::cluster::{Cluster, POLICY, code};
use super::world::{Fault, lock};

/// The customer's cluster: db1 wrote up to 1308, db3 received up to 880.
async fn cluster(copies: &[(&str, u64)]) -> Cluster {
    Cluster::with_binlog_servers(POLICY, &["candidate: preferred", ""], copies).await
}

/// The same, and the host of db1 is gone.
async fn host_gone(copies: &[(&str, u64)]) -> Cluster {
    let cluster = cluster(copies).await;
    cluster.lose_agent(0).await;
    cluster
}

/// All survivors end here, and the report says that more cannot be known.
fn ends_at(cluster: &Cluster, report: &Report, end: u64) {
    assert_eq!(code(report), ExitCode::Done, "{}", report.summary);
    for server in ["db2", "db3"] {
        assert_eq!(
            lock(&cluster.world).server(server).executed,
            end,
            "{server}"
        );
    }
    let proof = report.proof.as_ref().unwrap();
    assert!(
        matches!(&proof.verdict, ProofVerdict::ProvenUpTo { position } if position.offset == end),
        "{proof:?}"
    );
    for server in lock(&cluster.world).servers.values() {
        assert_eq!(server.holder, None, "{}", server.name);
    }
}

fn says(lines: &[String], wanted: &[&str]) -> bool {
    lines
        .iter()
        .any(|line| wanted.iter().all(|wanted| line.contains(wanted)))
}

#[tokio::test]
async fn the_tail_that_only_a_binlog_server_holds_is_brought_to_all() {
    let cluster = host_gone(&[("binlog1", 1308)]).await;
    let report = cluster.run(&cluster.request()).await;
    ends_at(&cluster, &report, 1308);
    let statements = &report.proof.as_ref().unwrap().statements;
    let wanted = [
        "binlog server binlog1 holds transactions up to mysql-bin.000001:1308",
        "is unknown",
    ];
    assert!(says(statements, &wanted), "{statements:#?}");
    let what: Vec<&str> = report.recovered.iter().map(|r| r.what.as_str()).collect();
    assert!(
        what[1].contains("tail, from the copies of binlog server binlog1"),
        "{what:?}"
    );
    // The manager keeps a copy of what survivors never received.
    assert!(report.recovered[1].copy.is_some(), "{:?}", report.recovered);
}

#[tokio::test]
async fn of_two_the_one_that_reaches_furthest_serves() {
    let cluster = host_gone(&[("binlog1", 1094), ("binlog2", 1308)]).await;
    let report = cluster.run(&cluster.request()).await;
    ends_at(&cluster, &report, 1308);
    assert!(report.recovered[1].what.contains("binlog2"), "{report:?}");
    assert_eq!(cluster.called("SaveBinaryLogs binlog1"), 0);
}

#[tokio::test]
async fn one_that_lags_behind_the_survivors_changes_nothing() {
    let cluster = host_gone(&[("binlog1", 666)]).await;
    let report = cluster.run(&cluster.request()).await;
    ends_at(&cluster, &report, 880);
    assert_eq!(cluster.called("SaveBinaryLogs"), 0);
}

#[tokio::test]
async fn one_that_cannot_say_or_is_not_there_is_told_and_gone_without() {
    type Spoil = fn(&Cluster);
    let cases: [(&str, Spoil); 4] = [
        ("its agent does not answer", |_| {}),
        ("cannot be read", |c| {
            let fault = Fault::Fails(ErrorKind::LogUnreadable, "cannot be read");
            c.set_fault("binlog1", "SurveyLogs", fault);
        }),
        ("of another history", |c| {
            lock(&c.world).server("binlog1").diverged = true;
        }),
        ("does not grant the cluster", |c| {
            let fault = Fault::Fails(ErrorKind::Held, "somebody else's");
            c.set_fault("binlog1", "ClaimEpoch", fault);
        }),
    ];
    for (expected, spoil) in cases {
        let cluster = host_gone(&[("binlog1", 1308)]).await;
        spoil(&cluster);
        if expected == "its agent does not answer" {
            cluster.lose_agent(3).await;
        }
        let report = cluster.run(&cluster.request()).await;
        ends_at(&cluster, &report, 880);
        let wanted = ["binlog server binlog1 not used", expected, "is unknown"];
        assert!(
            says(&report.lost, &wanted),
            "{expected}: {:#?}",
            report.lost
        );
        let statements = &report.proof.as_ref().unwrap().statements;
        assert!(says(statements, &wanted), "{expected}: {statements:#?}");
    }
}

#[tokio::test]
async fn beside_a_dead_disk_that_can_be_read_it_is_compared_and_not_needed() {
    for diverged in [false, true] {
        let cluster = cluster(&[("binlog1", 1308)]).await;
        lock(&cluster.world).server("binlog1").diverged = diverged;
        let report = cluster.run(&cluster.request()).await;
        assert_eq!(code(&report), ExitCode::Done, "{}", report.summary);
        let proof = report.proof.as_ref().unwrap();
        assert_eq!(proof.verdict, ProofVerdict::Proven, "{proof:?}");
        assert!(report.lost.is_empty(), "{:?}", report.lost);
        assert_eq!(cluster.called("SaveBinaryLogs binlog1"), 0);
        let wanted = if diverged {
            ["binlog server binlog1 not used", "of another history"]
        } else {
            [
                "binlog server binlog1 holds",
                "the same as in the binary log of db1",
            ]
        };
        assert!(says(&report.remarks, &wanted), "{:#?}", report.remarks);
    }
}

#[tokio::test]
async fn what_it_alone_is_known_to_hold_is_not_left_behind_unless_the_loss_is_accepted() {
    let cluster = host_gone(&[("binlog1", 1308)]).await;
    let fault = Fault::Fails(ErrorKind::LogUnreadable, "cannot be read");
    cluster.set_fault("binlog1", "SaveBinaryLogs", fault);
    let report = cluster.run(&cluster.request()).await;
    assert_eq!(code(&report), ExitCode::Failed, "{}", report.summary);
    assert!(report.summary.contains("binlog1"), "{}", report.summary);
    cluster.assert_untouched("the only copy");
    let mut request = cluster.request();
    request.accept_loss = true;
    let report = cluster.run(&request).await;
    ends_at(&cluster, &report, 880);
    assert!(
        says(&report.lost, &["binlog1 not used"]),
        "{:?}",
        report.lost
    );
    // Another one that holds as much takes its place, and nobody needs to accept anything.
    let cluster = host_gone(&[("binlog1", 1308), ("binlog2", 1308)]).await;
    let fault = Fault::Fails(ErrorKind::LogUnreadable, "cannot be read");
    cluster.set_fault("binlog1", "SaveBinaryLogs", fault);
    let report = cluster.run(&cluster.request()).await;
    ends_at(&cluster, &report, 1308);
}

#[tokio::test]
async fn the_policy_that_stops_without_the_dead_log_stops_with_copies_too() {
    let policy = POLICY.replace("failover: {", "failover: { on_unreachable_log: stop,");
    let cluster = Cluster::with_binlog_servers(&policy, &["", ""], &[("binlog1", 1308)]).await;
    cluster.lose_agent(0).await;
    let report = cluster.run(&cluster.request()).await;
    assert_eq!(code(&report), ExitCode::Refused, "{}", report.summary);
    cluster.assert_untouched("policy stop");
}

/// It holds up no lease, so that another manager claimed it before is no reason not to cut there.
#[tokio::test]
async fn its_agent_is_claimed_above_its_epoch_whichever_manager_it_knew() {
    let cluster = host_gone(&[("binlog1", 1308)]).await;
    {
        let mut world = lock(&cluster.world);
        let copies = world.server("binlog1");
        copies.epoch = 7;
        copies.of_record = Some("m0".to_owned());
    }
    let report = cluster.run(&cluster.request()).await;
    ends_at(&cluster, &report, 1308);
    assert_eq!(report.epoch, 8);
}
