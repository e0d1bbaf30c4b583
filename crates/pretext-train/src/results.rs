//! What networks give for batches that are not trained on, read from a GPU many at a time: whoever looks
//! at a number waits for the GPU, which has nothing to do afterwards until it is told of the next batch.

use candle_core::{Device as Place, Tensor};

use crate::device::Device;
use crate::error::Result;

/// Bytes of results that lie on a GPU before they are read.
const HELD: usize = 64 << 20;

/// Results of batches in their order, `[N, D]` each with one `D`, with what is to be known of each batch.
pub(crate) struct Results<T> {
    /// Bytes that may wait to be read.
    most: usize,
    held: usize,
    waiting: Vec<(Tensor, T)>,
}

impl<T> Results<T> {
    /// None yet. On the processor each is due at once.
    pub(crate) fn new(device: &Device) -> Self {
        Self { most: if device.is_gpu() { HELD } else { 0 }, held: 0, waiting: Vec::new() }
    }

    /// Adds a batch's; returns those that are due, on the processor.
    ///
    /// # Errors
    /// If the GPU fails.
    pub(crate) fn push(&mut self, result: &Tensor, about: T) -> Result<Vec<(Tensor, T)>> {
        self.held += result.elem_count() * result.dtype().size_in_bytes();
        self.waiting.push((result.detach(), about));
        if self.held < self.most { Ok(Vec::new()) } else { self.read() }
    }

    /// Those that were not due, on the processor; none are left.
    ///
    /// # Errors
    /// If the GPU fails.
    pub(crate) fn read(&mut self) -> Result<Vec<(Tensor, T)>> {
        let (tensors, about): (Vec<Tensor>, Vec<T>) = self.waiting.drain(..).unzip();
        self.held = 0;
        let whole = match &tensors[..] {
            [] => return Ok(Vec::new()),
            [one] => one.to_device(&Place::Cpu)?,
            many => Tensor::cat(many, 0)?.to_device(&Place::Cpu)?,
        };
        let mut at = 0;
        let parts = tensors.iter().map(|tensor| {
            let count = tensor.dim(0)?;
            at += count;
            whole.narrow(0, at - count, count)
        });
        let parts = parts.collect::<candle_core::Result<Vec<_>>>()?;
        Ok(parts.into_iter().zip(about).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Three batches, of which the last is shorter.
    fn batches() -> Vec<Tensor> {
        let batch = |i: usize, count: usize| {
            let values = (0..2 * count).map(|at| (100 * i + at) as f32);
            Tensor::from_iter(values, &Place::Cpu).unwrap().reshape((count, 2)).unwrap()
        };
        vec![batch(0, 3), batch(1, 3), batch(2, 1)]
    }

    #[test]
    fn results_stay_in_order_and_with_their_batches() {
        // Read one by one, two by two, and all at the end.
        for (most, reads) in [(0, 3), (25, 2), (1000, 1)] {
            let mut results = Results { most, held: 0, waiting: Vec::new() };
            let (mut read, mut times) = (Vec::new(), 0);
            for (i, batch) in batches().iter().enumerate() {
                let due = results.push(batch, i).unwrap();
                times += usize::from(!due.is_empty());
                read.extend(due);
            }
            let left = results.read().unwrap();
            times += usize::from(!left.is_empty());
            read.extend(left);
            assert_eq!(times, reads, "{most}");
            assert!(results.read().unwrap().is_empty());
            for (i, ((got, about), want)) in read.into_iter().zip(batches()).enumerate() {
                assert_eq!(about, i);
                assert_eq!(got.to_vec2::<f32>().unwrap(), want.to_vec2::<f32>().unwrap());
            }
        }
    }

    #[test]
    fn the_processor_keeps_nothing_waiting() {
        let mut results = Results::new(&Device::cpu());
        assert_eq!(results.push(&batches()[0], ()).unwrap().len(), 1);
    }
}
