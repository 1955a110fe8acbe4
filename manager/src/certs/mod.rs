//! `certs init` and `certs issue`: an authority of one's own and the certificates of managers, agents and observers.
//!
//! A certificate names its role by URI SANs `mha://CLUSTER/ROLE/NAME` (design, section 8) and carries the DNS SANs
//! `NAME.CLUSTER.ROLE.mha` that clients dial by, so that no host name or address has to be right for TLS to hold.
//! Guaranteed: keys are created 0600, and no existing file is replaced.

mod files;

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use proto::identity::{Identity, IdentityError, Role};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, SanType,
};
use time::{Duration, OffsetDateTime};

use files::Secrecy;

/// How long an authority is valid.
const AUTHORITY_VALIDITY: Duration = Duration::days(7300);

/// Certificates are valid from a little before now: the hosts' clocks differ.
const CLOCK_SLACK: Duration = Duration::hours(24);

/// What a certificate's holder is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum CertificateRole {
    /// Drives operations.
    Manager,
    /// Serves a host; also dials other agents.
    Agent,
    /// Reads only.
    Observer,
}

impl From<CertificateRole> for Role {
    fn from(role: CertificateRole) -> Self {
        match role {
            CertificateRole::Manager => Self::Manager,
            CertificateRole::Agent => Self::Agent,
            CertificateRole::Observer => Self::Observer,
        }
    }
}

/// What to issue.
#[derive(Debug, Clone)]
pub struct CertificateRequest {
    /// Clusters the holder belongs to; `*` for managers of all clusters.
    pub clusters: Vec<String>,
    /// Role.
    pub role: CertificateRole,
    /// Name of the manager, agent or observer.
    pub name: String,
    /// Further DNS names or addresses for other tools that dial by them.
    pub hosts: Vec<String>,
    /// Validity in days.
    pub days: u16,
}

/// Files that were written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WrittenPair {
    /// Certificate, PEM.
    pub certificate: PathBuf,
    /// Private key, PEM, 0600.
    pub key: PathBuf,
}

/// Why no certificate was written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CertsError {
    /// A file would have been replaced.
    #[error("{} exists and is not replaced; move it away first", path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// A file could not be read or written.
    #[error("{}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Cluster, role and name make no identity.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// `ca` is the authority itself.
    #[error("the name `ca` belongs to the authority; choose another")]
    ReservedName,
    /// A given host is neither an address nor a DNS name.
    #[error("host `{value}` is neither an address nor a DNS name")]
    BadHost {
        /// What was given.
        value: String,
    },
    /// The authority's files cannot be used.
    #[error("{} is no usable certificate authority", path.display())]
    Authority {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: rcgen::Error,
    },
    /// A certificate could not be made.
    #[error("certificate for `{name}`")]
    Make {
        /// For whom.
        name: String,
        /// Why.
        #[source]
        source: rcgen::Error,
    },
}

impl CertsError {
    fn io(path: &Path, source: std::io::Error) -> Self {
        Self::Io {
            path: path.to_path_buf(),
            source,
        }
    }

    fn make(name: &str) -> impl FnOnce(rcgen::Error) -> Self {
        let name = name.to_owned();
        move |source| Self::Make { name, source }
    }
}

/// Makes an authority: `ca.pem` and `ca.key` in `dir`.
pub fn init(dir: &Path, common_name: &str, now: OffsetDateTime) -> Result<WrittenPair, CertsError> {
    let pair = WrittenPair {
        certificate: dir.join("ca.pem"),
        key: dir.join("ca.key"),
    };
    files::create_dir(dir)?;
    files::refuse_existing(&[pair.certificate.clone(), pair.key.clone()])?;
    let mut params = CertificateParams::default();
    params.distinguished_name = distinguished_name(common_name);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.not_before = now - CLOCK_SLACK;
    params.not_after = now + AUTHORITY_VALIDITY;
    let key = KeyPair::generate().map_err(CertsError::make(common_name))?;
    let certificate = params
        .self_signed(&key)
        .map_err(CertsError::make(common_name))?;
    files::write_new(&pair.key, Secrecy::Private, &key.serialize_pem())?;
    files::write_new(&pair.certificate, Secrecy::Public, &certificate.pem())?;
    Ok(pair)
}

