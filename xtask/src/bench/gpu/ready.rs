//! Whether there is what it takes: a GPU, its driver, and a compiler for kernels.

use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;

use crate::Ends;

/// The oldest driver that takes the kernels: CUDA 13.0.
const DRIVER: u32 = 580;

/// The GPU that is measured, by name and driver.
#[derive(Debug, PartialEq)]
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

fn refuse<T>(told: &str) -> Result<T> {
    Err(Ends { code: 2, told: told.into() }.into())
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
