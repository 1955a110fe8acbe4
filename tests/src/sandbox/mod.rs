//! Real servers for tests: fetched once per user, initialised once per version, copied per test.
//!
//! Guarantees: every process is started on an address of the loopback network that no other sandbox process uses, in a
//! private folder, and ends with the value that started it (and with this process, however that ends). Nothing is
//! installed system-wide and nothing needs root.

pub mod accounts;
pub mod binaries;
pub mod cache;
pub mod client;
pub mod cluster;
pub mod compare;
pub mod daemon;
pub mod deployment;
pub mod dialect;
pub mod error;
pub mod fetch;
pub mod first_write;
pub mod gate;
pub mod launch;
pub mod links;
pub mod load;
pub mod network;
pub mod options;
mod owner;
mod relay;
pub mod replica;
pub mod server;
pub mod slot;
pub mod snapshot;
pub mod stall;
pub mod surgery;
pub mod template;
pub mod tool;
pub mod wait;
pub mod witness;

pub use client::{Client, Login, Record};
pub use cluster::{Cluster, ClusterSpec, Replication};
pub use error::SandboxError;
pub use fetch::{Distribution, ServerKind};
pub use options::ServerOptions;
pub use server::Server;

/// Shows what a long first run is doing. Standard error, so that output meant for programs stays clean.
pub(crate) fn progress(line: &str) {
    eprintln!("sandbox: {line}");
}
