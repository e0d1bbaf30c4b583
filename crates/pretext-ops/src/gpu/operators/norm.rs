//! Batch normalisation with a residual and an activation.

use candle_core::{DType, Result, Tensor};

use super::tape::record;
use crate::channels_last::{Activation, FeatureMap, Running, Then};
use crate::gpu::norm::{self, Backward, Size};
use crate::gpu::{Place, count};
use crate::peers::{Batch, Peers};

/// What pictures are normalised by. Weight and bias, mean and variance are `f32` `[C]` each.
#[derive(Clone, Copy)]
pub(crate) enum By<'a> {
    /// The batch's own statistics.
    Own {
        affine: (&'a Tensor, &'a Tensor),
        /// What follows them; without it they are returned.
        running: Option<Running<'a>>,
        eps: f64,
    },
    Given {
        affine: (&'a Tensor, &'a Tensor),
        statistics: (&'a Tensor, &'a Tensor),
        eps: f64,
    },
    /// Nothing: a bias is added.
    Bias(&'a Tensor),
}

/// Mean and unbiased variance of a batch, `f32` `[C]`.
pub(crate) type Statistics = (Tensor, Tensor);

impl<'a> By<'a> {
    pub(super) fn parameters(self) -> Vec<&'a Tensor> {
        match self {
            Self::Own { affine: (weight, bias), .. }
            | Self::Given { affine: (weight, bias), .. } => {
                vec![weight, bias]
            }
            Self::Bias(bias) => vec![bias],
        }
    }
}

/// A normalisation of one batch, as far as its gradients need to know.
pub(super) struct Norm<M: Place> {
    gpu: M,
    size: Size,
    /// Without a graph, as the residual.
    x: Tensor,
    residual: Option<Tensor>,
    line: M::Memory,
    activation: Activation,
    /// The batch that the statistics are of, if they are its own.
    own: Option<Batch>,
    /// Whether weight and bias have gradients.
    parameters: Vec<bool>,
    /// Whether those of pictures and residual are wanted.
    wanted: (bool, bool),
}

/// The gradients, those that are wanted.
pub(super) struct Gradients {
    pub(super) x: Option<Tensor>,
    /// One, if there is a residual.
    pub(super) residual: Vec<Option<Tensor>>,
    /// Of the same number as the parameters.
    pub(super) parameters: Vec<Option<Tensor>>,
}

impl<M: Place> Norm<M> {
    /// The result, what remains to be known, and the batch's statistics if nothing follows them.
    pub(super) fn new(
        gpu: &M,
        x: Tensor,
        wanted: bool,
        by: By<'_>,
        then: Then<'_, FeatureMap>,
    ) -> Result<(Tensor, Self, Option<Statistics>)> {
        let whole = |t: &Tensor| t.detach().contiguous();
        let parameters = by.parameters();
        let tracked = parameters.iter().map(|parameter| parameter.track_op()).collect();
        let parameters: Vec<Tensor> = parameters.into_iter().map(whole).collect::<Result<_>>()?;
        let channels = parameters[0].elem_count();
        let size = Size::new(x.dtype(), x.elem_count(), channels)?;
        let (mut own, mut statistics) = (None, None);
        let line = match (by, &parameters[..]) {
            (By::Own { running, eps, .. }, [weight, bias]) => {
                let affine = (gpu.at(weight)?, gpu.at(bias)?);
                let batch = Batch::of(size.rows as usize);
                let (line, new) = own_line(gpu, size, &x, &batch, affine, running, eps)?;
                (own, statistics) = (Some(batch), new);
                line
            }
            (By::Given { statistics: (mean, variance), eps, .. }, [weight, bias]) => {
                let (mean, variance) = (whole(mean)?, whole(variance)?);
                let given = (gpu.at(&mean)?, gpu.at(&variance)?);
                norm::given_line(gpu, size, given, (gpu.at(weight)?, gpu.at(bias)?), eps)?
            }
            _ => norm::bias_line(gpu, size, gpu.at(&parameters[0])?)?,
        };
        let residual = then.residual.map(FeatureMap::numbers).transpose()?;
        let y = gpu.numbers(x.dtype(), x.elem_count())?;
        let pictures = (gpu.at(&x)?, gpu.at_any(residual.as_ref())?);
        let at = gpu.address(&line);
        norm::normalise(gpu, size, pictures, at, then.activation, gpu.address(&y))?;
        let y = gpu.tensor(y, x.dtype(), x.shape())?;
        let wanted = (wanted, then.residual.is_some_and(FeatureMap::tracks));
        let (gpu, activation) = (gpu.clone(), then.activation);
        let norm =
            Self { gpu, size, x, residual, line, activation, own, parameters: tracked, wanted };
        Ok((y, norm, statistics))
    }

