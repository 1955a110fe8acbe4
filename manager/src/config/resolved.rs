//! What the program needs, checked once.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use proto::identity::{Identity, Role};
use proto::tls::TlsMaterial;
use serde::{Deserialize, Serialize};

use super::binlog_servers::{self, BinlogServerConfig};
use super::monitor::{self, MonitorConfig};
use super::virtual_ip::{self, VirtualIp};
use super::{ConfigError, durations, hooks, raw};
use crate::hooks::HookSettings;
use crate::hooks::init_conf_load::Loaded;
use crate::lease::{self, LeaseMode};

const DEFAULT_STATE_DIR: &str = "/var/lib/mha-manager";
const DEFAULT_PORT: u16 = 3306;
/// MHA's limit: a replica whose applier is further behind is no candidate.
const DEFAULT_MAX_DELAY_BYTES: u64 = 100_000_000;
/// More failovers than this in a few minutes are no coincidence: the trouble is elsewhere.
const DEFAULT_FLEET_LIMIT: u32 = 3;

/// A server's address as people and replicas write it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct HostPort {
    /// Host name or address.
    pub host: String,
    /// TCP port.
    pub port: u16,
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl FromStr for HostPort {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const EXPECTED: &str = "expected HOST:PORT";
        let (host, port) = text.rsplit_once(':').ok_or(EXPECTED)?;
        let host = host
            .strip_prefix('[')
            .and_then(|h| h.strip_suffix(']'))
            .unwrap_or(host);
        let port = port.parse().map_err(|_| EXPECTED)?;
        let bad_host = host.is_empty()
            || host
                .chars()
                .any(|c| c.is_whitespace() || c == '/' || c.is_control())
            || (host.contains(':') && host.parse::<IpAddr>().is_err());
        if bad_host || port == 0 {
            return Err(EXPECTED);
        }
        Ok(Self {
            host: host.to_owned(),
            port,
        })
    }
}

/// Whether a server may become the primary.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Candidacy {
    /// Chosen before others (MHA: `candidate_master=1`).
    Preferred,
    /// May be chosen.
    Allowed,
    /// Never chosen (MHA: `no_master=1`).
    Never,
}

/// What to do when the dead host's agent does not answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum UnreachableLog {
    /// Go on without the tail (as MHA); the report says what is unknown.
    Proceed,
    /// Stop before anything changes.
    Stop,
}

/// How agents are dialled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Security {
    /// Mutual TLS.
    Tls(TlsMaterial),
    /// Plain text, loopback addresses only.
    Plaintext,
}

/// Where a server's agent is.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AgentEndpoint {
    /// `host:port` to dial.
    pub address: String,
    /// Name in the agent's certificate.
    pub name: String,
    /// DNS SAN that certificate must carry.
    pub dns_name: String,
}

/// One configured server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerConfig {
    /// Name, as the agent knows it.
    pub name: String,
    /// Address of mysqld as replicas dial it.
    pub address: HostPort,
    /// Its agent.
    pub agent: AgentEndpoint,
    /// May it become the primary?
    pub candidacy: Candidacy,
    /// A failure of this server does not stop a failover.
    pub ignore_fail: bool,
}

/// How a failover behaves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailoverPolicy {
    /// Dead host does not answer.
    pub on_unreachable_log: UnreachableLog,
    /// Longest time without progress while the dead host's log is read.
    pub save_timeout: Duration,
    /// Longest time without progress of other long acts.
    pub progress_timeout: Duration,
    /// Longest time of a short call.
    pub call_timeout: Duration,
    /// Longest time to reach an agent, all tries together.
    pub connect_timeout: Duration,
    /// Exclude candidates whose applier is far behind.
    pub check_delay: bool,
    /// How far is far, bytes within one file of the primary.
    pub max_delay_bytes: u64,
    /// Prefer the replica that received most (MHA: `latest_priority`).
    pub latest_priority: bool,
    /// No further failover of this cluster for so long after one (MHA: `last_failover_minute`).
    pub last_failover_window: Duration,
    /// No more failovers than this of all clusters ..
    pub fleet_limit: u32,
    /// .. within this time.
    pub fleet_window: Duration,
    /// How long an agent may take to close its server once its lease has ended.
    pub lease_kill_time: Duration,
}

