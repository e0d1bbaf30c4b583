//! Pooling, blurs and up-sampling on a GPU: weighted sums of pixels by a table, and maxima.

use candle_core::{DType, Result};

use super::{Arg, Machine, count, of_dtype};
use crate::channels_last::pixels::Terms;
use crate::pool::Windows;

/// Which pixels each pixel is a weighted sum of, the same for all pictures and channels.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Table {
    /// Where each pixel's terms begin, and where the last one's end.
    pub(crate) starts: Vec<u32>,
    /// The pixels that are summed.
    pub(crate) places: Vec<u32>,
    pub(crate) weights: Vec<f32>,
}

impl Table {
    /// From `(pixel, term's pixel, weight)` in the order in which a pixel's terms are added.
    fn new(pixels: usize, terms: &[(u32, u32, f32)]) -> Result<Self> {
        count(terms.len())?;
        let mut starts = vec![0; pixels + 1];
        for (pixel, ..) in terms {
            starts[*pixel as usize + 1] += 1;
        }
        for pixel in 0..pixels {
            starts[pixel + 1] += starts[pixel];
        }
        let mut next = starts.clone();
        let (mut places, mut weights) = (vec![0; terms.len()], vec![0.0; terms.len()]);
        for &(pixel, place, weight) in terms {
            let at = &mut next[pixel as usize];
            (places[*at as usize], weights[*at as usize]) = (place, weight);
            *at += 1;
        }
        Ok(Self { starts, places, weights })
    }

    /// An operator's, and the one of its gradient.
    pub(crate) fn both(
        terms: &impl Terms,
        input: (usize, usize),
        output: (usize, usize),
    ) -> Result<[Self; 2]> {
        count(input.0 * input.1)?;
        count(output.0 * output.1)?;
        let mut list = Vec::new();
        terms.each_term(input, |to, from, weight| {
            list.push((to as u32, from as u32, weight as f32));
        });
        let turned: Vec<_> = list.iter().map(|&(to, from, weight)| (from, to, weight)).collect();
        Ok([Self::new(output.0 * output.1, &list)?, Self::new(input.0 * input.1, &turned)?])
    }
}

/// A table in a GPU's memory.
#[derive(Clone, Copy)]
pub(crate) struct Addresses {
    pub(crate) starts: u64,
    pub(crate) places: u64,
    pub(crate) weights: u64,
}

/// `n` pictures of `inputs` pixels to as many of `outputs`.
#[derive(Clone, Copy)]
pub(crate) struct Pictures {
    pub(crate) dtype: DType,
    pub(crate) n: usize,
    pub(crate) inputs: usize,
    pub(crate) outputs: usize,
    pub(crate) channels: usize,
}

/// Weighted sums.
pub(crate) fn gather<M: Machine>(
    machine: &M,
    pictures: &Pictures,
    table: Addresses,
    x: u64,
    y: u64,
) -> Result<()> {
    let &Pictures { dtype, n, inputs, outputs, channels } = pictures;
    machine.launch(
        &of_dtype("gather", dtype)?,
        count(n * outputs * channels)?,
        &[
            Arg::Address(x),
            Arg::Address(table.starts),
            Arg::Address(table.places),
            Arg::Address(table.weights),
            Arg::Count(count(inputs)?),
            Arg::Count(count(outputs)?),
            Arg::Count(count(channels)?),
            Arg::Address(y),
        ],
    )
}

/// The maxima of a batch's windows.
#[derive(Clone, Copy)]
pub(crate) struct Maxima {
    pub(crate) dtype: DType,
    /// `[N, H, W, C]`.
    pub(crate) input: (usize, usize, usize, usize),
    pub(crate) windows: Windows,
}

impl Maxima {
    fn arguments(&self, pictures: &[u64], out: u64) -> Result<Vec<Arg>> {
        let (_, h, w, c) = self.input;
        let (height, width) = self.windows.size((h, w));
        let (kernel, stride, padding) = self.windows.parameters();
        let mut arguments: Vec<Arg> = pictures.iter().map(|&at| Arg::Address(at)).collect();
        for size in [h, w, height, width, kernel, stride, padding, c] {
            arguments.push(Arg::Count(count(size)?));
        }
        arguments.push(Arg::Address(out));
        Ok(arguments)
    }

    /// Writes `[N, H', W', C]`.
    pub(crate) fn forward<M: Machine>(&self, machine: &M, x: u64, y: u64) -> Result<()> {
        let (n, h, w, c) = self.input;
        let (height, width) = self.windows.size((h, w));
        let kernel = of_dtype("max_pool", self.dtype)?;
        machine.launch(&kernel, count(n * height * width * c)?, &self.arguments(&[x], y)?)
    }

    /// Writes `[N, H, W, C]`.
    pub(crate) fn backward<M: Machine>(&self, machine: &M, x: u64, dy: u64, dx: u64) -> Result<()> {
        let (n, h, w, c) = self.input;
        let kernel = of_dtype("max_pool_gradient", self.dtype)?;
        machine.launch(&kernel, count(n * h * w * c)?, &self.arguments(&[x, dy], dx)?)
    }
}
