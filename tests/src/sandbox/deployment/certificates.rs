//! Certificates, made by `mha-manager certs` as an operator makes them.

use std::net::Ipv4Addr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use proto::tls::TlsPaths;

use super::{CLUSTER, Deployment, blocking, files};
use crate::sandbox::binaries::Binaries;
use crate::sandbox::error::SandboxError;
use crate::sandbox::tool;

/// How long a certificate may take.
const CERTIFICATE: Duration = Duration::from_secs(90);

impl Deployment {
    /// Issues a further certificate: `NAME.pem` and `NAME.key` beside the others.
    pub async fn issue(&self, role: &str, name: &str) -> Result<(), SandboxError> {
        self.issue_for(CLUSTER, role, name).await
    }

    /// Issues a further certificate for another cluster.
    pub async fn issue_for(
        &self,
        cluster: &str,
        role: &str,
        name: &str,
    ) -> Result<(), SandboxError> {
        issue(
            &self.binaries,
            &self.certificates(),
            (cluster, role, name),
            None,
        )
        .await
    }

    /// Makes another authority and a manager's certificate of it, as somebody else's network may have.
    pub async fn foreign_authority(&self, name: &str) -> Result<TlsPaths, SandboxError> {
        let folder = self.dir.join("foreign-tls");
        authority(&self.binaries, &folder).await?;
        issue(&self.binaries, &folder, (CLUSTER, "manager", name), None).await?;
        Ok(TlsPaths {
            ca: folder.join("ca.pem"),
            cert: folder.join(format!("{name}.pem")),
            key: folder.join(format!("{name}.key")),
        })
    }
}

/// Makes an authority in a new folder.
pub(super) async fn authority(binaries: &Binaries, folder: &Path) -> Result<(), SandboxError> {
    files::create_private(folder)?;
    certs(binaries, &["init", "--dir"], folder, &[]).await
}

async fn certs(
    binaries: &Binaries,
    before: &[&str],
    folder: &Path,
    after: &[String],
) -> Result<(), SandboxError> {
    let mut command = Command::new(&binaries.manager);
    command.arg("certs").args(before).arg(folder).args(after);
    blocking(move || tool::run(command, None, CERTIFICATE))
        .await
        .map(|_| ())
}

pub(super) async fn issue(
    binaries: &Binaries,
    folder: &Path,
    (cluster, role, name): (&str, &str, &str),
    host: Option<Ipv4Addr>,
) -> Result<(), SandboxError> {
    let mut after = vec!["--cluster".to_owned(), cluster.to_owned()];
    after.extend([
        "--role".to_owned(),
        role.to_owned(),
        "--name".to_owned(),
        name.to_owned(),
    ]);
    if let Some(host) = host {
        after.extend(["--host".to_owned(), host.to_string()]);
    }
    certs(binaries, &["issue", "--dir"], folder, &after).await
}
