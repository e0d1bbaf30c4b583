//! The stated minimum version of Rust: told to users, and enough for every dependency.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

/// `1.94` and `1.94.0` as numbers.
fn version(text: &str) -> Vec<u32> {
    text.split('.').take(2).map(|part| part.parse().unwrap()).collect()
}

#[test]
fn no_dependency_asks_for_a_newer_rust() {
    let ours = env!("CARGO_PKG_RUST_VERSION");
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let output = Command::new(env!("CARGO"))
        .current_dir(&root)
        .args(["metadata", "--format-version", "1", "--locked", "--offline", "--filter-platform"])
        .arg("x86_64-unknown-linux-gnu")
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    assert!(packages.iter().any(|package| package["name"] == "candle-core"));
    let newer = packages.iter().filter(|package| {
        package["rust_version"].as_str().is_some_and(|theirs| version(theirs) > version(ours))
    });
    let newer: Vec<String> = newer
        .map(|package| {
            format!("{} {} {}", package["name"], package["version"], package["rust_version"])
        })
        .collect();
    assert!(newer.is_empty(), "newer than {ours}: {newer:?}");
    let readme = std::fs::read_to_string(root.join("README.md")).unwrap();
    assert!(readme.contains(&format!("{ours} or newer")), "README.md does not name Rust {ours}");
}
