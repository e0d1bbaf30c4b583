//! Sums over pixels, channel by channel.

use candle_core::{Result, Tensor, WithDType as _};
use rayon::iter::ParallelIterator as _;
use rayon::slice::ParallelSlice as _;

use crate::isa::Isa;
use crate::stored::Stored;
use crate::values::{Float as _, by_stored, parameters_of, with1};

/// Numbers that a thread takes at a time: they stay in its cache.
pub(super) const CHUNK: usize = 1 << 13;

/// Pixels of a chunk at least, so that sums over chunks stay few.
const FEWEST_PIXELS: usize = 32;

/// The numbers of a chunk of whole pixels.
pub(super) fn chunk(channels: usize) -> usize {
    (CHUNK / channels.max(1)).max(FEWEST_PIXELS) * channels
}

/// A number for each channel.
pub(super) type Columns<T> = Vec<<T as Stored>::Wide>;

pub(super) fn statistics_of<T: Stored>(
    x: &Tensor,
    channels: usize,
) -> Result<(Vec<f64>, Vec<f64>)> {
    with1::<T, _>(x, |x| statistics(x, channels))
}

/// Mean and biased variance of each channel of `[.., C]`.
///
/// Each chunk's mean and squares about it are taken while it lies in cache, and joined in `f64`
/// (Chan et al., "Updating Formulae and a Pairwise Algorithm for Computing Sample Variances",
/// 1979): exact as two passes, read from memory once.
pub(super) fn statistics<T: Stored>(x: &[T], channels: usize) -> (Vec<f64>, Vec<f64>) {
    let parts: Vec<(Columns<T>, Columns<T>, usize)> = x
        .par_chunks(chunk(channels))
        .map(|x| {
            let count = x.len() / channels;
            let mut mean = vec![T::Wide::ZERO; channels];
            let mut squares = vec![T::Wide::ZERO; channels];
            let share = T::Wide::from_f64(1.0 / count as f64);
            Isa::current().run_plain(
                #[inline(always)]
                || {
                    add_columns(&mut mean, x, |_, x| x);
                    mean.iter_mut().for_each(|mean| *mean *= share);
                    let mean = &mean;
                    add_columns(&mut squares, x, |c, x| (x - mean[c]) * (x - mean[c]));
                },
            );
            (mean, squares, count)
        })
        .collect();
    let (mut mean, mut squares) = (vec![0.0; channels], vec![0.0; channels]);
    let mut total = 0.0;
    for (part_mean, part_squares, count) in parts {
        let count = count as f64;
        let joint = total + count;
        for (c, (mean, squares)) in mean.iter_mut().zip(&mut squares).enumerate() {
            let away = part_mean[c].to_f64() - *mean;
            *mean += away * count / joint;
            *squares += part_squares[c].to_f64() + away * away * total * count / joint;
        }
        total = joint;
    }
    (mean, squares.into_iter().map(|squares| squares / total).collect())
}

/// `sums[c] += f(c, x)` for all numbers of channel `c`.
#[inline(always)]
fn add_columns<T: Stored>(sums: &mut [T::Wide], x: &[T], f: impl Fn(usize, T::Wide) -> T::Wide) {
    for row in x.chunks_exact(sums.len()) {
        for (c, (sum, x)) in sums.iter_mut().zip(row).enumerate() {
            *sum += f(c, x.widen());
        }
    }
}

/// The sums over all but the last dimension, in the dtype of parameters.
pub(crate) fn column_sums(x: &Tensor) -> Result<Tensor> {
    by_stored!("column_sums", x.dtype(), column_sums_of(x))
}

fn column_sums_of<T: Stored>(x: &Tensor) -> Result<Tensor> {
    let channels = x.dims().last().copied().unwrap_or(1);
    let sums = with1::<T, _>(x, |x| {
        let parts: Vec<Vec<T::Wide>> = x
            .par_chunks(chunk(channels).max(1))
            .map(|x| {
                let mut sums = vec![T::Wide::ZERO; channels];
                Isa::current().run_plain(
                    #[inline(always)]
                    || add_columns(&mut sums, x, |_, x| x),
                );
                sums
            })
            .collect();
        let mut sums = vec![0.0_f64; channels];
        for part in parts {
            sums.iter_mut().zip(part).for_each(|(sum, part)| *sum += part.to_f64());
        }
        sums
    })?;
    Tensor::from_vec(sums, channels, x.device())?.to_dtype(parameters_of(x))
}
