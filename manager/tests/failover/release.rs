//! The command that ends a hold: what it does, and what it leaves when it is killed.

use manager::exit_code::ExitCode;
use manager::failover::{self, Surroundings};
use manager::journal::NoHook;
use manager::release::{ReleaseError, release_hold};
use std::sync::Arc;

use super::cluster::{Cluster, code};
use super::world::{Fault, lock};

fn quiet() -> Surroundings<'static> {
    Surroundings {
        narrator: Arc::new(|_: &str| {}),
        operator: None,
        hook: Arc::new(NoHook),
    }
}

#[tokio::test]
async fn a_hold_is_ended_on_request_and_only_then() {
    let cluster = Cluster::start().await;
    cluster.run(&cluster.request()).await;
    assert!(!lock(&cluster.world).server("db1").held_down_by.is_empty());
    let dead = cluster.config.find("db1").unwrap();
    assert!(release_hold(&cluster.config, dead).await.unwrap());
    assert!(lock(&cluster.world).server("db1").held_down_by.is_empty());
    assert!(!release_hold(&cluster.config, dead).await.unwrap());
    assert_eq!(lock(&cluster.world).server("db1").holder, None);
}

/// A command that is killed when its call has reached the agent of db1.
pub(crate) async fn killed_release(cluster: &Cluster) {
    cluster.set_fault("db1", "ReleaseHold", Fault::Silent);
    let dead = cluster.config.find("db1").unwrap().clone();
    let before = cluster.called("ReleaseHold");
    tokio::select! {
        done = release_hold(&cluster.config, &dead) => panic!("{done:?}"),
        () = async {
            cluster.until_called("ReleaseHold", before + 1).await;
        } => {}
    }
    cluster.until_unlocked().await;
    let holder = lock(&cluster.world).server("db1").holder.clone();
    assert!(
        holder
            .as_ref()
            .is_some_and(|(operation, _)| operation.starts_with("release-")),
        "{holder:?}"
    );
    lock(&cluster.world).server("db1").faults.clear();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_claim_of_a_killed_release_is_taken_over_by_the_next_command() {
    // By the same command.
    let cluster = Cluster::patient().await;
    cluster.run(&cluster.request()).await;
    killed_release(&cluster).await;
    let dead = cluster.config.find("db1").unwrap().clone();
    assert!(release_hold(&cluster.config, &dead).await.unwrap());
    assert_eq!(lock(&cluster.world).server("db1").held_down_by, "");
    assert_eq!(lock(&cluster.world).server("db1").holder, None);

    // By a failover.
    let cluster = Cluster::patient().await;
    killed_release(&cluster).await;
    let report = cluster.run(&cluster.request()).await;
    assert_eq!(code(&report), ExitCode::Done, "{}", report.summary);
    assert_eq!(lock(&cluster.world).server("db1").holder, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_release_that_runs_is_not_taken_over() {
    let cluster = Cluster::patient().await;
    cluster.run(&cluster.request()).await;
    cluster.set_fault("db1", "ReleaseHold", Fault::Silent);
    let dead = cluster.config.find("db1").unwrap().clone();
    let running = {
        let (config, dead) = (cluster.config.clone(), dead.clone());
        tokio::spawn(async move { release_hold(&config, &dead).await })
    };
    cluster.until_called("ReleaseHold", 1).await;
    lock(&cluster.world).server("db1").faults.clear();
    let error = release_hold(&cluster.config, &dead).await.unwrap_err();
    assert_eq!(error.exit_code(), ExitCode::Held, "{error:?}");
    assert!(matches!(error, ReleaseError::NotBegun { .. }));
    // Not by a failover either.
    let report = failover::run(cluster.config.clone(), &cluster.request(), quiet()).await;
    assert_eq!(code(&report), ExitCode::Held, "{}", report.summary);
    running.abort();
}
