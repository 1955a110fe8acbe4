//! What the manager must not do, and that a refusal leaves everything as it was: replication status, settings, logs and
//! the agents' state are compared before and after.

use std::time::{Duration, Instant};

use tests::sandbox::accounts::APPLICATION;
use tests::sandbox::deployment::{CLUSTER, Deployment, DeploymentSpec, ManagerRun};
use tests::sandbox::load::{self, Load, LoadSpec};
use tests::sandbox::replica;
use tests::sandbox::snapshot::{Snapshot, Traffic};
use tests::sandbox::wait::{self, Look};
use tests::sandbox::{ClusterSpec, SandboxError, ServerKind};

use crate::support::{self, Outcome, Running};

/// Limit of what must come, on a machine that does much else.
const SOON: Duration = Duration::from_secs(60);
const USAGE: i32 = 2;
const REFUSED: i32 = 12;
const HELD: i32 = 13;

async fn cluster_with(
    spec: &DeploymentSpec,
    kind: ServerKind,
) -> Result<(Running, Deployment), SandboxError> {
    let cluster = support::start(ClusterSpec::new(kind)).await?;
    load::prepare(cluster.primary()).await?;
    cluster.wait_caught_up().await?;
    let deployment = Deployment::start(&cluster, spec).await?;
    Ok((cluster, deployment))
}

/// Waits until nothing has changed by itself for so long; returns what is there.
async fn quiet(
    cluster: &Running,
    deployment: &Deployment,
    span: Duration,
) -> Result<Snapshot, SandboxError> {
    let mut last = Snapshot::take(cluster, deployment, Traffic::None).await?;
    let (began, mut since) = (Instant::now(), Instant::now());
    while since.elapsed() < span {
        tokio::time::sleep(Duration::from_millis(200)).await;
        let now = Snapshot::take(cluster, deployment, Traffic::None).await?;
        let changes = last.changes(&now);
        if !changes.is_empty() {
            assert!(began.elapsed() < SOON, "{changes:?}");
            (last, since) = (now, Instant::now());
        }
    }
    Ok(last)
}

/// The primary dies, and its replicas have noticed.
async fn die(cluster: &Running) -> Outcome {
    cluster.crash(0)?;
    for replica in cluster.replicas() {
        replica::wait_until(replica, "notice that its source is gone", |status| {
            Ok(status.io_running()? == "Connecting")
        })
        .await?;
    }
    Ok(())
}

