//! The channels-last operators at the shapes of ResNets on 32 pictures of 128 pixels, in `f32` and
//! `bf16`: criterion's elements are floating-point operations, or numbers where an operator only
//! moves them; at the end stands the share of the machine's peak.
//!
//! The peak is what all threads reach by multiplying and adding in registers, measured beside the
//! operators; `bf16` is counted against twice that with AVX512-BF16 and 16 times with AMX.

#![allow(clippy::print_stdout, reason = "the shares are its output")]

use std::hint::black_box;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use candle_core::{DType, Device, Result, Tensor, Var};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use pretext_ops::Isa;
use pretext_ops::channels_last::{self as fast, Activation, FeatureMap, Then};
use pulp::{Simd, WithSimd};
use rayon::iter::{IntoParallelIterator as _, ParallelIterator as _};

/// As in the `pretext` binary: the system's allocator asks for fresh memory, and has it cleared, for
/// every large tensor.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What the peak's bench is called.
const PEAK: &str = "peak";

/// Pictures a batch.
const N: usize = 32;

/// Input channels, side of the input, output channels, kernel, stride.
const LAYERS: &[(usize, usize, usize, usize, usize)] = &[
    (3, 128, 64, 7, 2),
    (64, 32, 64, 3, 1),
    (128, 16, 128, 3, 1),
    (256, 8, 256, 3, 1),
    (512, 4, 512, 3, 1),
    (128, 32, 128, 3, 2),
    (64, 32, 256, 1, 1),
    (512, 16, 128, 1, 1),
    (1024, 8, 2048, 1, 2),
    (2048, 4, 512, 1, 1),
];

/// Names of operators with the operations a second of their best sample, and whether in `bf16`.
static REACHED: Mutex<Vec<(String, f64, bool)>> = Mutex::new(Vec::new());

fn numbers(dims: &[usize], dtype: DType) -> Var {
    let values = (0..dims.iter().product()).map(|i: usize| (i % 997) as f32 / 997.0 - 0.5);
    Tensor::from_vec(values.collect(), dims, &Device::Cpu)
        .and_then(|tensor| Var::from_tensor(&tensor.to_dtype(dtype)?))
        .expect("room for a tensor")
}

/// Measures `run`; `work` operations count towards the peak if `counted`.
fn measure(
    c: &mut Criterion,
    name: &str,
    dtype: DType,
    (work, counted): (usize, bool),
    mut run: impl FnMut() -> Duration,
) {
    let name = format!("{name}, {}", dtype.as_str());
    let mut group = c.benchmark_group("channels_last");
    group.sample_size(10).throughput(Throughput::Elements(work as u64));
    let mut best = f64::INFINITY;
    group.bench_function(&name, |b| {
        b.iter_custom(|count| {
            let took: Duration = (0..count).map(|_| run()).sum();
            best = best.min(took.as_secs_f64() / count as f64);
            took
        });
    });
    group.finish();
    if counted && best.is_finite() {
        let mut reached = REACHED.lock().expect("no bench panics");
        reached.push((name, work as f64 / best, dtype == DType::BF16));
    }
}

fn timed<T>(f: impl FnOnce() -> Result<T>) -> Duration {
    let start = Instant::now();
    black_box(f().expect("shapes that fit"));
    start.elapsed()
}

fn convolutions(c: &mut Criterion) {
    for &(channels, side, out, kernel, stride) in LAYERS {
        for dtype in [DType::F32, DType::BF16] {
            let x = numbers(&[N, side, side, channels], dtype);
            let weight = numbers(&[out, channels, kernel, kernel], DType::F32);
            let (fixed_x, fixed_weight) = (x.as_detached_tensor(), weight.as_detached_tensor());
            let padding = kernel / 2;
            let size = (side + 2 * padding - kernel) / stride + 1;
            let work = (2 * N * out * size * size * channels * kernel * kernel, true);
            let conv = |x: &Tensor, weight: &Tensor| {
                fast::conv2d(x, weight, None, stride, padding, Activation::Identity)
            };
            let name = format!("conv2d {channels}x{side}x{side} to {out}, {kernel}x{kernel}");
            let backward = |x: &Tensor, weight: &Tensor| {
                let y = conv(x, weight).expect("shapes that fit");
                timed(|| y.backward())
            };
            measure(c, &format!("{name}, forward"), dtype, work, || {
                timed(|| conv(&fixed_x, &fixed_weight))
            });
            measure(c, &format!("{name}, input gradient"), dtype, work, || {
                backward(&x, &fixed_weight)
            });
            measure(c, &format!("{name}, weight gradient"), dtype, work, || {
                backward(&fixed_x, &weight)
            });
        }
    }
}

