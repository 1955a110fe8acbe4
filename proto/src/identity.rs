//! Who a certificate speaks for.
//!
//! A certificate names its roles by URI SANs `mha://CLUSTER/ROLE/NAME`; it may carry several. `*` as CLUSTER is for
//! managers only. For dialling, the same identity also stands as a DNS SAN, `NAME.CLUSTER.ROLE.mha`, so that the
//! ordinary host name check of TLS proves role and cluster of the far end, whatever address it has.
//!
//! Guarantee: an [`Identity`] that exists is well-formed; a certificate without any is an error, never "anyone".

use std::fmt;
use std::str::FromStr;

use tonic::transport::CertificateDer;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

/// What a peer may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
    /// Drives operations: every call.
    Manager,
    /// Pulls segments, vouches and pings.
    Agent,
    /// Reads.
    Observer,
}

/// The clusters a certificate is good for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Scope {
    /// One cluster.
    Cluster(String),
    /// Every cluster; managers only.
    Any,
}

/// One identity of a certificate.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Identity {
    /// Clusters.
    pub scope: Scope,
    /// Role.
    pub role: Role,
    /// Name of the host or manager.
    pub name: String,
}

/// Why no identity could be read.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum IdentityError {
    /// The connection carries no client certificate.
    #[error("no client certificate")]
    NoCertificate,
    /// The certificate does not parse as X.509.
    #[error("the client certificate cannot be read: {0}")]
    Malformed(String),
    /// No URI SAN of ours.
    #[error("the client certificate carries no mha:// identity")]
    NoIdentity,
    /// A URI SAN of ours that breaks the rules.
    #[error("bad identity {uri:?}: {reason}")]
    BadUri {
        /// What was found.
        uri: String,
        /// What is wrong with it.
        reason: &'static str,
    },
}

// === impl Role ===

impl Role {
    /// Word used in URIs and on command lines.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Manager => "manager",
            Self::Agent => "agent",
            Self::Observer => "observer",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Role {
    type Err = &'static str;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        match s {
            "manager" => Ok(Self::Manager),
            "agent" => Ok(Self::Agent),
            "observer" => Ok(Self::Observer),
            _ => Err("the role is none of manager, agent, observer"),
        }
    }
}

// === impl Identity ===

impl Identity {
    /// Builds an identity; cluster and name must be DNS labels (`a-z`, `0-9`, `-`), since they stand in a DNS SAN.
    ///
    /// # Errors
    /// [`IdentityError::BadUri`] naming the rule that was broken.
    pub fn new(cluster: &str, role: Role, name: &str) -> Result<Self, IdentityError> {
        format!("mha://{cluster}/{role}/{name}").parse()
    }

    /// The URI SAN.
    pub fn uri(&self) -> String {
        let cluster = match &self.scope {
            Scope::Cluster(c) => c.as_str(),
            Scope::Any => "*",
        };
        format!("mha://{cluster}/{}/{}", self.role, self.name)
    }

    /// The DNS SAN a client verifies when it dials this identity.
    pub fn dns_name(&self) -> String {
        match &self.scope {
            Scope::Cluster(c) => format!("{}.{c}.{}.mha", self.name, self.role),
            Scope::Any => format!("{}.any.{}.mha", self.name, self.role),
        }
    }

    /// True if this identity is good for `cluster`.
    pub fn covers(&self, cluster: &str) -> bool {
        match &self.scope {
            Scope::Cluster(c) => c == cluster,
            Scope::Any => true,
        }
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.uri())
    }
}

impl FromStr for Identity {
    type Err = IdentityError;

    fn from_str(uri: &str) -> Result<Self, Self::Err> {
        let bad = |reason| IdentityError::BadUri {
            uri: uri.to_owned(),
            reason,
        };
        let rest = uri
            .strip_prefix("mha://")
            .ok_or_else(|| bad("it does not begin with mha://"))?;
        let mut parts = rest.split('/');
        let (Some(cluster), Some(role), Some(name), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(bad("it is not mha://CLUSTER/ROLE/NAME"));
        };
        let role: Role = role.parse().map_err(bad)?;
        let scope = match cluster {
            "*" if role == Role::Manager => Scope::Any,
            "*" => return Err(bad("only managers may name every cluster")),
            "any" => return Err(bad("`any` is reserved")),
            c if is_label(c) => Scope::Cluster(c.to_owned()),
            _ => return Err(bad("the cluster is not a DNS label (a-z, 0-9, -)")),
        };
        if !is_label(name) {
            return Err(bad("the name is not a DNS label (a-z, 0-9, -)"));
        }
        Ok(Self {
            scope,
            role,
            name: name.to_owned(),
        })
    }
}

