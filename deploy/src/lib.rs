//! What an operator installs: example configurations, systemd units, accounts, operator docs.
//!
//! The crate has no code of its own; its tests parse every file with the parsers of the programs themselves, so that
//! an example that an operator copies is one that starts.
