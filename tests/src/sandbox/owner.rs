//! Which part of a cluster opened a connection: the process that holds the other end of the socket.
//!
//! All parts of a sandbox share one kernel, so an address tells nothing about who dialled. `/proc/net/tcp` names the inode of
//! the other end, and the file descriptors of the cluster's processes tell whose it is. Processes are recognised by the
//! configuration file on their command line, so one that was started again is found as well.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use super::links::Host;

/// The processes of one cluster.
#[derive(Debug)]
pub(super) struct Owners {
    dir: PathBuf,
    known: Mutex<BTreeMap<u32, Host>>,
}

impl Owners {
    /// Of the cluster with this folder.
    pub(super) fn new(dir: &Path) -> Self {
        Self {
            dir: dir.to_owned(),
            known: Mutex::default(),
        }
    }

    /// The host whose process holds `theirs` of a connection to `ours`; [`Host::Client`] if it is none of the cluster's. Blocks
    /// for some file accesses.
    pub(super) fn of(&self, theirs: SocketAddr, ours: SocketAddr) -> Host {
        let Some(inode) = inode(theirs, ours) else {
            // It is gone already.
            return Host::Client;
        };
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(host) = holder(&known, &inode) {
            return host;
        }
        *known = self.processes();
        holder(&known, &inode).unwrap_or(Host::Client)
    }

    fn processes(&self) -> BTreeMap<u32, Host> {
        let Ok(entries) = fs::read_dir("/proc") else {
            return BTreeMap::new();
        };
        entries
            .filter_map(Result::ok)
            .filter_map(|entry| {
                let pid = entry.file_name().to_str()?.parse().ok()?;
                let line = fs::read(entry.path().join("cmdline")).ok()?;
                Some((pid, host_of(&String::from_utf8_lossy(&line), &self.dir)?))
            })
            .collect()
    }
}

/// `DIR/db2/my.cnf` is the server of the second host, `DIR/mha/db2.yaml` its agent, `DIR/mha/manager.yaml` the manager.
fn host_of(command_line: &str, dir: &Path) -> Option<Host> {
    let dir = format!("{}/", dir.display());
    command_line.split('\0').find_map(|argument| {
        let (_, path) = argument.split_once(&dir)?;
        let name = path.strip_prefix("mha/").unwrap_or(path);
        if name.starts_with("manager") {
            return Some(Host::Manager);
        }
        let digits: String = name
            .strip_prefix("db")?
            .chars()
            .take_while(char::is_ascii_digit)
            .collect();
        let number: usize = digits.parse().ok()?;
        Some(Host::Server(number.checked_sub(1)?))
    })
}

fn holder(known: &BTreeMap<u32, Host>, inode: &str) -> Option<Host> {
    let wanted = format!("socket:[{inode}]");
    known.iter().find_map(|(pid, host)| {
        let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).ok()?;
        descriptors
            .filter_map(Result::ok)
            .filter_map(|entry| fs::read_link(entry.path()).ok())
            .any(|link| link.as_os_str() == wanted.as_str())
            .then_some(*host)
    })
}

/// Columns of `/proc/net/tcp`: number, local address, remote address, state, queues, timer, retransmits, uid, timeout, inode.
fn inode(local: SocketAddr, remote: SocketAddr) -> Option<String> {
    let (local, remote) = (hex(local)?, hex(remote)?);
    let table = fs::read_to_string("/proc/net/tcp").ok()?;
    table.lines().find_map(|line| {
        let mut columns = line.split_ascii_whitespace().skip(1);
        let matches = columns.next()? == local && columns.next()? == remote;
        // Zero once nobody holds the socket any more.
        let inode = columns.nth(6)?;
        (matches && inode != "0").then(|| inode.to_owned())
    })
}

/// As the kernel prints it: the address as a number of the machine's byte order, the port as a number.
fn hex(address: SocketAddr) -> Option<String> {
    let SocketAddr::V4(address) = address else {
        return None;
    };
    let ip = u32::from_ne_bytes(address.ip().octets());
    Some(format!("{ip:08X}:{:04X}", address.port()))
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn a_configuration_file_names_the_host() {
        let dir = Path::new("/tmp/mha-x");
        let host = |line: &str| host_of(line, dir);
        let server = "mysqld\0--defaults-file=/tmp/mha-x/db1/my.cnf\0--skip-slave-start\0";
        assert_eq!(host(server), Some(Host::Server(0)));
        let agent = "/x/mha-node-agent\0run\0--config\0/tmp/mha-x/mha/db3.yaml\0";
        assert_eq!(host(agent), Some(Host::Server(2)));
        let manager = "/x/mha-manager\0run\0--config\0/tmp/mha-x/mha/manager.yaml\0";
        assert_eq!(host(manager), Some(Host::Manager));
        let other = "/x/mha-node-agent\0run\0--config\0/tmp/mha-xy/mha/db3.yaml\0";
        assert_eq!(host(other), None);
    }

    #[test]
    fn the_inode_of_a_connection_is_a_descriptor_of_its_owner() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let ours = listener.local_addr().unwrap();
        let client = TcpStream::connect(ours).unwrap();
        let theirs = client.local_addr().unwrap();
        let inode = inode(theirs, ours).unwrap();
        let this = BTreeMap::from([(std::process::id(), Host::Server(7))]);
        assert_eq!(holder(&this, &inode), Some(Host::Server(7)));
        drop(client);
        assert_eq!(holder(&this, &inode), None);
    }
}
