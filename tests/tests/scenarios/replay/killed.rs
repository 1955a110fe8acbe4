//! Agent, or mysqld, of a survivor is killed in the middle of its replay; a second run finishes.

use std::time::Duration;

use tests::sandbox::wait::{self, Look};
use tests::sandbox::{SandboxError, ServerKind, replica};
use tests::scenario::before::Before;
use tests::scenario::{Act, Expected, Failure, Form, Lag, Plan, Scene, expect, ledger};

/// What is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Victim {
    Agent,
    Mysqld,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_agent_is_killed_during_the_replay_on_mysql_5_6() -> Result<(), Failure> {
    killed(Form::new(ServerKind::MySql56, 2), Victim::Agent, VICTIM).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_agent_of_another_survivor_is_killed_on_mysql_5_6() -> Result<(), Failure> {
    killed(Form::new(ServerKind::MySql56, 2), Victim::Agent, OTHER).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mysqld_of_another_survivor_is_killed_on_mariadb_10_11() -> Result<(), Failure> {
    killed(Form::new(ServerKind::MariaDb1011, 2), Victim::Mysqld, OTHER).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_agent_is_killed_during_the_replay_on_mariadb_10_11() -> Result<(), Failure> {
    killed(Form::new(ServerKind::MariaDb1011, 2), Victim::Agent, VICTIM).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mysqld_is_killed_during_the_replay_on_mysql_5_6() -> Result<(), Failure> {
    killed(Form::new(ServerKind::MySql56, 2), Victim::Mysqld, VICTIM).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mysqld_is_killed_during_the_replay_on_mariadb_10_11() -> Result<(), Failure> {
    killed(
        Form::new(ServerKind::MariaDb1011, 2),
        Victim::Mysqld,
        VICTIM,
    )
    .await
}

const VICTIM: usize = 1;
const OTHER: usize = 2;
/// Rows of the client that the victim has when it is killed: those before the lag and those before the lock.
const APPLIED: usize = 8;

/// `winner` is the server that the first run is told to promote.
async fn killed(form: Form, victim: Victim, winner: usize) -> Result<(), Failure> {
    // As operators have it: a server that is started again must not take writes by itself.
    let spec = form.cluster().set_on(VICTIM, "read-only", 1);
    let mut scene = Scene::open(spec).await?;
    let plan = Plan {
        batches: vec![
            vec![
                Act::Sql("CREATE TABLE gate (id INT PRIMARY KEY) ENGINE=InnoDB"),
                Act::Rows(3),
            ],
            vec![
                Act::Rows(5),
                Act::Sql("INSERT INTO gate VALUES (1)"),
                Act::Together(10),
                Act::Rows(5),
            ],
        ],
        lags: vec![Lag::behind(1); 2],
    };
    scene.play(&plan).await?;
    let before = Before::read(&scene.cluster).await?;
    let server = scene.cluster.server(VICTIM);

    // The replay comes to the gate and stays there until it is killed.
    let mut gate = server.admin().await?;
    gate.exec("LOCK TABLES app.gate READ").await?;
    scene.cluster.crash(0)?;
    let wanted = scene.cluster.server(winner).host_port();
    let arguments = ["--new-primary", wanted.as_str()];
    let (first, struck) = tokio::join!(scene.fail_over(&arguments), strike(&scene, victim));
    struck?;
    let first = first?;
    // A survivor that is left behind needs care; a winner that is, and is forced, ends the run.
    let codes = if winner == VICTIM {
        [Some(1), Some(11)]
    } else {
        [Some(10), Some(10)]
    };
    expect(
        codes.contains(&first.finished.code),
        "exit code of the first run",
        format!("one of {codes:?}"),
        first.tell(),
    )?;
    // Its server may be gone already, and the lock with it.
    drop(gate);
    match victim {
        Victim::Agent => scene.mha()?.agent(VICTIM).start().await?,
        Victim::Mysqld => server.start().await?,
    }

    let second = scene.fail_over(&[]).await?;
    scene.check(&before, &second, &Expected::all()).await?;
    Ok(())
}

/// Kills the victim when its replay has come to the gate.
async fn strike(scene: &Scene, victim: Victim) -> Result<(), Failure> {
    let server = scene.cluster.server(VICTIM);
    wait::until(
        "the replay to come to the gate",
        Duration::from_secs(60),
        || async {
            let status = replica::must_status(server).await?;
            let rows = ledger::rows(server).await?.len();
            if rows == APPLIED && status.text("Master_Host")? == "127.0.0.1" {
                return Ok(Look::Done(()));
            }
            Ok::<_, SandboxError>(Look::NotYet(format!(
                "{rows} rows from {}",
                status.source()?
            )))
        },
    )
    .await?;
    match victim {
        Victim::Agent => scene.mha()?.agent(VICTIM).kill()?,
        Victim::Mysqld => server.kill()?,
    }
    Ok(())
}