    pub(super) fn backward(&self, dy: &Tensor) -> Result<Gradients> {
        let Self { gpu, size, x, residual, .. } = self;
        let backward = Backward {
            size: *size,
            x: gpu.at(x)?,
            residual: gpu.at_any(residual.as_ref())?,
            dy: gpu.at(dy)?,
            line: gpu.address(&self.line),
            activation: self.activation,
            own: self.own.is_some(),
        };
        let (slopes, parameters) = self.parameter_gradients(&backward)?;
        let (dx, before) = self.input_gradients(&backward, dy, &slopes)?;
        Ok(Gradients {
            x: dx,
            residual: residual.iter().map(|_| before.clone()).collect(),
            parameters,
        })
    }

    /// What the gradients of pictures are made with, and those of the parameters.
    fn parameter_gradients(&self, backward: &Backward) -> Result<(M::Memory, Vec<Option<Tensor>>)> {
        let (gpu, channels) = (&self.gpu, self.size.channels as usize);
        let peers = self.own.as_ref().and_then(|batch| Some((batch.peers()?, batch.count)));
        let sums = norm::gradient_sums(gpu, backward, peers.is_some())?;
        let of_channels =
            |wanted: &bool| wanted.then(|| gpu.numbers(DType::F32, channels)).transpose();
        let gradients: Vec<Option<M::Memory>> =
            self.parameters.iter().map(of_channels).collect::<Result<_>>()?;
        let place = |memory: &Option<M::Memory>| memory.as_ref().map_or(0, |m| gpu.address(m));
        let places = match &gradients[..] {
            [weight, bias] => (place(weight), place(bias)),
            [bias] => (0, place(bias)),
            _ => (0, 0),
        };
        let of_part = (gpu.address(&sums.memory), sums.parts, self.size.rows);
        let mut slopes = norm::parameter_gradients(gpu, backward, of_part, places)?;
        // The parameters' gradients are this part's; the statistics' are the whole batch's.
        if let Some((peers, all)) = peers {
            let sums = gpu.tensor(sums.memory, DType::F64, (channels, 2))?;
            let sums = peers.sum_tensor(&sums)?;
            let of_all = (gpu.at(&sums)?, 1, count(all as usize)?);
            slopes = norm::parameter_gradients(gpu, backward, of_all, (0, 0))?;
        }
        let tensor = |memory: Option<M::Memory>| {
            memory.map(|memory| gpu.tensor(memory, DType::F32, channels)).transpose()
        };
        Ok((slopes, gradients.into_iter().map(tensor).collect::<Result<_>>()?))
    }

    fn input_gradients(
        &self,
        backward: &Backward,
        dy: &Tensor,
        slopes: &M::Memory,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let (gpu, wanted) = (&self.gpu, self.wanted);
        // Nothing is done to it on its way.
        if self.parameters.len() == 1 && self.activation == Activation::Identity {
            return Ok((wanted.0.then(|| dy.clone()), wanted.1.then(|| dy.clone())));
        }
        if wanted == (false, false) {
            return Ok((None, None));
        }
        let room =
            |wanted: bool| wanted.then(|| gpu.numbers(dy.dtype(), dy.elem_count())).transpose();
        let (dx, before) = (room(wanted.0)?, room(wanted.1)?);
        let place = |memory: &Option<M::Memory>| memory.as_ref().map_or(0, |m| gpu.address(m));
        norm::input_gradient(gpu, backward, gpu.address(slopes), (place(&dx), place(&before)))?;
        let tensor = |memory: Option<M::Memory>| {
            memory.map(|memory| gpu.tensor(memory, dy.dtype(), dy.shape())).transpose()
        };
        Ok((tensor(dx)?, tensor(before)?))
    }
}

