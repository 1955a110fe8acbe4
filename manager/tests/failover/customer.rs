//! The customer's scenario: what a run that meets no trouble does, keeps and journals.

use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use manager::exit_code::ExitCode;
use manager::journal::{self, Record};
use manager::proof::ProofVerdict;
use proto::v1::ErrorKind;

use super::cluster::{Cluster, code};
use super::world::{Fault, lock};

#[tokio::test]
async fn customers_scenario_diff_from_leader_tail_from_dead_disk() {
    let cluster = Cluster::start().await;
    let report = cluster.run(&cluster.request()).await;
    assert_eq!(
        code(&report),
        ExitCode::Done,
        "{}",
        manager::report::render(&report)
    );
    let pieces: Vec<String> = report.recovered.iter().map(|r| r.what.clone()).collect();
    assert_eq!(
        pieces,
        [
            "piece 1 [mysql-bin.000001:452, mysql-bin.000001:880) diff, from the relay log of db3",
            "piece 2 [mysql-bin.000001:880, mysql-bin.000001:1308) tail, from the binary log of db1",
        ]
    );
    assert_eq!(report.new_primary.as_deref(), Some("db2"));
    assert_eq!(report.replicas, ["db3"]);
    assert_eq!(report.proof.as_ref().unwrap().verdict, ProofVerdict::Proven);
    let mut world = lock(&cluster.world);
    assert!(!world.server("db2").read_only);
    assert_eq!(world.server("db2").executed, 1308);
    assert_eq!(world.server("db3").executed, 1308);
    assert_eq!(
        world.server("db3").replicates_from,
        Some(("db2".to_owned(), 3306))
    );
    assert!(
        !world.server("db1").held_down_by.is_empty(),
        "the old primary stays down"
    );
    for server in world.servers.values() {
        assert_eq!(server.holder, None, "{} is released", server.name);
    }
    // The leader has the diff itself: only the candidate fetches it.
    let pulls = world
        .calls
        .iter()
        .filter(|c| c.starts_with("PullSegment"))
        .count();
    assert_eq!(pulls, 3);
}

#[tokio::test]
async fn the_tail_is_kept_on_the_manager_with_its_manifest() {
    let cluster = Cluster::start().await;
    let report = cluster.run(&cluster.request()).await;
    let copy = report.recovered[1].copy.as_ref().unwrap();
    let bytes = std::fs::read(copy).unwrap();
    assert_eq!(bytes.len(), 120 + 428, "head of the file and the tail");
    assert!(std::fs::metadata(format!("{copy}.manifest.json")).is_ok());
    assert_eq!(
        std::fs::metadata(copy).unwrap().permissions().mode() & 0o777,
        0o600
    );
}

#[tokio::test]
async fn journal_holds_every_step_before_and_after() {
    let cluster = Cluster::start().await;
    let report = cluster.run(&cluster.request()).await;
    let journals = cluster.journals();
    assert_eq!(journals.len(), 1);
    assert!(!journal::is_running(&journals[0]).unwrap());
    let records = journal::read(&journals[0]).unwrap().records;
    assert!(matches!(records.first(), Some(Record::Begin(b)) if b.dead == "db1" && b.epoch == 1));
    let started = records
        .iter()
        .filter(|r| matches!(r, Record::Started { .. }))
        .count();
    let done = records
        .iter()
        .filter(|r| matches!(r, Record::Done { .. }))
        .count();
    assert_eq!(started, done);
    assert_eq!(started, report.timeline.len());
    assert!(records.iter().any(|r| matches!(r, Record::Plan { .. })));
}

#[tokio::test]
async fn dry_run_changes_nothing_and_names_the_same_pieces() {
    let cluster = Cluster::start().await;
    let mut request = cluster.request();
    request.dry_run = true;
    request.yes = false;
    let dry = cluster.run(&request).await;
    assert_eq!(code(&dry), ExitCode::Done);
    cluster.assert_untouched("dry run");
    assert!(cluster.journals().is_empty());
    assert_eq!(cluster.called("ClaimEpoch"), 0);
    let report = cluster.run(&cluster.request()).await;
    assert_eq!(dry.plan.unwrap().pieces, report.plan.unwrap().pieces);
}

#[tokio::test]
async fn three_servers_that_answer_are_done_before_any_limit() {
    let cluster = Cluster::start().await;
    let began = Instant::now();
    let report = cluster.run(&cluster.request()).await;
    assert_eq!(code(&report), ExitCode::Done);
    let took = began.elapsed();
    assert!(took < Duration::from_secs(5), "{took:?}");
}

#[tokio::test]
async fn a_second_run_finishes_what_the_first_left_behind() {
    let cluster = Cluster::start().await;
    cluster.set_fault(
        "db3",
        "ApplyLogs",
        Fault::Fails(ErrorKind::MysqldDown, "mysqld is gone"),
    );
    let first = cluster.run(&cluster.request()).await;
    assert_eq!(code(&first), ExitCode::DoneNeedsCare, "{}", first.summary);
    lock(&cluster.world).server("db3").faults.clear();
    let second = cluster.run(&cluster.request()).await;
    assert_eq!(code(&second), ExitCode::Done, "{}", second.summary);
    assert_eq!(second.new_primary.as_deref(), Some("db2"));
    assert_eq!(second.replicas, ["db3"]);
    assert_eq!(cluster.called("Promote"), 1);
    assert_eq!(lock(&cluster.world).server("db3").executed, 1308);
    let third = cluster.run(&cluster.request()).await;
    assert_eq!(
        code(&third),
        ExitCode::Done,
        "nothing is left to do: {}",
        third.summary
    );
}
