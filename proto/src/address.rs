//! The address that moves with the primary, as a value and its conversions; see [`crate::convert`] for the rules.

use std::fmt;
use std::net::IpAddr;

use crate::convert::{Context, ConvertError, convert, required};
use crate::v1;

/// Longest name of an interface (`IFNAMSIZ` less its closing zero).
const LONGEST_NAME: usize = 15;

/// An address, its network, and the interface it belongs on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VirtualAddress {
    /// The address: one that a single host can have.
    pub ip: IpAddr,
    /// Length of the network prefix: 1 to 32, or 1 to 128.
    pub prefix: u8,
    /// Name of the interface.
    pub interface: String,
}

/// A validated `TakeAddressRequest`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TakeOrder {
    /// Context.
    pub context: Context,
    /// The address.
    pub address: VirtualAddress,
    /// Whoever held it serves nothing any more.
    pub holder_fenced: bool,
}

/// A validated `DropAddressRequest`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DropOrder {
    /// Context.
    pub context: Context,
    /// The address.
    pub address: VirtualAddress,
}

impl VirtualAddress {
    /// From `10.0.0.100/24` and an interface.
    ///
    /// # Errors
    /// What is wrong, in words.
    pub fn new(cidr: &str, interface: &str) -> Result<Self, String> {
        let (ip, prefix) = cidr
            .split_once('/')
            .ok_or("no prefix length: expected ADDRESS/LENGTH")?;
        let ip = ip
            .parse()
            .map_err(|_| format!("`{ip}` is no IPv4 or IPv6 address"))?;
        let prefix = prefix
            .parse()
            .map_err(|_| format!("`{prefix}` is no prefix length"))?;
        Self::checked(ip, prefix, interface.to_owned())
    }

    fn checked(ip: IpAddr, prefix: u8, interface: String) -> Result<Self, String> {
        let most = if ip.is_ipv4() { 32 } else { 128 };
        if prefix == 0 || prefix > most {
            return Err(format!("prefix length {prefix}: expected 1 to {most}"));
        }
        let broadcast = matches!(ip, IpAddr::V4(v4) if v4.is_broadcast());
        if ip.is_unspecified() || ip.is_multicast() || broadcast {
            return Err(format!("{ip} is no address of a host"));
        }
        let well_formed = !interface.is_empty()
            && interface.len() <= LONGEST_NAME
            && interface.bytes().all(|b| b.is_ascii_graphic() && b != b'/')
            && interface != "."
            && interface != "..";
        if !well_formed {
            return Err(format!("`{interface}` is no name of an interface"));
        }
        Ok(Self {
            ip,
            prefix,
            interface,
        })
    }
}

impl fmt::Display for VirtualAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{} on {}", self.ip, self.prefix, self.interface)
    }
}

impl From<&VirtualAddress> for v1::VirtualAddress {
    fn from(address: &VirtualAddress) -> Self {
        Self {
            ip: address.ip.to_string(),
            prefix: address.prefix.into(),
            interface: address.interface.clone(),
        }
    }
}

impl TryFrom<v1::VirtualAddress> for VirtualAddress {
    type Error = ConvertError;

    fn try_from(wire: v1::VirtualAddress) -> Result<Self, ConvertError> {
        let ip = wire
            .ip
            .parse()
            .map_err(|_| ConvertError::new("ip", format!("`{}` is no address", wire.ip)))?;
        let prefix = u8::try_from(wire.prefix)
            .map_err(|_| ConvertError::new("prefix", format!("{} is too long", wire.prefix)))?;
        Self::checked(ip, prefix, wire.interface).map_err(|why| ConvertError::new("address", why))
    }
}

impl TryFrom<v1::TakeAddressRequest> for TakeOrder {
    type Error = ConvertError;

    fn try_from(wire: v1::TakeAddressRequest) -> Result<Self, ConvertError> {
        Ok(Self {
            context: Context::try_from(required(wire.context, "context")?)?,
            address: convert(wire.address, "address")?,
            holder_fenced: wire.holder_fenced,
        })
    }
}

impl TryFrom<v1::DropAddressRequest> for DropOrder {
    type Error = ConvertError;

    fn try_from(wire: v1::DropAddressRequest) -> Result<Self, ConvertError> {
        Ok(Self {
            context: Context::try_from(required(wire.context, "context")?)?,
            address: convert(wire.address, "address")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_of_addresses() {
        let good = [
            ("192.0.2.100/24", "eth0"),
            ("192.0.2.100/32", "bond0.12"),
            ("2001:db8::64/64", "ens3"),
        ];
        for (cidr, interface) in good {
            let address = VirtualAddress::new(cidr, interface).unwrap();
            assert_eq!(address.to_string(), format!("{cidr} on {interface}"));
            let wire = v1::VirtualAddress::from(&address);
            assert_eq!(VirtualAddress::try_from(wire), Ok(address));
        }
        let bad = [
            ("192.0.2.100", "eth0", "no prefix"),
            ("192.0.2/24", "eth0", "no IPv4"),
            ("192.0.2.100/0", "eth0", "1 to 32"),
            ("192.0.2.100/33", "eth0", "1 to 32"),
            ("2001:db8::64/129", "eth0", "1 to 128"),
            ("192.0.2.100/x", "eth0", "no prefix length"),
            ("0.0.0.0/24", "eth0", "no address of a host"),
            ("224.0.0.1/24", "eth0", "no address of a host"),
            ("255.255.255.255/32", "eth0", "no address of a host"),
            ("ff02::1/64", "eth0", "no address of a host"),
            ("192.0.2.100/24", "", "no name"),
            ("192.0.2.100/24", "../eth0", "no name"),
            ("192.0.2.100/24", "eth0 up", "no name"),
            ("192.0.2.100/24", "an-interface-too-long", "no name"),
        ];
        for (cidr, interface, words) in bad {
            let why = VirtualAddress::new(cidr, interface).unwrap_err();
            assert!(why.contains(words), "{cidr} {interface}: {why}");
        }
        assert!(VirtualAddress::try_from(v1::VirtualAddress::default()).is_err());
    }
}
