//! Operators one behind the other on a tape, on the processor: gradients through a network, and how much a GPU
//! is told to do for them.

use candle_core::{DType, Result, Tensor, Var};

use super::host::{Counts, Host, close, noise};
use super::operators;
use super::operators_test::{batch_norm, check};
use crate::channels_last::{self, Activation, FeatureMap, Running, Then};
use crate::conv2d::Geometry;

/// A residual block of a network, and the same with what a GPU has for it: gradients that meet, a tape that
/// another one begins behind, and a weight that is made of another.
#[test]
fn gradients_through_a_network() {
    if Host::find().is_none() {
        return;
    }
    let shape = [2, 5, 6, 8];
    let g = Geometry::new((2, 8, 5, 6), &noise(&[8, 8, 3, 3], 2, DType::F32), 1, 1).unwrap();
    type Block<'a> =
        &'a dyn Fn(&FeatureMap, [&Tensor; 3], Option<&FeatureMap>) -> Result<FeatureMap>;
    let network = |a: &[Tensor], block: Block<'_>| {
        let (relu, x) = (Activation::Relu, FeatureMap::from(&a[0]));
        // Of candle's graph, not a variable.
        let made = (&a[1] * 2.0)?;
        let first = block(&x, [&made, &a[2], &a[3]], None)?;
        let second = block(&first, [&a[1], &a[2], &a[3]], None)?;
        let third = block(&second, [&a[4], &a[2], &a[3]], Some(&first))?;
        // Out of the tape and back, beside what is still on it.
        let gated: FeatureMap = (third.tensor()? * 0.5)?.into();
        let fourth = block(&gated, [&a[4], &a[2], &a[3]], Some(&third))?;
        relu.apply(&(fourth.tensor()? + second.tensor()?)?)
    };
    let weight = |seed| (noise(&[8, 8, 3, 3], seed, DType::F32) * 0.1).unwrap();
    let of_channels = |seed| noise(&[8], seed, DType::F32);
    let x = noise(&shape, 1, DType::F32);
    let arguments = [x, weight(2), of_channels(3), of_channels(4), weight(5)];
    let activation = Activation::Relu;
    check(
        "network",
        &arguments,
        1e-4,
        &|a| {
            network(a, &|x, [weight, scale, bias], residual| {
                let (norm, then) = ((scale, bias), Then { residual, activation });
                Ok(operators::conv_norm::<Host>(g, x, weight, norm, then, 1e-5, None)?.0)
            })
        },
        &|a| {
            network(a, &|x, [weight, scale, bias], residual| {
                let (norm, then) = ((scale, bias), Then { residual, activation });
                Ok(channels_last::conv_norm(x, weight, norm, (1, 1), then, 1e-5)?.y)
            })
        },
    );
}

#[test]
fn candles_own_pass_has_no_gradients_of_parameters() {
    if Host::find().is_none() {
        return;
    }
    let x = Var::from_tensor(&noise(&[1, 3, 3, 4], 1, DType::F32)).unwrap();
    let of_channels = |seed| Var::from_tensor(&noise(&[4], seed, DType::F32)).unwrap();
    let (weight, bias) = (of_channels(2), of_channels(3));
    let y = |(weight, bias): (&Tensor, &Tensor)| {
        let y = batch_norm(&x, weight, bias, Then::default()).unwrap().y;
        (&y * &y).unwrap().sum_all().unwrap()
    };
    let loss = y((&weight, &bias));
    let error = loss.backward().unwrap_err().to_string();
    assert!(error.contains("batch_norm") && error.contains("pretext_ops::backward"), "{error}");
    // Those of pictures are the same either way, as often as one asks.
    let loss = y((&weight.as_detached_tensor(), &bias.as_detached_tensor()));
    let of_x = |gradients: candle_core::backprop::GradStore| gradients.get(&x).unwrap().clone();
    let first = of_x(loss.backward().unwrap());
    close("again", &of_x(loss.backward().unwrap()), &first, 0.0);
    close("the last", &of_x(crate::backward(&loss).unwrap()), &first, 0.0);
    assert!(crate::backward(&loss).unwrap_err().to_string().contains("has freed"));
}

#[test]
fn a_block_takes_few_launches() {
    if Host::find().is_none() {
        return;
    }
    // The first stage of a ResNet at 128 px, in which sums take two rounds, for fewer pictures.
    let shape = [4, 32, 32, 16];
    let dtype = DType::BF16;
    let relu = Activation::Relu;
    let var = |t: Tensor| Var::from_tensor(&t).unwrap();
    let x = var(noise(&shape, 1, dtype));
    let weight = var(noise(&[16, 16, 3, 3], 2, DType::F32));
    let [scale, bias, mean, variance] =
        [3, 4, 5, 6].map(|seed| var(noise(&[16], seed, DType::F32)));
    let g = Geometry::new((4, 16, 32, 32), &weight, 1, 1).unwrap();
    let block = |x: &FeatureMap, residual: Option<&FeatureMap>| {
        let (norm, then) = ((&*scale, &*bias), Then { residual, activation: relu });
        let running = Running { mean: &mean, variance: &variance, momentum: 0.1 };
        operators::conv_norm::<Host>(g, x, &weight, norm, then, 1e-5, Some(running)).unwrap().0
    };
    let before = block(&FeatureMap::from(x.as_tensor()), None);
    Counts::taken();
    let after = block(&before, None);
    // The weight's form, moments, their join, the line, what it makes; the convolution.
    let forward = Counts { launches: 5, products: 1, allocations: 6 };
    assert_eq!(Counts::taken(), forward);
    let backward = |y: &FeatureMap| {
        let y = y.tensor().unwrap();
        let loss = y.to_dtype(DType::F32).unwrap().sum_all().unwrap();
        Counts::taken();
        crate::backward(&loss).unwrap();
        Counts::taken()
    };
    let two = backward(&after);
    let one = backward(&block(&FeatureMap::from(x.as_tensor()), None));
    // Sums, their join, slopes, the norm's gradient, the weight's form; the convolution's two.
    let taken = Counts {
        launches: two.launches - one.launches,
        products: two.products - one.products,
        allocations: two.allocations - one.allocations,
    };
    assert_eq!(taken, Counts { launches: 5, products: 2, allocations: 9 });
}
