//! Loads that are large in one way or another, and what a failover makes of them: time, throughput, memory.
//!
//! Commands with an exit status, run when nothing else does. Every figure stands beside its ceiling, measured in the same
//! run on the same servers: the same load by the server's own replication.

mod load;
mod memory;
mod normal;
mod replay;
pub mod replicas;
pub mod tail;

pub use self::load::{Kind, Load};
