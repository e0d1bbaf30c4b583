//! Operators that make each output pixel of a few input pixels, all channels alike: pooling, blurs,
//! up-sampling, pixel shuffle. The plain operators say which pixels, and with what weights.

use std::sync::{Arc, OnceLock};

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor, bail};
use rayon::iter::{IndexedParallelIterator as _, ParallelIterator as _};
use rayon::slice::{ParallelSlice as _, ParallelSliceMut as _};

use super::feature_map::{FeatureMap, Gradient, Values, token};
use super::nhwc;
use crate::AvgPool;
use crate::blur_pool::{Blur, blur_pool_of, replicate_blur_of};
use crate::buffer::unwritten;
use crate::isa::Isa;
use crate::pool::{Average, Max, Mean, Windows};
use crate::stored::Stored;
use crate::upsample::{self, Nearest};
use crate::values::{Float, by_stored, check_pictures, elements, with1, with2};

/// The largest value of each window: [`crate::max_pool2d`] on `[N, H, W, C]`.
///
/// # Errors
/// As for [`crate::max_pool2d`].
pub fn max_pool2d(
    x: &FeatureMap,
    kernel: usize,
    stride: usize,
    padding: usize,
) -> Result<FeatureMap> {
    let size = input("max_pool2d", x)?;
    let windows = Windows::new("max_pool2d", size, kernel, stride, padding, false)?;
    #[cfg(feature = "cuda")]
    if x.on_gpu() {
        return crate::gpu::operators::max_pool2d::<crate::cuda::Gpu>(x, windows);
    }
    apply(x, windows.size(size), MaxPool(Max(windows)))
}

/// The mean of each window: [`crate::avg_pool2d`] on `[N, H, W, C]`.
///
/// # Errors
/// As for [`crate::avg_pool2d`].
pub fn avg_pool2d(
    x: &FeatureMap,
    kernel: usize,
    stride: usize,
    padding: usize,
    options: AvgPool,
) -> Result<FeatureMap> {
    let size = input("avg_pool2d", x)?;
    let windows = Windows::new("avg_pool2d", size, kernel, stride, padding, options.ceil_mode)?;
    weighted(x, windows.size(size), Average { windows, options })
}

/// The mean of each channel: `[N, H, W, C]` to `[N, C]`.
///
/// # Errors
/// As for [`crate::global_avg_pool2d`].
pub fn global_avg_pool2d(x: &FeatureMap) -> Result<Tensor> {
    let (h, w) = input("global_avg_pool2d", x)?;
    if h * w == 0 {
        bail!("global_avg_pool2d: the planes of {:?} are empty", x.dims())
    }
    weighted(x, (1, 1), Mean)?.tensor()?.flatten(1, 3)
}

/// Blurs and keeps every `stride`th pixel: [`crate::blur_pool2d`] on `[N, H, W, C]`.
///
/// # Errors
/// As for [`crate::blur_pool2d`].
pub fn blur_pool2d(x: &FeatureMap, kernel: usize, stride: usize) -> Result<FeatureMap> {
    let size = input("blur_pool2d", x)?;
    let blur = blur_pool_of(size, kernel, stride)?;
    weighted(x, blur.output(size), blur)
}

/// The mean of 2x2 pixels at each pixel: [`crate::replicate_blur2d`] on `[N, H, W, C]`.
///
/// # Errors
/// As for [`crate::replicate_blur2d`].
pub fn replicate_blur2d(x: &FeatureMap) -> Result<FeatureMap> {
    let size = input("replicate_blur2d", x)?;
    let blur: Blur = replicate_blur_of(size)?;
    weighted(x, size, blur)
}

/// Repeats the nearest pixel: [`crate::upsample_nearest2d`] on `[N, H, W, C]`.
///
/// # Errors
/// As for [`crate::upsample_nearest2d`].
pub fn upsample_nearest2d(x: &FeatureMap, height: usize, width: usize) -> Result<FeatureMap> {
    upsample::check_sizes("upsample_nearest2d", input("upsample_nearest2d", x)?, height, width)?;
    weighted(x, (height, width), Nearest { height, width })
}

