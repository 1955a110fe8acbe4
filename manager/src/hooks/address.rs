//! What MHA tells scripts about a server: host, address, and how to reach it by ssh.

use std::time::Duration;

use super::Call;
use super::settings::DEFAULT_SSH_PORT;
use crate::config::{ClusterConfig, ServerConfig};

/// A server as scripts see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Party {
    /// Host, as configured.
    pub host: String,
    /// Address.
    pub ip: String,
    /// Port of mysqld.
    pub port: u16,
    /// ssh user.
    pub ssh_user: String,
    /// ssh name.
    pub ssh_host: String,
    /// ssh address.
    pub ssh_ip: String,
    /// ssh port.
    pub ssh_port: u16,
    /// File with the pid of mysqld.
    pub master_pid_file: Option<String>,
}

impl Party {
    /// A server that is not configured: only its name is known.
    pub(super) fn unknown(name: &str) -> Self {
        Self {
            host: name.to_owned(),
            ip: name.to_owned(),
            port: 0,
            ssh_user: String::new(),
            ssh_host: name.to_owned(),
            ssh_ip: name.to_owned(),
            ssh_port: DEFAULT_SSH_PORT,
            master_pid_file: None,
        }
    }

    /// `host(ip:port)`, as MHA writes servers.
    #[must_use]
    pub fn shown(&self) -> String {
        format!("{}({}:{})", self.host, self.ip, self.port)
    }

    /// `PREFIXhost`, `PREFIXip`, `PREFIXport`.
    #[must_use]
    pub fn address(&self, call: Call, prefix: &str) -> Call {
        call.argument(&format!("{prefix}host"), self.host.as_str())
            .argument(&format!("{prefix}ip"), self.ip.as_str())
            .argument(&format!("{prefix}port"), self.port)
    }

    /// `PREFIXssh_host` and `PREFIXssh_ip` where they differ from host or address, `PREFIXssh_port` where it is not 22.
    #[must_use]
    pub fn ssh(&self, call: Call, prefix: &str) -> Call {
        let elsewhere = self.ssh_host != self.host || self.ssh_ip != self.ip;
        call.maybe(
            &format!("{prefix}ssh_host"),
            elsewhere.then_some(self.ssh_host.as_str()),
        )
        .maybe(
            &format!("{prefix}ssh_ip"),
            elsewhere.then_some(self.ssh_ip.as_str()),
        )
        .maybe(
            &format!("{prefix}ssh_port"),
            (self.ssh_port != DEFAULT_SSH_PORT).then_some(self.ssh_port),
        )
    }
}

/// Longest wait for the resolver.
const RESOLVER: Duration = Duration::from_secs(1);

/// The server as scripts see it; asks the resolver for addresses that are not configured.
///
/// Differs from MHA: a resolver that fails or hangs does not stop anything; the host's name stands in for the address,
/// which scripts can use in the same places.
pub async fn party(config: &ClusterConfig, server: &ServerConfig) -> Party {
    let settings = &config.hooks;
    let own = settings
        .servers
        .get(&server.name)
        .cloned()
        .unwrap_or_default();
    let host = server.address.host.clone();
    let ssh_host = own.ssh_host.unwrap_or_else(|| host.clone());
    let ip = async {
        match own.ip {
            Some(ip) => ip,
            None => resolve(&host).await,
        }
    };
    let ssh_ip = async {
        match own.ssh_ip {
            Some(ip) => Some(ip),
            None if ssh_host == host => None,
            None => Some(resolve(&ssh_host).await),
        }
    };
    let (ip, ssh_ip) = futures::join!(ip, ssh_ip);
    Party {
        port: server.address.port,
        ssh_user: own.ssh_user.unwrap_or_else(|| settings.ssh.user.clone()),
        ssh_ip: ssh_ip.unwrap_or_else(|| ip.clone()),
        ssh_port: own.ssh_port.unwrap_or(settings.ssh.port),
        master_pid_file: own.master_pid_file,
        host,
        ip,
        ssh_host,
    }
}

async fn resolve(host: &str) -> String {
    if host.parse::<std::net::IpAddr>().is_ok() {
        return host.to_owned();
    }
    let found = tokio::time::timeout(RESOLVER, tokio::net::lookup_host((host, 0))).await;
    let why = match found {
        Ok(Ok(mut addresses)) => match addresses.next() {
            Some(address) => return address.ip().to_string(),
            None => "no address".to_owned(),
        },
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!("no answer within {RESOLVER:?}"),
    };
    tracing::warn!(
        host,
        why,
        "no address for the hooks' arguments; the name is passed instead"
    );
    host.to_owned()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::hooks::{Hook, HookServer};
    use crate::testing;

    pub(crate) fn simple(host: &str, ip: &str) -> Party {
        Party {
            host: host.to_owned(),
            ip: ip.to_owned(),
            port: 3306,
            ssh_user: "mysql".to_owned(),
            ssh_host: host.to_owned(),
            ssh_ip: ip.to_owned(),
            ssh_port: 22,
            master_pid_file: None,
        }
    }

    #[test]
    fn ssh_arguments_appear_only_where_they_differ_from_the_defaults() {
        type Change = fn(&mut Party);
        let table: [(Change, &[&str]); 5] = [
            (|_| {}, &[]),
            (|p| p.ssh_port = 2222, &["--new_master_ssh_port=2222"]),
            (
                |p| p.ssh_host = "adm1".into(),
                &["--new_master_ssh_host=adm1", "--new_master_ssh_ip=10.0.0.1"],
            ),
            (
                |p| p.ssh_ip = "10.9.0.1".into(),
                &["--new_master_ssh_host=db1", "--new_master_ssh_ip=10.9.0.1"],
            ),
            (|p| p.port = 3307, &[]),
        ];
        for (change, expected) in table {
            let mut party = simple("db1", "10.0.0.1");
            change(&mut party);
            let call = party.ssh(Call::new(Hook::ShutdownScript), "new_master_");
            assert_eq!(call.arguments(), expected);
        }
    }

    #[tokio::test]
    async fn what_is_configured_wins_and_the_rest_is_resolved() {
        let mut config = testing::config(2);
        config.hooks.ssh.user = "mysql".to_owned();
        config.servers[0].address.host = "localhost".to_owned();
        config.servers[1].address.host = "no-such-host.invalid".to_owned();
        config.hooks.servers.insert(
            "db1".to_owned(),
            HookServer {
                ssh_host: Some("127.0.0.9".to_owned()),
                ssh_port: Some(2222),
                ..HookServer::default()
            },
        );
        let one = party(&config, &config.servers[0]).await;
        assert!(one.ip == "127.0.0.1" || one.ip == "::1", "{}", one.ip);
        assert_eq!((one.ssh_ip.as_str(), one.ssh_port), ("127.0.0.9", 2222));
        let two = party(&config, &config.servers[1]).await;
        assert_eq!(two.ip, "no-such-host.invalid", "the name stands in");
        assert_eq!(two.ssh_ip, two.ip);
    }
}
