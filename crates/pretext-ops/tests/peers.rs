//! Batch normalisation over the parts of a batch is that of the whole batch, both ways.

use std::sync::{Arc, Barrier, Mutex};
use std::thread;

use candle_core::{DType, Device, Result, Tensor, Var};
use pretext_ops::channels_last::{self, Activation, Then};
use pretext_ops::{Peers, among};

/// Threads that stand for processes.
struct Threads {
    barrier: Barrier,
    sums: Mutex<Vec<f64>>,
}

impl Peers for Threads {
    fn sum(&self, values: &mut [f64]) -> Result<()> {
        {
            let mut sums = self.sums.lock().unwrap();
            sums.resize(values.len(), 0.0);
            sums.iter_mut().zip(&*values).for_each(|(sum, value)| *sum += value);
        }
        self.barrier.wait();
        values.copy_from_slice(&self.sums.lock().unwrap());
        if self.barrier.wait().is_leader() {
            self.sums.lock().unwrap().clear();
        }
        self.barrier.wait();
        Ok(())
    }

    fn whole(&self, _: usize) -> usize {
        unreachable!("on the processor, sums tell")
    }
}

/// Numbers that differ from picture to picture.
fn numbers(shape: &[usize], seed: usize) -> Tensor {
    let count: usize = shape.iter().product();
    let value = |i: usize| ((i * i + 7 * i + seed) as f64 * 0.37).sin() * 2.0 + i as f64 * 0.01;
    let values: Vec<f64> = (0..count).map(value).collect();
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
}

const N: usize = 5;
const C: usize = 3;

/// What a normalisation gives: result, mean, variance.
type Normalise = fn(&Tensor, &Tensor, &Tensor, &Tensor) -> Result<[Tensor; 3]>;

fn plain(x: &Tensor, _: &Tensor, weight: &Tensor, bias: &Tensor) -> Result<[Tensor; 3]> {
    let out = pretext_ops::batch_norm(x, weight, bias, 1e-5)?;
    Ok([out.y, out.mean, out.variance])
}

fn channels_last(x: &Tensor, _: &Tensor, weight: &Tensor, bias: &Tensor) -> Result<[Tensor; 3]> {
    let then = Then { residual: None, activation: Activation::Mish };
    let out = channels_last::batch_norm(x, weight, bias, then, 1e-5)?;
    Ok([out.y, out.mean, out.variance])
}

fn behind(x: &Tensor, kernel: &Tensor, weight: &Tensor, bias: &Tensor) -> Result<[Tensor; 3]> {
    let then = Then { residual: None, activation: Activation::Relu };
    let x = x.clone().into();
    let out = channels_last::conv_norm(&x, kernel, (weight, bias), (1, 1), then, 1e-5)?;
    Ok([out.y.tensor()?, out.mean, out.variance])
}

/// Result, statistics and the gradients of `x`, kernel, weight and bias for a loss that tells all
/// outputs apart; of pictures `from..to` of the batch.
fn pass(of: Normalise, shape: &[usize], dtype: DType, (from, to): (usize, usize)) -> Vec<Vec<f64>> {
    let var = |tensor: Tensor| Var::from_tensor(&tensor.to_dtype(dtype).unwrap()).unwrap();
    let part = |tensor: Tensor| tensor.narrow(0, from, to - from).unwrap().contiguous().unwrap();
    let x = var(part(numbers(shape, 1)));
    let kernel = var((numbers(&[C, C, 3, 3], 2) * 0.3).unwrap());
    let (weight, bias) = (var(numbers(&[C], 3)), var(numbers(&[C], 4)));
    let [y, mean, variance] = of(&x, &kernel, &weight, &bias).unwrap();
    let loss = (&y * part(numbers(shape, 5)).to_dtype(dtype).unwrap()).unwrap().sum_all().unwrap();
    let gradients = pretext_ops::backward(&loss).unwrap();
    let list = |tensor: &Tensor| {
        tensor.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1::<f64>().unwrap()
    };
    let of = |var: &Var| gradients.get(var).map_or(Vec::new(), list);
    vec![list(&y), list(&mean), list(&variance), of(&x), of(&kernel), of(&weight), of(&bias)]
}

