//! A daemon beside others: a command or another manager that replaces its primary, and what killed commands leave.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use manager::daemon::State;
use manager::exit_code::ExitCode;
use manager::journal::{self, Hook, Record};
use manager::plan::Act;
use proto::v1;

use super::cluster::{Cluster, code};
use super::daemon::Watched;
use super::release::killed_release;
use super::world::lock;

/// Its monitor decides nothing within the time of a test: another part must see what happens.
const DULL: &str = "monitor: { ping_interval: 60s, agent_heartbeat: 60s, host_limit: 300s, hang_limit: 300s, readiness_interval: 1s }\n";

async fn dull() -> Watched {
    let watched = Watched::with(Cluster::with(DULL, &["candidate: preferred", ""]).await).await;
    watched
        .until("state 0", |s| {
            s.state == State::PingOk && s.servers.iter().all(|heard| heard.agent)
        })
        .await;
    // From here on it claims nothing for that any more.
    watched.named("db1", 0).await;
    watched
}

impl Watched {
    /// The primary dies, and its agent's stream does not say so.
    fn lose_the_primary_unseen(&mut self) {
        lock(&self.cluster.world).server("db1").silent = true;
        self.kill();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_primary_that_a_command_replaced_is_left_for_the_new_one() {
    let mut watched = dull().await;
    watched.lose_the_primary_unseen();
    let report = watched.cluster.run(&watched.cluster.request()).await;
    assert_eq!(code(&report), ExitCode::Done, "{}", report.summary);
    let seen = watched
        .until("the new primary", |s| s.primary.as_deref() == Some("db2"))
        .await;
    assert!(seen.sentence.contains("instead of db1"), "{seen:?}");
    assert_eq!(seen.deposed, ["db1".to_owned()].into());
    assert_eq!(watched.cluster.journals().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_primary_that_another_manager_moved_is_left_for_the_new_one() {
    let watched = dull().await;
    // All are alive; no journal of it is here.
    {
        let mut world = lock(&watched.cluster.world);
        world.server("db2").replica = false;
        world.server("db2").read_only = false;
        let third = world.server("db3");
        (third.source_host, third.source_port) = ("db2".to_owned(), 3306);
        for server in world.servers.values_mut() {
            server.epoch = 1000;
            server.assignment = Some(v1::Assignment {
                primary: "db2".into(),
                epoch: 1000,
                operation: "failover-elsewhere".into(),
                manager: "m2".into(),
                ..Default::default()
            });
        }
    }
    let seen = watched
        .until("the new primary", |s| s.primary.as_deref() == Some("db2"))
        .await;
    assert!(
        seen.sentence.contains("failover-elsewhere of m2"),
        "{seen:?}"
    );
    assert!(watched.cluster.journals().is_empty());
}

/// The manager dies when it has written that the last replica follows the new primary.
#[derive(Default)]
struct AfterRepoint(AtomicBool);

impl Hook for AfterRepoint {
    fn before(&self, _: &Record) -> bool {
        !self.0.load(Ordering::SeqCst)
    }

    fn after(&self, record: &Record) -> bool {
        if matches!(record, Record::Started { step, .. } if matches!(step.act, Act::ReleaseEpoch { .. }))
        {
            self.0.store(true, Ordering::SeqCst);
        }
        !self.0.load(Ordering::SeqCst)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_killed_command_left_is_finished() {
    let mut watched = dull().await;
    watched.lose_the_primary_unseen();
    let hook = Arc::new(AfterRepoint::default());
    watched
        .cluster
        .run_with(&watched.cluster.request(), hook.clone(), None)
        .await;
    assert!(hook.0.load(Ordering::SeqCst));
    // Whether it answers a ping is of no interest: nobody has a name like that.
    watched
        .until("the new primary", |s| s.primary.as_deref() == Some("db2"))
        .await;
    let began = Instant::now();
    while !ended(&watched) {
        assert!(began.elapsed() < Duration::from_secs(60), "not finished");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    for server in lock(&watched.cluster.world).servers.values() {
        assert_eq!(server.holder, None, "{}", server.name);
        assert_eq!(server.read_only, server.name == "db3", "{}", server.name);
    }
}

/// The killed run was taken up by another one, which is over, and nobody holds the cluster.
fn ended(watched: &Watched) -> bool {
    let journals = watched.cluster.journals();
    journals.len() == 2
        && journals.iter().all(|path| {
            let last = journal::read(path).unwrap().records.pop();
            matches!(last, Some(Record::End { .. } | Record::TakenUp { .. }))
        })
        && lock(&watched.cluster.world)
            .servers
            .values()
            .all(|server| server.holder.is_none())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_claim_of_a_killed_release_is_given_back_by_the_daemon() {
    let watched = dull().await;
    killed_release(&watched.cluster).await;
    let began = Instant::now();
    while lock(&watched.cluster.world).server("db1").holder.is_some() {
        assert!(began.elapsed() < Duration::from_secs(60), "still held");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
