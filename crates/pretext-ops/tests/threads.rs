//! Results and gradients are the same, bit for bit, with any number of threads.

mod support;

use candle_core::{DType, Result, Tensor};
use pretext_ops::{
    AvgPool, avg_pool2d, batch_norm, batch_norm_eval, blur_pool2d, conv2d, cross_entropy,
    global_avg_pool2d, l1_loss, layer_norm, linear, max_pool2d, mish, mse_loss, pixel_shuffle,
    relu, replicate_blur2d, upsample_bilinear2d, upsample_nearest2d,
};
use support::{flat, gradients, tensor};

type Function = fn(&[Tensor]) -> Result<Tensor>;

/// An operator, and shapes that it cuts into more pieces than there are threads.
const CASES: &[(&str, &[&[usize]], Function)] = &[
    // Large pictures, cut into rows; few channels, so the weight gradient cuts the batch.
    ("conv2d, tiles", &[&[5, 3, 40, 41], &[6, 3, 3, 3], &[6]], |t| {
        conv2d(&t[0], &t[1], Some(&t[2]), 1, 1)
    }),
    // Small pictures, joined; many channels, which the weight gradient shares out.
    ("conv2d, groups", &[&[50, 70, 7, 7], &[9, 70, 3, 3]], |t| conv2d(&t[0], &t[1], None, 1, 1)),
    ("conv2d, stride 2", &[&[9, 20, 24, 24], &[9, 20, 7, 7]], |t| conv2d(&t[0], &t[1], None, 2, 3)),
    ("conv2d, 1x1", &[&[3, 33, 30, 30], &[9, 33, 1, 1]], |t| conv2d(&t[0], &t[1], None, 1, 0)),
    ("linear", &[&[64, 300], &[100, 300], &[100]], |t| linear(&t[0], &t[1], Some(&t[2]))),
    ("layer_norm", &[&[9, 50, 33], &[33], &[33]], |t| layer_norm(&t[0], &t[1], &t[2], 1e-5)),
    ("batch_norm", &[&[6, 17, 20, 21], &[17], &[17]], |t| {
        Ok(batch_norm(&t[0], &t[1], &t[2], 1e-5)?.y)
    }),
    ("batch_norm's mean", &[&[6, 17, 20, 21]], |t| statistics(&t[0], |out| out.mean)),
    ("batch_norm's variance", &[&[6, 17, 20, 21]], |t| statistics(&t[0], |out| out.variance)),
    ("batch_norm_eval", &[&[6, 17, 20, 21], &[17], &[17]], |t| {
        let (mean, ones) = (tensor(&[17], 4).to_dtype(t[0].dtype())?, t[1].ones_like()?);
        batch_norm_eval(&t[0], &t[1], &t[2], &mean, &ones, 1e-5)
    }),
    ("max_pool2d", &[&[5, 7, 20, 21]], |t| max_pool2d(&t[0], 3, 2, 1)),
    ("avg_pool2d", &[&[5, 7, 20, 21]], |t| avg_pool2d(&t[0], 3, 2, 1, AvgPool::default())),
    ("global_avg_pool2d", &[&[5, 7, 20, 21]], |t| global_avg_pool2d(&t[0])),
    ("blur_pool2d", &[&[5, 7, 20, 21]], |t| blur_pool2d(&t[0], 3, 2)),
    ("replicate_blur2d", &[&[5, 7, 20, 21]], |t| replicate_blur2d(&t[0])),
    ("upsample_nearest2d", &[&[5, 7, 10, 11]], |t| upsample_nearest2d(&t[0], 23, 20)),
    ("upsample_bilinear2d", &[&[5, 7, 10, 11]], |t| upsample_bilinear2d(&t[0], 23, 20)),
    ("pixel_shuffle", &[&[5, 8, 20, 21]], |t| pixel_shuffle(&t[0], 2)),
    ("relu", &[&[7, 10_000]], |t| relu(&t[0])),
    ("mish", &[&[7, 10_000]], |t| mish(&t[0])),
    ("cross_entropy", &[&[700, 20]], |t| {
        let classes: Vec<u32> = (0..700).map(|i| i % 20).collect();
        cross_entropy(&t[0], &Tensor::new(classes, t[0].device())?, 0.1)
    }),
    ("mse_loss", &[&[7, 10_000], &[7, 10_000]], |t| mse_loss(&t[0], &t[1])),
    ("l1_loss", &[&[7, 10_000], &[7, 10_000]], |t| l1_loss(&t[0], &t[1])),
];

/// Mean or variance of a batch, which have no gradient.
fn statistics(x: &Tensor, of: fn(pretext_ops::BatchNormOutput) -> Tensor) -> Result<Tensor> {
    let ones = Tensor::ones(x.dim(1)?, x.dtype(), x.device())?;
    Ok(of(batch_norm(x, &ones, &ones, 1e-5)?))
}

/// The bits of the result and of all gradients that there are.
fn bits(dims: &[&[usize]], dtype: DType, f: Function) -> Result<Vec<Vec<u64>>> {
    let inputs: Vec<Tensor> = dims
        .iter()
        .zip(1..)
        .map(|(dims, seed)| tensor(dims, seed).to_dtype(dtype))
        .collect::<Result<_>>()?;
    let (y, gradients) = gradients(&inputs, f)?;
    Ok(std::iter::once(&y)
        .chain(gradients.iter().flatten())
        .map(|tensor| flat(tensor).into_iter().map(f64::to_bits).collect())
        .collect())
}

#[test]
fn any_number_of_threads_gives_the_same_bits() -> Result<()> {
    let pools = [1, 2, 3].map(|threads| {
        rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a few threads")
    });
    for (name, dims, f) in CASES {
        for dtype in [DType::F32, DType::F64] {
            let [one, two, three] =
                pools.each_ref().map(|pool| pool.install(|| bits(dims, dtype, *f)));
            let one = one?;
            // Not assert_eq, which would print a million numbers.
            assert!(one == two?, "{name}, {dtype:?}: 2 threads differ from 1");
            assert!(one == three?, "{name}, {dtype:?}: 3 threads differ from 1");
        }
    }
    Ok(())
}