fn check(of: Normalise, shape: &[usize], dtype: DType, tolerance: f64) {
    let whole = pass(of, shape, dtype, (0, N));
    let peers = Arc::new(Threads { barrier: Barrier::new(2), sums: Mutex::default() });
    let parts: Vec<_> = thread::scope(|scope| {
        let part = |range: (usize, usize)| {
            let peers = peers.clone();
            scope.spawn(move || among(Some(peers), || pass(of, shape, dtype, range)))
        };
        let threads = [part((0, 2)), part((2, N))];
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let near = |what: &str, want: &[f64], got: &[f64]| {
        assert_eq!(want.len(), got.len(), "{what}");
        for (want, got) in want.iter().zip(got) {
            assert!((want - got).abs() <= tolerance * (1.0 + want.abs()), "{what}: {want} {got}");
        }
    };
    for (i, what) in ["y", "mean", "variance", "dx"].into_iter().enumerate() {
        match what {
            "mean" | "variance" => parts.iter().for_each(|part| near(what, &whole[i], &part[i])),
            _ => near(what, &whole[i], &[&parts[0][i][..], &parts[1][i]].concat()),
        }
    }
    for (i, what) in [(4, "kernel"), (5, "weight"), (6, "bias")] {
        let sum: Vec<f64> = parts[0][i].iter().zip(&parts[1][i]).map(|(a, b)| a + b).collect();
        near(what, &whole[i], &sum);
    }
}

#[test]
fn parts_normalise_as_the_whole() {
    check(plain, &[N, C, 4, 3], DType::F64, 1e-10);
    check(channels_last, &[N, 4, 3, C], DType::F64, 1e-10);
    check(behind, &[N, 4, 3, C], DType::F64, 1e-10);
    check(behind, &[N, 4, 3, C], DType::F32, 1e-4);
}

/// A part may hold a single value a channel where the whole holds more.
#[test]
fn only_the_whole_needs_two_values() {
    let x = || numbers(&[1, C, 1, 1], 1);
    let (weight, bias) = (numbers(&[C], 2), numbers(&[C], 3));
    assert!(pretext_ops::batch_norm(&x(), &weight, &bias, 0.0).is_err());
    let peers =
        Arc::new(Threads { barrier: Barrier::new(1), sums: Mutex::new(vec![1.0; 2 * C + 1]) });
    let out = among(Some(peers), || pretext_ops::batch_norm(&x(), &weight, &bias, 0.0)).unwrap();
    assert_eq!(out.mean.dims(), [C]);
}

#[test]
fn gradients_by_parts_are_the_same() {
    let x = numbers(&[2, 3, 5, 5], 1);
    let kernel = Var::from_tensor(&numbers(&[4, 3, 3, 3], 2)).unwrap();
    let bias = Var::from_tensor(&numbers(&[4], 3)).unwrap();
    let loss = || {
        let y = pretext_ops::conv2d(&x, &kernel, Some(&bias), 1, 1).unwrap();
        y.sqr().unwrap().sum_all().unwrap()
    };
    let list = |tensor: &Tensor| tensor.flatten_all().unwrap().to_vec1::<f64>().unwrap();
    let whole = pretext_ops::backward(&loss()).unwrap();
    let came = Arc::new(Mutex::new(Vec::new()));
    let taken = came.clone();
    let rest = pretext_ops::backward_by_parts(&loss(), move |parameter, gradient| {
        taken.lock().unwrap().push((parameter.id(), gradient));
        Ok(())
    });
    let rest = rest.unwrap();
    let came = came.lock().unwrap();
    let (_, gradient) = came.iter().find(|(id, _)| *id == kernel.id()).expect("it comes early");
    assert!(rest.get(&kernel).is_none());
    assert_eq!(list(gradient), list(whole.get(&kernel).unwrap()));
    let bias_came = came.iter().find(|(id, _)| *id == bias.id()).map(|(_, gradient)| gradient);
    assert_eq!(list(bias_came.or(rest.get(&bias)).unwrap()), list(whole.get(&bias).unwrap()));

    // Its first gradient is not the whole one.
    let y = pretext_ops::conv2d(&x, &kernel, None, 1, 1).unwrap();
    let twice = (y + pretext_ops::conv2d(&x.neg().unwrap(), &kernel, None, 1, 1).unwrap()).unwrap();
    let twice = twice.sum_all().unwrap();
    let error = pretext_ops::backward_by_parts(&twice, |_, _| Ok(())).unwrap_err().to_string();
    assert!(error.contains("used twice"), "{error}");
}
