//! The manager on the monitor host: it observes a cluster through the agents, decides what a dead primary needs,
//! and drives the plan that brings every survivor to the same, furthest possible point.
//!
//! Decisions (`verdict`, `topology`, `elect`, `plan`, `proof`) are pure functions of values; effects are steps of a
//! plan that one executor journals before and after. The library never prints: commands write to the streams they
//! are given.

pub mod address;
pub mod agents;
pub mod api;
pub mod certs;
pub mod cli;
pub mod config;
pub mod daemon;
pub mod elect;
pub mod execute;
pub mod exit_code;
pub mod facts;
pub mod failover;
pub mod guard;
pub mod hooks;
pub mod journal;
pub mod lease;
pub mod monitor;
pub mod observe;
pub mod plan;
pub mod prompt;
pub mod proof;
pub mod record;
pub mod release;
pub mod report;
pub mod returned;
pub mod take_over;
#[cfg(test)]
mod testing;
pub mod topology;
pub mod verdict;
