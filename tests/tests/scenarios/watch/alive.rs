//! Errors that are signs of life.

use proto::probe::PortState;
use proto::watch::SqlState;
use tests::sandbox::accounts::APPLICATION;
use tests::sandbox::client::Client;
use tests::sandbox::deployment::{Deployment, DeploymentSpec};
use tests::sandbox::wait::{self, Look};
use tests::sandbox::{ClusterSpec, SandboxError, Server, ServerKind};

use super::{SOON, Stream, probe};
use crate::support::{self, Outcome};

const TOO_MANY: u16 = 1040;

/// `max_connections` of the server.
const LIMIT: usize = 8;
/// The replica's, which stays.
const DUMPS: usize = 1;

/// Takes every place for clients, and the one above the limit for SUPER.
///
/// A connection is counted from before its login until after its end, so one that is ending, or was just refused, can
/// be in the way of the next: what counts is how many were had, never a refusal.
async fn take_all(server: &Server) -> Result<Vec<Client>, SandboxError> {
    let mut taken = Vec::new();
    let logins = std::iter::repeat_n(
        server.login(APPLICATION.user, APPLICATION.password),
        LIMIT - DUMPS,
    );
    for login in logins.chain([server.admin_login()]) {
        let what = format!("connection {} of {LIMIT} and one", DUMPS + taken.len() + 1);
        let client = wait::until(&what, SOON, || async {
            match Client::connect(&login).await {
                Ok(client) => Ok(Look::Done(client)),
                Err(error) if is_too_many(&error) => Ok(Look::NotYet(error.to_string())),
                Err(error) => Err(error),
            }
        })
        .await?;
        taken.push(client);
    }
    Ok(taken)
}

fn is_too_many(error: &SandboxError) -> bool {
    matches!(error, SandboxError::Sql { source: mysql_async::Error::Server(refused), .. } if refused.code == TOO_MANY)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_with_no_connection_left_lives() -> Outcome {
    let spec = ClusterSpec::new(ServerKind::MySql56)
        .replicas(1)
        .set("max-connections", LIMIT);
    let cluster = support::start(spec).await?;
    let deployment = Deployment::start(&cluster, &DeploymentSpec::default()).await?;
    let (primary, replica) = (cluster.primary(), cluster.server(1));
    // The agent leaves its place and comes back when all are taken.
    deployment.agent(0).kill()?;
    let taken = take_all(primary).await?;
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
