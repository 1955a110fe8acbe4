//! The wire between manager and agents.
//!
//! This crate owns the `.proto` files, the conversions between wire messages and `binlog-core`'s values (the only
//! validation of wire data), the identities and roles in certificates, and the settings of channels. It
//! guarantees that whatever passed a conversion is valid: handlers and deciders never check a field again.

pub mod address;
pub mod channel;
pub mod convert;
pub mod identity;
pub mod lease;
pub mod probe;
pub mod status;
pub mod tls;
pub mod watch;

/// Generated messages, clients and servers of package `mha.v1`.
#[allow(
    missing_docs,
    clippy::all,
    clippy::pedantic,
    unreachable_pub,
    unused_qualifications
)]
pub mod v1 {
    tonic::include_proto!("mha.v1");
}

/// Encoded descriptors of all services, for gRPC reflection.
pub const DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/mha_descriptor.bin"));

/// Protocol revision of this build; N and N-1 work together. 2 added watching, probing and leases, which an agent of
/// revision 1 has not: look at its capabilities.
pub const PROTOCOL_REVISION: u32 = 2;

/// Names of the optional abilities that `GetAgentInfo` lists.
pub mod capability {
    /// `WatchServer`.
    pub const WATCH: &str = "watch";
    /// `ProbeServer`.
    pub const PROBE: &str = "probe";
    /// `AssignPrimary`, `RenewLease` and `Vouch`.
    pub const LEASE: &str = "lease";
    /// `TakeAddress`, `DropAddress` and `GetAddress`.
    pub const VIRTUAL_IP: &str = "virtual-ip";
}
