//! A scripted replica against a local source: over memory with a paused clock, and over TCP.

mod by_gtid;
mod chain;
mod client;
mod faults;
mod fixture;
mod listening;
mod memory_feed;
mod questions;
mod replay;
