//! Our side: bench targets that do one piece of work when told to, and the `pretext` binary.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

/// Builds a bench target of `pretext-train` with some of its features; where its executable is.
pub(super) fn build(name: &str, features: &[String]) -> Result<PathBuf> {
    let arguments = ["bench", "--package", "pretext-train", "--bench", name, "--no-run"];
    cargo(name, &arguments, features)
}

/// Builds the `pretext` binary with some of its features; where it is.
pub(super) fn build_binary(features: &[String]) -> Result<PathBuf> {
    cargo("pretext", &["build", "--release", "--package", "pretext-cli"], features)
}

fn cargo(name: &str, arguments: &[&str], features: &[String]) -> Result<PathBuf> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .current_dir(crate::root())
        .args(arguments)
        .args(["--message-format", "json", "--features", &features.join(",")])
        .stderr(Stdio::inherit())
        .output()
        .context("cannot run cargo")?;
    if !output.status.success() {
        bail!("cargo {} failed", arguments.join(" "))
    }
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .filter(|message| message["target"]["name"] == name)
        .find_map(|message| Some(PathBuf::from(message["executable"].as_str()?)))
        .with_context(|| format!("cargo built nothing called {name}"))
}
