//! A peer in Python, in a virtual environment of its own: a tool of this command, never a dependency.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use super::cores::Cores;
use crate::mistake;

/// A script, and what it needs.
pub(super) struct Script {
    pub(super) text: &'static str,
    /// For pip, with versions.
    pub(super) requirements: &'static str,
    /// The modules that it imports, and what they are called.
    pub(super) modules: &'static [(&'static str, &'static str)],
    /// The folder of its environment below `target/`.
    pub(super) folder: &'static str,
}

/// A script and an interpreter that can run it.
pub(super) struct Peer {
    python: PathBuf,
    script: &'static Script,
}

impl Peer {
    /// With the interpreter given, or that of the script's environment, which is made if it is not
    /// there yet or was made for other versions.
    pub(super) fn find(script: &'static Script, python: Option<&Path>) -> Result<Self> {
        let own = python.is_none();
        let python = match python {
            Some(python) => python.to_owned(),
            None => environment(script)?,
        };
        let peer = Self { python, script };
        let modules: Vec<_> = script.modules.iter().map(|(module, _)| *module).collect();
        let told = format!("give --python an interpreter with {}", modules.join(", "));
        match peer.versions() {
            Ok(_) => Ok(peer),
            Err(error) if own => Err(error.context(told)),
            Err(error) => Err(mistake(format!("{told}: {error:#}"))),
        }
    }

    /// The versions of what it brings.
    pub(super) fn versions(&self) -> Result<String> {
        let mut versions = Vec::new();
        for (module, title) in self.script.modules {
            versions.push(format!("{title} {}", self.version(module)?));
        }
        Ok(versions.join(", "))
    }

    fn version(&self, module: &str) -> Result<String> {
        self.say(&format!("import {module}; print({module}.__version__)"))
    }

    /// What its interpreter says when it runs a text.
    pub(super) fn say(&self, text: &str) -> Result<String> {
        let output = Command::new(&self.python)
            .args(["-W", "ignore", "-c", text])
            .output()
            .with_context(|| format!("cannot run {}", self.python.display()))?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            bail!("{}", said.lines().last().unwrap_or("the interpreter failed"))
        }
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    /// The command that runs the script; its arguments are still to come.
    pub(super) fn command(&self) -> Command {
        self.with(Command::new(&self.python))
    }

    /// The same on some cores only.
    pub(super) fn command_on(&self, cores: &Cores, count: usize) -> Command {
        self.with(cores.command(count, &self.python))
    }

    fn with(&self, mut command: Command) -> Command {
        command.args(["-W", "ignore", "-c", self.script.text]);
        command
    }
}

fn environment(script: &Script) -> Result<PathBuf> {
    let folder = crate::root().join("target").join(script.folder);
    let python = folder.join(if cfg!(windows) { "Scripts/python.exe" } else { "bin/python" });
    let stamp = folder.join("requirements.txt");
    if std::fs::read_to_string(&stamp).is_ok_and(|made| made == script.requirements) {
        return Ok(python);
    }
    crate::say(format!("making {} for the peer (once)", crate::short(&folder)));
    let python3 = if cfg!(windows) { "python" } else { "python3" };
    let run = |command: &mut Command, problem: &str| match command.status() {
        Ok(status) if status.success() => Ok(()),
        _ => bail!("{problem}; or give --python an interpreter that has all it needs"),
    };
    run(
        Command::new(python3).args(["-m", "venv", "--clear"]).arg(&folder),
        "cannot make a virtual environment: install Python 3 with its venv module",
    )?;
    let requirements = folder.join("wanted.txt");
    crate::write_whole(&requirements, script.requirements.as_bytes())?;
    run(
        Command::new(&python).args(["-m", "pip", "install", "--quiet", "-r"]).arg(&requirements),
        "pip cannot install the peer",
    )?;
    // Last, so that an interrupted installation is begun anew.
    crate::write_whole(&stamp, script.requirements.as_bytes())?;
    Ok(python)
}
