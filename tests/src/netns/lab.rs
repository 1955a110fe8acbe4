//! Three network namespaces: the hosts (one interface for each agent), a switch, and a neighbour.

use std::fmt;
use std::time::Duration;

use crate::sandbox::SandboxError;
use crate::sandbox::tool::Tool;

/// iproute2.
pub(super) const IP: Tool = Tool {
    program: "ip",
    package: "iproute2",
};
/// Longest time of one command.
const LIMIT: Duration = Duration::from_secs(20);

/// Interfaces of the hosts, in the order of the servers.
pub(super) const INTERFACES: [&str; 3] = ["ea", "eb", "ec"];
/// The neighbour's interface.
pub(super) const NEIGHBOUR: &str = "en";
/// The neighbour's addresses, of networks for measurements and documentation.
const NEIGHBOUR_ADDRESSES: [&str; 2] = ["198.18.0.9/24", "2001:db8::9/64"];

/// Runs `ip` with these arguments.
pub(super) fn ip(arguments: &[&str]) -> Result<String, SandboxError> {
    let mut command = IP.command();
    command.args(arguments);
    IP.run(command, "make network namespaces", LIMIT)
}

/// The namespaces; they end with the value.
#[derive(Debug)]
pub(super) struct Lab {
    hosts: String,
    switch: String,
    neighbour: String,
}

impl Drop for Lab {
    fn drop(&mut self) {
        for name in [&self.hosts, &self.switch, &self.neighbour] {
            // One that was never made is not there.
            let _ = ip(&["netns", "del", name]);
        }
    }
}

impl fmt::Display for Lab {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "namespaces {}, {} and {}",
            self.hosts, self.switch, self.neighbour
        )
    }
}

impl Lab {
    pub(super) fn make() -> Result<Self, SandboxError> {
        let pid = std::process::id();
        let lab = Self {
            hosts: format!("mha-{pid}-hosts"),
            switch: format!("mha-{pid}-switch"),
            neighbour: format!("mha-{pid}-neighbour"),
        };
        for name in [&lab.hosts, &lab.switch, &lab.neighbour] {
            ip(&["netns", "add", name])?;
            ip(&["-n", name, "link", "set", "lo", "up"])?;
        }
        ip(&["-n", &lab.switch, "link", "add", "br0", "type", "bridge"])?;
        ip(&["-n", &lab.switch, "link", "set", "br0", "up"])?;
        for interface in INTERFACES {
            lab.plug(&lab.hosts, interface)?;
        }
        lab.plug(&lab.neighbour, NEIGHBOUR)?;
        for address in NEIGHBOUR_ADDRESSES {
            let mut add = vec![
                "-n",
                &lab.neighbour,
                "addr",
                "add",
                address,
                "dev",
                NEIGHBOUR,
            ];
            if address.contains(':') {
                add.push("nodad");
            }
            ip(&add)?;
        }
        // The hosts share one namespace: each interface answers for its own addresses only, as separate hosts would.
        let answer = "echo 1 > /proc/sys/net/ipv4/conf/all/arp_ignore";
        ip(&["netns", "exec", &lab.hosts, "sh", "-c", answer])?;
        Ok(lab)
    }

    fn plug(&self, namespace: &str, interface: &str) -> Result<(), SandboxError> {
        let port = format!("p-{interface}");
        ip(&[
            "link",
            "add",
            interface,
            "netns",
            namespace,
            "type",
            "veth",
            "peer",
            "name",
            &port,
            "netns",
            &self.switch,
        ])?;
        ip(&[
            "-n",
            &self.switch,
            "link",
            "set",
            &port,
            "master",
            "br0",
            "up",
        ])?;
        ip(&["-n", namespace, "link", "set", interface, "up"])?;
        Ok(())
    }

    pub(super) fn hosts(&self) -> &str {
        &self.hosts
    }

    pub(super) fn neighbour(&self) -> &str {
        &self.neighbour
    }
}