/// Issues a certificate by the authority in `dir`: `NAME.pem` and `NAME.key` there.
pub fn issue(
    dir: &Path,
    request: &CertificateRequest,
    now: OffsetDateTime,
) -> Result<WrittenPair, CertsError> {
    let name = request.name.as_str();
    if name == "ca" {
        return Err(CertsError::ReservedName);
    }
    let names = subject_alt_names(request)?;
    let pair = WrittenPair {
        certificate: dir.join(format!("{name}.pem")),
        key: dir.join(format!("{name}.key")),
    };
    files::refuse_existing(&[pair.certificate.clone(), pair.key.clone()])?;
    let issuer = authority(dir)?;
    let mut params = CertificateParams::default();
    params.subject_alt_names = names;
    params.distinguished_name = distinguished_name(name);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = match request.role {
        CertificateRole::Manager | CertificateRole::Agent => vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ],
        CertificateRole::Observer => vec![ExtendedKeyUsagePurpose::ClientAuth],
    };
    params.use_authority_key_identifier_extension = true;
    params.not_before = now - CLOCK_SLACK;
    params.not_after = now + Duration::days(i64::from(request.days));
    let key = KeyPair::generate().map_err(CertsError::make(name))?;
    let certificate = params
        .signed_by(&key, &issuer)
        .map_err(CertsError::make(name))?;
    files::write_new(&pair.key, Secrecy::Private, &key.serialize_pem())?;
    files::write_new(&pair.certificate, Secrecy::Public, &certificate.pem())?;
    Ok(pair)
}

fn authority(dir: &Path) -> Result<Issuer<'static, KeyPair>, CertsError> {
    let (certificate_path, key_path) = (dir.join("ca.pem"), dir.join("ca.key"));
    let certificate = files::read_small(&certificate_path)?;
    let key = files::read_small(&key_path)?;
    let key = KeyPair::from_pem(&key).map_err(|source| CertsError::Authority {
        path: key_path,
        source,
    })?;
    Issuer::from_ca_cert_pem(&certificate, key).map_err(|source| CertsError::Authority {
        path: certificate_path,
        source,
    })
}

fn distinguished_name(common_name: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common_name);
    name
}

fn subject_alt_names(request: &CertificateRequest) -> Result<Vec<SanType>, CertsError> {
    let mut names = Vec::new();
    for cluster in &request.clusters {
        let identity = Identity::new(cluster, request.role.into(), &request.name)?;
        names.push(SanType::URI(text(identity.uri())?));
        names.push(SanType::DnsName(text(identity.dns_name())?));
    }
    for host in &request.hosts {
        names.push(match host.parse::<IpAddr>() {
            Ok(address) => SanType::IpAddress(address),
            Err(_) => {
                check_host(host)?;
                SanType::DnsName(text(host.clone())?)
            }
        });
    }
    Ok(names)
}

fn text(value: String) -> Result<rcgen::string::Ia5String, CertsError> {
    rcgen::string::Ia5String::try_from(value.as_str()).map_err(CertsError::make(&value))
}

