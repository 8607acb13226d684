//! The rules of the house that a compiler does not know: who may use whom, headers, sizes.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Room -> rooms that it may use, and for pure rooms also every other crate.
const MAY_USE: &[(&str, &[&str])] = &[
    ("mbox", &[]),
    ("types", &[]),
    ("client", &["types"]),
    ("brick", &["types", "mbox"]),
    ("store", &["types", "mbox"]),
    ("rpc", &["types"]),
    ("mount", &["client", "rpc", "types"]),
    ("brickd", &["brick", "store", "rpc", "types"]),
    ("cli", &["rpc", "types"]),
    ("sim", &["client", "brick", "mbox", "store", "types"]),
];
const PURE: &[(&str, &[&str])] = &[
    ("mbox", &["blake3", "crc32fast"]),
    ("types", &["bytes", "postcard", "serde"]),
    ("client", &["bytes"]),
    ("brick", &["bytes", "serde"]),
];
const LINES_MAX: usize = 800;

fn sources(dir: &Path, all: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).expect("a folder of the project").flatten() {
        let path = entry.path();
        if path.is_dir() && path.file_name().is_none_or(|n| n != "target") {
            sources(&path, all);
        } else if path.extension().is_some_and(|e| e == "rs") {
            all.push(path);
        }
    }
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Names in `[dependencies]`.
fn dependencies(room: &str) -> Vec<String> {
    let text =
        fs::read_to_string(root().join("crates").join(room).join("Cargo.toml")).expect("each room has a manifest");
    let part = text
        .split("[dependencies]")
        .nth(1)
        .unwrap_or("")
        .split("\n[")
        .next()
        .unwrap_or("");
    part.lines()
        .filter_map(|l| l.split(['.', ' ', '=']).next())
        .filter(|n| !n.is_empty())
        .map(str::to_owned)
        .collect()
}

#[test]
fn rooms_use_only_the_rooms_below_them() {
    let rooms: BTreeMap<_, _> = MAY_USE.iter().copied().collect();
    for entry in fs::read_dir(root().join("crates"))
        .expect("crates/")
        .flatten()
        .filter(|e| e.path().is_dir())
    {
        let room = entry.file_name().to_string_lossy().into_owned();
        let may = rooms
            .get(room.as_str())
            .unwrap_or_else(|| panic!("crates/{room} is not in the table"));
        for name in dependencies(&room) {
            if let Some(used) = name.strip_prefix("mboxfs-") {
                assert!(may.contains(&used), "{room} must not use {used}");
            }
        }
    }
}

#[test]
fn pure_rooms_stay_pure() {
    for (room, may) in PURE {
        for name in dependencies(room).iter().filter(|n| !n.starts_with("mboxfs-")) {
            assert!(may.contains(&name.as_str()), "{room} is pure; {name} is not allowed");
        }
        let lib = fs::read_to_string(root().join("crates").join(room).join("src/lib.rs")).expect("a library");
        assert!(lib.contains("#![no_std]"), "{room} is pure: no_std");
    }
}

#[test]
fn every_file_has_a_header_and_fits() {
    let mut all = Vec::new();
    for dir in ["crates", "tests", "benches"] {
        if root().join(dir).is_dir() {
            sources(&root().join(dir), &mut all);
        }
    }
    assert!(all.len() > 50, "the sources were found");
    for path in all {
        let text = fs::read_to_string(&path).expect("a source");
        assert!(text.starts_with("//!"), "{} has no header", path.display());
        assert!(
            text.lines().count() <= LINES_MAX,
            "{} is over {LINES_MAX} lines",
            path.display()
        );
        assert!(text.is_ascii(), "{} is not ASCII", path.display());
    }
}

#[test]
fn the_readme_is_short() {
    let text = fs::read_to_string(root().join("README.md")).expect("README.md");
    assert!(text.lines().count() <= 120);
}
