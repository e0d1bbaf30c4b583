//! The binary `pretext`: built when it is first needed, run with its messages passed through.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use super::gpus::Device;
use crate::mistake;

/// The binary, perhaps not built yet.
pub(super) struct Pretext {
    path: Option<PathBuf>,
    device: Device,
}

impl Pretext {
    pub(super) fn new(path: Option<PathBuf>, device: Device) -> Self {
        Self { path, device }
    }

    /// The binary, built if need be.
    pub(super) fn path(&mut self) -> Result<PathBuf> {
        Ok(match &self.path {
            Some(path) => std::path::absolute(path)?,
            None => self.path.insert(build(self.device)?).clone(),
        })
    }

    /// What a run would be of: its whole recipe, its data and its code.
    pub(super) fn preview(&mut self, arguments: &[String]) -> Result<Value> {
        let path = self.path()?;
        let mut command = Command::new(&path);
        command.args(arguments).args(["--out", ".", "--print-recipe"]);
        // The encoder is not there yet, and does not matter here.
        if arguments[0] == "finetune" && !arguments.iter().any(|word| word == "--init") {
            command.args(["--init", "random"]);
        }
        let output = command.output().with_context(|| format!("cannot run {}", path.display()))?;
        if !output.status.success() {
            let told = String::from_utf8_lossy(&output.stderr);
            let told = told.trim().trim_start_matches("error: ");
            // Whose fault it was, the binary knows.
            return Err(match output.status.code() {
                Some(2) => mistake(told),
                _ => anyhow::anyhow!("{told}"),
            });
        }
        serde_json::from_slice(&output.stdout)
            .with_context(|| format!("{} is of another version", path.display()))
    }

    /// Runs a command that must work.
    pub(super) fn run(&mut self, arguments: &[String]) -> Result<()> {
        let path = self.path()?;
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

fn build(device: Device) -> Result<PathBuf> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let root = crate::root();
    let output = Command::new(cargo)
        .current_dir(&root)
        .args(["build", "--release", "--package", "pretext-cli", "--message-format", "json"])
        .args((device == Device::Cuda).then_some(["--features", "cuda"]).iter().flatten())
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
