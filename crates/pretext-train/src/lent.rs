//! Memory of the loader's, lent to tensors and taken back: a batch is not copied on its way to a
//! network on the processor, and once to one on a GPU, and the next one is written over it.

use std::sync::{Mutex, PoisonError};

use candle_core::{CpuStorage, Device, InplaceOp1, Layout, Result, Tensor};
use pretext_data::Buffers;

use crate::batch;

/// The values of a batch.
pub enum Values<const K: usize> {
    /// The loader's, in its memory.
    Lent([Vec<f32>; K]),
    /// Those that were made on the device.
    There([Tensor; K]),
}

impl<const K: usize> From<[Vec<f32>; K]> for Values<K> {
    fn from(values: [Vec<f32>; K]) -> Self {
        Self::Lent(values)
    }
}

/// Calls `work` with the values of a batch from [`Loader::rows`](pretext_data::Loader::rows), each of
/// the `K` as `f32` `[N, 3, size, size]` on the device, and then gives their memory to `buffers`.
///
/// On the processor the tensors are empty afterwards: nothing that `work` returns may hold them, nor a
/// graph of them.
///
/// # Errors
/// What `work` returns, or that values are not whole pictures of that size.
pub fn lend<R, E: From<candle_core::Error>, const K: usize>(
    values: impl Into<Values<K>>,
    size: u32,
    buffers: &Buffers<f32, K>,
    device: &Device,
    work: impl FnOnce(&[Tensor; K]) -> std::result::Result<R, E>,
) -> std::result::Result<R, E> {
    let values = match values.into() {
        Values::Lent(values) => values,
        Values::There(tensors) => return work(&tensors),
    };
    let mut tensors = Vec::with_capacity(K);
    for values in values {
        tensors.push(batch::tensor(values, size)?);
    }
    let tensors: [Tensor; K] = tensors.try_into().expect("a tensor for each of the values");
    let there = tensors.iter().map(|tensor| upload(tensor, device)).collect::<Result<Vec<_>>>()?;
    let there = there.try_into().expect("a tensor for each of the values");
    let result = work(&there)?;
    if let Some(values) = taken(&tensors)? {
        buffers.give_back(values);
    }
    Ok(result)
}

/// A tensor on a device; an empty one, for which a GPU has no memory, stays where it is.
fn upload(tensor: &Tensor, device: &Device) -> Result<Tensor> {
    if tensor.elem_count() == 0 { Ok(tensor.clone()) } else { tensor.to_device(device) }
}

/// What is in tensors, which are empty afterwards; `None` if it is not on this side.
fn taken<const K: usize>(tensors: &[Tensor; K]) -> Result<Option<[Vec<f32>; K]>> {
    let take = Take::default();
    for tensor in tensors {
        tensor.inplace_op1(&take)?;
    }
    let taken = take.0.into_inner().unwrap_or_else(PoisonError::into_inner);
    Ok(taken.try_into().ok())
}

/// Moves a tensor's values out; candle lends them to no one but an operation.
#[derive(Default)]
struct Take(Mutex<Vec<Vec<f32>>>);

impl InplaceOp1 for Take {
    fn name(&self) -> &'static str {
        "take-values"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, _: &Layout) -> Result<()> {
        if let CpuStorage::F32(values) = storage {
            let mut taken = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            taken.push(std::mem::take(values));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_copied_there_and_back() {
        let values = [vec![1.5; 2 * 3 * 16], vec![]];
        let place = values[0].as_ptr();
        let tensors = values.map(|values| batch::tensor(values, 4).unwrap());
        assert_eq!(tensors[0].dims(), [2, 3, 4, 4]);
        assert_eq!(tensors[1].dims(), [0, 3, 4, 4]);
        let sum = tensors[0].sum_all().unwrap();
        let [first, second] = taken(&tensors).unwrap().unwrap();
        assert_eq!((first.as_ptr(), first), (place, vec![1.5; 96]));
        assert!(second.is_empty());
        assert_eq!(sum.to_scalar::<f32>().unwrap(), 144.0);
    }

    #[test]
    fn values_that_are_no_pictures_are_an_error() {
        let work = |_: &[Tensor; 1]| Ok::<_, candle_core::Error>(());
        assert!(lend([vec![0.0; 47]], 4, &Buffers::new([48]), &Device::Cpu, work).is_err());
    }
}