/// Runs the command and compares everything before and after.
async fn changes_nothing(
    cluster: &Running,
    deployment: &Deployment,
    traffic: Traffic,
    arguments: (usize, &[&str]),
) -> Result<ManagerRun, SandboxError> {
    let (dead, arguments) = arguments;
    let before = match traffic {
        Traffic::None => quiet(cluster, deployment, Duration::from_secs(1)).await?,
        Traffic::Writing => Snapshot::take(cluster, deployment, traffic).await?,
    };
    let run = deployment
        .run(deployment.failover_command(cluster.server(dead), arguments))
        .await?;
    let after = Snapshot::take(cluster, deployment, traffic).await?;
    assert_eq!(
        before.changes(&after),
        Vec::<String>::new(),
        "changes by a refusal that printed\n{}",
        run.text()
    );
    Ok(run)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_primary_that_lives_and_writes() -> Outcome {
    let (cluster, deployment) =
        cluster_with(&DeploymentSpec::default(), ServerKind::MySql56).await?;
    let login = cluster
        .primary()
        .login(APPLICATION.user, APPLICATION.password);
    let load = Load::start(&login, &LoadSpec::default());
    let run = changes_nothing(&cluster, &deployment, Traffic::Writing, (0, &["--yes"])).await?;
    run.must_end_with(REFUSED);
    // It went on writing all the time, and its replicas kept following.
    let written = load.finish().await;
    assert!(written.in_doubt.is_empty() && !written.acknowledged.is_empty());
    cluster.wait_caught_up().await?;
    for server in cluster.servers() {
        assert_eq!(
            load::rows(server).await?,
            written.acknowledged,
            "{}",
            server.name()
        );
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_not_the_primary() -> Outcome {
    let (cluster, deployment) =
        cluster_with(&DeploymentSpec::default(), ServerKind::MySql56).await?;
    // A living replica, then a dead one beside the living primary.
    let run = changes_nothing(&cluster, &deployment, Traffic::None, (1, &["--yes"])).await?;
    run.must_end_with(REFUSED);
    cluster.crash(1)?;
    let run = changes_nothing(&cluster, &deployment, Traffic::None, (1, &["--yes"])).await?;
    run.must_end_with(REFUSED);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_primary_and_nobody_to_elect() -> Outcome {
    let nobody = DeploymentSpec::default()
        .candidate(1, "never")
        .candidate(2, "never");
    let (cluster, deployment) = cluster_with(&nobody, ServerKind::MariaDb1011).await?;
    die(&cluster).await?;
    let run = changes_nothing(&cluster, &deployment, Traffic::None, (0, &["--yes"])).await?;
    run.must_end_with(REFUSED);
    // The one word that the operator configured is in the reason.
    assert!(run.mentions("never"), "{}", run.text());
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_forced_candidate_that_is_unfit() -> Outcome {
    let spec = DeploymentSpec::default().candidate(1, "never");
    let (cluster, deployment) = cluster_with(&spec, ServerKind::MySql56).await?;
    // db3's applier stops with an error: the row is there already.
    let row = format!("INSERT INTO {} VALUES (1, 'in the way')", load::TABLE);
    cluster
        .server(2)
        .exec_all(&["SET sql_log_bin=0", &row])
        .await?;
    cluster
        .primary()
        .exec(&format!("INSERT INTO {} VALUES (1, 'first')", load::TABLE))
        .await?;
    replica::wait_until(cluster.server(2), "an error of the applier", |status| {
        Ok(status.sql_error()?.0 == 1062)
    })
    .await?;
    replica::wait_executed(
        cluster.server(1),
        &replica::binlog_end(cluster.primary()).await?,
    )
    .await?;
    die(&cluster).await?;
    for number in [1, 2] {
        let forced = cluster.server(number).host_port();
        let arguments = ["--yes", "--new-primary", &forced];
        let run = changes_nothing(&cluster, &deployment, Traffic::None, (0, &arguments)).await?;
        run.must_end_with(REFUSED);
    }
    // One that does not exist at all.
    let arguments = ["--yes", "--new-primary", "127.0.0.1:1"];
    let run = changes_nothing(&cluster, &deployment, Traffic::None, (0, &arguments)).await?;
    assert!(
        matches!(run.finished.code, Some(USAGE | REFUSED)),
        "{}",
        run.text()
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dry_run_and_a_run_that_nobody_confirms() -> Outcome {
    let (cluster, deployment) =
        cluster_with(&DeploymentSpec::default(), ServerKind::MySql56).await?;
    die(&cluster).await?;
    let run = changes_nothing(
        &cluster,
        &deployment,
        Traffic::None,
        (0, &["--dry-run", "--yes"]),
    )
    .await?;
    run.must_end_with(0);
    // No terminal and no --yes: there is nobody to answer.
    let run = changes_nothing(&cluster, &deployment, Traffic::None, (0, &[])).await?;
    assert!(
        matches!(run.finished.code, Some(USAGE | REFUSED)),
        "{:?}\n{}",
        run.finished.code,
        run.text()
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_failover_while_one_runs() -> Outcome {
    // Calls that are under way when the first one is frozen are answered in time when it is thawed.
    let spec = DeploymentSpec::default().failover("call_timeout", "120s");
    let (cluster, deployment) = cluster_with(&spec, ServerKind::MySql56).await?;
    die(&cluster).await?;
    let first = deployment.start_failover(cluster.primary(), "first.log")?;
    // The first one is frozen as soon as every survivor knows that it holds the cluster.
    for number in [1, 2] {
        let path = deployment
            .agent(number)
            .state_dir()
            .join("epochs")
            .join(format!("{CLUSTER}.json"));
        wait::until("the claim of the first failover", SOON, || async {
            match std::fs::read_to_string(&path) {
                Ok(text) => Ok(Look::Done(text)),
                Err(error) => Ok(Look::NotYet(error.to_string())),
            }
        })
        .await?;
    }
    first.freeze()?;
    // Calls that were on their way are still carried out by the agents.
    quiet(&cluster, &deployment, Duration::from_secs(5)).await?;
    let run = changes_nothing(&cluster, &deployment, Traffic::None, (0, &["--yes"])).await?;
    run.must_end_with(HELD);
    first.thaw()?;
    let status = first.wait(2 * SOON).await?;
    assert_eq!(
        status.code(),
        Some(0),
        "{}",
        first.not_ready("log of the first failover".to_owned())
    );
    support::tables_equal(&[cluster.server(1), cluster.server(2)]).await
}