impl Default for FailoverPolicy {
    fn default() -> Self {
        Self {
            on_unreachable_log: UnreachableLog::Proceed,
            save_timeout: Duration::from_secs(30),
            progress_timeout: Duration::from_secs(30),
            call_timeout: Duration::from_secs(5),
            connect_timeout: Duration::from_secs(5),
            check_delay: true,
            max_delay_bytes: DEFAULT_MAX_DELAY_BYTES,
            latest_priority: true,
            last_failover_window: Duration::from_secs(8 * 3600),
            fleet_limit: DEFAULT_FLEET_LIMIT,
            fleet_window: Duration::from_secs(600),
            lease_kill_time: lease::KILL_TIME,
        }
    }
}

/// A cluster's whole configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterConfig {
    /// The configuration file.
    pub file: PathBuf,
    /// Name of the cluster.
    pub cluster: String,
    /// Name under which this manager claims epochs.
    pub manager_name: String,
    /// Folder of journals, copies and reports.
    pub state_dir: PathBuf,
    /// How agents are dialled.
    pub security: Security,
    /// Servers, in order of priority; at least two.
    pub servers: Vec<ServerConfig>,
    /// Hosts that keep copies of the primary's binary logs.
    pub binlog_servers: Vec<BinlogServerConfig>,
    /// Ping.
    pub monitor: MonitorConfig,
    /// Whether the primary holds a lease.
    pub lease: LeaseMode,
    /// Policy.
    pub failover: FailoverPolicy,
    /// MHA's scripts.
    pub hooks: HookSettings,
    /// The address that moves with the primary; `None`: this program moves none.
    pub virtual_ip: Option<VirtualIp>,
}

impl ClusterConfig {
    /// The server with this address or name.
    pub fn find(&self, wanted: &str) -> Option<&ServerConfig> {
        let address: Option<HostPort> = wanted.parse().ok();
        self.servers
            .iter()
            .find(|s| Some(&s.address) == address.as_ref())
            .or_else(|| self.servers.iter().find(|s| s.name == wanted))
    }

    /// The binlog server of this name.
    pub fn binlog_server(&self, name: &str) -> Option<&BinlogServerConfig> {
        self.binlog_servers.iter().find(|b| b.name == name)
    }
}

