//! Buckets of gradients that stay where they lie: whole tensors in one row, summed beside the GPU's
//! other work.

use candle_core::Tensor;

use super::gradients;
use crate::error::Result;

/// Numbers from which a bucket is full: 16 MiB, of which the sum takes longer than its start.
const BUCKET: usize = 1 << 22;

/// Sums over all processes that begin now and are waited for later.
pub(super) trait Sums: Send {
    /// A sum under way.
    type Pending: Send;

    /// Begins the sum of a row `[N]` that nobody else has.
    fn start(&self, row: Tensor) -> Result<Self::Pending>;

    /// The sum; on a GPU what is computed with it waits, and nothing else.
    fn wait(&self, pending: Self::Pending) -> Result<Tensor>;
}

/// The gradients of one step.
pub(super) struct Buckets<S: Sums> {
    sums: S,
    /// Numbers from which a bucket is full.
    full: usize,
    open: Bucket,
    under_way: Vec<(S::Pending, Vec<Tensor>)>,
}

#[derive(Default)]
struct Bucket {
    /// Whose numbers they are, in order.
    tensors: Vec<Tensor>,
    rows: Vec<Tensor>,
    numbers: usize,
}

impl<S: Sums> Buckets<S> {
    pub(super) fn new(sums: S) -> Self {
        Self { sums, full: BUCKET, open: Bucket::default(), under_way: Vec::new() }
    }

    /// Begins the sum of the open bucket.
    fn send(&mut self) -> Result<()> {
        let Bucket { tensors, rows, .. } = std::mem::take(&mut self.open);
        if !rows.is_empty() {
            // A copy even of a single one, which may be somebody else's too.
            let row = if rows.len() == 1 { rows[0].copy()? } else { Tensor::cat(&rows, 0)? };
            self.under_way.push((self.sums.start(row)?, tensors));
        }
        Ok(())
    }
}

impl<S: Sums> gradients::Buckets for Buckets<S> {
    fn push(&mut self, of: &Tensor, values: &Tensor, factor: f32) -> Result<()> {
        let row = values.detach().flatten_all()?.contiguous()?;
        let row = if factor == 1.0 { row } else { (row * f64::from(factor))? };
        self.open.numbers += row.elem_count();
        self.open.rows.push(row);
        self.open.tensors.push(of.clone());
        if self.open.numbers >= self.full { self.send() } else { Ok(()) }
    }

    fn finish(mut self: Box<Self>) -> Result<Vec<(Tensor, Tensor)>> {
        self.send()?;
        let mut all = Vec::new();
        for (pending, tensors) in self.under_way {
            let row = self.sums.wait(pending)?;
            let mut at = 0;
            for tensor in tensors {
                let numbers = tensor.elem_count();
                let sum = row.narrow(0, at, numbers)?.reshape(tensor.shape())?;
                all.push((tensor, sum));
                at += numbers;
            }
        }
        Ok(all)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use candle_core::Device;

    use super::gradients::Buckets as _;
    use super::*;

    /// Two processes with the same numbers.
    struct Twice(Arc<Mutex<Vec<usize>>>);

    impl Sums for Twice {
        type Pending = Tensor;

        fn start(&self, row: Tensor) -> Result<Tensor> {
            self.0.lock().unwrap().push(row.elem_count());
            Ok((row * 2.0)?)
        }

        fn wait(&self, pending: Tensor) -> Result<Tensor> {
            Ok(pending)
        }
    }

    #[test]
    fn each_tensor_has_its_own_sum() {
        let started = Arc::new(Mutex::new(Vec::new()));
        let mut buckets = Box::new(Buckets { full: 7, ..Buckets::new(Twice(started.clone())) });
        let shapes: [&[usize]; 5] = [&[2, 3], &[3], &[2, 5], &[1], &[]];
        let mut wanted = Vec::new();
        for (i, shape) in shapes.into_iter().enumerate() {
            let count = shape.iter().product::<usize>();
            let values: Vec<f32> = (0..count).map(|j| (10 * i + j) as f32).collect();
            let values = Tensor::from_vec(values, shape, &Device::Cpu).unwrap();
            // One that does not lie in a row.
            let values = if i == 2 {
                values.t().unwrap().contiguous().unwrap().t().unwrap()
            } else {
                values
            };
            let of = values.zeros_like().unwrap();
            let factor = if i == 3 { 0.25 } else { 1.0 };
            buckets.push(&of, &values, factor).unwrap();
            wanted.push((of.id(), (values * f64::from(2.0 * factor)).unwrap()));
        }
        assert_eq!(*started.lock().unwrap(), [9, 10], "as soon as one is full");
        let sums = buckets.finish().unwrap();
        assert_eq!(*started.lock().unwrap(), [9, 10, 2]);
        assert_eq!(sums.len(), wanted.len());
        for ((of, sum), (id, want)) in sums.iter().zip(&wanted) {
            assert_eq!((of.id(), sum.shape()), (*id, want.shape()));
            let list = |t: &Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            assert_eq!(list(sum), list(want));
        }
    }
}
