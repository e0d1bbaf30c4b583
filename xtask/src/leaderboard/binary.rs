//! The binary `pretext`: built when it is first needed, run with its messages passed through.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

/// The binary, perhaps not built yet.
pub(super) struct Pretext {
    path: Option<PathBuf>,
}

impl Pretext {
    pub(super) fn new(path: Option<PathBuf>) -> Self {
        Self { path }
    }

    /// Runs a command that must work.
    pub(super) fn run(&mut self, arguments: &[String]) -> Result<()> {
        let path = match &self.path {
            Some(path) => path.clone(),
            None => self.path.insert(build()?).clone(),
        };
        let status = Command::new(&path)
            .args(arguments)
            .stdout(Stdio::null())
            .status()
            .with_context(|| format!("cannot run {}", path.display()))?;
        match status.code() {
            Some(0) => Ok(()),
            Some(130) | None => bail!("it was interrupted; the same command goes on from there"),
            Some(_) => bail!("see above; once mended, the same command goes on from there"),
        }
    }
}

fn build() -> Result<PathBuf> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let root = crate::root();
    let output = Command::new(cargo)
        .current_dir(&root)
        .args(["build", "--release", "--package", "pretext-cli", "--message-format", "json"])
        .stderr(Stdio::inherit())
        .output()
        .context("cannot run cargo")?;
    if !output.status.success() {
        bail!("cargo build --release --package pretext-cli failed")
    }
    // cargo itself says where the binary is, whatever its target folder is set to.
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .filter_map(|message| Some(PathBuf::from(message.get("executable")?.as_str()?)))
        .find(|path| path.file_stem().is_some_and(|name| name == "pretext"))
        .context("cargo built no binary called pretext")
}
