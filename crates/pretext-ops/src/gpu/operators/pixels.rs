//! Pooling, blurs, up-sampling and pixel shuffle.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use candle_core::{Device, Result, Tensor};

use super::node::node;
use crate::channels_last::pixels::Terms;
use crate::gpu::Place;
use crate::gpu::pixels::{Addresses, Maxima, Pictures, Table, gather};
use crate::pool::Windows;

/// A table.
struct Uploaded {
    starts: Tensor,
    places: Tensor,
    weights: Tensor,
}

impl Uploaded {
    fn new(table: Table, device: &Device) -> Result<Self> {
        let (pixels, terms) = (table.starts.len(), table.places.len());
        Ok(Self {
            starts: Tensor::from_vec(table.starts, pixels, device)?,
            places: Tensor::from_vec(table.places, terms, device)?,
            weights: Tensor::from_vec(table.weights, terms, device)?,
        })
    }

    fn addresses<M: Place>(&self, gpu: &M) -> Result<Addresses> {
        Ok(Addresses {
            starts: gpu.at(&self.starts)?,
            places: gpu.at(&self.places)?,
            weights: gpu.at(&self.weights)?,
        })
    }
}

/// An operator's table and its gradient's.
type Tables = Arc<[Uploaded; 2]>;
/// What a device and an operator print as, and the input's sides.
type Key = (String, String, (usize, usize));

/// Uploaded once for each operator and size of pictures, of which a network has few.
static TABLES: LazyLock<Mutex<HashMap<Key, Tables>>> = LazyLock::new(Mutex::default);

fn tables(
    terms: &impl Terms,
    input: (usize, usize),
    output: (usize, usize),
    x: &Tensor,
) -> Result<Tables> {
    let key = (format!("{:?}", x.device()), format!("{terms:?}"), input);
    let mut tables = TABLES.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = tables.get(&key) {
        return Ok(known.clone());
    }
    let [there, back] = Table::both(terms, input, output)?;
    let new = Arc::new([Uploaded::new(there, x.device())?, Uploaded::new(back, x.device())?]);
    tables.insert(key, new.clone());
    Ok(new)
}

/// Weighted sums of pixels: `[N, H, W, C]` to `[N, H', W', C]`.
pub(crate) fn weighted<M: Place, T: Terms>(
    x: &Tensor,
    terms: &T,
    output: (usize, usize),
) -> Result<Tensor> {
    let (x, gpu) = (x.contiguous()?, M::of(x)?);
    let (n, h, w, channels) = x.dims4()?;
    let (dtype, inputs, outputs) = (x.dtype(), h * w, output.0 * output.1);
    let tables = tables(terms, (h, w), output, &x)?;
    let there = Pictures { dtype, n, inputs, outputs, channels };
    let y = gpu.numbers(dtype, n * outputs * channels)?;
    gather(&gpu, &there, tables[0].addresses(&gpu)?, gpu.at(&x)?, gpu.address(&y))?;
    let machine = gpu.clone();
    let shape = (n, output.0, output.1, channels);
    node(T::NAME, &[&x], (&gpu, y, dtype), shape, move |dy| {
        let back = Pictures { inputs: outputs, outputs: inputs, ..there };
        let dx = machine.numbers(dtype, n * inputs * channels)?;
        let table = tables[1].addresses(&machine)?;
        gather(&machine, &back, table, machine.at(dy)?, machine.address(&dx))?;
        Ok(vec![Some(machine.tensor(dx, dtype, (n, h, w, channels))?)])
    })
}

/// The largest value of each window.
pub(crate) fn max_pool2d<M: Place>(x: &Tensor, windows: Windows) -> Result<Tensor> {
    let (x, gpu) = (x.contiguous()?, M::of(x)?);
    let (input, dtype) = (x.dims4()?, x.dtype());
    let (n, h, w, c) = input;
    let (height, width) = windows.size((h, w));
    let maxima = Maxima { dtype, input, windows };
    let y = gpu.numbers(dtype, n * height * width * c)?;
    maxima.forward(&gpu, gpu.at(&x)?, gpu.address(&y))?;
    let (values, machine) = (x.detach(), gpu.clone());
    node("max_pool2d", &[&x], (&gpu, y, dtype), (n, height, width, c), move |dy| {
        let dx = machine.numbers(dtype, n * h * w * c)?;
        maxima.backward(&machine, machine.at(&values)?, machine.at(dy)?, machine.address(&dx))?;
        Ok(vec![Some(machine.tensor(dx, dtype, input)?)])
    })
}

/// `[N, H, W, C f f]` to `[N, H f, W f, C]`: candle's own copies, whose gradients are right.
pub(crate) fn pixel_shuffle(x: &Tensor, factor: usize) -> Result<Tensor> {
    let (n, h, w, c) = x.dims4()?;
    let out = c / (factor * factor);
    x.reshape((n, h, w, out, factor, factor))?.permute((0, 1, 4, 2, 5, 3))?.contiguous()?.reshape((
        n,
        h * factor,
        w * factor,
        out,
    ))
}