/// Moves channels into space: [`crate::pixel_shuffle()`] on `[N, H, W, C f f]`.
///
/// # Errors
/// As for [`crate::pixel_shuffle()`].
pub fn pixel_shuffle(x: &FeatureMap, factor: usize) -> Result<FeatureMap> {
    let (h, w) = input("pixel_shuffle", x)?;
    let (_, _, _, channels) = x.dims4()?;
    let area = factor.checked_mul(factor).filter(|&area| area > 0 && channels % area == 0);
    if area.is_none() {
        bail!("pixel_shuffle: the channels of {:?} are no multiple of {factor} squared", x.dims())
    }
    #[cfg(feature = "cuda")]
    if x.on_gpu() {
        return crate::gpu::operators::pixel_shuffle::<crate::cuda::Gpu>(x, factor);
    }
    apply(x, (h * factor, w * factor), Shuffle { factor })
}

fn weighted(x: &FeatureMap, output: (usize, usize), terms: impl Terms) -> Result<FeatureMap> {
    #[cfg(feature = "cuda")]
    if x.on_gpu() {
        return crate::gpu::operators::weighted::<crate::cuda::Gpu, _>(x, &terms, output);
    }
    apply(x, output, Linear(terms))
}

/// Height and width of an operator's input.
fn input(op: &str, x: &FeatureMap) -> Result<(usize, usize)> {
    check_pictures(op, &[&x.values()?])?;
    let (_, h, w, _) = nhwc(op, x.dims())?;
    Ok((h, w))
}

/// What is done to one picture, `[H, W, C]`. Outputs and gradients are added to zeros.
trait Picture: Send + Sync + 'static {
    const NAME: &'static str;
    /// The channels of the output.
    fn channels(&self, input: usize) -> usize {
        input
    }
    fn forward<T: Float>(&self, sizes: &Sizes, x: &[T], y: &mut [T]);
    fn backward<T: Float>(&self, sizes: &Sizes, x: &[T], dy: &[T], dx: &mut [T]);
}

/// Input height and width, output height and width, and the input's channels.
struct Sizes {
    input: (usize, usize),
    output: (usize, usize),
    channels: usize,
}

/// One application to one batch.
struct Pass<P> {
    picture: P,
    output: (usize, usize),
    x: FeatureMap,
    /// `[N, H', W', C']`.
    y: OnceLock<Values>,
    gradient: Gradient,
}

fn apply<P: Picture>(x: &FeatureMap, output: (usize, usize), picture: P) -> Result<FeatureMap> {
    let (n, _, _, c) = nhwc(P::NAME, x.dims())?;
    elements(P::NAME, &[n, output.0, output.1, picture.channels(c)])?;
    let (x, y, gradient) = (x.contiguous()?, OnceLock::new(), Gradient::default());
    let pass = Arc::new(Pass { picture, output, x, y, gradient });
    let token = pass.x.argument()?.apply_op1(Node(pass.clone()))?;
    let Some(y) = pass.y.get() else { bail!("{}: there is no result", P::NAME) };
    Ok(FeatureMap::beside(y.clone(), token, pass.gradient.clone()))
}

struct Node<P>(Arc<Pass<P>>);

impl<P: Picture> CustomOp1 for Node<P> {
    fn name(&self) -> &'static str {
        P::NAME
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        let y = by_stored!(P::NAME, self.0.x.dtype(), forward(&self.0))?;
        if self.0.y.set(y.into()).is_err() {
            bail!("{}: a node was run twice", P::NAME)
        }
        Ok(token())
    }

    fn bwd(&self, _: &Tensor, _: &Tensor, _: &Tensor) -> Result<Option<Tensor>> {
        let dy = self.0.gradient.take()?;
        let dx = by_stored!(P::NAME, self.0.x.dtype(), backward(&self.0, &dy))?;
        self.0.y.get().inspect(|y| y.used_up());
        self.0.x.hand_over(dx).map(Some)
    }
}

