//! Notes the commit this was built from, for the records; without a checkout there is none.
//!
//! A release build with changes that are not committed is `COMMIT+HASH`, with a hash of these: runs of
//! other code must not count as the same.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

/// What decides what a run computes, as git names it.
const SOURCES: [&str; 5] =
    ["Cargo.toml", "Cargo.lock", "crates/*.toml", "crates/*.rs", "crates/*.cu*"];

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    // A copy of this crate inside of somebody else's checkout is not of their commit.
    let ours = Path::new("../..").canonicalize().ok();
    let top = git(&["rev-parse", "--show-toplevel"]);
    let top = top.and_then(|top| Path::new(top.trim()).canonicalize().ok());
    if top.is_none() || top != ours {
        return;
    }
    // The branch's own file changes with each commit; HEAD only with the branch.
    let branch = git(&["symbolic-ref", "--quiet", "HEAD"]);
    for name in ["HEAD"].into_iter().chain(branch.as_deref()) {
        let path = git(&["rev-parse", "--git-path", name.trim()]).unwrap_or_default();
        if Path::new(path.trim()).exists() {
            println!("cargo::rerun-if-changed={}", path.trim());
        }
    }
    let Some(commit) = git(&["rev-parse", "--short=12", "HEAD"]) else { return };
    // A debug build is somebody at work: it need not be built anew for each file saved.
    let changes = if std::env::var("PROFILE").is_ok_and(|profile| profile == "release") {
        for path in ["Cargo.toml", "Cargo.lock", "crates"] {
            println!("cargo::rerun-if-changed=../../{path}");
        }
        changes().map_or(String::new(), |hash| format!("+{hash}"))
    } else {
        String::new()
    };
    println!("cargo::rustc-env=PRETEXT_COMMIT={}{changes}", commit.trim());
}

/// A hash of what is not committed, if anything is not.
fn changes() -> Option<String> {
    let in_sources =
        |arguments: &[&str]| git(&[&["-C", "../.."], arguments, &["--"], &SOURCES[..]].concat());
    let mut text = in_sources(&["diff", "HEAD"])?;
    let new = in_sources(&["ls-files", "--others", "--exclude-standard"])?;
    for path in new.lines() {
        let hash = git(&["-C", "../..", "hash-object", path]).unwrap_or_default();
        text += &format!("{path} {hash}");
    }
    if text.is_empty() {
        return None;
    }
    let mut git = Command::new("git")
        .args(["hash-object", "--stdin"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .ok()?;
    git.stdin.take()?.write_all(text.as_bytes()).ok()?;
    let hash = String::from_utf8(git.wait_with_output().ok()?.stdout).ok()?;
    Some(hash.get(..8)?.to_owned())
}

/// What git prints, if it succeeds.
fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok()?;
    String::from_utf8(output.stdout).ok().filter(|_| output.status.success())
}
