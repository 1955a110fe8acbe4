//! Whole failovers against scripted agents: what the manager asks, in which order, and how it ends when an agent is
//! slow, lies, or dies.

#![allow(clippy::unwrap_used, clippy::panic)] // a helper that fails fails its test

mod address;
mod daemon;
mod fake;
mod hooks;
mod killed;
mod lease;
mod logs;
mod scenarios;
mod watching;
mod world;