pub(super) fn resolve(
    path: &Path,
    raw: raw::Cluster,
    loaded: &Loaded,
) -> Result<ClusterConfig, ConfigError> {
    let check = Check { path };
    Identity::new(&raw.cluster, Role::Agent, "x")
        .map_err(|_| check.bad("cluster", "a DNS label of a-z, 0-9 and -", &raw.cluster))?;
    let security = match (raw.tls, raw.plaintext.unwrap_or(false)) {
        (Some(paths), false) => {
            let paths = proto::tls::TlsPaths {
                ca: check.relative(paths.ca),
                cert: check.relative(paths.cert),
                key: check.relative(paths.key),
            };
            Security::Tls(
                TlsMaterial::load(&paths).map_err(|source| ConfigError::Tls {
                    path: path.to_owned(),
                    source,
                })?,
            )
        }
        (None, true) => Security::Plaintext,
        (Some(_), true) => {
            return Err(check.bad("plaintext", "false or absent, since tls is given", "true"));
        }
        (None, false) => {
            return Err(check.bad("tls", "ca, cert and key", "nothing"));
        }
    };
    let plaintext = matches!(security, Security::Plaintext);
    if raw.servers.len() < 2 {
        return Err(check.bad(
            "servers",
            "at least two servers",
            &raw.servers.len().to_string(),
        ));
    }
    let interfaces = raw
        .servers
        .iter()
        .map(|s| (s.name.clone(), s.virtual_ip_interface.clone()))
        .collect();
    let virtual_ip = virtual_ip::resolve(&check, raw.virtual_ip, interfaces)?;
    let mut servers: Vec<ServerConfig> = Vec::new();
    let (mut names, mut addresses) = (BTreeSet::new(), BTreeSet::new());
    for (index, server) in raw.servers.into_iter().enumerate() {
        let server = resolve_server(&check, &raw.cluster, index, server, plaintext)?;
        let at = |key: &str| format!("servers[{index}].{key}");
        if !names.insert(server.name.clone()) {
            return Err(check.bad(&at("name"), "a name no other server has", &server.name));
        }
        if !addresses.insert(server.address.clone()) {
            return Err(check.bad(
                &at("host"),
                "an address no other server has",
                &server.address.to_string(),
            ));
        }
        servers.push(server);
    }
    let binlog_servers =
        binlog_servers::resolve(&check, &raw.cluster, raw.binlog_servers, plaintext, names)?;
    let defaults = FailoverPolicy::default();
    let f = raw.failover;
    let failover = FailoverPolicy {
        on_unreachable_log: match f.on_unreachable_log {
            None | Some(raw::OnUnreachableLog::Proceed) => UnreachableLog::Proceed,
            Some(raw::OnUnreachableLog::Stop) => UnreachableLog::Stop,
        },
        save_timeout: check.duration(
            "failover.save_timeout",
            f.save_timeout,
            defaults.save_timeout,
        )?,
        progress_timeout: check.duration(
            "failover.progress_timeout",
            f.progress_timeout,
            defaults.progress_timeout,
        )?,
        call_timeout: check.duration(
            "failover.call_timeout",
            f.call_timeout,
            defaults.call_timeout,
        )?,
        connect_timeout: check.duration(
            "failover.connect_timeout",
            f.connect_timeout,
            defaults.connect_timeout,
        )?,
        check_delay: f.check_delay.unwrap_or(defaults.check_delay),
        max_delay_bytes: f.max_delay_bytes.unwrap_or(defaults.max_delay_bytes),
        latest_priority: f.latest_priority.unwrap_or(defaults.latest_priority),
        last_failover_window: check.duration(
            "failover.last_failover_window",
            f.last_failover_window,
            defaults.last_failover_window,
        )?,
        fleet_limit: match f.fleet_limit.unwrap_or(defaults.fleet_limit) {
            0 => return Err(check.bad("failover.fleet_limit", "a number above 0", "0")),
            limit => limit,
        },
        fleet_window: check.duration(
            "failover.fleet_window",
            f.fleet_window,
            defaults.fleet_window,
        )?,
        lease_kill_time: check.duration(
            "failover.lease_kill_time",
            f.lease_kill_time,
            defaults.lease_kill_time,
        )?,
    };
    let monitor = monitor::resolve(&check, raw.monitor, hooks::loaded_password(loaded))?;
    let hooks = hooks::resolve(&check, raw.hooks, loaded, &servers, &monitor)?;
    Ok(ClusterConfig {
        file: path.to_owned(),
        cluster: raw.cluster,
        manager_name: raw.manager_name.unwrap_or_else(default_manager_name),
        state_dir: check.relative(raw.state_dir.unwrap_or_else(|| DEFAULT_STATE_DIR.into())),
        security,
        servers,
        binlog_servers,
        monitor,
        lease: raw.lease.unwrap_or_default(),
        failover,
        hooks,
        virtual_ip,
    })
}

