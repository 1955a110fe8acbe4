//! Survivors in trouble: slow, failing, dying, left aside.

use std::time::Duration;

use manager::exit_code::ExitCode;
use manager::proof::ProofVerdict;
use proto::v1::ErrorKind;

use super::cluster::{Cluster, POLICY, code};
use super::world::{Fault, lock};

#[tokio::test]
async fn slow_agents_are_waited_for() {
    let cluster = Cluster::start().await;
    for call in ["SurveyLogs", "SaveBinaryLogs", "HoldDown"] {
        cluster.set_fault("db1", call, Fault::Slow(Duration::from_millis(400)));
    }
    let report = cluster.run(&cluster.request()).await;
    assert_eq!(code(&report), ExitCode::Done, "{}", report.summary);
    assert_eq!(report.proof.unwrap().verdict, ProofVerdict::Proven);
}

#[tokio::test]
async fn a_survivor_that_cannot_apply_is_left_and_listed() {
    let cluster = Cluster::start().await;
    cluster.set_fault(
        "db3",
        "ApplyLogs",
        Fault::Fails(ErrorKind::Replication, "duplicate key"),
    );
    let report = cluster.run(&cluster.request()).await;
    assert_eq!(code(&report), ExitCode::DoneNeedsCare, "{}", report.summary);
    assert_eq!(report.new_primary.as_deref(), Some("db2"));
    assert!(
        report
            .care
            .iter()
            .any(|c| c.server == "db3" && c.why.contains("duplicate key"))
    );
    assert_eq!(lock(&cluster.world).server("db3").replicates_from, None);
}

#[tokio::test]
async fn the_winner_fails_and_another_is_elected() {
    for call in ["ApplyLogs", "Promote", "PullSegment"] {
        let cluster = Cluster::start().await;
        cluster.set_fault(
            "db2",
            call,
            Fault::Fails(ErrorKind::Replication, "it broke"),
        );
        let report = cluster.run(&cluster.request()).await;
        assert_eq!(
            code(&report),
            ExitCode::DoneNeedsCare,
            "{call}: {}",
            report.summary
        );
        assert_eq!(report.new_primary.as_deref(), Some("db3"), "{call}");
        assert_eq!(report.first_choice.as_deref(), Some("db2"), "{call}");
        assert!(report.care.iter().any(|c| c.server == "db2"), "{call}");
        assert!(!lock(&cluster.world).server("db3").read_only, "{call}");
        assert!(lock(&cluster.world).server("db2").read_only, "{call}");
    }
}

#[tokio::test]
async fn a_failed_applier_is_not_elected_not_touched_but_provides() {
    let cluster = Cluster::start().await;
    {
        let mut world = lock(&cluster.world);
        let db3 = world.server("db3");
        db3.applier_running = false;
        db3.applier_errno = 1062;
    }
    let report = cluster.run(&cluster.request()).await;
    assert_eq!(code(&report), ExitCode::DoneNeedsCare, "{}", report.summary);
    assert_eq!(report.new_primary.as_deref(), Some("db2"));
    assert!(
        report
            .care
            .iter()
            .any(|c| c.server == "db3" && c.why.contains("1062"))
    );
    assert!(report.recovered[0].what.contains("relay log of db3"));
    assert_eq!(cluster.called("ApplyLogs db3"), 0);
    assert_eq!(cluster.called("Repoint db3"), 0);
    assert_eq!(lock(&cluster.world).server("db3").executed, 452);
}

#[tokio::test]
async fn an_agent_that_dies_in_a_replay_and_comes_back_goes_on() {
    let cluster = Cluster::start().await;
    cluster.set_fault("db2", "ApplyLogs", Fault::DiesOnce);
    let report = cluster.run(&cluster.request()).await;
    assert_eq!(code(&report), ExitCode::Done, "{}", report.summary);
    assert_eq!(report.new_primary.as_deref(), Some("db2"));
}

#[tokio::test]
async fn a_new_primary_whose_lease_ends_while_it_is_opened_is_opened_again() {
    let cluster = Cluster::start().await;
    let crossed = Fault::FailsOnce(ErrorKind::Conflict, "an order to keep it read-only came");
    cluster.set_fault("db2", "MakeWritable", crossed);
    let report = cluster.run(&cluster.request()).await;
    assert_eq!(code(&report), ExitCode::Done, "{}", report.summary);
    assert_eq!(cluster.called("MakeWritable db2"), 2);
    assert!(!lock(&cluster.world).server("db2").read_only);
}

#[tokio::test]
async fn a_lost_answer_to_make_writable_is_unknown_never_a_second_primary() {
    let cluster = Cluster::start().await;
    cluster.set_fault("db2", "MakeWritable", Fault::Dies);
    let report = cluster.run(&cluster.request()).await;
    assert_eq!(
        code(&report),
        ExitCode::OutcomeUnknown,
        "{}",
        report.summary
    );
    assert_eq!(cluster.called("MakeWritable db3"), 0);
    assert_eq!(cluster.called("Promote db3"), 0);
}

#[tokio::test]
async fn ignore_fail_leaves_a_server_aside() {
    let cluster = Cluster::with(POLICY, &["candidate: preferred", "ignore_fail: true"]).await;
    cluster.set_fault("db3", "ObserveServer", Fault::Dies);
    let report = cluster.run(&cluster.request()).await;
    assert_eq!(code(&report), ExitCode::DoneNeedsCare, "{}", report.summary);
    assert!(report.care.iter().any(|c| c.server == "db3"));
    assert_eq!(lock(&cluster.world).server("db2").executed, 1308);
}
