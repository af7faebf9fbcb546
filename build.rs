//! Generates `doorbell.v1` from its proto files, without protoc.
//!
//! Two passes over one descriptor set: the first makes the messages and the
//! client; the second makes the server alone, with `SubscribeResponse` replaced
//! by bytes that were encoded once for all streams (`grpc::encoded`).

use std::{env, error::Error, fs, path::PathBuf};

use prost::Message as _;

const PROTOS: [&str; 5] = [
    "proto/doorbell/v1/notifications.proto",
    "proto/doorbell/v1/operators.proto",
    "proto/doorbell/v1/preferences.proto",
    "proto/doorbell/v1/sends.proto",
    "proto/doorbell/v1/topics.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=proto");
    let out = PathBuf::from(env::var("OUT_DIR")?);
    let descriptors = protox::compile(PROTOS, ["proto"])?;
    fs::write(out.join("descriptors.bin"), descriptors.encode_to_vec())?;

    let server = out.join("server");
    fs::create_dir_all(&server)?;
    tonic_prost_build::configure()
        .build_server(false)
        .compile_fds(descriptors.clone())?;
    tonic_prost_build::configure()
        .build_client(false)
        // So that a stand-in of a test has the calls that it is about.
        .generate_default_stubs(true)
        .out_dir(server)
        .codec_path("crate::grpc::encoded::Codec")
        .extern_path(".doorbell.v1", "crate::proto")
        .extern_path(
            ".doorbell.v1.SubscribeResponse",
            "crate::grpc::encoded::SubscribeResponse",
        )
        .compile_fds(descriptors)?;
    Ok(())
}
