//! Loopback addresses and ports that no other sandbox process uses.
//!
//! A [`Network`] is a block 127.a.b.0/24 of its own, held by a file lock: each host of a cluster gets its own address, as
//! on a real network, and tests in several processes cannot meet.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::sync::atomic::{AtomicU16, Ordering};

use super::cache::{self, Lock};
use super::error::SandboxError;

/// Blocks 127.80.0.0/24 .. 127.95.255.0/24.
const BLOCKS: u32 = 16 * 256;
const FIRST_SECOND_OCTET: u32 = 80;

/// Ports are taken from here on: below the ephemeral range, so that no outgoing connection sits on one while a server is
/// down for a moment.
const FIRST_PORT: u16 = 21_000;
const LAST_PORT: u16 = 31_000;

/// A block of loopback addresses, given back when dropped.
#[derive(Debug)]
pub struct Network {
    block: u32,
    next_port: AtomicU16,
    _lock: Lock,
}

impl Network {
    /// Takes a free block.
    pub fn take() -> Result<Self, SandboxError> {
        let start = std::process::id();
        for step in 0..BLOCKS {
            let block = start.wrapping_add(step) % BLOCKS;
            if let Some(lock) = cache::try_lock(&format!("network-{block}"))? {
                return Ok(Self {
                    block,
                    next_port: AtomicU16::new(FIRST_PORT),
                    _lock: lock,
                });
            }
        }
        Err(SandboxError::NoNetwork { tried: BLOCKS })
    }

    /// The address of the host with this number, from 1.
    pub fn host(&self, number: u8) -> Ipv4Addr {
        let second = u8::try_from(FIRST_SECOND_OCTET + self.block / 256).unwrap_or(u8::MAX);
        let third = u8::try_from(self.block % 256).unwrap_or(u8::MAX);
        Ipv4Addr::new(127, second, third, number)
    }

    /// A port on `address` that nobody listens on and that this network hands out once.
    pub fn port(&self, address: Ipv4Addr) -> Result<u16, SandboxError> {
        loop {
            let port = self.next_port.fetch_add(1, Ordering::Relaxed);
            if port > LAST_PORT {
                return Err(SandboxError::NoNetwork {
                    tried: u32::from(LAST_PORT - FIRST_PORT),
                });
            }
            // A program outside the sandbox may listen on all addresses.
            if TcpListener::bind(SocketAddr::new(IpAddr::V4(address), port)).is_ok() {
                return Ok(port);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_networks_differ_and_hosts_are_loopback() {
        let (one, two) = (Network::take().unwrap(), Network::take().unwrap());
        assert_ne!(one.host(1), two.host(1));
        assert!(one.host(3).is_loopback());
        let address = one.host(1);
        assert_ne!(one.port(address).unwrap(), one.port(address).unwrap());
    }
}
