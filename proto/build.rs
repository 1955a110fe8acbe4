//! Compiles the `.proto` files without an installed protoc; comments become the docs of the generated code.

use prost::Message;

const FILES: [&str; 9] = [
    "mha/v1/common.proto",
    "mha/v1/agent.proto",
    "mha/v1/epoch.proto",
    "mha/v1/logs.proto",
    "mha/v1/replication.proto",
    "mha/v1/fence.proto",
    "mha/v1/manager.proto",
    "mha/v1/watch.proto",
    "mha/v1/lease.proto",
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    let descriptors = protox::compile(FILES.map(|f| format!("proto/{f}")), ["proto"])?;
    let out = std::path::PathBuf::from(std::env::var("OUT_DIR")?).join("mha_descriptor.bin");
    std::fs::write(out, descriptors.encode_to_vec())?;
    tonic_prost_build::configure()
        .bytes(".")
        .compile_fds(descriptors)?;
    Ok(())
}
