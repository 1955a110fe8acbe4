//! The files that operators write: configurations of agents and managers, and the passwords they name. All are private.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::{Agent, CLUSTER, Deployment, DeploymentSpec, server_name};
use crate::sandbox::accounts::{AGENT, MONITOR, REPLICATION};
use crate::sandbox::cluster::Cluster;
use crate::sandbox::error::SandboxError;
use crate::sandbox::server::Server;

/// The files of one of several managers of a cluster.
#[derive(Debug, Clone)]
pub struct ManagerFiles {
    /// Its name, in its certificate and wherever it holds the cluster.
    pub name: String,
    /// Its configuration.
    pub config: PathBuf,
    /// Its state folder.
    pub state: PathBuf,
}

impl Deployment {
    /// A further manager of this cluster: a name, a certificate and a state folder of its own.
    pub async fn another_manager(&self, name: &str) -> Result<ManagerFiles, SandboxError> {
        self.issue("manager", name).await?;
        let path = &self.manager_config;
        let text = fs::read_to_string(path).map_err(SandboxError::io("read", path))?;
        let mut config: Value =
            serde_yaml::from_str(&text).map_err(|error| SandboxError::Format {
                path: path.clone(),
                wanted: "YAML",
                detail: error.to_string(),
            })?;
        let files = ManagerFiles {
            name: name.to_owned(),
            config: self.dir.join(format!("{name}.yaml")),
            state: self.dir.join(format!("{name}-state")),
        };
        config["manager_name"] = name.into();
        config["state_dir"] = json!(files.state);
        config["tls"] = tls(&self.dir, name);
        write_yaml(&files.config, &config)?;
        Ok(files)
    }
}

pub(super) fn create_private(folder: &Path) -> Result<(), SandboxError> {
    fs::create_dir_all(folder).map_err(SandboxError::io("create", folder))?;
    fs::set_permissions(folder, fs::Permissions::from_mode(0o700))
        .map_err(SandboxError::io("protect", folder))
}

fn write_private(path: &Path, text: &str) -> Result<(), SandboxError> {
    fs::write(path, text).map_err(SandboxError::io("write", path))?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))
        .map_err(SandboxError::io("protect", path))
}

pub(super) fn write_yaml(path: &Path, value: &Value) -> Result<(), SandboxError> {
    let text = serde_yaml::to_string(value).map_err(|error| SandboxError::Format {
        path: path.to_owned(),
        wanted: "writable as YAML",
        detail: error.to_string(),
    })?;
    write_private(path, &text)
}

fn tls(folder: &Path, name: &str) -> Value {
    let at = |file: String| folder.join("tls").join(file);
    json!({ "ca": at("ca.pem".to_owned()), "cert": at(format!("{name}.pem")), "key": at(format!("{name}.key")) })
}

/// Writes an agent's configuration and the passwords that it names.
pub(super) fn of_agent(
    dir: &Path,
    server: &Server,
    listen: SocketAddr,
    state_dir: &Path,
) -> Result<PathBuf, SandboxError> {
    let name = server.name();
    let own = dir.join(format!("{name}.agent.password"));
    let replication = dir.join(format!("{name}.replication.password"));
    write_private(&own, AGENT.password)?;
    write_private(&replication, REPLICATION.password)?;
    let config = dir.join(format!("{name}.yaml"));
    write_yaml(
        &config,
        &json!({
            "name": name,
            "listen": listen.to_string(),
            "state_dir": state_dir,
            "tls": tls(dir, name),
            "servers": [{
                "name": server_name(server),
                "cluster": CLUSTER,
                "socket": server.socket(),
                "user": AGENT.user,
                "password_file": own,
                "replication_user": REPLICATION.user,
                "replication_password_file": replication,
            }],
        }),
    )?;
    Ok(config)
}

/// Writes the configuration of an agent beside a directory of copies.
pub(super) fn of_binlog_server(
    dir: &Path,
    name: &str,
    copies: &Path,
    listen: SocketAddr,
    state_dir: &Path,
) -> Result<PathBuf, SandboxError> {
    let config = dir.join(format!("{name}.yaml"));
    write_yaml(
        &config,
        &json!({
            "name": name,
            "listen": listen.to_string(),
            "state_dir": state_dir,
            "tls": tls(dir, name),
            "binlog_servers": [{ "name": name, "cluster": CLUSTER, "directory": copies }],
        }),
    )?;
    Ok(config)
}

/// The manager's configuration; the password that it names is written.
pub(super) fn of_manager(
    dir: &Path,
    cluster: &Cluster,
    (agents, binlog_servers): (&[Agent], &[Agent]),
    spec: &DeploymentSpec,
) -> Result<Value, SandboxError> {
    let password = dir.join("monitor.password");
    write_private(&password, MONITOR.password)?;
    let mut servers = Vec::new();
    for (number, (server, agent)) in cluster.servers().iter().zip(agents).enumerate() {
        let candidate = spec
            .candidates
            .iter()
            .find(|(wanted, _)| *wanted == number)
            .map_or("allowed", |found| found.1);
        let mut entry = json!({
            "name": server_name(server),
            "host": server.address().to_string(),
            "port": server.port(),
            "agent": agent.address().to_string(),
            "agent_name": agent.name(),
            "candidate": candidate,
        });
        for (_, key, value) in spec
            .servers
            .iter()
            .filter(|(wanted, _, _)| *wanted == number)
        {
            entry[*key] = value.clone();
        }
        servers.push(entry);
    }
    let mut failover = json!({});
    for (key, value) in &spec.failover {
        failover[*key] = value.clone();
    }
    let mut monitor = json!({ "user": MONITOR.user, "password_file": password });
    for (key, value) in &spec.monitor {
        monitor[*key] = value.clone();
    }
    let mut config = json!({
        "cluster": CLUSTER,
        "state_dir": dir.join("manager-state"),
        "tls": tls(dir, "m1"),
        "servers": servers,
        "monitor": monitor,
        "failover": failover,
    });
    if !binlog_servers.is_empty() {
        let of_one =
            |agent: &Agent| json!({ "name": agent.name(), "agent": agent.address().to_string() });
        config["binlog_servers"] = binlog_servers.iter().map(of_one).collect();
    }
    if let Some(hooks) = &spec.hooks {
        config["hooks"] = hooks.clone();
    }
    for (section, value) in &spec.more {
        config[*section] = value.clone();
    }
    Ok(config)
}
