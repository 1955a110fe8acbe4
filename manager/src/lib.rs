//! The manager on the monitor host: it observes a cluster through the agents, decides what a dead primary needs,
//! and drives the plan that brings every survivor to the same, furthest possible point.
//!
//! Decisions (`verdict`, `elect`, `plan`, `proof`) are pure functions of values; effects are steps of a plan that one
//! executor journals before and after. The library never prints: commands write to the streams they are given.

pub mod certs;
pub mod cli;
pub mod config;
pub mod exit_code;