/// The line of a batch's own statistics, and these if nothing follows them.
fn own_line<M: Place>(
    gpu: &M,
    size: Size,
    x: &Tensor,
    batch: &Batch,
    affine: (u64, u64),
    running: Option<Running<'_>>,
    eps: f64,
) -> Result<(M::Memory, Option<Statistics>)> {
    let channels = size.channels as usize;
    let moments = norm::moments(gpu, size, gpu.at(x)?, batch.peers().is_some())?;
    let all = count(batch.count as usize)?;
    let line = |at: u64, step: u32, to: norm::Statistics| {
        norm::own_line(gpu, size, (at, step, all), affine, eps, to)
    };
    let new = match running {
        Some(_) => None,
        None => Some((gpu.numbers(DType::F32, channels)?, gpu.numbers(DType::F32, channels)?)),
    };
    let to = match (&running, &new) {
        (Some(running), _) => norm::Statistics {
            mean: gpu.at(running.mean)?,
            variance: gpu.at(running.variance)?,
            momentum: running.momentum,
        },
        (None, Some((mean, variance))) => norm::Statistics {
            mean: gpu.address(mean),
            variance: gpu.address(variance),
            momentum: 1.0,
        },
        (None, None) => norm::Statistics { mean: 0, variance: 0, momentum: 1.0 },
    };
    let line = match batch.peers() {
        None => line(gpu.address(&moments.memory), moments.step, to)?,
        Some(peers) => {
            let own = gpu.tensor(moments.memory, DType::F64, (channels, 2))?;
            let joint = joined(peers, &own, size.rows.into(), batch.count)?;
            line(gpu.at(&joint)?, all, to)?
        }
    };
    let tensor = |memory| gpu.tensor(memory, DType::F32, channels);
    let new =
        new.map(|(mean, variance)| Ok::<_, candle_core::Error>((tensor(mean)?, tensor(variance)?)));
    Ok((line, new.transpose()?))
}

/// The moments `[C, 2]` of `all` rows in several processes, of this one's and its number of rows.
fn joined(peers: &dyn Peers, moments: &Tensor, rows: f64, all: f64) -> Result<Tensor> {
    let column = |of: &Tensor, i| of.narrow(1, i, 1)?.contiguous();
    // Sums of values and of their squares, as in `Batch::join`.
    let (mean, about) = (column(moments, 0)?, column(moments, 1)?);
    let sum = (&mean * rows)?;
    let squares = (about + (&sum * &mean)?)?;
    let sums = peers.sum_tensor(&Tensor::cat(&[sum, squares], 1)?)?;
    let (sum, squares) = (column(&sums, 0)?, column(&sums, 1)?);
    let mean = (&sum / all)?;
    let about = (squares - (&sum * &mean)?)?.maximum(0.0)?;
    Tensor::cat(&[mean, about], 1)?.contiguous()
}

/// A normalisation of a feature map, whose checks are done; the batch's statistics if they are its own
/// and nothing follows them.
pub(crate) fn normalised<M: Place>(
    x: &FeatureMap,
    by: By<'_>,
    then: Then<'_, FeatureMap>,
) -> Result<(FeatureMap, Option<Statistics>)> {
    let numbers = x.numbers()?;
    let gpu = M::of(&numbers)?;
    let (y, norm, statistics) = Norm::new(&gpu, numbers, x.tracks(), by, then)?;
    let maps: Vec<&FeatureMap> = std::iter::once(x).chain(then.residual).collect();
    let y = record::<M>("batch_norm", &maps, &by.parameters(), y, move |dy| {
        let Gradients { x, residual, parameters } = norm.backward(dy)?;
        Ok([vec![x], residual, parameters].concat())
    })?;
    Ok((y, statistics))
}
