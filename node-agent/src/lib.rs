//! The agent on every MySQL host: watches, saves, cuts, ships and applies logs, and fences.
//!
//! One agent serves any number of local servers. It acts only on typed intentions received over gRPC with mutual
//! TLS; it never takes SQL or a shell command from the wire. Every change is bound to the (epoch, operation) pair
//! that the agent has stored for the cluster.

pub mod address;
pub mod agent;
pub mod cli;
pub mod config;
pub mod daemon;
pub mod error;
pub mod fence;
pub mod folder;
pub mod guard;
pub mod lease;
pub mod logs;
pub mod mysqld;
pub mod peers;
pub mod replication;
mod resumed;
pub mod rpc;
pub mod source;
pub mod state;
pub mod tools;
pub mod watch;
