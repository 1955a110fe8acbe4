//! A primary that lives, hangs, is killed and comes back, as its own agent and a replica's see it.

use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use proto::probe::PortState;
use proto::v1::ReceiverState;
use proto::watch::{Cause, DiskState, Exit, Process, SocketState, SqlState, Watched};
use tests::sandbox::deployment::{Deployment, DeploymentSpec};
use tests::sandbox::{ClusterSpec, ServerKind};

use super::{HEARTBEAT, Stream, probe, probe_for};
use crate::support::{self, Outcome};

/// Kill to the state that tells of it; the target is 50 ms, on a machine of its own.
const KILL_LIMIT: Duration = Duration::from_secs(10);
/// Longest silence of a living server that is nothing to speak of, on a machine that does much else.
const SLUGGISH: Duration = Duration::from_secs(5);
/// How long the agent is stopped: longer than that.
const STOPPED: Duration = Duration::from_secs(8);

fn is_alive(state: &Watched) -> bool {
    matches!(state.sql.state, SqlState::Alive { .. })
}

async fn lives_hangs_dies_and_returns(kind: ServerKind) -> Outcome {
    let cluster = support::start(ClusterSpec::new(kind).replicas(1)).await?;
    let deployment = Deployment::start(&cluster, &DeploymentSpec::default()).await?;
    let (primary, replica) = (cluster.primary(), cluster.server(1));
    let pid = u32::try_from(primary.pid().unwrap()).unwrap();
    let mut stream = Stream::open(&deployment, primary, 0).await;

    // It lives.
    let first = stream.next().await.state;
    assert_eq!(first.cause, Cause::Present);
    let well = stream.until("all well", |state| {
        is_alive(state)
            && state.process.running_pid() == Some(pid)
            && state.socket.state == SocketState::Accepts
            && matches!(state.datadir.state, DiskState::Ok { .. })
            && state.read_only == Some(false)
    });
    let well = well.await;
    assert_eq!(well.state.datadir.directory, Some(primary.datadir()));
    assert!(primary.datadir().join(".mha-probe").exists());
    for _ in 0..3 {
        stream
            .until("a heartbeat", |state| {
                state.cause == Cause::Heartbeat && state.process.running_pid() == Some(pid)
            })
            .await;
    }
    let seen = probe(&deployment, replica, 1, primary).await;
    let PortState::Handshake { version } = &seen.port.state else {
        panic!("{seen:?}");
    };
    assert!(!version.is_empty());
    let receiver = seen.receiver.unwrap();
    assert_eq!(receiver.state, ReceiverState::Running);
    assert_eq!(receiver.source_port, primary.port());
    assert!(receiver.read.is_some());

    // What changes is told, not only at the next heartbeat's turn.
    primary.exec("SET GLOBAL read_only=1").await?;
    let told = stream.until("read-only", |state| state.read_only == Some(true));
    assert_eq!(told.await.state.cause, Cause::Change);
    primary.exec("SET GLOBAL read_only=0").await?;
    stream
        .until("writable", |state| state.read_only == Some(false))
        .await;

    // It hangs: the process is there, nothing answers.
    primary.freeze()?;
    let frozen = Instant::now();
    let hung = stream
        .until("no answer", |state| {
            matches!(state.sql.state, SqlState::NoAnswer { .. })
        })
        .await;
    eprintln!(
        "{kind:?}: SIGSTOP to the state that tells of it: {:?}",
        hung.at - frozen
    );
    assert_eq!(hung.state.process.running_pid(), Some(pid));
    let long = Duration::from_secs(1);
    stream
        .until(
            "a second of silence",
            |state| matches!(state.sql.state, SqlState::NoAnswer { silent } if silent >= long),
        )
        .await;
    let seen = probe_for(&deployment, replica, 1, primary, SLUGGISH).await;
    assert_eq!(seen.port.state, PortState::NoAnswer { connected: true });
    primary.thaw()?;
    stream.until("an answer", is_alive).await;

    // The agent was stopped, not the server: nothing was silent.
    deployment.agent(0).freeze()?;
    tokio::time::sleep(STOPPED).await;
    deployment.agent(0).thaw()?;
    // The old stream may have been given up meanwhile.
    let mut stream = Stream::open(&deployment, primary, 0).await;
    for _ in 0..5 {
        let state = stream.next().await.state;
        match state.sql.state {
            SqlState::Alive { .. } => {}
            SqlState::NoAnswer { silent } => assert!(silent < SLUGGISH, "{state:?}"),
            _ => panic!("{state:?}"),
        }
    }
    stream.until("an answer", is_alive).await;

    // It dies.
    let killed = Instant::now();
    kill(Pid::from_raw(primary.pid().unwrap()), Signal::SIGKILL).unwrap();
    let ended = stream.until(
        "the end",
        |state| matches!(&state.process, Process::Exited { pid: of, .. } if *of == pid),
    );
    let ended = ended.await;
    let took = ended.at - killed;
    eprintln!("{kind:?}: SIGKILL to the state that tells of it: {took:?}");
    assert!(took < KILL_LIMIT, "{took:?}");
    let Process::Exited { how, .. } = ended.state.process else {
        unreachable!("asked for above");
    };
    // Its parent, this test, has not asked for the status yet.
    assert_eq!(how, Some(Exit::Signal(9)));
    assert_eq!(ended.state.read_only, None);
    let gone = stream.until("no socket", |state| {
        state.socket.state == SocketState::Refuses
            && matches!(state.sql.state, SqlState::Unreachable { .. })
    });
    gone.await;
    let seen = probe(&deployment, replica, 1, primary).await;
    assert_eq!(seen.port.state, PortState::Refused);
    cluster.crash(0)?;

    // It returns.
    let started = Instant::now();
    primary.start().await?;
    let answered = started.elapsed();
    let new = u32::try_from(primary.pid().unwrap()).unwrap();
    let back = stream
        .until("its return", |state| {
            state.process.running_pid() == Some(new) && is_alive(state)
        })
        .await;
    eprintln!(
        "{kind:?}: start to the state that tells of its answer: {:?}; a client had its answer after {answered:?}",
        back.at - started
    );
    let silence = stream.next().await.at - back.at;
    assert!(silence < HEARTBEAT + KILL_LIMIT, "{silence:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_and_a_hung_primary_is_seen_on_mysql_5_6() -> Outcome {
    lives_hangs_dies_and_returns(ServerKind::MySql56).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_and_a_hung_primary_is_seen_on_mariadb_10_11() -> Outcome {
    lives_hangs_dies_and_returns(ServerKind::MariaDb1011).await
}