/// RFC 1035 label in lower case: what a DNS SAN can carry without surprises.
fn is_label(s: &str) -> bool {
    !s.is_empty()
        && s.len() <= 63
        && !s.starts_with('-')
        && !s.ends_with('-')
        && s.bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

/// Identities in the certificate of a request's sender.
///
/// # Errors
/// See [`IdentityError`].
pub fn peer_identities<T>(request: &tonic::Request<T>) -> Result<Vec<Identity>, IdentityError> {
    let certs = request.peer_certs().ok_or(IdentityError::NoCertificate)?;
    identities_of(&certs)
}

/// Identities in a certificate chain, leaf first.
///
/// # Errors
/// See [`IdentityError`].
pub fn identities_of(chain: &[CertificateDer<'_>]) -> Result<Vec<Identity>, IdentityError> {
    let leaf = chain.first().ok_or(IdentityError::NoCertificate)?;
    let (_, cert) = X509Certificate::from_der(leaf.as_ref())
        .map_err(|e| IdentityError::Malformed(e.to_string()))?;
    let san = cert
        .subject_alternative_name()
        .map_err(|e| IdentityError::Malformed(e.to_string()))?;
    let mut found = Vec::new();
    for name in san.iter().flat_map(|s| &s.value.general_names) {
        if let GeneralName::URI(uri) = name
            && uri.starts_with("mha://")
        {
            found.push(uri.parse()?);
        }
    }
    if found.is_empty() {
        return Err(IdentityError::NoIdentity);
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_round_trips_through_its_uri() {
        for uri in [
            "mha://app1/agent/db1",
            "mha://app1/manager/m-1",
            "mha://*/manager/m1",
            "mha://c2/observer/o",
        ] {
            let id: Identity = uri.parse().unwrap();
            assert_eq!(id.uri(), uri);
        }
    }

    #[test]
    fn broken_identities_are_refused_with_the_rule() {
        for (uri, part) in [
            ("http://app1/agent/db1", "mha://"),
            ("mha://app1/agent", "CLUSTER/ROLE/NAME"),
            ("mha://app1/agent/db1/x", "CLUSTER/ROLE/NAME"),
            ("mha://app1/root/db1", "role"),
            ("mha://*/agent/db1", "only managers"),
            ("mha://any/agent/db1", "reserved"),
            ("mha://App1/agent/db1", "cluster"),
            ("mha://app1/agent/db1.evil", "name"),
            ("mha://app1/agent/", "name"),
            ("mha://app1/agent/-a", "name"),
        ] {
            let error = uri.parse::<Identity>().unwrap_err().to_string();
            assert!(error.contains(part), "{uri}: {error}");
        }
    }

    #[test]
    fn a_wildcard_manager_covers_every_cluster_and_others_only_theirs() {
        let any: Identity = "mha://*/manager/m".parse().unwrap();
        let one: Identity = "mha://app1/manager/m".parse().unwrap();
        assert!(any.covers("app1") && any.covers("app2"));
        assert!(one.covers("app1") && !one.covers("app2"));
        assert_eq!(any.dns_name(), "m.any.manager.mha");
        assert_eq!(one.dns_name(), "m.app1.manager.mha");
    }

    #[test]
    fn bytes_that_are_no_certificate_are_an_error() {
        let junk = CertificateDer::from(vec![0x30, 0x03, 1, 2, 3]);
        assert!(matches!(
            identities_of(&[junk]),
            Err(IdentityError::Malformed(_))
        ));
        assert_eq!(identities_of(&[]), Err(IdentityError::NoCertificate));
    }
}
