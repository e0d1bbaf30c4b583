//! Pooling, blurs and up-sampling on a GPU: weighted sums of pixels by a table, and maxima.

use candle_core::{DType, Result, bail};

use super::norm::number;
use super::{Arg, Machine, count, of_dtype, pack};
use crate::channels_last::Activation;
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
    let numbers = count(n * outputs * channels)?;
    let pack = pack(dtype, &[count(channels)?], &[x, y]);
    machine.launch(
        of_dtype("gather", dtype)?,
        numbers / pack,
        &[
            Arg::Address(x),
            Arg::Address(table.starts),
            Arg::Address(table.places),
            Arg::Address(table.weights),
            Arg::Count(count(inputs)?),
            Arg::Count(count(outputs)?),
            Arg::Count(count(channels)?),
            Arg::Count((pack > 1).into()),
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
    /// Bytes of where each window's largest number lies in it, which [`backward`](Self::backward) reads.
    ///
    /// # Errors
    /// If there are more places in a window than such a number counts.
    pub(crate) fn places(&self) -> Result<usize> {
        let (n, h, w, c) = self.input;
        let (height, width) = self.windows.size((h, w));
        let (kernel, ..) = self.windows.parameters();
        if kernel * kernel > 1 << 16 {
            bail!("max_pool2d: on a GPU a kernel of {kernel} is more than 256")
        }
        Ok(n * height * width * c * size_of::<u16>())
    }

    /// Launches a kernel with the pictures before and behind the sizes, on `pixels` of each of them.
    fn launch<M: Machine>(
        &self,
        machine: &M,
        kernel: &str,
        pixels: usize,
        (before, behind): (&[u64], &[u64]),
    ) -> Result<()> {
        let (n, h, w, c) = self.input;
        let (height, width) = self.windows.size((h, w));
        let (kernel_size, stride, padding) = self.windows.parameters();
        let pack = pack(self.dtype, &[count(c)?], &[before, behind].concat());
        let mut arguments: Vec<Arg> = before.iter().map(|&at| Arg::Address(at)).collect();
        for size in [h, w, height, width, kernel_size, stride, padding, c] {
            arguments.push(Arg::Count(count(size)?));
        }
        arguments.push(Arg::Count((pack > 1).into()));
        arguments.extend(behind.iter().map(|&at| Arg::Address(at)));
        let threads = count(n * pixels * c)? / pack;
        machine.launch(of_dtype(kernel, self.dtype)?, threads, &arguments)
    }

    /// Writes `[N, H', W', C]`, and the places.
    pub(crate) fn forward<M: Machine>(
        &self,
        machine: &M,
        x: u64,
        places: u64,
        y: u64,
    ) -> Result<()> {
        let (_, h, w, _) = self.input;
        let (height, width) = self.windows.size((h, w));
        self.launch(machine, "max_pool", height * width, (&[x], &[places, y]))
    }

    /// Writes `[N, H, W, C]`.
    pub(crate) fn backward<M: Machine>(
        &self,
        machine: &M,
        places: u64,
        dy: u64,
        dx: u64,
    ) -> Result<()> {
        let (_, h, w, _) = self.input;
        self.launch(machine, "max_pool_gradient", h * w, (&[places, dy], &[dx]))
    }
}

/// Channels that become pixels.
#[derive(Clone, Copy)]
pub(crate) struct Shuffle {
    pub(crate) dtype: DType,
    /// `[N, H, W, C]`: the smaller pictures, `C` being channels of the larger ones.
    pub(crate) size: (usize, usize, usize, usize),
    pub(crate) factor: usize,
}

impl Shuffle {
    /// From `[N, H, W, C f f]` to `[N, H f, W f, C]`, or `back`.
    pub(crate) fn run<M: Machine>(
        &self,
        machine: &M,
        from: u64,
        to: u64,
        back: bool,
    ) -> Result<()> {
        let &Self { dtype, size: (n, h, w, c), factor } = self;
        let (numbers, channels) = (count(n * h * w * c * factor * factor)?, count(c)?);
        let pack = pack(dtype, &[channels], &[from, to]);
        let (from, to) = (Arg::Address(from), Arg::Address(to));
        let (width, back) = (Arg::Count(count(w)?), Arg::Count(back.into()));
        if factor == 2 {
            let packed = Arg::Count((pack > 1).into());
            let arguments = [from, width, Arg::Count(channels), packed, back, to];
            return machine.launch(of_dtype("shuffle2", dtype)?, numbers / 4 / pack, &arguments);
        }
        let factor = Arg::Count(count(factor)?);
        let arguments = [from, width, Arg::Count(channels), factor, back, to];
        machine.launch(of_dtype("shuffle", dtype)?, numbers, &arguments)
    }
}

/// Rows of so many numbers of two pictures, side by side.
#[derive(Clone, Copy)]
pub(crate) struct Joined {
    pub(crate) dtype: DType,
    pub(crate) rows: usize,
    pub(crate) channels: (usize, usize),
    pub(crate) activation: Activation,
}

impl Joined {
    fn launch<M: Machine>(
        &self,
        machine: &M,
        kernel: &str,
        (before, behind): (&[u64], &[u64]),
    ) -> Result<()> {
        let &Self { dtype, rows, channels: (first, second), activation } = self;
        let numbers = count(rows * (first + second))?;
        let (first, second) = (count(first)?, count(second)?);
        let pack = pack(dtype, &[first, second], &[before, behind].concat());
        let mut arguments: Vec<Arg> = before.iter().map(|&at| Arg::Address(at)).collect();
        arguments.extend([first, second, u32::from(pack > 1)].map(Arg::Count));
        arguments.push(number(activation));
        arguments.extend(behind.iter().map(|&at| Arg::Address(at)));
        machine.launch(of_dtype(kernel, dtype)?, numbers / pack, &arguments)
    }

    /// Writes both, activated.
    pub(crate) fn forward<M: Machine>(&self, machine: &M, a: u64, b: u64, y: u64) -> Result<()> {
        self.launch(machine, "concat", (&[a, b], &[y]))
    }

    /// Writes the gradients of both, each where its place is not 0, by what came out; not for Mish.
    pub(crate) fn backward<M: Machine>(
        &self,
        machine: &M,
        (y, dy): (u64, u64),
        (da, db): (u64, u64),
    ) -> Result<()> {
        self.launch(machine, "concat_gradient", (&[y, dy], &[da, db]))
    }
}
