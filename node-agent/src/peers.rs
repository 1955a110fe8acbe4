//! How other agents are dialled.

use proto::channel::Target;
use proto::convert::ConvertError;
use proto::identity::{Identity, Role};

use crate::agent::Agent;

/// Whom to dial: `address`, and there the certificate of the agent of this name, given as such or as the whole name in the
/// certificate; another cluster's agent has neither. Without TLS only this host, as for the own listener.
///
/// # Errors
/// An address or a name that no agent of the cluster can have.
pub fn target(
    agent: &Agent,
    cluster: &str,
    address: String,
    certificate_name: &str,
) -> Result<Target, ConvertError> {
    let Some(material) = &agent.tls else {
        let loopback = address
            .parse::<std::net::SocketAddr>()
            .is_ok_and(|address| address.ip().is_loopback());
        if !loopback {
            return Err(ConvertError::new(
                "address",
                format!("{address}: without TLS only an agent on a loopback IP address is dialled"),
            ));
        }
        return Ok(Target { address, tls: None });
    };
    let suffix = format!(".{cluster}.{}.mha", Role::Agent);
    let name = certificate_name
        .strip_suffix(&suffix)
        .unwrap_or(certificate_name);
    let identity = Identity::new(cluster, Role::Agent, name)
        .map_err(|error| ConvertError::new("certificate_name", error.to_string()))?;
    Ok(Target {
        address,
        tls: Some((material.clone(), identity.dns_name())),
    })
}
