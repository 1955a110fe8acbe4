//! Entry point: the command line, logging, the TLS provider, and the exit code.

fn main() {}
