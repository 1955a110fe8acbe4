//! Sets of real logs, made by real servers, against the binary log they come from: every event end of every set.
//!
//! One test per server line and way of replication. Each starts a primary and a replica, lets them write one set of logs
//! per situation (see [`situations`]), and asks for every event end of the primary's log. What must come is computed by
//! [`naive`], which shares no code with the program.
//!
//! MHA 0.58 answers some of these wrongly; the situations say which.

// Test code: a panic is how an assertion fails.
#![allow(clippy::unwrap_used, clippy::panic)]

mod check;
mod commands;
mod naive;
mod pairs;
mod purged;
mod servers;
mod set;
mod situations;
mod stage;
