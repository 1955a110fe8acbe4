//! Whole failovers against scripted agents: what the manager asks, in which order, and how it ends when an agent is
//! slow, lies, or dies.

#![allow(clippy::unwrap_used, clippy::panic)] // a helper that fails fails its test

mod address;
mod beside;
mod binlog_servers;
mod cluster;
mod customer;
mod daemon;
mod dead_log;
mod fake;
mod hooks;
mod killed;
mod lease;
mod logs;
mod refused;
mod release;
mod semi_sync;
mod survivors;
mod watching;
mod world;