fn forward<T: Stored>(op: &Pass<impl Picture>) -> Result<Tensor> {
    let (n, h, w, channels) = op.x.dims4()?;
    let sizes = Sizes { input: (h, w), output: op.output, channels };
    let out = op.picture.channels(channels);
    let size = op.output.0 * op.output.1 * out;
    let values = op.x.values()?;
    let y = with1::<T, _>(&values, |x| {
        if x.is_empty() {
            return vec![T::zero(); n * size];
        }
        // SAFETY: each picture is written in full.
        let mut y = unsafe { unwritten(n * size) };
        if size > 0 {
            let pictures = y.par_chunks_mut(size).zip(x.par_chunks(x.len() / n));
            pictures.for_each_init(Default::default, |(wide, sums), (y, x)| {
                Isa::current().run_plain(
                    #[inline(always)]
                    || {
                        let x = T::wide(x, wide);
                        T::sum_up(
                            y,
                            sums,
                            #[inline(always)]
                            |y| op.picture.forward(&sizes, x, y),
                        );
                    },
                );
            });
        }
        y
    })?;
    Tensor::from_vec(y, (n, op.output.0, op.output.1, out), values.device())
}

fn backward<T: Stored>(op: &Pass<impl Picture>, dy: &Tensor) -> Result<Tensor> {
    let x = &op.x.values()?;
    let (n, h, w, channels) = x.dims4()?;
    let sizes = Sizes { input: (h, w), output: op.output, channels };
    let dx = with2::<T, _>(x, dy, |x, dy| {
        if x.is_empty() || dy.is_empty() {
            return vec![T::zero(); x.len()];
        }
        // SAFETY: each picture is written in full.
        let mut dx = unsafe { unwritten(x.len()) };
        let size = x.len() / n;
        dx.par_chunks_mut(size)
            .zip(x.par_chunks(size))
            .zip(dy.par_chunks(dy.len() / n))
            .for_each_init(Default::default, |(wide, slopes, sums), ((dx, x), dy)| {
                Isa::current().run_plain(
                    #[inline(always)]
                    || {
                        let (x, dy) = (T::wide(x, wide), T::wide(dy, slopes));
                        T::sum_up(
                            dx,
                            sums,
                            #[inline(always)]
                            |dx| op.picture.backward(&sizes, x, dy, dx),
                        );
                    },
                );
            });
        dx
    })?;
    Tensor::from_vec(dx, x.shape(), x.device())
}

/// An operator whose output pixels are weighted sums of input pixels.
pub(crate) trait Terms: std::fmt::Debug + Send + Sync + 'static {
    const NAME: &'static str;
    /// Calls `f(output pixel, input pixel, weight)` for each term.
    fn each_term(&self, input: (usize, usize), f: impl FnMut(usize, usize, f64));
}

struct Linear<L>(L);

/// `to += weight from`.
#[inline(always)]
fn add<T: Float>(to: &mut [T], from: &[T], weight: T) {
    for (to, from) in to.iter_mut().zip(from) {
        *to += *from * weight;
    }
}

impl<L: Terms> Picture for Linear<L> {
    const NAME: &'static str = L::NAME;

    #[inline(always)]
    fn forward<T: Float>(&self, sizes: &Sizes, x: &[T], y: &mut [T]) {
        let c = sizes.channels;
        self.0.each_term(
            sizes.input,
            #[inline(always)]
            |to, from, weight| {
                add(&mut y[to * c..][..c], &x[from * c..][..c], T::from_f64(weight));
            },
        );
    }

    #[inline(always)]
    fn backward<T: Float>(&self, sizes: &Sizes, _: &[T], dy: &[T], dx: &mut [T]) {
        let c = sizes.channels;
        self.0.each_term(
            sizes.input,
            #[inline(always)]
            |to, from, weight| {
                add(&mut dx[from * c..][..c], &dy[to * c..][..c], T::from_f64(weight));
            },
        );
    }
}

struct MaxPool(Max);

