//! Where tensors lie and networks are computed: the processor, or a GPU.

use std::str::FromStr;

#[cfg(feature = "cuda")]
use crate::error::one_line;
use crate::error::{Error, Result};
use crate::precision::Precision;
use crate::recipe::require;

/// What was asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DeviceChoice {
    /// The processor.
    #[default]
    Cpu,
    /// The GPU of that number, from 0.
    Gpu(usize),
    /// The first GPU; of several processes that share a run, each its own.
    OwnGpu,
    /// That, if the build and the machine have one, else the processor.
    Auto,
}

impl FromStr for DeviceChoice {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        match text.split_once(':') {
            None if text == "cpu" => Ok(Self::Cpu),
            None if text == "cuda" => Ok(Self::OwnGpu),
            None if text == "auto" => Ok(Self::Auto),
            Some(("cuda", number)) if number.parse::<usize>().is_ok() => {
                Ok(Self::Gpu(number.parse().unwrap_or_default()))
            }
            _ => Err("give cpu, cuda, cuda:N (a GPU's number, from 0) or auto".into()),
        }
    }
}

impl std::fmt::Display for DeviceChoice {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Cpu => formatter.write_str("cpu"),
            Self::Gpu(ordinal) => write!(formatter, "cuda:{ordinal}"),
            Self::OwnGpu => formatter.write_str("cuda"),
            Self::Auto => formatter.write_str("auto"),
        }
    }
}

/// Steps that a GPU may be behind. Few enough that the progress line moves and a loss that is no
/// number is seen soon.
#[cfg(feature = "cuda")]
const BEHIND: usize = 16;

/// A device that is ready.
#[derive(Clone, Debug)]
pub struct Device {
    device: candle_core::Device,
    name: String,
    choice: DeviceChoice,
    /// Steps that it may be behind the program when their losses are read.
    behind: usize,
    /// Why it is not the GPU that `auto` would rather have.
    instead: Option<String>,
}

impl Device {
    /// The processor.
    pub fn cpu() -> Self {
        let (device, choice) = (candle_core::Device::Cpu, DeviceChoice::Cpu);
        Self { device, name: "cpu".into(), choice, behind: 1, instead: None }
    }

    /// Makes ready what was asked for.
    ///
    /// # Errors
    /// [`Error::Device`] if it is a GPU and the build, the machine or its libraries have none.
    pub fn open(choice: DeviceChoice) -> Result<Self> {
        match choice {
            DeviceChoice::Cpu => Ok(Self::cpu()),
            DeviceChoice::Gpu(ordinal) => gpu(ordinal)
                .map_err(|problem| Error::Device { device: choice.to_string(), problem }),
            DeviceChoice::OwnGpu => {
                own_gpu().map_err(|problem| Error::Device { device: choice.to_string(), problem })
            }
            DeviceChoice::Auto => Ok(match own_gpu() {
                Ok(device) => Self { choice, ..device },
                Err(problem) => Self { choice, instead: Some(problem), ..Self::cpu() },
            }),
        }
    }

    /// Its name, as records have it: `cpu`, or `cuda:0 (NVIDIA H200)`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Why it is the processor, if a GPU would have been taken.
    pub fn instead(&self) -> Option<&str> {
        self.instead.as_deref()
    }

    /// Where to compute what runs on the processor alone: there, if it was not a GPU that was asked for.
    /// `None`: it was.
    pub(crate) fn or_processor(&self) -> Option<Self> {
        match self.choice {
            DeviceChoice::Gpu(_) | DeviceChoice::OwnGpu => None,
            DeviceChoice::Cpu | DeviceChoice::Auto => Some(Self::cpu()),
        }
    }

    /// Steps after which losses are read; 1: each is known before the next one begins.
    pub(crate) fn behind(&self) -> usize {
        self.behind
    }

    /// The processor, with losses read as seldom as a GPU's.
    #[cfg(test)]
    pub(crate) fn lagging(behind: usize) -> Self {
        Self { behind, ..Self::cpu() }
    }

    /// Whether it is a GPU, which works while the program goes on.
    pub(crate) fn is_gpu(&self) -> bool {
        !self.device.is_cpu()
    }

    /// Refuses a precision that the device does not have.
    pub(crate) fn check(&self, precision: Precision) -> Result<()> {
        require("--precision", precision != Precision::F16 || self.is_gpu(), || {
            "f16 is for GPUs; on the processor give bf16 or f32".into()
        })?;
        #[cfg(feature = "cuda")]
        match precision {
            Precision::F32 => Ok(()),
            Precision::Bf16 => pretext_ops::cuda::check_bf16(&self.device),
            Precision::F16 => pretext_ops::cuda::check_f16(&self.device),
        }
        .map_err(|error| Error::Device { device: self.name.clone(), problem: one_line(&error) })?;
        Ok(())
    }

    /// What a network is scored in that was trained in a precision: on a GPU that has it in that, as
    /// under PyTorch's autocast; on the processor in `f32`.
    pub(crate) fn scores_in(&self, trained: Precision) -> Precision {
        if self.is_gpu() && self.check(trained).is_ok() { trained } else { Precision::F32 }
    }

    pub(crate) fn tensors(&self) -> &candle_core::Device {
        &self.device
    }
}

