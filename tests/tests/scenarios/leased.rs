//! The lease of a primary beside a watching manager: who holds it up, and what its end is worth.

use std::time::{Duration, Instant};

use tests::sandbox::accounts::APPLICATION;
use tests::sandbox::client::{Client, Login};
use tests::sandbox::daemon::Daemon;
use tests::sandbox::deployment::{DeploymentSpec, server_name};
use tests::sandbox::first_write::Watch;
use tests::sandbox::slot::Slot;
use tests::sandbox::wait::{self, Look};
use tests::sandbox::{Cluster, ClusterSpec, SandboxError, ServerKind};
use tests::watched::Watched;

use crate::support::Outcome;

const INSERT: &str = "INSERT INTO app.leased VALUES (NULL)";
const SOON: Duration = Duration::from_secs(120);
/// Several times as long as a lease lasts.
const LONG: Duration = Duration::from_secs(5);
/// What the issue allows a lost host, with room for a machine that does much else.
const REPLACED: Duration = Duration::from_secs(12);

/// Servers with `read_only=1` in their configurations, watched, with a lease.
async fn leased(kind: ServerKind) -> Result<(Watched, Login, Slot), SandboxError> {
    let slot = Slot::take().await?;
    let cluster = Cluster::start(ClusterSpec::new(kind).set("read-only", 1)).await?;
    cluster
        .primary()
        .exec_all(&[
            "SET GLOBAL read_only=0",
            "CREATE DATABASE IF NOT EXISTS app",
            "CREATE TABLE app.leased (id INT AUTO_INCREMENT PRIMARY KEY)",
        ])
        .await?;
    let watched = Watched::start(cluster, DeploymentSpec::default()).await?;
    logged(&watched.daemon, "it holds a lease").await?;
    let login = watched
        .cluster
        .primary()
        .login(APPLICATION.user, APPLICATION.password);
    Ok((watched, login, slot))
}

async fn logged(daemon: &Daemon, words: &str) -> Outcome {
    wait::until(words, SOON, || async {
        Ok(if daemon.log_text().contains(words) {
            Look::Done(())
        } else {
            Look::NotYet(daemon.log_text())
        })
    })
    .await
}

async fn try_to_write(login: &Login) -> Result<(), SandboxError> {
    Client::connect(login).await?.exec(INSERT).await
}

async fn takes_writes(login: &Login) -> Outcome {
    wait::until("a write", SOON, || async {
        Ok(match try_to_write(login).await {
            Ok(()) => Look::Done(()),
            Err(error) => Look::NotYet(format!("{error:?}")),
        })
    })
    .await
}

async fn a_frozen_host_is_fenced_by_its_lease(kind: ServerKind) -> Outcome {
    let (watched, login, _slot) = leased(kind).await?;
    takes_writes(&login).await?;
    watched.cluster.wait_caught_up().await?;
    let watch = Watch::start(&watched.survivors()).await?;
    let (agent, old) = (watched.deployment.agent(0), watched.cluster.primary());
    let lost = Instant::now();
    agent.freeze()?;
    old.freeze()?;
    let first = watch.wait(SOON).await?;
    let replaced = first.at.duration_since(lost);
    logged(&watched.daemon, "fenced by its lease").await?;
    assert!(!watched.daemon.log_text().contains("UNFENCED"));
    assert!(replaced < REPLACED, "{replaced:?}");

    // It goes on, and its clients with it.
    let thawed = Instant::now();
    old.thaw()?;
    agent.thaw()?;
    let mut taken = Vec::new();
    let mut refused = None;
    while thawed.elapsed() < LONG {
        match try_to_write(&login).await {
            Ok(()) => taken.push(thawed.elapsed()),
            Err(error) => {
                if format!("{error:?}").contains("read-only") {
                    refused.get_or_insert(thawed.elapsed());
                }
            }
        }
    }
    eprintln!(
        "{kind:?}: host frozen to first write {replaced:?}; thaw to the first refused write {refused:?}, {} taken before",
        taken.len()
    );
    let refused = refused.expect("a refused write");
    assert!(taken.iter().all(|at| *at <= refused), "{taken:?}");
    // Whoever restarts it: it was succeeded, as its agent knows by now.
    let new = if first.server == watched.cluster.server(1).name() {
        1
    } else {
        2
    };
    let new = server_name(watched.cluster.server(new));
    logged(&watched.daemon, &format!("{new} is the primary of epoch")).await?;
    old.kill()?;
    old.start().await?;
    let until = Instant::now() + LONG;
    while Instant::now() < until {
        assert!(try_to_write(&login).await.is_err());
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_host_is_fenced_by_its_lease_mysql_5_6() -> Outcome {
    a_frozen_host_is_fenced_by_its_lease(ServerKind::MySql56).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_host_is_fenced_by_its_lease_mariadb_10_11() -> Outcome {
    a_frozen_host_is_fenced_by_its_lease(ServerKind::MariaDb1011).await
}
