//! Pooling, blurs, up-sampling and pixel shuffle.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use candle_core::{Device, Result, Tensor};

use super::tape::record;
use crate::channels_last::FeatureMap;
use crate::channels_last::pixels::Terms;
use crate::gpu::Place;
use crate::gpu::pixels::{Addresses, Maxima, Pictures, Shuffle, Table, gather};
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
    x: &FeatureMap,
    terms: &T,
    output: (usize, usize),
) -> Result<FeatureMap> {
    let numbers = x.numbers()?;
    let gpu = M::of(&numbers)?;
    let (n, h, w, channels) = numbers.dims4()?;
    let (dtype, inputs, outputs) = (numbers.dtype(), h * w, output.0 * output.1);
    let tables = tables(terms, (h, w), output, &numbers)?;
    let there = Pictures { dtype, n, inputs, outputs, channels };
    let y = gpu.numbers(dtype, n * outputs * channels)?;
    gather(&gpu, &there, tables[0].addresses(&gpu)?, gpu.at(&numbers)?, gpu.address(&y))?;
    let y = gpu.tensor(y, dtype, (n, output.0, output.1, channels))?;
    record::<M>(T::NAME, &[x], &[], y, move |dy| {
        let back = Pictures { inputs: outputs, outputs: inputs, ..there };
        let dx = gpu.numbers(dtype, n * inputs * channels)?;
        let table = tables[1].addresses(&gpu)?;
        gather(&gpu, &back, table, gpu.at(dy)?, gpu.address(&dx))?;
        Ok(vec![Some(gpu.tensor(dx, dtype, (n, h, w, channels))?)])
    })
}

/// The largest value of each window.
pub(crate) fn max_pool2d<M: Place>(x: &FeatureMap, windows: Windows) -> Result<FeatureMap> {
    let numbers = x.numbers()?;
    let gpu = M::of(&numbers)?;
    let (input, dtype) = (numbers.dims4()?, numbers.dtype());
    let (n, h, w, c) = input;
    let (height, width) = windows.size((h, w));
    let maxima = Maxima { dtype, input, windows };
    let (places, y) = (gpu.alloc(maxima.places()?)?, gpu.numbers(dtype, n * height * width * c)?);
    maxima.forward(&gpu, gpu.at(&numbers)?, gpu.address(&places), gpu.address(&y))?;
    let y = gpu.tensor(y, dtype, (n, height, width, c))?;
    record::<M>("max_pool2d", &[x], &[], y, move |dy| {
        let dx = gpu.numbers(dtype, n * h * w * c)?;
        maxima.backward(&gpu, gpu.address(&places), gpu.at(dy)?, gpu.address(&dx))?;
        Ok(vec![Some(gpu.tensor(dx, dtype, input)?)])
    })
}

/// `[N, H, W, C f f]` to `[N, H f, W f, C]`.
pub(crate) fn pixel_shuffle<M: Place>(x: &FeatureMap, factor: usize) -> Result<FeatureMap> {
    let numbers = x.numbers()?;
    let gpu = M::of(&numbers)?;
    let (dtype, (n, h, w, c)) = (numbers.dtype(), numbers.dims4()?);
    let out = c / (factor * factor);
    let shuffle = Shuffle { dtype, size: (n, h, w, out), factor };
    let y = gpu.numbers(dtype, n * h * w * c)?;
    shuffle.run(&gpu, gpu.at(&numbers)?, gpu.address(&y), false)?;
    let y = gpu.tensor(y, dtype, (n, h * factor, w * factor, out))?;
    record::<M>("pixel_shuffle", &[x], &[], y, move |dy| {
        let dx = gpu.numbers(dtype, n * h * w * c)?;
        shuffle.run(&gpu, gpu.at(dy)?, gpu.address(&dx), true)?;
        Ok(vec![Some(gpu.tensor(dx, dtype, (n, h, w, c))?)])
    })
}
