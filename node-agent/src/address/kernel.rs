//! What the kernel knows of interfaces and addresses, and how it is told: getifaddrs(3) and rtnetlink(7). Blocking, for a moment.

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::address::{
    AddressAttribute, AddressFlags, AddressHeaderFlags, AddressMessage, AddressScope,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use nix::errno::Errno;
use nix::ifaddrs::getifaddrs;
use nix::libc;
use nix::net::if_::InterfaceFlags;
use nix::sys::socket::{LinkAddr, SockaddrStorage};
use proto::address::VirtualAddress;
use socket2::{Domain, Protocol, Socket, Type};

use super::arp::Mac;

/// Longest wait for the kernel's answer to one request.
const LIMIT: Duration = Duration::from_secs(5);
/// Larger than any answer to one request about one address.
const ANSWER_BYTES: usize = 8192;
/// Numbers of capabilities (linux/capability.h), by bit, with their names.
const CAPABILITIES: [(u32, &str); 2] = [(12, "CAP_NET_ADMIN"), (13, "CAP_NET_RAW")];

/// An interface of this host.
#[derive(Debug, Clone)]
pub(super) struct Interface {
    /// For sockets.
    pub(super) link: LinkAddr,
    /// Hardware address; `None` where nobody resolves addresses.
    pub(super) mac: Option<Mac>,
    /// It is up.
    pub(super) up: bool,
}

/// The interface of this name, if there is one.
pub(super) fn interface(name: &str) -> io::Result<Option<Interface>> {
    for found in getifaddrs()? {
        let Some(link) = found
            .address
            .as_ref()
            .and_then(SockaddrStorage::as_link_addr)
        else {
            continue;
        };
        if found.interface_name == name {
            let silent = InterfaceFlags::IFF_LOOPBACK | InterfaceFlags::IFF_NOARP;
            return Ok(Some(Interface {
                link: *link,
                mac: link.addr().filter(|_| !found.flags.intersects(silent)),
                up: found.flags.contains(InterfaceFlags::IFF_UP),
            }));
        }
    }
    Ok(None)
}

/// The interfaces that have this address, with the length of its prefix there.
pub(super) fn holders(ip: IpAddr) -> io::Result<Vec<(String, u8)>> {
    let mut holders = Vec::new();
    for found in getifaddrs()? {
        if found.address.as_ref().and_then(ip_of) == Some(ip) {
            let prefix = found.netmask.as_ref().and_then(ip_of).map(prefix_of);
            holders.push((found.interface_name, prefix.unwrap_or(0)));
        }
    }
    Ok(holders)
}

fn ip_of(address: &SockaddrStorage) -> Option<IpAddr> {
    match (address.as_sockaddr_in(), address.as_sockaddr_in6()) {
        (Some(v4), _) => Some(IpAddr::V4(v4.ip())),
        (_, Some(v6)) => Some(IpAddr::V6(v6.ip())),
        (None, None) => None,
    }
}

fn prefix_of(mask: IpAddr) -> u8 {
    let bits = match mask {
        IpAddr::V4(mask) => mask.to_bits().leading_ones(),
        IpAddr::V6(mask) => mask.to_bits().leading_ones(),
    };
    u8::try_from(bits).unwrap_or(u8::MAX)
}

/// Adds the address; one that is there is no error.
pub(super) fn add(interface: &Interface, address: &VirtualAddress) -> io::Result<()> {
    let mut message = message(interface, address.ip, address.prefix);
    if let IpAddr::V4(ip) = address.ip
        && address.prefix <= 30
    {
        let hosts = u32::MAX >> address.prefix;
        let broadcast = Ipv4Addr::from_bits(ip.to_bits() | hosts);
        message
            .attributes
            .push(AddressAttribute::Broadcast(broadcast));
    }
    if address.ip.is_ipv6() {
        // A duplicate was looked for already; the kernel's own detection would take a second.
        message.header.flags = AddressHeaderFlags::Nodad;
        message
            .attributes
            .push(AddressAttribute::Flags(AddressFlags::Nodad));
    }
    let create = NLM_F_CREATE | NLM_F_EXCL;
    match request(RouteNetlinkMessage::NewAddress(message), create) {
        Err(error) if error.raw_os_error() == Some(Errno::EEXIST as i32) => Ok(()),
        done => done,
    }
}

/// Removes an address as it is there; one that is not is no error.
pub(super) fn remove(interface: &Interface, ip: IpAddr, prefix: u8) -> io::Result<()> {
    let message = message(interface, ip, prefix);
    match request(RouteNetlinkMessage::DelAddress(message), 0) {
        Err(error) if error.raw_os_error() == Some(Errno::EADDRNOTAVAIL as i32) => Ok(()),
        done => done,
    }
}

fn message(interface: &Interface, ip: IpAddr, prefix: u8) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.family = if ip.is_ipv4() {
        AddressFamily::Inet
    } else {
        AddressFamily::Inet6
    };
    message.header.prefix_len = prefix;
    message.header.scope = AddressScope::Universe;
    message.header.index = u32::try_from(interface.link.ifindex()).unwrap_or(0);
    message.attributes = vec![AddressAttribute::Local(ip), AddressAttribute::Address(ip)];
    message
}

