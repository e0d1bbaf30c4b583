//! Position embeddings resampled to another grid of patches.

use candle_core::{Result, Tensor};

/// Resamples `[1, 1 + from², D]` positions (class token first, then a square grid row by row) to
/// `[1, 1 + to², D]`, bicubic as `torch.nn.functional.interpolate` (`align_corners=False`,
/// `antialias=False`). The class token's position is kept.
pub(super) fn resample(positions: &Tensor, from: usize, to: usize) -> Result<Tensor> {
    let d = positions.dim(2)?;
    let class = positions.narrow(1, 0, 1)?;
    let weights = Tensor::from_vec(bicubic(from, to), (to, from), positions.device())?;
    let rows = weights.matmul(&positions.narrow(1, 1, from * from)?.reshape((from, from * d))?)?;
    let columns = rows.reshape((to, from, d))?.transpose(0, 1)?.reshape((from, to * d))?;
    let grid = weights.matmul(&columns)?.reshape((to, to, d))?.transpose(0, 1)?;
    Tensor::cat(&[&class, &grid.reshape((1, to * to, d))?], 1)
}

/// Weights of bicubic interpolation along one axis, `[to, from]`, row by row: Keys' cubic (1981)
/// with a = -0.75, pixel centres at one half, coordinates clamped to the border.
fn bicubic(from: usize, to: usize) -> Vec<f32> {
    let mut weights = vec![0.0; to * from];
    for (i, row) in weights.chunks_exact_mut(from).enumerate() {
        let centre = (i as f64 + 0.5) * from as f64 / to as f64 - 0.5;
        for tap in -1..=2 {
            let at = centre.floor() + f64::from(tap);
            let clamped = at.clamp(0.0, (from - 1) as f64) as usize;
            row[clamped] += cubic((centre - at).abs()) as f32;
        }
    }
    weights
}

/// Keys' cubic kernel at a distance of at most 2, in pixels.
fn cubic(x: f64) -> f64 {
    const A: f64 = -0.75;
    if x <= 1.0 {
        ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0
    } else {
        ((A * x - 5.0 * A) * x + 8.0 * A) * x - 4.0 * A
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(from: usize, to: usize, row: usize, expected: &[f32]) {
        let weights = bicubic(from, to);
        let found = &weights[row * from..(row + 1) * from];
        let close = found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-6);
        assert!(close && found.len() == expected.len(), "{found:?} is not {expected:?}");
    }

    #[test]
    fn rows_hold_torch_s_weights() {
        // What torch.nn.functional.interpolate(..., mode="bicubic") gives for unit vectors.
        check(4, 4, 2, &[0.0, 0.0, 1.0, 0.0]);
        check(4, 2, 0, &[0.5, 0.59375, -0.09375, 0.0]);
        check(4, 8, 3, &[-0.105_468_75, 0.878_906_25, 0.261_718_75, -0.035_156_25]);
    }

    #[test]
    fn rows_sum_to_one() {
        let sums: Vec<f32> = bicubic(37, 16).chunks(37).map(|row| row.iter().sum()).collect();
        assert!(sums.iter().all(|sum| (sum - 1.0).abs() < 1e-6), "{sums:?}");
    }
}
