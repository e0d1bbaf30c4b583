//! Where a network's variables come from: names by path, first values from a random stream.

use std::cell::RefCell;
use std::rc::Rc;

use candle_core::{Shape, Tensor, Var};
use rand::{Rng, RngExt as _};

use crate::error::Result;
use crate::parameters::{Kind, Parameters};

/// How a variable begins.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Init {
    /// The same number everywhere.
    Constant(f32),
    /// Normal with this standard deviation.
    Normal(f64),
    /// Uniform within plus and minus this bound.
    Uniform(f64),
    /// He et al. (2015), normal, by fan-in: `torch.nn.init.kaiming_normal_`.
    KaimingNormal,
    /// The same by fan-out: torchvision's choice for resnets.
    KaimingNormalFanOut,
    /// He et al. (2015), uniform, by fan-in, for a leaky slope of `sqrt(5)`: what PyTorch's layers
    /// begin with, within plus and minus `1 / sqrt(fan-in)`.
    TorchDefault,
    /// ICNR (Aitken et al., 2017): groups of four output channels begin alike, so that the pixel
    /// shuffle by 2 behind them begins without a checkerboard.
    Icnr,
}

/// Adds variables to [`Parameters`], below a name.
///
/// Values are drawn from one stream in the order in which the network asks, so a network of the
/// same stream begins the same.
#[derive(Clone)]
pub struct Builder<'a> {
    parameters: &'a Parameters,
    rng: Rc<RefCell<&'a mut dyn Rng>>,
    prefix: String,
}

impl<'a> Builder<'a> {
    /// A builder at the root of the names.
    pub fn new(parameters: &'a Parameters, rng: &'a mut dyn Rng) -> Self {
        Self { parameters, rng: Rc::new(RefCell::new(rng)), prefix: String::new() }
    }

    /// A builder for names below `name`.
    pub fn pp(&self, name: impl std::fmt::Display) -> Self {
        Self { prefix: self.path(&name.to_string()), ..self.clone() }
    }

    /// A new variable.
    ///
    /// # Errors
    /// [`crate::Error::Tensor`] if the name is taken.
    pub fn variable(
        &self,
        name: &str,
        kind: Kind,
        shape: impl Into<Shape>,
        init: Init,
    ) -> Result<Var> {
        let shape = shape.into();
        let values = self.draw(shape.dims(), init);
        let value = Tensor::from_vec(values, shape, self.parameters.device())?;
        self.parameters.insert(&self.path(name), kind, &value)
    }

    fn path(&self, name: &str) -> String {
        if self.prefix.is_empty() { name.to_owned() } else { format!("{}.{name}", self.prefix) }
    }

    fn draw(&self, dims: &[usize], init: Init) -> Vec<f32> {
        let count = dims.iter().product();
        let inner: usize = dims.iter().skip(1).product::<usize>().max(1);
        let fan_out = count / dims.get(1).copied().unwrap_or(1).max(1);
        match init {
            Init::Constant(value) => vec![value; count],
            Init::Normal(std) => self.normal(count, std),
            Init::KaimingNormal => self.normal(count, (2.0 / inner as f64).sqrt()),
            Init::KaimingNormalFanOut => self.normal(count, (2.0 / fan_out.max(1) as f64).sqrt()),
            Init::Uniform(bound) => self.uniform(count, bound),
            Init::TorchDefault => self.uniform(count, 1.0 / (inner as f64).sqrt()),
            Init::Icnr => {
                let kernels = self.normal(count / 4, (2.0 / inner as f64).sqrt());
                kernels.chunks(inner).flat_map(|kernel| kernel.repeat(4)).collect()
            }
        }
    }

    fn uniform(&self, count: usize, bound: f64) -> Vec<f32> {
        let rng = &mut **self.rng.borrow_mut();
        (0..count).map(|_| ((2.0 * rng.random::<f64>() - 1.0) * bound) as f32).collect()
    }

    /// Normal numbers in pairs, by Box and Muller (1958).
    fn normal(&self, count: usize, std: f64) -> Vec<f32> {
        let rng = &mut **self.rng.borrow_mut();
        let mut values = Vec::with_capacity(count + 1);
        while values.len() < count {
            // 1 - u lies in (0, 1], whose logarithm is finite.
            let radius = (-2.0 * (1.0 - rng.random::<f64>()).ln()).sqrt() * std;
            let (sin, cos) = (std::f64::consts::TAU * rng.random::<f64>()).sin_cos();
            values.extend([(radius * cos) as f32, (radius * sin) as f32]);
        }
        values.truncate(count);
        values
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;
    use rand::{SeedableRng as _, rngs::StdRng};

    use super::*;

    fn draw(dims: &[usize], init: Init) -> Vec<f32> {
        let parameters = Parameters::new(&Device::Cpu);
        let mut rng = StdRng::seed_from_u64(1);
        Builder::new(&parameters, &mut rng).draw(dims, init)
    }

    #[track_caller]
    fn check(init: Init, want_std: f64) {
        let values = draw(&[64, 32, 3, 3], init);
        let n = values.len() as f64;
        let mean = values.iter().map(|&v| f64::from(v)).sum::<f64>() / n;
        let std = (values.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>() / n).sqrt();
        assert!(mean.abs() < 0.03 * want_std, "{init:?}: mean {mean}");
        assert!((std / want_std - 1.0).abs() < 0.02, "{init:?}: std {std}, not {want_std}");
    }

    #[test]
    fn moments() {
        check(Init::Normal(0.5), 0.5);
        check(Init::KaimingNormal, (2.0_f64 / 288.0).sqrt());
        check(Init::KaimingNormalFanOut, (2.0_f64 / 576.0).sqrt());
        check(Init::TorchDefault, (1.0_f64 / 3.0 / 288.0).sqrt());
        check(Init::Uniform(3.0), 3.0_f64.sqrt());
    }

    #[test]
    fn icnr_begins_in_fours() {
        let values = draw(&[8, 5, 1, 1], Init::Icnr);
        for group in values.chunks(20) {
            assert!(group.chunks(5).all(|kernel| kernel == &group[..5]));
        }
        assert_ne!(values[..5], values[20..25]);
    }
}