#[cfg(feature = "cuda")]
fn gpu(ordinal: usize) -> std::result::Result<Device, String> {
    let names = gpus()?;
    let device = pretext_ops::cuda::device(ordinal).map_err(|error| cured(one_line(&error)))?;
    let name = names.get(ordinal).map_or("a GPU", String::as_str);
    let (name, choice) = (format!("cuda:{ordinal} ({name})"), DeviceChoice::Gpu(ordinal));
    Ok(Device { device, name, choice, behind: BEHIND, instead: None })
}

/// What is wrong with a library, and what to do about it; any other problem as it is.
#[cfg(any(feature = "cuda", test))]
fn cured(problem: String) -> String {
    let library = LIBRARIES.iter().find(|(library, _)| problem.starts_with(library));
    let Some((_, packages)) = library else { return problem };
    format!(
        "{problem}; where it is not installed, pip's {packages} or PyTorch for CUDA 13 brings it, and \
         LD_LIBRARY_PATH must name the folder that it then lies in (site-packages/nvidia/*/lib)"
    )
}

/// How problems with libraries begin, and the packages that they come in.
#[cfg(any(feature = "cuda", test))]
const LIBRARIES: &[(&str, &str)] =
    &[("cuDNN", "nvidia-cudnn-cu13"), ("cuBLAS", "nvidia-cublas and nvidia-curand")];

#[cfg(feature = "cuda")]
fn own_gpu() -> std::result::Result<Device, String> {
    gpu(crate::ranks::own_gpu(gpus()?.len()).map_err(|error| error.to_string())?)
}

#[cfg(not(feature = "cuda"))]
fn own_gpu() -> std::result::Result<Device, String> {
    gpu(0)
}

#[cfg(not(feature = "cuda"))]
fn gpu(_: usize) -> std::result::Result<Device, String> {
    Err("this build is for the processor alone; a build with `--features cuda` has GPUs".into())
}

/// The GPUs that a run could be computed on, or why there are none, in one line.
pub fn gpus() -> std::result::Result<Vec<String>, String> {
    #[cfg(feature = "cuda")]
    return pretext_ops::cuda::devices().map_err(|error| one_line(&error));
    #[cfg(not(feature = "cuda"))]
    gpu(0).map(|_| Vec::new())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_by_their_words() {
        for (word, choice) in [
            ("cpu", DeviceChoice::Cpu),
            ("cuda:3", DeviceChoice::Gpu(3)),
            ("cuda", DeviceChoice::OwnGpu),
            ("auto", DeviceChoice::Auto),
        ] {
            assert_eq!(word.parse(), Ok(choice));
            assert_eq!(choice.to_string(), word);
        }
        for word in ["", "gpu", "cuda:", "cuda:x", "cuda:-1", "cpu:0", "mps"] {
            assert!(word.parse::<DeviceChoice>().is_err(), "{word}");
        }
    }

    #[test]
    fn only_a_gpu_that_was_asked_for_is_insisted_on() {
        let of = |choice| Device { choice, ..Device::cpu() }.or_processor();
        for choice in [DeviceChoice::Gpu(0), DeviceChoice::OwnGpu] {
            assert!(of(choice).is_none());
        }
        for choice in [DeviceChoice::Auto, DeviceChoice::Cpu] {
            assert_eq!(of(choice).unwrap().name(), "cpu");
        }
    }

    #[test]
    fn the_processor_has_no_f16() {
        let cpu = Device::cpu();
        assert!(cpu.check(Precision::F32).is_ok() && cpu.check(Precision::Bf16).is_ok());
        let error = cpu.check(Precision::F16).unwrap_err();
        assert!(error.is_users_mistake());
        let says = "--precision: f16 is for GPUs; on the processor give bf16 or f32";
        assert_eq!(error.to_string(), says);
    }

    #[test]
    fn a_missing_library_is_told_with_its_package() {
        let cudnn = cured("cuDNN 9 for CUDA 13 cannot be used (not initialised)".into());
        assert!(cudnn.starts_with("cuDNN 9 for CUDA 13 cannot be used (not initialised); "));
        assert!(cudnn.contains("nvidia-cudnn-cu13") && cudnn.contains("LD_LIBRARY_PATH"));
        assert_eq!(cudnn.lines().count(), 1);
        let cublas = cured("cuBLAS or cuRAND of CUDA 13 cannot be used (status 1)".into());
        assert!(cublas.contains("nvidia-cublas and nvidia-curand"), "{cublas}");
        assert_eq!(cured("no GPU: the driver finds none".into()), "no GPU: the driver finds none");
    }

    #[test]
    fn the_processor_scores_in_f32() {
        for (name, precision) in Precision::ALL {
            assert_eq!(Device::cpu().scores_in(*precision), Precision::F32, "{name}");
        }
    }

    #[test]
    fn without_a_gpu_auto_is_the_processor_and_says_why() {
        let Err(error) = Device::open(DeviceChoice::Gpu(0)) else { return };
        assert!(error.is_users_mistake());
        assert_eq!(error.to_string().lines().count(), 1);
        let device = Device::open(DeviceChoice::Auto).unwrap();
        assert_eq!(device.name(), "cpu");
        assert!(error.to_string().ends_with(device.instead().unwrap()));
    }
}
