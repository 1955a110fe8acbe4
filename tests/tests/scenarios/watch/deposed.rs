//! A server that a failover held down, started again by whoever likes to: it takes no write from a client without SUPER.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use proto::watch::{Guard, Watched};
use tests::sandbox::accounts::APPLICATION;
use tests::sandbox::client::{Client, Login};
use tests::sandbox::deployment::{Deployment, DeploymentSpec};
use tests::sandbox::wait::{self, Look};
use tests::sandbox::{ClusterSpec, SandboxError, Server, ServerKind};

use super::{Operation, SOON, Stream, is_read_only};
use crate::support::{self, Outcome};

/// How often the supervisor starts a server that is down.
const SUPERVISOR: Duration = Duration::from_millis(200);
/// Restarts by the supervisor, each after a SIGKILL.
const RESTARTS: u32 = 4;

/// A client that tries to write all the time, each time in a session of its own.
#[derive(Default)]
struct Writer {
    written: AtomicU32,
    refused: AtomicU32,
}

impl Writer {
    async fn run(&self, login: &Login) -> ! {
        loop {
            if let Ok(mut client) = Client::connect(login).await {
                match client.exec("INSERT INTO app.t VALUES (NULL)").await {
                    Ok(()) => self.written.fetch_add(1, Ordering::Relaxed),
                    Err(error) if is_read_only(&error) => {
                        self.refused.fetch_add(1, Ordering::Relaxed)
                    }
                    // Its server was killed.
                    Err(_) => 0,
                };
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    fn refused(&self) -> u32 {
        self.refused.load(Ordering::Relaxed)
    }

    fn written(&self) -> u32 {
        self.written.load(Ordering::Relaxed)
    }
}

fn is_guarded(state: &Watched) -> bool {
    matches!(state.guard, Guard::ReadOnly { .. }) && state.read_only == Some(true)
}

async fn read_only_becomes(server: &Server, wanted: &str) -> Outcome {
    wait::until(&format!("read_only={wanted}"), SOON, || async {
        Ok(match server.value("SELECT @@GLOBAL.read_only").await {
            Ok(found) if found == wanted => Look::Done(()),
            Ok(found) => Look::NotYet(found),
            Err(error) => Look::NotYet(error.to_string()),
        })
    })
    .await
}

async fn never_written_again(kind: ServerKind) -> Outcome {
    let spec = ClusterSpec::new(kind).replicas(1).set("read-only", 1);
    let mut cluster = support::start(spec).await?;
    let primary = cluster.primary();
    primary
        .exec_all(&[
            "CREATE DATABASE IF NOT EXISTS app",
            "CREATE TABLE app.t (id INT AUTO_INCREMENT PRIMARY KEY)",
            "SET GLOBAL read_only=0",
        ])
        .await?;
    let deployment = Deployment::start(&cluster, &DeploymentSpec::default()).await?;
    let login = primary.login(APPLICATION.user, APPLICATION.password);
    let insert = "INSERT INTO app.t VALUES (NULL)";
    Client::connect(&login).await?.exec(insert).await?;

    // A failover holds it down; later an operator releases the hold, with an operation of his own.
    let operation = |id, epoch| Operation {
        deployment: &deployment,
        server: primary,
        number: 0,
        id,
        epoch,
    };
    let failover = operation("failover-1", 1);
    failover.claim().await;
    failover.hold_down().await;
    let release = operation("release-1", 2);
    release.claim().await;
    release.release_hold().await;

    // A supervisor starts it whenever it is down; it is killed again and again, and so is the agent.
    let writer = Writer::default();
    let supervise = async {
        loop {
            primary.launch(&[])?;
            tokio::time::sleep(SUPERVISOR).await;
        }
    };
    let story = async {
        for round in 0..RESTARTS {
            if round == 2 {
                deployment.agent(0).kill()?;
                deployment.agent(0).start().await?;
            }
            let before = writer.refused();
            let mut stream = Stream::open(&deployment, primary, 0).await;
            stream.until("read-only again", is_guarded).await;
            wait::until("tries of the client", SOON, || async {
                Ok(match writer.refused() - before {
                    0..20 => Look::NotYet("few".to_owned()),
                    _ => Look::Done(()),
                })
            })
            .await?;
            if round + 1 < RESTARTS {
                primary.kill()?;
            }
        }
        Ok::<_, SandboxError>(())
    };
    tokio::select! {
        told = story => told?,
        failed = supervise => return failed,
        never = writer.run(&login) => never,
    }
    assert_eq!(writer.written(), 0, "writes of a client");
    eprintln!(
        "{kind:?}: {RESTARTS} starts of a deposed server: {} writes refused, none taken",
        writer.refused()
    );

    // Its epoch is over, but the present one may make it writable, and then it stays so.
    let again = operation("failover-3", 3);
    again.claim().await;
    again.make_writable().await;
    let mut stream = Stream::open(&deployment, primary, 0).await;
    stream
        .until("free", |state| {
            state.guard == Guard::None && state.read_only == Some(false)
        })
        .await;
    Client::connect(&login).await?.exec(insert).await?;

    // Deposed once more, and started with a configuration that lacks read_only=1: the agent alone closes it.
    again.hold_down().await;
    let late = operation("release-4", 4);
    late.claim().await;
    late.release_hold().await;
    cluster
        .cluster
        .server_mut(0)
        .reconfigure(|options| options.unset("read-only"))?;
    let primary = cluster.primary();
    primary.launch(&[])?;
    let (launched, mut open_since) = (Instant::now(), None);
    let closed = loop {
        assert!(launched.elapsed() < SOON, "it stays open");
        if let Ok(mut client) = Client::connect(&login).await {
            match client.exec(insert).await {
                Ok(()) => {
                    open_since.get_or_insert_with(Instant::now);
                }
                Err(error) if is_read_only(&error) => break Instant::now(),
                Err(_) => {}
            }
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    };
    let open = open_since.map(|since| closed - since).unwrap_or_default();
    eprintln!("{kind:?}: without read_only=1 in its configuration it took writes for {open:?}");
    // Who may, opens it by hand; the agent closes it, and ends the sessions of clients.
    let mut client = Client::connect(&login).await?;
    primary.exec("SET GLOBAL read_only=0").await?;
    read_only_becomes(primary, "1").await?;
    wait::until("the end of the client's session", SOON, || async {
        let sessions = format!(
            "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE USER='{}'",
            APPLICATION.user
        );
        Ok(match primary.value(&sessions).await?.as_str() {
            "0" => Look::Done(()),
            some => Look::NotYet(some.to_owned()),
        })
    })
    .await?;
    assert!(client.exec(insert).await.is_err());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deposed_server_takes_no_write_on_mysql_5_6() -> Outcome {
    never_written_again(ServerKind::MySql56).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deposed_server_takes_no_write_on_mariadb_10_11() -> Outcome {
    never_written_again(ServerKind::MariaDb1011).await
}
