//! Agents in this process, with certificates of an authority made for the test.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use proto::channel::{Target, connect};
use proto::identity::Identity;
use proto::tls::TlsMaterial;
use proto::v1;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, SanType};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

use crate::agent::Agent;
use crate::config::Config;
use crate::rpc::serve;

/// Longest wait for anything that should come at once.
pub(super) const SOON: Duration = Duration::from_secs(60);

/// An authority.
pub(super) struct Authority {
    certificate: String,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate with its key, as PEM.
pub(super) struct Pair {
    certificate: String,
    key: String,
}

impl Authority {
    pub(super) fn new() -> Self {
        proto::tls::install_crypto_provider();
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).unwrap().pem();
        Self {
            issuer: Issuer::from_ca_cert_pem(&certificate, key).unwrap(),
            certificate,
        }
    }

    /// A certificate with these URIs (and the DNS names that go with those of ours).
    pub(super) fn issue(&self, uris: &[&str]) -> Pair {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        for uri in uris {
            params
                .subject_alt_names
                .push(SanType::URI((*uri).try_into().unwrap()));
            if let Ok(identity) = uri.parse::<Identity>() {
                let name = identity.dns_name().as_str().try_into().unwrap();
                params.subject_alt_names.push(SanType::DnsName(name));
            }
        }
        Pair {
            certificate: params.signed_by(&key, &self.issuer).unwrap().pem(),
            key: key.serialize_pem(),
        }
    }

    pub(super) fn material(&self, pair: &Pair) -> TlsMaterial {
        TlsMaterial::from_pem(&self.certificate, &pair.certificate, &pair.key)
    }

    /// A client of the agent `db1` with these URIs in its certificate.
    pub(super) async fn dial(&self, agent: &Running, uris: &[&str]) -> Channel {
        let material = self.material(&self.issue(uris));
        let target = Target {
            address: agent.address.to_string(),
            tls: Some((material, "db1.app1.agent.mha".to_owned())),
        };
        connect(&target, SOON).await.unwrap()
    }
}

/// An agent that serves until dropped.
pub(super) struct Running {
    pub(super) agent: Arc<Agent>,
    pub(super) address: SocketAddr,
    pub(super) folder: PathBuf,
    stop: CancellationToken,
    _keep: tempfile::TempDir,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Running {
    /// An agent `name` with the servers `NAME:3306` of app1 and `NAME:3307` of app2, with TLS by `authority` or in plain
    /// text. Background work runs.
    pub(super) async fn start(name: &str, authority: Option<&Authority>) -> Self {
        Self::start_with(name, authority, "").await
    }

    /// The same with further sections of the configuration.
    pub(super) async fn start_with(name: &str, authority: Option<&Authority>, more: &str) -> Self {
        let keep = tempfile::tempdir().unwrap();
        let folder = keep.path().to_path_buf();
        let security = match authority {
            None => "plaintext: true".to_owned(),
            Some(authority) => {
                let uris = [
                    format!("mha://app1/agent/{name}"),
                    format!("mha://app2/agent/{name}"),
                ];
                let pair = authority.issue(&[&uris[0], &uris[1]]);
                write_private(&folder.join("ca.pem"), &authority.certificate);
                write_private(&folder.join("agent.pem"), &pair.certificate);
                write_private(&folder.join("agent.key"), &pair.key);
                "tls: { ca: ca.pem, cert: agent.pem, key: agent.key }".to_owned()
            }
        };
        std::fs::create_dir(folder.join("data")).unwrap();
        let text = format!(
            "name: {name}
listen: 127.0.0.1:0
state_dir: state
{security}
servers:
  - {{ name: '{name}:3306', cluster: app1, socket: no.sock, datadir: data }}
  - {{ name: '{name}:3307', cluster: app2, socket: no.sock }}
{more}"
        );
        let config = Config::parse(&text, Path::new("test.yaml"), &folder).unwrap();
        let agent = Agent::open(config).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        agent.start_background(&stop);
        let stopped = stop.clone().cancelled_owned();
        tokio::spawn(serve(Arc::clone(&agent), listener, stopped));
        Self {
            agent,
            address,
            folder,
            stop,
            _keep: keep,
        }
    }

    /// A client in plain text.
    pub(super) async fn dial(&self) -> Channel {
        let target = Target {
            address: self.address.to_string(),
            tls: None,
        };
        connect(&target, SOON).await.unwrap()
    }
}

fn write_private(path: &Path, text: &str) {
    crate::state::durable::write(path, text.as_bytes()).unwrap();
}

/// Claims app1 for an operation with this epoch.
pub(super) async fn claim(channel: &Channel, epoch: u64, operation: &str) {
    v1::epoch_service_client::EpochServiceClient::new(channel.clone())
        .claim_epoch(v1::ClaimEpochRequest {
            cluster: "app1".to_owned(),
            epoch,
            operation: operation.to_owned(),
            manager: "m1".to_owned(),
            take_over: false,
        })
        .await
        .unwrap();
}

/// A context of app1.
pub(super) fn context(server: &str, epoch: u64, operation: &str) -> v1::CallContext {
    v1::CallContext {
        cluster: "app1".to_owned(),
        server: server.to_owned(),
        operation: operation.to_owned(),
        epoch,
        deadline_ms: 60_000,
    }
}

/// The kind of an agent's refusal.
pub(super) fn kind(status: &tonic::Status) -> v1::ErrorKind {
    proto::status::CallError::from_status("test", status)
        .kind()
        .unwrap_or_else(|| panic!("no error of an agent: {status:?}"))
}
