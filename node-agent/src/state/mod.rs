//! What the agent keeps on disk between its runs: epochs, remembered facts, holds, segments.
//!
//! Every file here appears whole: written to a temporary file, synced, renamed, and the directory synced.

pub mod durable;
pub mod epoch;
#[cfg(test)]
mod epoch_tests;
pub mod flight;
pub mod lock;
pub mod names;
