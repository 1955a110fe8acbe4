//! The manager of record: agents serve one manager, and another one only after an operator has said that the first runs no more.

use std::process::Command;
use std::time::Duration;

use tests::sandbox::daemon::Daemon;
use tests::sandbox::deployment::{CLUSTER, Deployment, DeploymentSpec, ManagerFiles, server_name};
use tests::sandbox::slot::Slot;
use tests::sandbox::tool;
use tests::sandbox::wait::{self, Look};
use tests::sandbox::{Cluster, ClusterSpec, SandboxError, Server, ServerKind};
use tests::watched::Watched;

use crate::support::Outcome;

/// Says a take-over of whose the cluster was.
const BEFORE: &str = "the cluster was of manager";
/// Limit of what must come, on a machine that does much else.
const SOON: Duration = Duration::from_secs(60);

fn command(deployment: &Deployment, files: &ManagerFiles, arguments: &[&str]) -> Command {
    let mut command = Command::new(&deployment.binaries().manager);
    command.args(arguments).arg("--config").arg(&files.config);
    command
}

/// Ends with `code` and says all of `words`, on either stream.
async fn must_end(command: Command, code: i32, words: &[&str]) -> Outcome {
    let finished = tokio::task::spawn_blocking(move || tool::finish(command, None, SOON))
        .await
        .map_err(|error| SandboxError::Io {
            action: "run",
            path: "a blocking task".into(),
            source: std::io::Error::other(error),
        })??;
    let said = format!("{}{}", finished.stdout, finished.stderr);
    assert_eq!(finished.code, Some(code), "{said}");
    for wanted in words {
        assert!(said.contains(wanted), "{wanted:?} in\n{said}");
    }
    Ok(())
}

async fn accepts_writes(server: &Server) -> Outcome {
    wait::until("the new primary to take writes", SOON, || async {
        let value = server.value("SELECT @@read_only").await?;
        Ok(if value == "0" {
            Look::Done(())
        } else {
            Look::NotYet(value)
        })
    })
    .await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_manager_that_died_is_replaced_only_by_an_operators_word() -> Outcome {
    let _slot = Slot::take().await?;
    let cluster = Cluster::start(ClusterSpec::new(ServerKind::MySql56)).await?;
    let watched = Watched::start(cluster, DeploymentSpec::default()).await?;
    watched.leased().await?;
    let second = watched.deployment.another_manager("second").await?;
    let Watched {
        daemon,
        deployment,
        cluster,
    } = watched;
    // Its host is lost, and the primary's with it. What survives is two agents of three.
    daemon.kill()?;
    let primary = cluster.primary();
    deployment.agent(0).freeze()?;
    primary.freeze()?;
    let dead = primary.host_port();
    let failover = |more: &[&str]| {
        let mut arguments = vec![
            "failover",
            "--yes",
            "--primary-is-off",
            "--dead-primary",
            &dead,
        ];
        arguments.extend(more);
        command(&deployment, &second, &arguments)
    };
    must_end(failover(&[]), 13, &["the cluster is of manager"]).await?;
    let taking = command(&deployment, &second, &["take-over"]);
    must_end(taking, 0, &[BEFORE, "it is of manager second now"]).await?;
    // It is of record now; but nobody who does not say so knows that the first is silent.
    let unstated = command(
        &deployment,
        &second,
        &["failover", "--yes", "--dead-primary", &dead],
    );
    must_end(unstated, 1, &["may hold its lease up", "--take-over"]).await?;
    let stated = command(
        &deployment,
        &second,
        &["failover", "--yes", "--take-over", "--dead-primary", &dead],
    );
    must_end(stated, 0, &["was stated with --take-over"]).await?;
    let mut open = 0;
    for number in [1, 2] {
        let server = cluster.server(number);
        if server.value("SELECT @@read_only").await? == "0" {
            accepts_writes(server).await?;
            open += 1;
        }
    }
    assert_eq!(open, 1, "one new primary");
    Ok(())
}

/// The primary lives: it is named anew, and the first manager does nothing any more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_living_cluster_is_taken_over() -> Outcome {
    let (watched, _slot) = {
        let slot = Slot::take().await?;
        let cluster = Cluster::start(ClusterSpec::new(ServerKind::MariaDb1011)).await?;
        (
            Watched::start(cluster, DeploymentSpec::default()).await?,
            slot,
        )
    };
    watched.leased().await?;
    let second = watched.deployment.another_manager("second").await?;
    let name = server_name(watched.cluster.primary());
    let taking = command(&watched.deployment, &second, &["take-over"]);
    let named = format!("{name} is the primary of epoch");
    must_end(taking, 0, &[BEFORE, &named, "of manager second now"]).await?;
    let daemon = Daemon::launch_as(&watched.deployment, &second, &[])?;
    daemon.until_watching().await?;
    watched.cluster.crash(0)?;
    daemon
        .until("a new primary", |status| {
            status["primary"].as_str().is_some_and(|now| now != name)
        })
        .await?;
    // The first one saw the same, and left it alone.
    watched
        .daemon
        .until("a new primary", |status| {
            status["primary"].as_str().is_some_and(|now| now != name)
        })
        .await?;
    let journals = watched.deployment.manager_state().join("journal");
    let operations = std::fs::read_dir(journals.join(CLUSTER))
        .map(|entries| entries.filter_map(Result::ok).count())
        .unwrap_or(0);
    assert_eq!(operations, 0, "{}", watched.daemon.log_text());
    let open = [1, 2].map(|number| watched.cluster.server(number).value("SELECT @@read_only"));
    let open = futures::future::try_join_all(open).await?;
    assert_eq!(
        open.iter().filter(|value| *value == "0").count(),
        1,
        "{open:?}"
    );
    assert_eq!(daemon.terminate().await?, Some(0));
    Ok(())
}