impl MaxPool {
    /// Calls `f(output pixel, first input pixel, other input pixels)` for each window.
    #[inline(always)]
    fn each(&self, sizes: &Sizes, mut f: impl FnMut(usize, usize, &[usize])) {
        let (h, w) = sizes.input;
        let mut others = Vec::new();
        for i in 0..sizes.output.0 {
            let rows = self.0.0.inside(i, h);
            for j in 0..sizes.output.1 {
                let columns = self.0.0.inside(j, w);
                others.clear();
                for y in rows.clone() {
                    others.extend(y * w + columns.start..y * w + columns.end);
                }
                f(i * sizes.output.1 + j, others[0], &others[1..]);
            }
        }
    }
}

/// Whether a number takes a maximum's place. A NaN must show in the result, as in PyTorch.
#[inline(always)]
#[expect(clippy::eq_op, reason = "only NaN differs from itself")]
fn better<T: Float>(x: T, best: T) -> bool {
    x > best || x != x
}

impl Picture for MaxPool {
    const NAME: &'static str = "max_pool2d";

    #[inline(always)]
    fn forward<T: Float>(&self, sizes: &Sizes, x: &[T], y: &mut [T]) {
        let c = sizes.channels;
        self.each(
            sizes,
            #[inline(always)]
            |to, first, others| {
                let y = &mut y[to * c..][..c];
                y.copy_from_slice(&x[first * c..][..c]);
                for pixel in others {
                    for (best, x) in y.iter_mut().zip(&x[pixel * c..][..c]) {
                        *best = if better(*x, *best) { *x } else { *best };
                    }
                }
            },
        );
    }

    /// The gradient goes to the first of the largest. Adding zeros to the others is faster than
    /// going to one place.
    #[inline(always)]
    fn backward<T: Float>(&self, sizes: &Sizes, x: &[T], dy: &[T], dx: &mut [T]) {
        let c = sizes.channels;
        let (mut maxima, mut places) = (vec![T::zero(); c], vec![0_u32; c]);
        self.each(
            sizes,
            #[inline(always)]
            |to, first, others| {
                maxima.copy_from_slice(&x[first * c..][..c]);
                places.fill(first as u32);
                for &pixel in others {
                    let best = maxima.iter_mut().zip(&mut places);
                    for ((best, place), x) in best.zip(&x[pixel * c..][..c]) {
                        let better = better(*x, *best);
                        *best = if better { *x } else { *best };
                        *place = if better { pixel as u32 } else { *place };
                    }
                }
                let dy = &dy[to * c..][..c];
                for &pixel in std::iter::once(&first).chain(others) {
                    let slopes = dx[pixel * c..][..c].iter_mut().zip(&places).zip(dy);
                    for ((dx, place), dy) in slopes {
                        *dx += if *place == pixel as u32 { *dy } else { T::zero() };
                    }
                }
            },
        );
    }
}

struct Shuffle {
    factor: usize,
}

impl Shuffle {
    /// Calls `f(output number, input number)` for each pair.
    #[inline(always)]
    fn each(&self, sizes: &Sizes, mut f: impl FnMut(usize, usize)) {
        let (factor, (_, width)) = (self.factor, sizes.output);
        let channels = sizes.channels / (factor * factor);
        for i in 0..sizes.input.0 {
            for j in 0..sizes.input.1 {
                let from = (i * sizes.input.1 + j) * sizes.channels;
                for u in 0..factor {
                    for v in 0..factor {
                        let to = ((i * factor + u) * width + j * factor + v) * channels;
                        for c in 0..channels {
                            f(to + c, from + (c * factor + u) * factor + v);
                        }
                    }
                }
            }
        }
    }
}

impl Picture for Shuffle {
    const NAME: &'static str = "pixel_shuffle";

    fn channels(&self, input: usize) -> usize {
        input / (self.factor * self.factor)
    }

    #[inline(always)]
    fn forward<T: Float>(&self, sizes: &Sizes, x: &[T], y: &mut [T]) {
        self.each(sizes, |to, from| y[to] = x[from]);
    }

    #[inline(always)]
    fn backward<T: Float>(&self, sizes: &Sizes, _: &[T], dy: &[T], dx: &mut [T]) {
        self.each(sizes, |to, from| dx[from] = dy[to]);
    }
}
