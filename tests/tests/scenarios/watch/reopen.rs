//! A primary that nobody replaced is opened again by its own agent, and only then: after its lease was lost and is held again,
//! and after a restart of its mysqld with `read_only=1` in its configuration.

use std::time::Duration;

use proto::watch::{Guard, Watched};
use tests::sandbox::accounts::APPLICATION;
use tests::sandbox::client::{Client, Login};
use tests::sandbox::deployment::{Deployment, DeploymentSpec};
use tests::sandbox::wait::{self, Look};
use tests::sandbox::{ClusterSpec, SandboxError, Server, ServerKind};

use super::lease::{assign, is_held, is_lost};
use super::{Operation, Stream, is_read_only};
use crate::support::{self, Outcome, Running};

const INSERT: &str = "INSERT INTO app.t VALUES (NULL)";
const SOON: Duration = Duration::from_secs(60);
/// How long a server that must stay closed is looked at.
const WHILE: Duration = Duration::from_secs(2);

async fn try_to_write(login: &Login) -> Result<(), SandboxError> {
    Client::connect(login).await?.exec(INSERT).await
}

/// A write that an agent without a processor for longer than a lease may delay.
async fn takes_writes(login: &Login) -> Outcome {
    wait::until("a write", SOON, || async {
        Ok(match try_to_write(login).await {
            Ok(()) => Look::Done(()),
            Err(error) => Look::NotYet(format!("{error:?}")),
        })
    })
    .await
}

async fn stays_closed(login: &Login) -> Outcome {
    let until = std::time::Instant::now() + WHILE;
    let mut refused = 0;
    while std::time::Instant::now() < until {
        match try_to_write(login).await {
            Ok(()) => panic!("it took a write"),
            Err(error) if is_read_only(&error) => refused += 1,
            // Not listening yet, or its session was ended.
            Err(_) => {}
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(refused > 0, "no answer at all");
    Ok(())
}

/// Held, open, and known to be so.
fn is_open(state: &Watched) -> bool {
    is_held(state) && state.guard == Guard::None && state.read_only == Some(false)
}

fn is_closed_by_hand(state: &Watched) -> bool {
    is_held(state) && state.guard == Guard::None && state.read_only == Some(true)
}

struct Stage {
    deployment: Deployment,
    cluster: Running,
    login: Login,
}

impl Stage {
    fn primary(&self) -> &Server {
        self.cluster.primary()
    }

    /// Nobody vouches until the lease is lost; then everybody does again.
    async fn lose_the_lease(&self, stream: &mut Stream) -> Outcome {
        for number in [1, 2] {
            self.deployment.agent(number).freeze()?;
        }
        stream.until("lost", is_lost).await;
        Ok(())
    }

    fn others_come_back(&self) -> Outcome {
        for number in [1, 2] {
            self.deployment.agent(number).thaw()?;
        }
        Ok(())
    }
}

async fn opened_again(kind: ServerKind) -> Outcome {
    // As readiness demands it of every server.
    let cluster = support::start(ClusterSpec::new(kind).set("read-only", 1)).await?;
    cluster
        .primary()
        .exec_all(&[
            "CREATE DATABASE IF NOT EXISTS app",
            "CREATE TABLE app.t (id INT AUTO_INCREMENT PRIMARY KEY)",
            "SET GLOBAL read_only=0",
        ])
        .await?;
    let deployment = Deployment::start(&cluster, &DeploymentSpec::default()).await?;
    let login = cluster
        .primary()
        .login(APPLICATION.user, APPLICATION.password);
    assign(&deployment, &cluster, "assign-1", 1).await;
    let stage = Stage {
        deployment,
        cluster,
        login,
    };
    let login = &stage.login;
    let mut stream = Stream::open(&stage.deployment, stage.primary(), 0).await;
    stream.until("held", is_open).await;
    takes_writes(login).await?;

    // Lost, and held again: what its agent closed it opens.
    let mut client = Client::connect(login).await?;
    stage.lose_the_lease(&mut stream).await?;
    stays_closed(login).await?;
    assert!(client.exec(INSERT).await.is_err(), "its session was ended");
    if kind == ServerKind::MySql97 {
        // Nor does who has SUPER write.
        let error = stage.primary().exec(INSERT).await.unwrap_err();
        assert!(is_read_only(&error), "{error:?}");
    }
    stage.others_come_back()?;
    stream.until("open again", is_open).await;
    takes_writes(login).await?;
    stage.primary().exec(INSERT).await?;

    // What an operator has closed stays closed, also when his agent is restarted, and is his to open.
    stage.primary().exec("SET GLOBAL read_only=1").await?;
    stream.until("closed by hand", is_closed_by_hand).await;
    stage.lose_the_lease(&mut stream).await?;
    stage.others_come_back()?;
    stream.until("held and closed", is_closed_by_hand).await;
    stays_closed(login).await?;
    stage.deployment.agent(0).kill()?;
    stage.deployment.agent(0).start().await?;
    let mut stream = Stream::open(&stage.deployment, stage.primary(), 0).await;
    stream
        .until("held and closed", |state| {
            is_closed_by_hand(state) && state.lease.vouching == 3
        })
        .await;
    stays_closed(login).await?;
    stage.primary().exec("SET GLOBAL read_only=0").await?;
    stream.until("opened by hand", is_open).await;

    // Restarted with read_only=1: it is the primary still.
    stage.primary().kill()?;
    stage.primary().launch(&[])?;
    takes_writes(login).await?;
    stream.until("open after a restart", is_open).await;
    // Also while its agent was not there to see it.
    stage.deployment.agent(0).kill()?;
    stage.primary().kill()?;
    stage.primary().start().await?;
    stays_closed(login).await?;
    stage.deployment.agent(0).start().await?;
    takes_writes(login).await?;

    // The others were claimed: whoever starts it, it stays closed.
    stage.primary().kill()?;
    for number in [1, 2] {
        let operation = Operation {
            deployment: &stage.deployment,
            server: stage.cluster.server(number),
            number,
            id: "failover-2",
            epoch: 2,
        };
        operation.claim().await;
    }
    stage.primary().launch(&[])?;
    let mut stream = Stream::open(&stage.deployment, stage.primary(), 0).await;
    stream.until("lost", is_lost).await;
    stays_closed(login).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_primary_is_opened_again_on_mysql_5_6() -> Outcome {
    opened_again(ServerKind::MySql56).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_primary_is_opened_again_on_mariadb_10_11() -> Outcome {
    opened_again(ServerKind::MariaDb1011).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_primary_is_opened_again_on_mysql_9_7() -> Outcome {
    opened_again(ServerKind::MySql97).await
}
