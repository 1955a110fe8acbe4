//! Frames on one interface: the probe for a duplicate, and announcements. Blocking; needs CAP_NET_RAW.
//!
//! A packet socket hears what its EtherType and a filter in the kernel let through, so that a busy host's traffic is not copied.

use std::io::{self, Read};
use std::net::IpAddr;
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, SockFilter, Socket, Type};

use super::arp::{self, Mac};
use super::kernel::Interface;
use super::ndp;

/// Probes for a duplicate, and the pause after each. RFC 5227 takes seconds, for networks that were just plugged in; a host on a
/// network that works answers within a millisecond, and each moment here is one in which nobody can write.
const PROBES: [Duration; 3] = [
    Duration::from_millis(60),
    Duration::from_millis(60),
    Duration::from_millis(120),
];
/// Frames of interest are short.
const FRAME_BYTES: usize = 256;

// Classic BPF (linux/filter.h): load byte, jump if equal, return.
const LOAD_BYTE: u16 = 0x30;
const JUMP_IF_EQUAL: u16 = 0x15;
const RETURN: u16 = 0x06;

/// One interface, for one address.
#[derive(Debug)]
pub(super) struct Link {
    socket: Socket,
    own: Mac,
    ip: IpAddr,
}

impl Link {
    /// Opens it; `None` if nobody on that interface resolves addresses (loopback, a tunnel).
    pub(super) fn open(interface: &Interface, ip: IpAddr) -> io::Result<Option<Self>> {
        let Some(own) = interface.mac else {
            return Ok(None);
        };
        let ethertype = match ip {
            IpAddr::V4(_) => arp::ETHERTYPE,
            IpAddr::V6(_) => ndp::ETHERTYPE,
        };
        let protocol = Protocol::from(i32::from(ethertype.to_be()));
        let socket = Socket::new(Domain::PACKET, Type::RAW, Some(protocol))?;
        if ip.is_ipv6() {
            let icmp_only = [
                SockFilter::new(LOAD_BYTE, 0, 0, ndp::NEXT_HEADER_AT),
                SockFilter::new(JUMP_IF_EQUAL, 0, 1, u32::from(ndp::ICMPV6)),
                SockFilter::new(RETURN, 0, 0, u32::MAX),
                SockFilter::new(RETURN, 0, 0, 0),
            ];
            socket.attach_filter(&icmp_only)?;
        }
        nix::sys::socket::bind(socket.as_raw_fd(), &interface.link)?;
        Ok(Some(Self { socket, own, ip }))
    }

    /// Asks whether somebody else has the address: his hardware address. Blocks for a quarter of a second if nobody answers.
    pub(super) fn probe(&self) -> io::Result<Option<Mac>> {
        let probe = match self.ip {
            IpAddr::V4(ip) => arp::probe(self.own, ip),
            IpAddr::V6(ip) => ndp::probe(self.own, ip),
        };
        for pause in PROBES {
            self.socket.send(&probe)?;
            if let Some(other) = self.listen(Instant::now() + pause)? {
                return Ok(Some(other));
            }
        }
        Ok(None)
    }

    /// Tells the neighbours once.
    pub(super) fn announce(&self) -> io::Result<()> {
        match self.ip {
            IpAddr::V4(ip) => {
                for frame in arp::announcements(self.own, ip) {
                    self.socket.send(&frame)?;
                }
            }
            IpAddr::V6(ip) => {
                self.socket.send(&ndp::announcement(self.own, ip))?;
            }
        }
        Ok(())
    }

    /// Who else claims the address until then.
    fn listen(&self, until: Instant) -> io::Result<Option<Mac>> {
        let mut frame = [0; FRAME_BYTES];
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            self.socket.set_read_timeout(Some(left))?;
            let bytes = match (&self.socket).read(&mut frame) {
                Ok(bytes) => bytes,
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::WouldBlock
                            | io::ErrorKind::TimedOut
                            | io::ErrorKind::Interrupted
                    ) =>
                {
                    continue;
                }
                Err(error) => return Err(error),
            };
            let frame = frame.get(..bytes).unwrap_or_default();
            let claimed = match self.ip {
                IpAddr::V4(ip) => arp::claimed_by(frame, self.own, ip),
                IpAddr::V6(ip) => ndp::claimed_by(frame, self.own, ip),
            };
            if claimed.is_some() {
                return Ok(claimed);
            }
        }
    }
}

/// A hardware address as people write it.
pub(super) fn shown(mac: Mac) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hardware_address_is_shown_as_usual() {
        assert_eq!(shown([2, 0, 0xab, 0, 0, 9]), "02:00:ab:00:00:09");
    }
}