fn resolve_server(
    check: &Check<'_>,
    cluster: &str,
    index: usize,
    raw: raw::Server,
    plaintext: bool,
) -> Result<ServerConfig, ConfigError> {
    let at = |key: &str| format!("servers[{index}].{key}");
    if !plain_name(&raw.name) {
        return Err(check.bad(&at("name"), "a name like db1:3306", &raw.name));
    }
    let port = raw.port.unwrap_or(DEFAULT_PORT);
    let address = HostPort {
        host: raw.host,
        port,
    };
    let host_ok = plain(&address.host)
        && (!address.host.contains(':') || address.host.parse::<IpAddr>().is_ok());
    if !host_ok {
        return Err(check.bad(&at("host"), "a host name or an address", &address.host));
    }
    if port == 0 {
        return Err(check.bad(&at("port"), "a port from 1 to 65535", "0"));
    }
    let section = format!("servers[{index}]");
    let named = (raw.name.as_str(), raw.agent.as_str(), raw.agent_name);
    Ok(ServerConfig {
        agent: agent_endpoint(check, &section, cluster, named, plaintext)?,
        name: raw.name,
        address,
        candidacy: match raw.candidate {
            Some(raw::Candidate::Preferred) => Candidacy::Preferred,
            None | Some(raw::Candidate::Allowed) => Candidacy::Allowed,
            Some(raw::Candidate::Never) => Candidacy::Never,
        },
        ignore_fail: raw.ignore_fail.unwrap_or(false),
    })
}

fn plain(text: &str) -> bool {
    let odd = |c: char| c.is_whitespace() || c.is_control() || c == '/';
    !text.is_empty() && !text.chars().any(odd)
}

pub(super) fn plain_name(name: &str) -> bool {
    plain(name) && name.len() <= 255
}

/// The agent at the address `dialled` of what is called `name`; unless told otherwise, the agent's own name is what stands
/// before the first colon of that.
pub(super) fn agent_endpoint(
    check: &Check<'_>,
    section: &str,
    cluster: &str,
    (name, dialled, agent_name): (&str, &str, Option<String>),
    plaintext: bool,
) -> Result<AgentEndpoint, ConfigError> {
    let at = |key: &str| format!("{section}.{key}");
    let address: HostPort = dialled
        .parse()
        .map_err(|_| check.bad(&at("agent"), "host:port", dialled))?;
    let loopback = address
        .host
        .parse::<IpAddr>()
        .is_ok_and(|ip| ip.is_loopback());
    if plaintext && !loopback {
        return Err(check.bad(
            &at("agent"),
            "a loopback address, since plaintext is on",
            dialled,
        ));
    }
    let agent_name = agent_name.unwrap_or_else(|| {
        let host = name.split(':').next().unwrap_or_default();
        host.to_owned()
    });
    let identity = Identity::new(cluster, Role::Agent, &agent_name).map_err(|_| {
        check.bad(
            &at("agent_name"),
            "the name in the agent's certificate: a DNS label of a-z, 0-9 and -",
            &agent_name,
        )
    })?;
    Ok(AgentEndpoint {
        address: address.to_string(),
        dns_name: identity.dns_name(),
        name: agent_name,
    })
}

fn default_manager_name() -> String {
    nix::unistd::gethostname()
        .ok()
        .and_then(|n| n.into_string().ok())
        .filter(|n| !n.is_empty())
        .unwrap_or_else(|| "manager".to_owned())
}

/// Makes errors that name the file and the key.
pub(super) struct Check<'a> {
    pub(super) path: &'a Path,
}

impl Check<'_> {
    pub(super) fn bad(&self, key: &str, expected: &'static str, found: &str) -> ConfigError {
        ConfigError::Value {
            path: self.path.to_owned(),
            key: key.to_owned(),
            expected,
            found: found.to_owned(),
        }
    }

    pub(super) fn duration(
        &self,
        key: &str,
        text: Option<String>,
        default: Duration,
    ) -> Result<Duration, ConfigError> {
        match text {
            None => Ok(default),
            Some(text) => {
                durations::parse(&text).ok_or_else(|| self.bad(key, durations::EXPECTED, &text))
            }
        }
    }

    /// Paths are relative to the folder of the configuration file.
    pub(super) fn relative(&self, path: PathBuf) -> PathBuf {
        match self.path.parent() {
            Some(dir) => dir.join(path),
            None => path,
        }
    }
}
