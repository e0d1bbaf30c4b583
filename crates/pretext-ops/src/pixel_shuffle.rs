//! Pixel shuffle (Shi et al., "Real-Time Single Image and Video Super-Resolution", 2016).

use candle_core::{Result, Tensor, bail};

use crate::values::{check, nchw};

/// Moves channels into space: `[N, C f f, H, W]` to `[N, C, H f, W f]`, as
/// `torch.nn.functional.pixel_shuffle`.
///
/// `x`: `f32` or `f64`. Channel `c f f + u f + v` becomes pixels `(i f + u, j f + v)` of channel `c`.
///
/// # Errors
/// If the dtype or device does not fit, or the channels are not a multiple of `factor` squared.
pub fn pixel_shuffle(x: &Tensor, factor: usize) -> Result<Tensor> {
    check("pixel_shuffle", &[x])?;
    let (n, c, h, w) = nchw("pixel_shuffle", x)?;
    let Some(out) = factor.checked_mul(factor).filter(|&f| f > 0 && c % f == 0).map(|f| c / f)
    else {
        bail!("pixel_shuffle: the channels of {:?} are no multiple of {factor} squared", x.shape())
    };
    // Reshapes and one transposition: candle's own gradients of these are right, and tested here.
    x.reshape((n, out, factor, factor, h, w))?.permute((0, 1, 4, 2, 5, 3))?.contiguous()?.reshape((
        n,
        out,
        h * factor,
        w * factor,
    ))
}
