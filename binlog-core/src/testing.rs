//! Synthetic logs for the tests of all crates.
