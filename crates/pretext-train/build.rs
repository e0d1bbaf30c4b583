//! Notes the commit this was built from, for the records; without a checkout there is none.

use std::path::Path;
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let head = Path::new("../../.git/HEAD");
    if !head.exists() {
        return;
    }
    println!("cargo::rerun-if-changed=../../.git/HEAD");
    // The branch's own file changes with each commit; HEAD only with the branch.
    if let Ok(text) = std::fs::read_to_string(head)
        && let Some(branch) = text.trim().strip_prefix("ref: ")
        && Path::new("../../.git").join(branch).exists()
    {
        println!("cargo::rerun-if-changed=../../.git/{branch}");
    }
    let commit = Command::new("git").args(["rev-parse", "--short=12", "HEAD"]).output();
    if let Ok(output) = commit
        && output.status.success()
    {
        println!(
            "cargo::rustc-env=PRETEXT_COMMIT={}",
            String::from_utf8_lossy(&output.stdout).trim()
        );
    }
}
