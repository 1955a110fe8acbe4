//! `sandbox`: real servers by hand, and the demo.

use std::process::ExitCode;

use tests::cli;

#[tokio::main]
async fn main() -> ExitCode {
    cli::run().await
}
