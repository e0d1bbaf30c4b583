//! The GPUs that runs are dealt out to, one run a GPU unless `--jobs` says more.

use std::process::Command;

use anyhow::Result;

use crate::mistake;

/// What names to a CUDA program the GPUs that it may see.
pub(super) const VISIBLE: &str = "CUDA_VISIBLE_DEVICES";

/// Where runs compute.
#[derive(Clone, Copy, Debug, Default, PartialEq, clap::ValueEnum)]
pub(super) enum Device {
    /// On the processor
    #[default]
    Cpu,
    /// On NVIDIA GPUs; the binary is built with the feature `cuda`
    Cuda,
}

impl Device {
    /// The flag for the binary, and for this command in a job.
    pub(super) fn flag(self) -> Option<[String; 2]> {
        (self == Self::Cuda).then(|| ["--device".into(), "cuda".into()])
    }
}

/// The GPUs that this process may use, as `CUDA_VISIBLE_DEVICES` names them: those that it has, else
/// all that `nvidia-smi -L` lists.
///
/// # Errors
/// If there is none.
pub(super) fn find() -> Result<Vec<String>> {
    let (gpus, told) = match std::env::var(VISIBLE) {
        Ok(visible) => (visible_of(&visible), format!("{VISIBLE} names no GPU")),
        Err(_) => match Command::new("nvidia-smi").arg("-L").output() {
            Ok(output) => {
                (listed(&String::from_utf8_lossy(&output.stdout)), "nvidia-smi lists no GPU".into())
            }
            Err(error) => (Vec::new(), format!("nvidia-smi cannot be run ({error})")),
        },
    };
    if gpus.is_empty() {
        return Err(mistake(format!(
            "--device cuda: {told}; set {VISIBLE} to the GPUs, or leave --device out"
        )));
    }
    Ok(gpus)
}

/// What is named before the first thing that is no GPU, where CUDA stops to read.
fn visible_of(text: &str) -> Vec<String> {
    let names = text.split(',').map(str::trim);
    let sound = |name: &&str| {
        name.parse::<u32>().is_ok() || name.starts_with("GPU-") || name.starts_with("MIG-")
    };
    names.take_while(sound).map(str::to_owned).collect()
}

/// The UUIDs of a list, for programs number GPUs in orders of their own; of a GPU that is divided,
/// those of its parts.
fn listed(text: &str) -> Vec<String> {
    let mut gpus: Vec<String> = Vec::new();
    let mut whole = None;
    for line in text.lines() {
        let Some(id) = line.rsplit_once("(UUID: ").and_then(|(_, id)| id.trim().strip_suffix(')'))
        else {
            continue;
        };
        if line.starts_with("GPU ") {
            whole = Some(gpus.len());
        } else if let Some(at) = whole.take() {
            gpus.truncate(at);
        }
        gpus.push(id.to_owned());
    }
    gpus
}

/// The GPU with the fewest runs, given those of the runs that go on; the first of several.
pub(super) fn next<'a>(gpus: &'a [String], taken: &[Option<&str>]) -> Option<&'a str> {
    let runs = |gpu: &&String| taken.iter().filter(|other| **other == Some(gpu.as_str())).count();
    gpus.iter().min_by_key(runs).map(String::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_visible() {
        assert_eq!(visible_of("2,0"), ["2", "0"]);
        assert_eq!(visible_of(" GPU-8932f937 , MIG-7"), ["GPU-8932f937", "MIG-7"]);
        assert_eq!(visible_of("1,-1,0"), ["1"]);
        assert!(visible_of("").is_empty() && visible_of("NoDevFiles").is_empty());
    }

    #[test]
    fn what_the_driver_lists() {
        let list = "GPU 0: NVIDIA H100 80GB HBM3 (UUID: GPU-aa)\n\
                    GPU 1: NVIDIA A100-SXM4-40GB (UUID: GPU-bb)\n  \
                    MIG 3g.20gb     Device  0: (UUID: MIG-c1)\n  \
                    MIG 3g.20gb     Device  1: (UUID: MIG-c2)\n\
                    GPU 2: NVIDIA H100 80GB HBM3 (UUID: GPU-dd)\n";
        assert_eq!(listed(list), ["GPU-aa", "MIG-c1", "MIG-c2", "GPU-dd"]);
        assert!(listed("No devices found.\n").is_empty());
    }

    #[test]
    fn the_next_run_goes_where_the_fewest_are() {
        let gpus = ["a", "b"].map(str::to_owned);
        assert_eq!(next(&gpus, &[]), Some("a"));
        assert_eq!(next(&gpus, &[Some("a")]), Some("b"));
        assert_eq!(next(&gpus, &[Some("b"), Some("a"), Some("a")]), Some("b"));
        assert_eq!(next(&[], &[]), None);
    }
}