/// Sends one request and waits for its acknowledgement.
fn request(message: RouteNetlinkMessage, flags: u16) -> io::Result<()> {
    let mut packet = NetlinkMessage::from(message);
    packet.header.flags = NLM_F_REQUEST | NLM_F_ACK | flags;
    packet.header.sequence_number = 1;
    packet.finalize();
    let mut bytes = vec![0; packet.buffer_len()];
    packet.serialize(&mut bytes);
    let family = Domain::from(libc::AF_NETLINK);
    let protocol = Protocol::from(libc::NETLINK_ROUTE);
    let socket = Socket::new(family, Type::RAW, Some(protocol))?;
    socket.set_read_timeout(Some(LIMIT))?;
    socket.send(&bytes)?;
    let mut answer = vec![0; ANSWER_BYTES];
    let length = io::Read::read(&mut &socket, &mut answer)?;
    let answer = answer.get(..length).unwrap_or_default();
    let answer = NetlinkMessage::<RouteNetlinkMessage>::deserialize(answer)
        .map_err(|error| io::Error::other(error.to_string()))?;
    match answer.payload {
        NetlinkPayload::Error(error) => match error.code {
            None => Ok(()),
            Some(code) => Err(io::Error::from_raw_os_error(code.get().saturating_abs())),
        },
        other => Err(io::Error::other(format!(
            "the kernel answered a request with {other:?}"
        ))),
    }
}

/// Names of the capabilities that this process lacks.
pub(super) fn missing_capabilities() -> Vec<&'static str> {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    missing_in(&status)
}

/// In the text of `/proc/PID/status` (proc(5): `CapEff`, a mask in hex).
fn missing_in(status: &str) -> Vec<&'static str> {
    let mask = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .unwrap_or(0);
    CAPABILITIES
        .iter()
        .filter(|(bit, _)| mask & (1 << bit) == 0)
        .map(|(_, name)| *name)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_every_host_has_is_found() {
        let loopback = interface("lo").unwrap().unwrap();
        assert_eq!(loopback.mac, None);
        assert!(interface("no-such-one").unwrap().is_none());
        let holders = holders(IpAddr::V4(Ipv4Addr::LOCALHOST)).unwrap();
        // In a network namespace of its own the loopback interface may be down and without an address.
        assert!(
            holders.is_empty() || holders == [("lo".to_owned(), 8)],
            "{holders:?}"
        );
    }

    #[test]
    fn capabilities_are_read_from_the_mask() {
        let both = vec!["CAP_NET_ADMIN", "CAP_NET_RAW"];
        let table = [
            ("CapEff:\t0000000000003000\n", vec![]),
            (
                "CapInh:\t0000000000003000\nCapEff:\t0000000000001000\n",
                vec!["CAP_NET_RAW"],
            ),
            ("CapEff:\t0000000000000000\n", both.clone()),
            ("", both),
        ];
        for (status, expected) in table {
            assert_eq!(missing_in(status), expected, "{status}");
        }
    }

    #[test]
    fn prefixes_are_counted() {
        for (mask, expected) in [
            ("255.255.255.0", 24),
            ("255.255.255.255", 32),
            ("ffff:ffff::", 32),
        ] {
            assert_eq!(prefix_of(mask.parse().unwrap()), expected);
        }
    }
}