/// A step of one operator; elements are the input's numbers.
fn others(c: &mut Criterion) {
    for dtype in [DType::F32, DType::BF16] {
        for (channels, side) in [(64, 64), (256, 32), (2048, 4)] {
            let x = numbers(&[N, side, side, channels], dtype);
            let line = numbers(&[channels], DType::F32);
            let then = Then { activation: Activation::Relu, ..Then::default() };
            let name = format!("batch_norm and relu {channels}x{side}x{side}, both ways");
            measure(c, &name, dtype, (x.elem_count(), false), || {
                timed(|| fast::batch_norm(&x, &line, &line, then, 1e-5)?.y.backward())
            });
        }
        let x = numbers(&[N, 32, 32, 64], dtype);
        let (weight, line) = (numbers(&[64, 64, 3, 3], DType::F32), numbers(&[64], DType::F32));
        let map = FeatureMap::from(x.as_tensor());
        let then = Then { residual: Some(&map), activation: Activation::Relu };
        let name = "conv_norm with residual and relu 64x32x32, both ways";
        measure(c, name, dtype, (x.elem_count(), false), || {
            timed(|| {
                fast::conv_norm(&map, &weight, (&line, &line), (1, 1), then, 1e-5)?
                    .y
                    .tensor()?
                    .backward()
            })
        });
        let x = numbers(&[N, 64, 64, 64], dtype);
        let map = FeatureMap::from(x.as_tensor());
        let work = (x.elem_count(), false);
        measure(c, "max_pool2d 64x64x64, both ways", dtype, work, || {
            timed(|| fast::max_pool2d(&map, 3, 2, 1)?.tensor()?.backward())
        });
        measure(c, "pixel_shuffle 64x64x64, both ways", dtype, work, || {
            timed(|| fast::pixel_shuffle(&map, 2)?.tensor()?.backward())
        });
    }
}

/// Sums of products in registers.
struct Peak;

/// Products of one run.
const PRODUCTS: usize = 24 * 200_000;

impl WithSimd for Peak {
    type Output = f32;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> f32 {
        let factor = black_box(simd.splat_f32s(0.5));
        let mut sums = [factor; 24];
        for _ in 0..PRODUCTS / sums.len() {
            for sum in &mut sums {
                *sum = simd.mul_add_e_f32s(*sum, factor, factor);
            }
        }
        let sum = sums.into_iter().fold(factor, |a, b| simd.add_f32s(a, b));
        simd.reduce_sum_f32s(sum)
    }
}

fn peak(c: &mut Criterion) {
    let threads = rayon::current_num_threads();
    let (lanes, run): (usize, fn() -> f32) = match Isa::current() {
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 | Isa::Avx512Bf16 | Isa::AmxBf16 => {
            (16, || pulp::x86::V4::try_new().map_or(0.0, |simd| Simd::vectorize(simd, Peak)))
        }
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => {
            (8, || pulp::x86::V3::try_new().map_or(0.0, |simd| Simd::vectorize(simd, Peak)))
        }
        _ => (4, || Simd::vectorize(pulp::Scalar128b, Peak)),
    };
    let work = 2 * threads * lanes * PRODUCTS;
    let name = format!("{PEAK} of {threads} threads with {}", Isa::current());
    measure(c, &name, DType::F32, (work, true), || {
        timed(|| {
            (0..threads).into_par_iter().for_each(|_| {
                black_box(run());
            });
            Ok(())
        })
    });
}

fn shares(_: &mut Criterion) {
    let reached = REACHED.lock().expect("no bench panics");
    // A filter may have left it out.
    let Some((peak, others)) = reached.split_first().filter(|(first, _)| first.0.starts_with(PEAK))
    else {
        println!("\nNo shares of the peak, which was not measured: its bench is `{PEAK}`.");
        return;
    };
    println!("\nGFLOP/s and share of the peak, {:.0} GFLOP/s:", peak.1 / 1e9);
    let pairs = match Isa::current() {
        // 1024 sums of pairs in 16 cycles of the tiles' unit.
        Isa::AmxBf16 => 16.0,
        Isa::Avx512Bf16 => 2.0,
        _ => 1.0,
    };
    for (name, rate, bf16) in others {
        let peak = peak.1 * if *bf16 { pairs } else { 1.0 };
        println!("{:6.0}  {:3.0} %  {name}", rate / 1e9, rate / peak * 100.0);
    }
}

criterion_group!(channels_last, peak, convolutions, others, shares);
criterion_main!(channels_last);
