//! A primary that nobody vouches for any more stops taking writes by itself, also after its host was stopped.

use std::time::{Duration, Instant};

use proto::lease::{AssignOrder, LeaseAgent, RenewOrder, TTL};
use proto::v1;
use proto::v1::lease_service_client::LeaseServiceClient;
use proto::watch::{Guard, LeaseState, Watched};
use tests::sandbox::accounts::APPLICATION;
use tests::sandbox::client::{Client, Login};
use tests::sandbox::deployment::{CLUSTER, Deployment, DeploymentSpec, server_name};
use tests::sandbox::{Cluster, ClusterSpec, SandboxError, ServerKind};

use super::{Operation, Stream, is_read_only};
use crate::support::{self, Outcome};

/// Lost lease to the first refused write; the target is 200 ms, on a machine of its own.
const CLOSED_LIMIT: Duration = Duration::from_secs(10);
const INSERT: &str = "INSERT INTO app.t VALUES (NULL)";

/// Claims the cluster at every agent and tells each that db1 is the primary.
pub(super) async fn assign(
    deployment: &Deployment,
    cluster: &Cluster,
    id: &'static str,
    epoch: u64,
) {
    let agents: Vec<LeaseAgent> = deployment
        .agents()
        .iter()
        .map(|agent| LeaseAgent {
            name: agent.name().to_owned(),
            address: agent.address().to_string(),
        })
        .collect();
    for (number, server) in cluster.servers().iter().enumerate() {
        let operation = Operation {
            deployment,
            server,
            number,
            id,
            epoch,
        };
        operation.claim().await;
        let order = AssignOrder {
            context: operation.context().unwrap().try_into().unwrap(),
            primary: server_name(cluster.primary()),
            agents: agents.clone(),
            manager: "m1".to_owned(),
            lease: true,
            replaced: false,
        };
        let channel = support::dial(deployment, number, "m1").await;
        let answer = LeaseServiceClient::new(channel)
            .assign_primary(v1::AssignPrimaryRequest::from(&order))
            .await
            .unwrap();
        assert_eq!(answer.get_ref().lease, number == 0);
    }
}

pub(super) fn is_held(state: &Watched) -> bool {
    matches!(state.lease.state, LeaseState::Held { .. })
}

pub(super) fn is_lost(state: &Watched) -> bool {
    matches!(state.lease.state, LeaseState::Lost { .. })
        && matches!(state.guard, Guard::ReadOnly { .. })
}

/// Writes in one session until it is refused or ended; how many were taken, and when the last one was.
async fn write_until_closed(mut client: Client, login: &Login) -> (u32, Instant) {
    let mut taken = 0;
    loop {
        match client.exec(INSERT).await {
            Ok(()) => taken += 1,
            Err(error) if is_read_only(&error) => return (taken, Instant::now()),
            // Its session was ended: a new one tells whether the server takes writes.
            Err(_) => match Client::connect(login).await {
                Ok(fresh) => client = fresh,
                Err(_) => tokio::time::sleep(Duration::from_millis(1)).await,
            },
        }
    }
}

