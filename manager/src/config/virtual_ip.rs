//! The address that moves with the primary: `virtual_ip:` of the file, for each server.

use std::collections::BTreeMap;

use proto::address::VirtualAddress;

use super::resolved::Check;
use super::{ConfigError, raw};

/// The address, and where it belongs at each server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VirtualIp {
    by_server: BTreeMap<String, VirtualAddress>,
}

impl VirtualIp {
    /// The address as it belongs at this server.
    #[must_use]
    pub fn at(&self, server: &str) -> Option<&VirtualAddress> {
        self.by_server.get(server)
    }
}

/// `servers`: names, and the interface each one names instead of the common one.
pub(super) fn resolve(
    check: &Check<'_>,
    raw: Option<raw::VirtualIp>,
    servers: Vec<(String, Option<String>)>,
) -> Result<Option<VirtualIp>, ConfigError> {
    let Some(raw) = raw else {
        let lonely = servers.into_iter().find_map(|(_, interface)| interface);
        return match lonely {
            None => Ok(None),
            Some(interface) => Err(check.bad(
                "servers[].virtual_ip_interface",
                "nothing, since there is no virtual_ip",
                &interface,
            )),
        };
    };
    let mut by_server = BTreeMap::new();
    for (server, interface) in servers {
        let Some(interface) = interface.as_ref().or(raw.interface.as_ref()) else {
            return Err(check.bad(
                "virtual_ip.interface",
                "a name here, or a virtual_ip_interface at each server",
                "nothing",
            ));
        };
        let address = VirtualAddress::new(&raw.address, interface).map_err(|why| {
            check.bad(
                "virtual_ip",
                "ADDRESS/LENGTH and the name of an interface",
                &why,
            )
        })?;
        by_server.insert(server, address);
    }
    Ok(Some(VirtualIp { by_server }))
}
