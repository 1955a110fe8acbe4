//! The dead primary's log: silent, unreadable, corrupt, purged elsewhere, or of another history.

use manager::exit_code::ExitCode;
use manager::proof::ProofVerdict;
use proto::v1::ErrorKind;

use super::cluster::{Cluster, POLICY, code};
use super::world::{Fault, lock};

#[tokio::test]
async fn dead_host_does_not_answer_proceeds_and_says_what_is_unknown() {
    let cluster = Cluster::start().await;
    cluster.lose_agent(0).await;
    let report = cluster.run(&cluster.request()).await;
    assert_eq!(code(&report), ExitCode::Done, "{}", report.summary);
    let proof = report.proof.unwrap();
    assert!(
        matches!(&proof.verdict, ProofVerdict::ProvenUpTo { position } if position.offset == 880),
        "{:?}",
        proof.verdict
    );
    assert_eq!(report.lost.len(), 1);
    assert_eq!(report.fenced, Some(false));
    assert_eq!(lock(&cluster.world).server("db2").executed, 880);
}

#[tokio::test]
async fn dead_host_does_not_answer_stops_if_the_policy_says_so() {
    let policy = POLICY.replace("failover: {", "failover: { on_unreachable_log: stop,");
    let cluster = Cluster::with(&policy, &["", ""]).await;
    cluster.lose_agent(0).await;
    let report = cluster.run(&cluster.request()).await;
    assert_eq!(code(&report), ExitCode::Refused, "{}", report.summary);
    cluster.assert_untouched("policy stop");
}

#[tokio::test]
async fn dead_host_falls_silent_after_the_claim() {
    let cluster = Cluster::start().await;
    cluster.set_fault("db1", "SurveyLogs", Fault::Silent);
    let report = cluster.run(&cluster.request()).await;
    assert_eq!(code(&report), ExitCode::Done, "{}", report.summary);
    assert_eq!(cluster.called("SurveyLogs db1"), 3, "three tries");
    assert!(matches!(
        report.proof.unwrap().verdict,
        ProofVerdict::ProvenUpTo { .. }
    ));
}

#[tokio::test]
async fn dead_log_unreadable_stops_and_undoes_unless_the_loss_is_accepted() {
    for kind in [
        ErrorKind::LogUnreadable,
        ErrorKind::LogCorrupt,
        ErrorKind::DiskFull,
    ] {
        for call in ["SurveyLogs", "SaveBinaryLogs"] {
            let cluster = Cluster::start().await;
            cluster.set_fault("db1", call, Fault::Fails(kind, "cannot be read"));
            let report = cluster.run(&cluster.request()).await;
            assert_eq!(
                code(&report),
                ExitCode::Failed,
                "{call}: {}",
                report.summary
            );
            assert!(
                report.summary.contains("/data/mysql-bin.000001:4"),
                "names the path: {}",
                report.summary
            );
            cluster.assert_untouched(call);
            let mut request = cluster.request();
            request.accept_loss = true;
            let report = cluster.run(&request).await;
            assert_eq!(code(&report), ExitCode::Done, "{call}: {}", report.summary);
            assert!(!report.lost.is_empty());
            assert_eq!(lock(&cluster.world).server("db3").executed, 880);
        }
    }
}

#[tokio::test]
async fn dead_log_corrupt_before_its_end_stops_unless_accepted() {
    let cluster = Cluster::start().await;
    lock(&cluster.world).server("db1").corrupt_at = Some(1094);
    let report = cluster.run(&cluster.request()).await;
    assert_eq!(code(&report), ExitCode::Failed, "{}", report.summary);
    assert!(
        report.summary.contains("corrupt at mysql-bin.000001:1094"),
        "{}",
        report.summary
    );
    cluster.assert_untouched("corrupt");
    let mut request = cluster.request();
    request.accept_loss = true;
    let report = cluster.run(&request).await;
    assert_eq!(code(&report), ExitCode::Done, "{}", report.summary);
    assert_eq!(lock(&cluster.world).server("db2").executed, 1094);
    assert!(matches!(
        report.proof.unwrap().verdict,
        ProofVerdict::ProvenUpTo { .. }
    ));
}

#[tokio::test]
async fn divergent_histories_stop_the_run_and_everything_is_undone() {
    let cluster = Cluster::start().await;
    lock(&cluster.world).server("db1").diverged = true;
    let report = cluster.run(&cluster.request()).await;
    assert_eq!(code(&report), ExitCode::Failed, "{}", report.summary);
    assert!(
        report
            .summary
            .contains("divergence before mysql-bin.000001:849"),
        "{}",
        report.summary
    );
    cluster.assert_untouched("divergence");
}

#[tokio::test]
async fn a_segment_with_a_missing_transaction_is_not_proven() {
    let cluster = Cluster::start().await;
    {
        let mut world = lock(&cluster.world);
        world.server("db1").drops_a_transaction = true;
        world.server("db3").received = 452;
        world.server("db3").executed = 452;
    }
    let report = cluster.run(&cluster.request()).await;
    let proof = report.proof.as_ref().unwrap();
    assert_eq!(proof.verdict, ProofVerdict::NotProven, "{proof:?}");
    assert_eq!(code(&report), ExitCode::DoneNeedsCare);
}

#[tokio::test]
async fn purged_relay_logs_are_replaced_by_the_dead_disk() {
    let cluster = Cluster::start().await;
    {
        let mut world = lock(&cluster.world);
        let db3 = world.server("db3");
        db3.held_from = 880;
        db3.executed = 880;
    }
    let report = cluster.run(&cluster.request()).await;
    assert_eq!(code(&report), ExitCode::Done, "{}", report.summary);
    assert_eq!(report.recovered.len(), 1);
    assert!(
        report.recovered[0]
            .what
            .contains("[mysql-bin.000001:452, mysql-bin.000001:1308) tail")
    );
}

#[tokio::test]
async fn a_part_that_nobody_holds_stops_the_run_naming_it() {
    let cluster = Cluster::start().await;
    cluster.lose_agent(0).await;
    {
        let mut world = lock(&cluster.world);
        let db3 = world.server("db3");
        db3.held_from = 880;
        db3.executed = 880;
    }
    let report = cluster.run(&cluster.request()).await;
    assert_eq!(code(&report), ExitCode::Failed, "{}", report.summary);
    assert!(
        report
            .summary
            .contains("no provider holds [mysql-bin.000001:452, mysql-bin.000001:880)"),
        "{}",
        report.summary
    );
    cluster.assert_untouched("not held");
}