/// A DNS name: TLS libraries refuse a certificate with a name that is none.
fn check_host(value: &str) -> Result<(), CertsError> {
    let label = |l: &str| {
        !l.is_empty()
            && l.len() <= 63
            && !l.starts_with('-')
            && !l.ends_with('-')
            && l.bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
    };
    if value.len() <= 253 && value.split('.').all(label) {
        Ok(())
    } else {
        Err(CertsError::BadHost {
            value: value.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::sync::Arc;

    use rustls::pki_types::pem::PemObject;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};

    use super::*;

    fn request(role: CertificateRole, name: &str) -> CertificateRequest {
        CertificateRequest {
            clusters: vec!["app1".into()],
            role,
            name: name.into(),
            hosts: vec![],
            days: 30,
        }
    }

    fn rustls_config(dir: &Path, name: &str) -> (rustls::ServerConfig, rustls::ClientConfig) {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut roots = rustls::RootCertStore::empty();
        roots
            .add(CertificateDer::from_pem_file(dir.join("ca.pem")).unwrap())
            .unwrap();
        let roots = Arc::new(roots);
        let chain =
            || vec![CertificateDer::from_pem_file(dir.join(format!("{name}.pem"))).unwrap()];
        let key = || PrivateKeyDer::from_pem_file(dir.join(format!("{name}.key"))).unwrap();
        let verifier = rustls::server::WebPkiClientVerifier::builder_with_provider(
            roots.clone(),
            provider.clone(),
        )
        .build()
        .unwrap();
        let server = rustls::ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain(), key())
            .unwrap();
        let client = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_client_auth_cert(chain(), key())
            .unwrap();
        (server, client)
    }

    /// Runs a TLS handshake in memory; the error is the first side's that fails.
    fn handshake(
        server: rustls::ServerConfig,
        client: rustls::ClientConfig,
        name: &str,
    ) -> Result<(), rustls::Error> {
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let mut client = rustls::ClientConnection::new(Arc::new(client), name).unwrap();
        let mut server = rustls::ServerConnection::new(Arc::new(server)).unwrap();
        while client.is_handshaking() || server.is_handshaking() {
            let mut wire = Vec::new();
            client.write_tls(&mut wire).unwrap();
            server.read_tls(&mut wire.as_slice()).unwrap();
            server.process_new_packets()?;
            let mut wire = Vec::new();
            server.write_tls(&mut wire).unwrap();
            client.read_tls(&mut wire.as_slice()).unwrap();
            client.process_new_packets()?;
        }
        Ok(())
    }

    #[test]
    fn issued_certificates_pass_a_mutual_handshake_by_their_own_name() {
        let dir = tempfile::tempdir().unwrap();
        let now = OffsetDateTime::now_utc();
        init(dir.path(), "test authority", now).unwrap();
        issue(dir.path(), &request(CertificateRole::Agent, "db1"), now).unwrap();
        issue(dir.path(), &request(CertificateRole::Manager, "m1"), now).unwrap();
        let (server, _) = rustls_config(dir.path(), "db1");
        let (_, client) = rustls_config(dir.path(), "m1");
        handshake(server.clone(), client.clone(), "db1.app1.agent.mha").unwrap();
        let refused = handshake(server, client, "db2.app1.agent.mha").unwrap_err();
        assert!(
            matches!(refused, rustls::Error::InvalidCertificate(_)),
            "{refused}"
        );
    }

    #[test]
    fn certificate_of_another_authority_is_refused() {
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let now = OffsetDateTime::now_utc();
        for dir in [one.path(), two.path()] {
            init(dir, "test authority", now).unwrap();
            issue(dir, &request(CertificateRole::Agent, "db1"), now).unwrap();
        }
        let (server, _) = rustls_config(one.path(), "db1");
        let (_, client) = rustls_config(two.path(), "db1");
        assert!(handshake(server, client, "db1.app1.agent.mha").is_err());
    }

    #[test]
    fn certificate_names_role_clusters_and_hosts() {
        let mut wanted = request(CertificateRole::Manager, "m1");
        wanted.clusters = vec!["app1".into(), "*".into()];
        wanted.hosts = vec!["127.0.0.1".into(), "mon.example".into()];
        let names = subject_alt_names(&wanted).unwrap();
        let uri = |s: &str| SanType::URI(text(s.into()).unwrap());
        let dns = |s: &str| SanType::DnsName(text(s.into()).unwrap());
        assert_eq!(
            names,
            vec![
                uri("mha://app1/manager/m1"),
                dns("m1.app1.manager.mha"),
                uri("mha://*/manager/m1"),
                dns("m1.any.manager.mha"),
                SanType::IpAddress("127.0.0.1".parse().unwrap()),
                dns("mon.example"),
            ]
        );
    }

    #[test]
    fn keys_are_private_and_nothing_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let now = OffsetDateTime::now_utc();
        let authority = init(dir.path(), "test authority", now).unwrap();
        let pair = issue(dir.path(), &request(CertificateRole::Agent, "db1"), now).unwrap();
        for key in [&authority.key, &pair.key] {
            let mode = std::fs::metadata(key).unwrap().permissions().mode() & 0o777;
            assert_eq!(mode, 0o600, "{}", key.display());
        }
        let before = std::fs::read(&pair.key).unwrap();
        let again = issue(dir.path(), &request(CertificateRole::Agent, "db1"), now);
        assert!(matches!(again, Err(CertsError::Exists { path }) if path == pair.certificate));
        assert!(matches!(
            init(dir.path(), "another", now),
            Err(CertsError::Exists { .. })
        ));
        assert_eq!(std::fs::read(&pair.key).unwrap(), before);
        let left: Vec<_> = std::fs::read_dir(dir.path()).unwrap().collect();
        assert_eq!(left.len(), 4, "no temporary files: {left:?}");
    }

    #[test]
    fn names_that_cannot_be_dialled_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let now = OffsetDateTime::now_utc();
        init(dir.path(), "test authority", now).unwrap();
        for bad in ["", "a/b", "../x", "-a", "a.b", "a b", "é", "Db1"] {
            let refused = issue(dir.path(), &request(CertificateRole::Agent, bad), now);
            assert!(matches!(refused, Err(CertsError::Identity(_))), "{bad}");
        }
        let refused = issue(dir.path(), &request(CertificateRole::Agent, "ca"), now);
        assert!(matches!(refused, Err(CertsError::ReservedName)));
        let mut wanted = request(CertificateRole::Agent, "db1");
        wanted.clusters = vec!["*".into()];
        let refused = issue(dir.path(), &wanted, now);
        assert!(matches!(refused, Err(CertsError::Identity(_))));
        for bad in ["", "a..b", "-a", "a b"] {
            assert!(
                matches!(check_host(bad), Err(CertsError::BadHost { .. })),
                "{bad}"
            );
        }
        assert!(check_host("db-1.example").is_ok());
        let left = std::fs::read_dir(dir.path()).unwrap().count();
        assert_eq!(left, 2, "a refused request leaves nothing");
    }
}
