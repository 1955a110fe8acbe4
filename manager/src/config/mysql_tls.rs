//! TLS of the manager's ping, in the words of the MySQL manual: `ssl_mode`, `ssl_ca`, `ssl_cert`, `ssl_key`.
//!
//! All files are read and understood when the configuration is, so that a ping can fail only by what the server does. A key
//! that would be ignored is refused: nobody is to believe that something is verified which is not.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};

use super::resolved::Check;
use super::{ConfigError, Secret, raw, secret};

/// How a connection to a server is protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SslMode {
    /// Plain text.
    Disabled,
    /// TLS where it can be had, else plain text; the server proves nothing.
    Preferred,
    /// TLS or nothing; the server proves nothing.
    Required,
    /// TLS or nothing; the server shows a certificate of `ssl_ca` for its name.
    VerifyIdentity,
}

impl SslMode {
    /// The word of the configuration.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Disabled => "DISABLED",
            Self::Preferred => "PREFERRED",
            Self::Required => "REQUIRED",
            Self::VerifyIdentity => "VERIFY_IDENTITY",
        }
    }
}

/// TLS to MySQL servers. `Debug` shows no key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MysqlTls {
    /// Whether, and what is verified.
    pub mode: SslMode,
    /// PEM certificates of the authorities; some exactly with [`SslMode::VerifyIdentity`].
    pub ca: Option<Vec<u8>>,
    /// What the manager shows to servers that ask for it (`REQUIRE X509`).
    pub client: Option<ClientCertificate>,
    /// The name in the servers' certificates, where that is not the configured host.
    pub server_name: Option<String>,
}

/// A certificate with its key, both PEM, which belong together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientCertificate {
    /// The certificate, those of its issuers behind it.
    pub chain: Vec<u8>,
    /// The private key.
    pub key: Secret,
}

impl MysqlTls {
    /// Plain text.
    pub(super) const OFF: Self = Self {
        mode: SslMode::Disabled,
        ca: None,
        client: None,
        server_name: None,
    };
}

/// Reads the files and checks that the keys fit together.
pub(super) fn resolve(
    check: &Check<'_>,
    mode: Option<raw::SslMode>,
    files: raw::SslFiles,
) -> Result<MysqlTls, ConfigError> {
    let mode = match mode {
        None | Some(raw::SslMode::Disabled) => SslMode::Disabled,
        Some(raw::SslMode::Preferred) => SslMode::Preferred,
        Some(raw::SslMode::Required) => SslMode::Required,
        Some(raw::SslMode::VerifyIdentity) => SslMode::VerifyIdentity,
        Some(raw::SslMode::VerifyCa) => {
            return Err(check.bad(
                "monitor.ssl_mode",
                "VERIFY_IDENTITY, with ssl_server_name where certificates are for another name than the configured host",
                "VERIFY_CA",
            ));
        }
    };
    let verifies = mode == SslMode::VerifyIdentity;
    let shown = |path: &Option<PathBuf>| path.as_ref().map(|path| path.display().to_string());
    for (key, given) in [
        ("monitor.ssl_ca", shown(&files.ca)),
        ("monitor.ssl_server_name", files.server_name.clone()),
    ] {
        if let Some(given) = given.filter(|_| !verifies) {
            let expected =
                "ssl_mode: VERIFY_IDENTITY beside it, since nothing else verifies the server";
            return Err(check.bad(key, expected, &given));
        }
    }
    let ca = match files.ca {
        Some(path) => Some(authorities(check, &check.relative(path))?),
        None if verifies => {
            return Err(check.bad(
                "monitor.ssl_ca",
                "a PEM file with the certificates to verify by",
                "nothing",
            ));
        }
        None => None,
    };
    if let Some(name) = &files.server_name
        && ServerName::try_from(name.as_str()).is_err()
    {
        return Err(check.bad("monitor.ssl_server_name", "a host name or an address", name));
    }
    let client = match (files.cert, files.key) {
        (None, None) => None,
        (Some(cert), Some(_)) | (None, Some(cert)) if mode == SslMode::Disabled => {
            let expected = "an ssl_mode other than DISABLED beside it";
            return Err(check.bad("monitor.ssl_cert", expected, &cert.display().to_string()));
        }
        (Some(cert), Some(key)) => Some(own(check, &check.relative(cert), &check.relative(key))?),
        (Some(_), None) => {
            return Err(check.bad("monitor.ssl_key", "the key of ssl_cert", "nothing"));
        }
        (None, Some(_)) => {
            return Err(check.bad("monitor.ssl_cert", "the certificate of ssl_key", "nothing"));
        }
    };
    Ok(MysqlTls {
        mode,
        ca,
        client,
        server_name: files.server_name,
    })
}

fn read(path: &Path) -> Result<Vec<u8>, ConfigError> {
    std::fs::read(path).map_err(|source| ConfigError::Read {
        path: path.to_owned(),
        source,
    })
}

fn authorities(check: &Check<'_>, path: &Path) -> Result<Vec<u8>, ConfigError> {
    let pem = read(path)?;
    let mut store = RootCertStore::empty();
    let usable = certificates(&pem)
        .is_some_and(|all| !all.is_empty() && all.into_iter().all(|one| store.add(one).is_ok()));
    if !usable {
        let expected = "a PEM file with X.509 certificates of authorities";
        return Err(check.bad("monitor.ssl_ca", expected, &path.display().to_string()));
    }
    Ok(pem)
}

fn certificates(pem: &[u8]) -> Option<Vec<CertificateDer<'static>>> {
    CertificateDer::pem_slice_iter(pem)
        .collect::<Result<_, _>>()
        .ok()
}

fn own(check: &Check<'_>, cert: &Path, key: &Path) -> Result<ClientCertificate, ConfigError> {
    let chain = read(cert)?;
    let expected = "a PEM file with an X.509 certificate";
    let found = certificates(&chain)
        .filter(|all| !all.is_empty())
        .ok_or_else(|| check.bad("monitor.ssl_cert", expected, &cert.display().to_string()))?;
    let text = secret::read_whole(key)?;
    let private = PrivateKeyDer::from_pem_slice(text.reveal().as_bytes()).map_err(|_| {
        let expected = "a PEM file with an unencrypted private key";
        check.bad("monitor.ssl_key", expected, &key.display().to_string())
    })?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let fits = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .is_ok_and(|builder| {
            builder
                .with_root_certificates(RootCertStore::empty())
                .with_client_auth_cert(found, private)
                .is_ok()
        });
    if !fits {
        let expected = "the private key of the certificate in ssl_cert";
        return Err(check.bad("monitor.ssl_key", expected, &key.display().to_string()));
    }
    Ok(ClientCertificate { chain, key: text })
}
