//! What several stories need.

use std::time::Duration;

use proto::channel::{self, Target};
use proto::tls::{TlsMaterial, TlsPaths};
use tests::sandbox::deployment::{CLUSTER, Deployment};
use tests::sandbox::slot::Slot;
use tests::sandbox::{Cluster, ClusterSpec, SandboxError, Server, compare, replica};
use tonic::transport::Channel;

/// Limit of a connection to an agent.
const LIMIT: Duration = Duration::from_secs(60);

/// Result of a scenario: an error of the harness is a failure of the test.
pub(crate) type Outcome = Result<(), SandboxError>;

/// A cluster that counts towards the number of clusters that may run at a time.
pub(crate) struct Running {
    // Dropped in this order: the servers end before another test may start.
    pub(crate) cluster: Cluster,
    _slot: Slot,
}

impl std::ops::Deref for Running {
    type Target = Cluster;

    fn deref(&self) -> &Cluster {
        &self.cluster
    }
}

/// Starts a cluster when a slot is free.
pub(crate) async fn start(spec: ClusterSpec) -> Result<Running, SandboxError> {
    let slot = Slot::take().await?;
    let cluster = Cluster::start(spec).await?;
    Ok(Running {
        cluster,
        _slot: slot,
    })
}

/// Every table of every server has the first server's checksum.
pub(crate) async fn tables_equal(servers: &[&Server]) -> Outcome {
    match compare::all_equal(servers).await? {
        Ok(tables) => assert!(!tables.is_empty(), "there are tables to compare"),
        Err(difference) => panic!("{difference}"),
    }
    Ok(())
}

/// Exactly one of the survivors takes writes, and all others follow it with both threads.
pub(crate) async fn one_primary(survivors: &[&Server]) -> Outcome {
    let mut primaries = Vec::new();
    for server in survivors {
        if server.value("SELECT @@read_only").await? == "0" {
            primaries.push(*server);
        }
    }
    let [primary] = primaries.as_slice() else {
        panic!(
            "servers that take writes: {:?}",
            primaries
                .iter()
                .map(|server| server.name())
                .collect::<Vec<_>>()
        )
    };
    assert!(
        replica::status(primary).await?.is_none(),
        "{} follows nobody",
        primary.name()
    );
    for server in survivors
        .iter()
        .filter(|server| server.name() != primary.name())
    {
        let status = replica::must_status(server).await?;
        assert_eq!(status.source()?, primary.host_port(), "{}", server.name());
        replica::wait_until(server, "both threads", |status| {
            Ok(status.io_running()? == "Yes" && status.sql_running()?)
        })
        .await?;
    }
    Ok(())
}

fn material(deployment: &Deployment, name: &str) -> TlsMaterial {
    let folder = deployment.certificates();
    TlsMaterial::load(&TlsPaths {
        ca: folder.join("ca.pem"),
        cert: folder.join(format!("{name}.pem")),
        key: folder.join(format!("{name}.key")),
    })
    .unwrap()
}

/// Dials the agent of server `number` with this certificate.
pub(crate) async fn dial(deployment: &Deployment, number: usize, certificate: &str) -> Channel {
    let agent = deployment.agent(number);
    let name = format!("{}.{CLUSTER}.agent.mha", agent.name());
    let target = Target {
        address: agent.address().to_string(),
        tls: Some((material(deployment, certificate), name)),
    };
    channel::connect(&target, LIMIT).await.unwrap()
}
