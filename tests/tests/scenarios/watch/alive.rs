//! Errors that are signs of life.

use proto::probe::PortState;
use proto::watch::SqlState;
use tests::sandbox::accounts::APPLICATION;
use tests::sandbox::client::Client;
use tests::sandbox::deployment::{Deployment, DeploymentSpec};
use tests::sandbox::{ClusterSpec, ServerKind};

use super::{Stream, probe};
use crate::support::{self, Outcome};

const TOO_MANY: u16 = 1040;

#[tokio::test(flavor = "multi_thread")]
async fn a_server_with_no_connection_left_lives() -> Outcome {
    let spec = ClusterSpec::new(ServerKind::MySql56)
        .replicas(1)
        .set("max-connections", 8);
    let cluster = support::start(spec).await?;
    let deployment = Deployment::start(&cluster, &DeploymentSpec::default()).await?;
    let (primary, replica) = (cluster.primary(), cluster.server(1));
    // The agent leaves its place and comes back when all are taken.
    deployment.agent(0).kill()?;
    let mut taken = Vec::new();
    while let Ok(client) =
        Client::connect(&primary.login(APPLICATION.user, APPLICATION.password)).await
    {
        taken.push(client);
        assert!(taken.len() <= 8, "there is a limit");
    }
    // The one above the limit, for SUPER.
    taken.push(primary.admin().await?);
    deployment.agent(0).start().await?;

    let mut stream = Stream::open(&deployment, primary, 0).await;
    let full = stream
        .until("too many connections", |state| {
            matches!(
                state.sql.state,
                SqlState::Error {
                    errno: TOO_MANY,
                    ..
                }
            )
        })
        .await;
    assert!(full.state.process.running_pid().is_some());
    assert!(full.state.sql.answered.is_some());
    let seen = probe(&deployment, replica, 1, primary).await;
    assert!(seen.port.state.is_sign_of_life());
    assert!(
        matches!(
            seen.port.state,
            PortState::ErrorPacket {
                errno: TOO_MANY,
                ..
            }
        ),
        "{seen:?}"
    );
    drop(taken);
    stream
        .until("an answer", |state| {
            matches!(state.sql.state, SqlState::Alive { .. })
        })
        .await;
    Ok(())
}
