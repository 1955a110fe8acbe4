//! A primary that waited for replicas: the next one waits, too, which is a part of the plan, of the journal and of the report.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use manager::exit_code::ExitCode;
use manager::failover::Request;
use manager::journal::{Hook, Record, StepOutcome};
use manager::plan::Act;
use manager::report;

use super::cluster::{Cluster, code};
use super::world::lock;

/// db1 waited for these replicas; db2 has a source's side that is off, or none.
async fn waiting(cluster: &Cluster, acknowledged: &[&str], source: Option<bool>) {
    let mut world = lock(&cluster.world);
    for server in acknowledged {
        world.server(server).semi_sync_received = true;
    }
    world.server("db2").semi_sync_source = source;
}

fn source_of(cluster: &Cluster, server: &str) -> Option<bool> {
    lock(&cluster.world).server(server).semi_sync_source
}

fn opens(cluster: &Cluster) -> Vec<bool> {
    let records = cluster.journals().into_iter().flat_map(|path| {
        let read = manager::journal::read(&path).unwrap();
        read.records
    });
    records
        .filter_map(|record| match record {
            Record::Started { step, .. } => match step.act {
                Act::MakeWritable {
                    wait_for_replicas, ..
                } => Some(wait_for_replicas),
                _ => None,
            },
            _ => None,
        })
        .collect()
}

#[tokio::test]
async fn a_dry_run_says_it_and_the_failover_does_it() {
    let cluster = Cluster::start().await;
    // Only the other one acknowledged: the promise was the cluster's.
    waiting(&cluster, &["db3"], Some(false)).await;
    let planned = cluster
        .run(&Request {
            dry_run: true,
            ..cluster.request()
        })
        .await;
    let text = report::render(&planned);
    for words in [
        "commits of db1 waited for db3; those of db2 are to wait from the first one on for one of db3",
        "open db2 for writes, its commits waiting for replicas",
    ] {
        assert!(text.contains(words), "{words}\n{text}");
    }
    assert_eq!(source_of(&cluster, "db2"), Some(false));

    let report = cluster.run(&cluster.request()).await;
    assert_eq!(code(&report), ExitCode::Done, "{}", report.summary);
    assert_eq!(source_of(&cluster, "db2"), Some(true));
    let text = report::render(&report);
    for words in [
        "Semi-synchronous replication: commits of db1 waited for db3",
        "its commits wait for replicas by rpl_semi_sync_master_enabled",
    ] {
        assert!(text.contains(words), "{words}\n{text}");
    }
    assert_eq!(opens(&cluster), [true]);
}

#[tokio::test]
async fn nobody_is_asked_to_wait_where_nobody_did() {
    let cluster = Cluster::start().await;
    waiting(&cluster, &[], Some(false)).await;
    let report = cluster.run(&cluster.request()).await;
    assert_eq!(code(&report), ExitCode::Done, "{}", report.summary);
    assert_eq!(source_of(&cluster, "db2"), Some(false));
    assert_eq!(opens(&cluster), [false]);
    assert!(!report::render(&report).contains("emi-sync"));
}

#[tokio::test]
async fn a_promise_that_cannot_be_kept_is_no_reason_to_stop_and_needs_care() {
    let cluster = Cluster::start().await;
    waiting(&cluster, &["db2", "db3"], None).await;
    let report = cluster.run(&cluster.request()).await;
    assert_eq!(code(&report), ExitCode::DoneNeedsCare, "{}", report.summary);
    assert_eq!(report.new_primary.as_deref(), Some("db2"));
    let care = report.care.iter().find(|care| care.server == "db2");
    assert!(
        care.is_some_and(|care| care.why.contains("those of db2 cannot wait")),
        "{:?}",
        report.care
    );
}

/// The manager dies when it has heard that the new primary is no replica any more.
#[derive(Default)]
struct BehindPromotion(AtomicBool);

impl Hook for BehindPromotion {
    fn before(&self, _: &Record) -> bool {
        !self.0.load(Ordering::SeqCst)
    }

    fn after(&self, record: &Record) -> bool {
        if matches!(record, Record::Done { outcome, .. } if matches!(**outcome, StepOutcome::Promoted(_)))
        {
            self.0.store(true, Ordering::SeqCst);
        }
        !self.0.load(Ordering::SeqCst)
    }
}

#[tokio::test]
async fn a_second_run_keeps_the_promise_that_the_promoted_server_cannot_tell_of_any_more() {
    let cluster = Cluster::patient().await;
    waiting(&cluster, &["db2"], Some(false)).await;
    let hook = Arc::new(BehindPromotion::default());
    cluster.run_with(&cluster.request(), hook, None).await;
    assert_eq!(cluster.called("Promote db2"), 1);
    assert_eq!(cluster.called("MakeWritable"), 0);
    let report = cluster.run(&cluster.request()).await;
    assert_eq!(code(&report), ExitCode::Done, "{}", report.summary);
    assert_eq!(source_of(&cluster, "db2"), Some(true));
    let plan = report.plan.unwrap();
    assert_eq!(plan.semi_sync.unwrap().waited_for, ["db2"]);
}
