//! Whether there is what it takes: a GPU, its driver, a compiler for kernels, and libraries.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use super::super::peer::Peer;

use crate::mistake;

/// The oldest driver that takes the kernels: CUDA 13.0.
const DRIVER: u32 = 580;

/// The GPU that is measured, by name and driver.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Gpu {
    pub(super) name: String,
    pub(super) driver: String,
}

/// The first GPU, if all is there; or what is missing and what to do, in one line.
pub(super) fn check() -> Result<Gpu> {
    let asked = Command::new("nvidia-smi")
        .args(["--query-gpu=name,driver_version", "--format=csv,noheader"])
        .output();
    let told = asked.ok().map(|output| {
        (output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned())
    });
    let gpu = first(told)?;
    if !compiler() {
        return refuse(
            "there is no nvcc to compile kernels with; where no CUDA 13.0 is installed: \
             eval \"$(cargo xtask cuda-toolkit)\"",
        );
    }
    Ok(gpu)
}

/// The first GPU of what nvidia-smi told, if it ran: whether it was content, and its output.
fn first(told: Option<(bool, String)>) -> Result<Gpu> {
    let Some((content, text)) = told else {
        return refuse("no GPU: nvidia-smi does not run; it takes one of NVIDIA's, and its driver");
    };
    let Some((name, driver)) = text.lines().next().and_then(|line| line.rsplit_once(", ")) else {
        return refuse("no GPU: the driver finds none");
    };
    if !content {
        return refuse("no GPU: the driver does not answer; see nvidia-smi");
    }
    let major = driver.split('.').next().and_then(|major| major.parse::<u32>().ok());
    if major.is_none_or(|major| major < DRIVER) {
        let told = format!("the driver is {driver}: {DRIVER} or newer is needed, for CUDA 13.0");
        return refuse(&told);
    }
    Ok(Gpu { name: name.into(), driver: driver.into() })
}

/// Where the loader looks for cuDNN, cuBLAS and cuRAND when it starts our programs.
pub(super) struct Libraries(Option<OsString>);

/// The variable that names folders of libraries.
const PATH: &str = "LD_LIBRARY_PATH";

/// Says the folders of libraries that come with PyTorch's wheels.
const FOLDERS: &str = "\
import glob, os
try:
    import nvidia
    print(os.pathsep.join(sorted(p for base in nvidia.__path__ for p in glob.glob(base + '/*/lib'))))
except ImportError:
    pass
";

impl Libraries {
    /// Where it looks anyhow, and before in what the peer brings.
    pub(super) fn find(peer: Option<&Peer>) -> Result<Self> {
        let Some(peer) = peer else { return Ok(Self(None)) };
        Ok(Self(joined(&peer.say(FOLDERS)?, std::env::var_os(PATH))))
    }

    /// A command for a program of ours.
    pub(super) fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        if let Some(folders) = &self.0 {
            command.env(PATH, folders);
        }
        command
    }

    /// Opens the GPU as every program of ours will; `bench` is the one of kernels.
    pub(super) fn check(&self, bench: &Path) -> Result<()> {
        let output = self.command(bench).arg("device").output();
        let output = output.context("cannot run the bench of kernels")?;
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        refuse(said.lines().last().unwrap_or("the GPU cannot be opened"))
    }
}

/// Folders before those that were named already; `None` if there are none to add.
fn joined(folders: &str, before: Option<OsString>) -> Option<OsString> {
    if folders.is_empty() {
        return None;
    }
    let before = before.filter(|before| !before.is_empty());
    let all = std::env::split_paths(folders).chain(before.iter().flat_map(std::env::split_paths));
    std::env::join_paths(all).ok()
}

fn refuse<T>(told: &str) -> Result<T> {
    Err(mistake(told))
}

/// Whether the kernels' build scripts will find nvcc: where `pretext-kernels` looks for it, which is
/// none of this crate's.
fn compiler() -> bool {
    let homes = ["CUDA_HOME", "CUDA_PATH"].into_iter().filter_map(std::env::var_os);
    let mut found = homes.map(|home| PathBuf::from(home).join("bin/nvcc"));
    let nvcc = std::env::var_os("NVCC")
        .map_or_else(|| found.find(|nvcc| nvcc.is_file()).unwrap_or("nvcc".into()), Into::into);
    Command::new(nvcc).arg("--version").output().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Ends;

    fn said(told: Option<(bool, &str)>) -> String {
        match first(told.map(|(content, text)| (content, text.to_owned()))) {
            Ok(gpu) => format!("{}; {}", gpu.name, gpu.driver),
            Err(error) => {
                assert_eq!(error.downcast_ref::<Ends>().map(|ends| ends.code), Some(2));
                let line = error.to_string();
                assert_eq!(line.lines().count(), 1, "{line}");
                line
            }
        }
    }

    #[test]
    fn the_peers_libraries_come_first() {
        assert_eq!(joined("", Some("/own".into())), None);
        assert_eq!(joined("/a/lib:/b/lib", None), Some("/a/lib:/b/lib".into()));
        assert_eq!(joined("/a/lib", Some("".into())), Some("/a/lib".into()));
        assert_eq!(joined("/a/lib", Some("/own:/other".into())), Some("/a/lib:/own:/other".into()));
    }

    #[cfg(unix)]
    #[test]
    fn a_gpu_that_cannot_be_opened_is_told_in_its_own_words() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let bench = folder.path().join("bench");
        // Content where the peer's libraries are.
        let script = "#!/bin/sh\n[ \"$1 $LD_LIBRARY_PATH\" = 'device /a/lib' ] && exit 0\n\
                      echo noise >&2; echo 'cuda:0: no cuDNN' >&2; exit 1\n";
        std::fs::write(&bench, script).unwrap();
        std::fs::set_permissions(&bench, std::fs::Permissions::from_mode(0o755)).unwrap();
        assert!(Libraries(Some("/a/lib".into())).check(&bench).is_ok());
        let error = Libraries(Some("/b/lib".into())).check(&bench).unwrap_err();
        assert_eq!(error.to_string(), "cuda:0: no cuDNN");
        assert_eq!(error.downcast_ref::<Ends>().map(|ends| ends.code), Some(2));
    }

    #[test]
    fn what_is_missing_is_told_in_a_line() {
        let two = "NVIDIA H200, 580.95.05\nNVIDIA H200, 580.95.05\n";
        assert_eq!(said(Some((true, two))), "NVIDIA H200; 580.95.05");
        assert!(
            said(Some((true, "NVIDIA A100, 40GB, 550.1\n"))).contains("is 550.1: 580 or newer")
        );
        assert!(said(None).contains("nvidia-smi does not run"));
        assert!(said(Some((true, ""))).contains("finds none"));
        assert!(said(Some((false, "NVIDIA-SMI has failed, sorry\n"))).contains("does not answer"));
    }
}