async fn ends_when_nobody_is_heard(kind: ServerKind) -> Outcome {
    let cluster = support::start(ClusterSpec::new(kind)).await?;
    let primary = cluster.primary();
    primary
        .exec_all(&[
            "CREATE DATABASE IF NOT EXISTS app",
            "CREATE TABLE app.t (id INT AUTO_INCREMENT PRIMARY KEY)",
        ])
        .await?;
    let deployment = Deployment::start(&cluster, &DeploymentSpec::default()).await?;
    let login = primary.login(APPLICATION.user, APPLICATION.password);
    let operation = |number, id, epoch| Operation {
        deployment: &deployment,
        server: cluster.server(number),
        number,
        id,
        epoch,
    };
    assign(&deployment, &cluster, "assign-1", 1).await;

    // No manager: the agents alone hold it up, for longer than it lasts by itself.
    let mut stream = Stream::open(&deployment, primary, 0).await;
    stream
        .until("three vouch", |state| state.lease.vouching == 3)
        .await;
    let until = Instant::now() + TTL * 2;
    while Instant::now() < until {
        let state = stream.next().await.state;
        assert!(is_held(&state) && !state.lease.manager_heard, "{state:?}");
    }

    // An agent that granted a newer claim vouches no more; the others are a majority still.
    operation(1, "claim-2", 2).claim().await;
    stream
        .until("two vouch", |state| state.lease.vouching == 2)
        .await;
    let until = Instant::now() + TTL * 2;
    while Instant::now() < until {
        let state = stream.next().await.state;
        assert!(is_held(&state), "{state:?}");
    }

    // Both others granted it: only the manager's word counts, as long as it answers what it sees.
    let channel = support::dial(&deployment, 0, "m1").await;
    let mut leases = LeaseServiceClient::new(channel);
    let mut renew = async |seen: &Watched| {
        let order = RenewOrder {
            cluster: CLUSTER.to_owned(),
            server: server_name(primary),
            epoch: 1.try_into().unwrap(),
            boot_id: seen.boot_id.clone(),
            seen: seen.sent.boottime,
            manager: "m1".to_owned(),
        };
        leases
            .renew_lease(v1::RenewLeaseRequest::from(&order))
            .await
    };
    let first = stream.next().await.state;
    renew(&first).await.unwrap();
    operation(2, "claim-2", 2).claim().await;
    let until = Instant::now() + TTL * 2;
    let mut last_word = Instant::now();
    while Instant::now() < until {
        let state = stream.next().await.state;
        assert!(is_held(&state), "{state:?}");
        last_word = Instant::now();
        renew(&state).await.unwrap();
    }
    // From here on it repeats an old word only.
    let client = Client::connect(&login).await?;
    let repeating = async {
        loop {
            let state = stream.next().await.state;
            renew(&first).await.unwrap();
            if is_lost(&state) {
                return;
            }
        }
    };
    let ((), (taken, closed)) = tokio::join!(repeating, write_until_closed(client, &login));
    eprintln!(
        "{kind:?}: last word to the first refused write: {:?}, of which the lease is {TTL:?}; {taken} writes taken",
        closed - last_word
    );
    assert!(taken > 0, "it took writes until then");
    assert!(closed - last_word < TTL + CLOSED_LIMIT);
    let told = stream.next().await.state;
    assert!(is_lost(&told), "{told:?}");

    // The present epoch opens it again, and its lease begins anew.
    assign(&deployment, &cluster, "assign-3", 3).await;
    operation(0, "assign-3", 3).make_writable().await;
    stream
        .until("held again", |state| {
            is_held(state) && state.guard == Guard::None && state.lease.vouching == 3
        })
        .await;
    Client::connect(&login).await?.exec(INSERT).await?;

    // Its whole host stands still for longer than the lease, and goes on; meanwhile the others were claimed.
    let client = Client::connect(&login).await?;
    deployment.agent(0).freeze()?;
    primary.freeze()?;
    for number in [1, 2] {
        operation(number, "claim-4", 4).claim().await;
    }
    let writing = async {
        let ended = write_until_closed(client, &login).await;
        Ok::<_, SandboxError>(ended)
    };
    let thawing = async {
        tokio::time::sleep(TTL * 2).await;
        let thawed = Instant::now();
        primary.thaw()?;
        deployment.agent(0).thaw()?;
        Ok::<_, SandboxError>(thawed)
    };
    let (ended, thawed) = tokio::try_join!(writing, thawing)?;
    let (taken, closed) = ended;
    eprintln!(
        "{kind:?}: thaw to the first refused write: {:?}; {taken} writes taken meanwhile",
        closed - thawed
    );
    assert!(closed - thawed < CLOSED_LIMIT);
    stream.until("lost", is_lost).await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_ends_when_nobody_is_heard_on_mysql_5_6() -> Outcome {
    ends_when_nobody_is_heard(ServerKind::MySql56).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_ends_when_nobody_is_heard_on_mariadb_10_11() -> Outcome {
    ends_when_nobody_is_heard(ServerKind::MariaDb1011).await
}
