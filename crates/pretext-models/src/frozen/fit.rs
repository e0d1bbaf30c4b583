//! Whether a file fits a network: what the network asks for, compared with what the file has.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use candle_core::{DType, Device, Result, Shape, Tensor};
use candle_nn::VarBuilder;
use candle_nn::var_builder::SimpleBackend;

use super::checkpoint::Checkpoint;
use super::{Architecture, Error};
use crate::error::Mismatch;

/// Compares what `architecture` asks for with the header of a file.
///
/// # Errors
/// [`Error::Type`] where all names and shapes fit and a type does not.
pub(super) fn compare(
    architecture: &'static dyn Architecture,
    checkpoint: &Checkpoint,
) -> std::result::Result<Mismatch, Error> {
    let wanted = wanted(architecture, checkpoint.names().map(str::to_string).collect())?;
    let mut mismatch = Mismatch::default();
    let mut quantised = None;
    for (name, shape) in &wanted {
        match checkpoint.info(name) {
            None => mismatch.missing.push(name.clone()),
            Some(found) if found.shape != *shape => {
                mismatch.misshaped.push((name.clone(), shape.clone(), found.shape.clone()));
            }
            Some(found) if !Checkpoint::is_float(found) => {
                quantised.get_or_insert((name, found.dtype));
            }
            Some(_) => {}
        }
    }
    mismatch.unexpected = checkpoint
        .names()
        .filter(|name| !wanted.contains_key(*name) && !architecture.unused(name))
        .map(str::to_string)
        .collect();
    match quantised {
        Some((name, dtype)) if mismatch.is_empty() => {
            Err(checkpoint.refuse_type(name.clone(), dtype))
        }
        _ => Ok(mismatch),
    }
}

/// Names and shapes that `architecture` asks of a file with these names, found by building it
/// from zeros that take no memory.
fn wanted(
    architecture: &'static dyn Architecture,
    names: Vec<String>,
) -> Result<BTreeMap<String, Vec<usize>>> {
    let asked = Arc::new(Mutex::new(BTreeMap::new()));
    let listener = Listener { asked: Arc::clone(&asked), names, architecture };
    let vb = VarBuilder::from_backend(Box::new(listener), DType::F32, Device::Cpu);
    architecture.build(vb)?;
    let mut asked = asked.lock().unwrap_or_else(PoisonError::into_inner);
    Ok(std::mem::take(&mut *asked))
}

/// A source of zeros that takes note of what is asked of it.
struct Listener {
    asked: Arc<Mutex<BTreeMap<String, Vec<usize>>>>,
    names: Vec<String>,
    architecture: &'static dyn Architecture,
}

impl SimpleBackend for Listener {
    fn get(
        &self,
        shape: Shape,
        name: &str,
        _: candle_nn::Init,
        dtype: DType,
        device: &Device,
    ) -> Result<Tensor> {
        if self.architecture.absent(name) {
            candle_core::bail!("{name} is no part of this network");
        }
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        asked.insert(name.to_string(), shape.dims().to_vec());
        Tensor::zeros((), dtype, device)?.broadcast_as(shape)
    }

    fn get_unchecked(&self, name: &str, _: DType, _: &Device) -> Result<Tensor> {
        candle_core::bail!("{name} was asked for without a shape")
    }

    fn contains_tensor(&self, name: &str) -> bool {
        self.names.iter().any(|known| known == name)
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Write as _;

    use super::super::{FROZEN, detect, find};
    use super::wanted;

    /// The encoder has as many parameters as PyTorch's without head, statistics not counted.
    #[track_caller]
    fn check_parameters(name: &str, expected: usize) {
        let wanted = wanted(find(name).unwrap().architecture, Vec::new()).unwrap();
        let trained = wanted.iter().filter(|(name, _)| !name.contains("running_"));
        assert_eq!(
            trained.map(|(_, shape)| shape.iter().product::<usize>()).sum::<usize>(),
            expected
        );
    }

    #[test]
    fn sizes_are_those_of_torchvision_transformers_and_timm() {
        check_parameters("resnet18", 11_176_512);
        check_parameters("resnet34", 21_284_672);
        check_parameters("resnet50", 23_508_032);
        check_parameters("resnet101", 42_500_160);
        check_parameters("resnet152", 58_143_808);
        check_parameters("vit-base-patch16-224", 85_798_656);
        check_parameters("dino-vits16", 21_665_664);
        check_parameters("dino-vitb16", 85_798_656);
        check_parameters("dinov2-small", 22_056_192);
        check_parameters("dinov2-base", 86_579_712);
        check_parameters("dinov2-large", 304_367_616);
        check_parameters("convnext-atto", 3_374_520);
        check_parameters("convnext-nano", 14_952_560);
        check_parameters("convnext-tiny", 27_820_128);
        check_parameters("convnext-small", 49_454_688);
        check_parameters("convnext-base", 87_566_464);
        check_parameters("convnextv2-atto", 3_387_400);
        check_parameters("convnextv2-nano", 14_982_800);
        check_parameters("convnextv2-tiny", 27_866_496);
        check_parameters("convnextv2-base", 87_692_800);
    }

    #[test]
    fn every_entry_is_told_from_every_other() {
        let folder = tempfile::tempdir().unwrap();
        for spec in FROZEN {
            // A file of the right header and length: its weights are a hole.
            let mut end = 0;
            let mut header = serde_json::Map::new();
            for (name, shape) in wanted(spec.architecture, Vec::new()).unwrap() {
                let start = end;
                end += 4 * shape.iter().product::<usize>();
                let about = serde_json::json!({
                    "dtype": "F32", "shape": shape, "data_offsets": [start, end],
                });
                header.insert(name, about);
            }
            let header = serde_json::to_vec(&header).unwrap();
            let path = folder.path().join(spec.name);
            let mut file = File::create(&path).unwrap();
            file.write_all(&(header.len() as u64).to_le_bytes()).unwrap();
            file.write_all(&header).unwrap();
            file.set_len((8 + header.len() + end) as u64).unwrap();

            let twin = if spec.name == "dino-vitb16" { "vit-base-patch16-224" } else { spec.name };
            assert_eq!(detect(&path).unwrap().name, twin);
        }
    }
}
