//! Values and sizes at the edge: NaN, infinity, planes shorter than a blur's reach.

mod support;

use candle_core::{Device, Result, Tensor, Var};
use pretext_ops::{blur_pool2d, cross_entropy, max_pool2d, relu};
use support::flat;

fn row(values: &[f64]) -> Tensor {
    Tensor::from_slice(values, (1, 1, 1, values.len()), &Device::Cpu).unwrap()
}

/// A NaN must show in the result, wherever it stands, as in PyTorch.
#[test]
fn nan_comes_through() -> Result<()> {
    let nan = f64::NAN;
    for values in [[nan, 1.0, 2.0], [1.0, nan, 2.0], [1.0, 2.0, nan]] {
        let square = row(&values).broadcast_as((1, 1, 3, 3))?;
        assert!(flat(&max_pool2d(&square, 3, 1, 0)?)[0].is_nan(), "{values:?}");
        assert_eq!(flat(&relu(&row(&values))?).iter().filter(|y| y.is_nan()).count(), 1);
    }
    Ok(())
}

#[test]
fn infinity_wins_and_loses() -> Result<()> {
    let (most, least) = (f64::INFINITY, f64::NEG_INFINITY);
    let x = row(&[least, least, 3.0, most]);
    assert_eq!(flat(&max_pool2d(&x, 3, 2, 1)?), [least, most]);
    Ok(())
}

/// A class that cannot be (a logit of minus infinity) costs nothing if it is not asked for, and
/// everything if it is.
#[test]
fn impossible_classes() -> Result<()> {
    let logits = Tensor::new(&[[0.0, f64::NEG_INFINITY, 0.0]], &Device::Cpu)?;
    let logits = Var::from_tensor(&logits)?;
    let class = |class: u32| Tensor::new(&[class], &Device::Cpu);
    let loss = cross_entropy(&logits, &class(0)?, 0.0)?;
    assert!((loss.to_scalar::<f64>()? - 2f64.ln()).abs() < 1e-12);
    assert_eq!(flat(loss.backward()?.get(&logits).unwrap()), [-0.5, 0.0, 0.5]);
    for (asked, smoothing) in [(1, 0.0), (0, 0.1)] {
        let loss = cross_entropy(&logits, &class(asked)?, smoothing)?;
        assert_eq!(loss.to_scalar::<f64>()?, f64::INFINITY);
    }
    Ok(())
}

/// Where a reflected pixel would lie beyond the other border, that border's pixel stands in.
#[test]
fn blur_of_short_sides() -> Result<()> {
    // Every tap of the other direction reads the one row, so a line's blur is seen alone.
    let cases: [(&[f64], usize, &[f64]); 4] = [
        (&[8.0], 3, &[8.0]),
        (&[8.0], 7, &[8.0]),
        // 1 2 1 over 8 0 8 and 0 8 0: reflection is possible here.
        (&[0.0, 8.0], 3, &[4.0, 4.0]),
        // 1 4 6 4 1 over 8 8 0 8 0: two to the left of the first reflects to two to its right, which
        // does not exist either; and over 8 0 8 0 0, likewise.
        (&[0.0, 8.0], 5, &[4.5, 3.5]),
    ];
    for (values, kernel, wanted) in cases {
        assert_eq!(flat(&blur_pool2d(&row(values), kernel, 1)?), wanted, "{values:?} by {kernel}");
    }
    Ok(())
}
