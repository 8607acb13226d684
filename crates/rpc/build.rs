//! Rust from `proto/*.proto`, without protoc: protox parses, tonic-prost-build writes.
//!
//! Promises: every proto file that exists is compiled; bytes fields are `bytes::Bytes`, so payloads are never copied
//! when they are decoded.
//! Not here: what the messages mean (`src/convert`).

use std::{error::Error, fs, path::PathBuf};

fn main() -> Result<(), Box<dyn Error>> {
    let dir = PathBuf::from(std::env::var("CARGO_MANIFEST_DIR")?).join("../../proto");
    println!("cargo::rerun-if-changed={}", dir.display());
    let mut protos = Vec::new();
    for entry in fs::read_dir(&dir)? {
        let path = entry?.path();
        if path.extension().is_some_and(|ext| ext == "proto") {
            println!("cargo::rerun-if-changed={}", path.display());
            protos.push(path);
        }
    }
    protos.sort(); // the same code whatever order the directory has
    let descriptors = protox::compile(&protos, [&dir])?;
    tonic_prost_build::configure().bytes(".").compile_fds(descriptors)?;
    Ok(())
}
