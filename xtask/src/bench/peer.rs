//! PyTorch, in a virtual environment of its own: a tool of this command, never a dependency.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

const SCRIPT: &str = include_str!("peer.py");
const REQUIREMENTS: &str = include_str!("requirements.txt");

/// An interpreter that can run the script.
pub(super) struct Peer {
    python: PathBuf,
}

impl Peer {
    /// The interpreter given, or that of the environment in `folder`, which is made if it is not
    /// there yet or was made for other versions.
    pub(super) fn find(python: Option<&Path>, folder: &Path) -> Result<Self> {
        let python = match python {
            Some(python) => python.to_owned(),
            None => environment(folder)?,
        };
        let peer = Self { python };
        peer.versions()
            .context("give --python an interpreter with torch, torchvision and fastai")?;
        Ok(peer)
    }

    /// The versions of what it brings.
    pub(super) fn versions(&self) -> Result<String> {
        let script = "import torch, torchvision, fastai; print('PyTorch', torch.__version__ + \
                      ', torchvision', torchvision.__version__ + ', fastai', fastai.__version__)";
        let output = Command::new(&self.python)
            .args(["-W", "ignore", "-c", script])
            .output()
            .with_context(|| format!("cannot run {}", self.python.display()))?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            bail!("{}", said.lines().last().unwrap_or("the interpreter failed"))
        }
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    /// The command that steps a network.
    pub(super) fn command(&self, arguments: &[String], threads: usize, how: &str) -> Command {
        let mut command = Command::new(&self.python);
        command.args(["-W", "ignore", "-c", SCRIPT]).args(arguments);
        command.arg(threads.to_string()).arg(how);
        command
    }
}

fn environment(folder: &Path) -> Result<PathBuf> {
    let python = folder.join(if cfg!(windows) { "Scripts/python.exe" } else { "bin/python" });
    let stamp = folder.join("requirements.txt");
    if std::fs::read_to_string(&stamp).is_ok_and(|made| made == REQUIREMENTS) {
        return Ok(python);
    }
    crate::say(format!("making {} with PyTorch (once)", crate::short(folder)));
    let python3 = if cfg!(windows) { "python" } else { "python3" };
    let run = |command: &mut Command, problem: &str| match command.status() {
        Ok(status) if status.success() => Ok(()),
        _ => bail!("{problem}; or give --python an interpreter that has PyTorch"),
    };
    run(
        Command::new(python3).args(["-m", "venv", "--clear"]).arg(folder),
        "cannot make a virtual environment: install Python 3 with its venv module",
    )?;
    let requirements = folder.join("wanted.txt");
    crate::write_whole(&requirements, REQUIREMENTS.as_bytes())?;
    run(
        Command::new(&python).args(["-m", "pip", "install", "--quiet", "-r"]).arg(&requirements),
        "pip cannot install PyTorch",
    )?;
    // Last, so that an interrupted installation is begun anew.
    crate::write_whole(&stamp, REQUIREMENTS.as_bytes())?;
    Ok(python)
}
