//! Real servers and scenarios.
//!
//! [`sandbox`] obtains real MySQL and MariaDB servers, runs them as clusters with agents and a manager, and injects
//! faults. The scenario tests, the demo and the long suites are built on it. Nothing here is installed system-wide,
//! nothing but [`netns`] needs root, and everything a value started ends when the value is dropped.
//! [`scenario`] holds what the scenario tests share.

pub mod big;
pub mod cli;
pub mod demo;
pub mod differential;
pub mod drill;
pub mod jitter;
pub mod kills;
pub mod local_source;
pub mod matrix;
pub mod netns;
pub mod partition;
pub mod rivals;
pub mod sandbox;
pub mod scenario;
pub mod speed;
pub mod watched;
