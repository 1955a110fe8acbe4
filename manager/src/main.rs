//! `mha-manager`: parses the command line, runs the command, ends with its exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    manager::cli::main(std::env::args_os()).into()
}
