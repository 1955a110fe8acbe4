//! The wire between manager and agents.
//!
//! This crate owns the `.proto` files, the conversions between wire messages and `binlog-core`'s values (the only
//! validation of wire data), the identities and roles in certificates, and the settings of channels. It
//! guarantees that whatever passed a conversion is valid: handlers and deciders never check a field again.

pub mod channel;
pub mod convert;
pub mod identity;
pub mod status;
pub mod tls;

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

/// Protocol revision of this build; N and N-1 work together.
pub const PROTOCOL_REVISION: u32 = 1;
