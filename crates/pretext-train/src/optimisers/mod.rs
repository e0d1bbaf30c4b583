//! Optimisers: one pass over each parameter, in place, with the state beside it.
//!
//! The rules are pure functions on slices, in files of their own; this file walks the parameters, and
//! threads share pieces of them. Parameters on a GPU step by the same rules in `kernels/`, all of them at
//! once. Weight decay is decoupled (but for LARS, which decays by the gradient) and spares norms and
//! biases, as fastai's does.

mod adamw;
mod arguments;
mod fused;
#[cfg(test)]
mod fused_test;
mod lamb;
mod lars;
mod launch;
mod piece;
mod ranger;
mod sgd;

use std::collections::BTreeMap;
use std::sync::Mutex;

use candle_core::backprop::GradStore;
use candle_core::{CpuStorage, DType, Device, InplaceOp2, Layout, Storage, Tensor, bail};
use pretext_models::{Kind, Parameters};
use rayon::iter::{IntoParallelRefIterator as _, ParallelIterator as _};
use serde::{Deserialize, Serialize};

use self::fused::{Fused, Step, TAKEN};

/// Which rule turns gradients into steps, with its constants.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "name", rename_all = "kebab-case")]
pub enum Rule {
    /// Stochastic gradient descent with momentum, as `torch.optim.SGD` without dampening.
    Sgd {
        /// The share of the last step that goes on, `0..1`.
        momentum: f64,
    },
    /// Adam with decoupled weight decay (Loshchilov and Hutter, 2019), as `torch.optim.AdamW`.
    Adamw {
        /// Decay of the gradient's average, `0..1`.
        beta1: f64,
        /// Decay of the squared gradient's average, `0..1`.
        beta2: f64,
        /// Added to the denominator.
        eps: f64,
    },
    /// RAdam (Liu et al., 2020) under Lookahead (Zhang et al., 2019), as fastai's `ranger`.
    Ranger {
        /// Decay of the gradient's average, `0..1`.
        momentum: f64,
        /// Decay of the squared gradient's average, `0..1`.
        squared_momentum: f64,
        /// Added to the denominator.
        eps: f64,
        /// Steps between two moves of the slow weights.
        every: u64,
        /// How far the slow weights move towards the fast ones, `0..=1`.
        pull: f64,
    },
    /// For large batches: each weight's step has a share of its own norm (You, Gitman and Ginsburg,
    /// 2017), as SimCLR, BYOL and Barlow Twins use it. Norms and biases step as by SGD.
    Lars {
        /// The share of the last step that goes on, `0..1`.
        momentum: f64,
        /// The share of a weight's norm that its step has at a learning rate of 1.
        trust: f64,
    },
    /// For large batches: Adam's step at the norm of the weight (You et al., 2020), as fastai's
    /// `Lamb`.
    Lamb {
        /// Decay of the gradient's average, `0..1`.
        beta1: f64,
        /// Decay of the squared gradient's average, `0..1`.
        beta2: f64,
        /// Added to the denominator.
        eps: f64,
    },
}

/// Every optimiser by its name on the command line, with the published constants.
pub const ALL: &[(&str, Rule)] = &[
    (
        "ranger",
        Rule::Ranger { momentum: 0.9, squared_momentum: 0.99, eps: 1e-6, every: 6, pull: 0.5 },
    ),
    ("adamw", Rule::Adamw { beta1: 0.9, beta2: 0.999, eps: 1e-8 }),
    ("sgd", Rule::Sgd { momentum: 0.9 }),
    ("lars", Rule::Lars { momentum: 0.9, trust: 1e-3 }),
    ("lamb", Rule::Lamb { beta1: 0.9, beta2: 0.99, eps: 1e-5 }),
];

impl Rule {
    /// Whether it remembers an average of squared gradients.
    fn squares(&self) -> bool {
        !matches!(self, Self::Sgd { .. } | Self::Lars { .. })
    }
}

/// An optimiser at work on the parameters of one network.
pub struct Optimiser {
    rule: Rule,
    weight_decay: f64,
    step: u64,
    /// Steps of those that were not taken, as a gradient was not finite; a GPU counts by itself.
    skipped: u64,
    slots: Vec<Slot>,
    /// What is remembered of parameters on a GPU, from their first step on.
    fused: Option<Fused>,
}

/// One trained parameter and what the rule remembers of it.
struct Slot {
    name: String,
    var: candle_core::Var,
    group: usize,
    decays: bool,
    state: Mutex<State>,
}

impl Slot {
    fn tensor(&self) -> &Tensor {
        self.var.as_tensor()
    }
}

/// What a rule remembers of one parameter, each as long as the parameter or empty.
#[derive(Default)]
struct State {
    /// Average of gradients (or the momentum of SGD).
    first: Vec<f32>,
    /// Average of squared gradients.
    second: Vec<f32>,
    /// Lookahead's slow weights.
    slow: Vec<f32>,
}

impl State {
    fn parts(&mut self) -> [(&'static str, &mut Vec<f32>); 3] {
        [("first", &mut self.first), ("second", &mut self.second), ("slow", &mut self.slow)]
    }
}

impl Optimiser {
    /// An optimiser for those `parameters` that `group_of` places in a layer group; `None` leaves
    /// a parameter frozen. Running statistics are never trained.
    ///
    /// `weight_decay` is decoupled: each step shrinks weights by `rate * weight_decay`.
    pub fn new(
        rule: Rule,
        weight_decay: f64,
        parameters: &Parameters,
        group_of: impl Fn(&str) -> Option<usize>,
    ) -> Self {
        let slots = parameters
            .iter()
            .filter(|parameter| parameter.kind != Kind::RunningStatistic)
            .filter_map(|parameter| {
                Some(Slot {
                    name: parameter.name.clone(),
                    var: parameter.var.clone(),
                    group: group_of(&parameter.name)?,
                    decays: parameter.kind == Kind::Weight,
                    state: Mutex::default(),
                })
            })
            .collect();
        Self { rule, weight_decay, step: 0, skipped: 0, slots, fused: None }
    }

    /// The number of steps, those included that were skipped as a gradient was not finite.
    pub fn steps(&self) -> u64 {
        self.step
    }

    /// Takes one step; `rates[g]` is the learning rate of layer group `g`.
    ///
    /// With `clip`, gradients are first scaled down so that their common L2 norm is at most that. For
    /// parameters on a GPU nothing waits for it.
    ///
    /// # Errors
    /// If a parameter is not contiguous `f32`, or has a group without a rate.
    pub fn step(
        &mut self,
        gradients: &GradStore,
        rates: &[f64],
        clip: Option<f64>,
    ) -> candle_core::Result<()> {
        if self.on_gpu() {
            return self.step_on_gpu(gradients, rates, clip, None).map(drop);
        }
        let norm = clip.map(|_| self.gradient_norm(gradients)).transpose()?;
        self.step_by_slices(gradients, rates, scale(clip, norm, 1.0))
    }

    /// The same for gradients of a loss that was multiplied by `loss_scale`, an `f32` scalar where the
    /// parameters lie: they are divided by it first, and clipped then.
    ///
    /// Returns an `f32` scalar there, 1 if all gradients are finite. If one is not it is 0, and neither
    /// weights nor anything that is remembered have changed: it is as if there had been no such step,
    /// but for [`steps`](Self::steps), by which schedules go. For parameters on a GPU nothing waits for
    /// it: whoever sets the next scale computes it there, or reads the scalars some steps later.
    ///
    /// # Errors
    /// As [`step`](Self::step), and if the scale is another kind of tensor or lies elsewhere.
    pub fn step_scaled(
        &mut self,
        gradients: &GradStore,
        rates: &[f64],
        clip: Option<f64>,
        loss_scale: &Tensor,
    ) -> candle_core::Result<Tensor> {
        let here = self.slots.iter().all(|slot| slot.var.device().same_device(loss_scale.device()));
        if loss_scale.elem_count() != 1 || loss_scale.dtype() != DType::F32 || !here {
            bail!("the scale of a loss must be one f32, where the parameters lie")
        }
        if self.on_gpu() {
            return match self.step_on_gpu(gradients, rates, clip, Some(loss_scale))? {
                Some(finite) => Ok(finite),
                None => bail!("a scaled step says whether it was taken"),
            };
        }
        let unscale = f64::from(loss_scale.reshape(())?.to_scalar::<f32>()?).recip();
        let norm = self.gradient_norm(gradients)?;
        if norm.is_finite() {
            self.step_by_slices(gradients, rates, scale(clip, Some(norm), unscale))?;
        } else {
            self.step += 1;
            self.skipped += 1;
        }
        Tensor::new(f32::from(u8::from(norm.is_finite())), loss_scale.device())
    }

    fn on_gpu(&self) -> bool {
        self.slots.iter().any(|slot| !slot.var.device().is_cpu())
    }

    fn step_by_slices(
        &mut self,
        gradients: &GradStore,
        rates: &[f64],
        scale: f64,
    ) -> candle_core::Result<()> {
        self.step += 1;
        self.slots.par_iter().try_for_each(|slot| {
            // A parameter outside the loss's graph has no gradient and stays as it is.
            let Some(gradient) = gradients.get(slot.var.as_tensor()) else { return Ok(()) };
            let common = Common { scale: scale as f32, ..self.common(slot, rates)? };
            let update = Update { rule: self.rule, common, state: &slot.state };
            slot.var.inplace_op2(&gradient.contiguous()?, &update)
        })
    }

    fn step_on_gpu(
        &mut self,
        gradients: &GradStore,
        rates: &[f64],
        clip: Option<f64>,
        loss_scale: Option<&Tensor>,
    ) -> candle_core::Result<Option<Tensor>> {
        let fused = match &mut self.fused {
            Some(fused) => fused,
            None => {
                let fused = Fused::new(self.rule, &self.slots, self.step, &BTreeMap::new())?;
                self.fused.insert(fused)
            }
        };
        self.step += 1;
        let step = Step { rates, weight_decay: self.weight_decay, clip, loss_scale };
        let device = fused.device.clone();
        fused.step(&self.slots, gradients, &step, &|kernel, blocks, arguments| {
            launch::on_gpu(&device, kernel, blocks, arguments)
        })
    }

    /// What a rule knows of a step of a parameter, whose gradient is not clipped.
    fn common(&self, slot: &Slot, rates: &[f64]) -> candle_core::Result<Common> {
        let Some(&rate) = rates.get(slot.group) else {
            bail!("{}: no learning rate for layer group {}", slot.name, slot.group)
        };
        let decay = if slot.decays { self.weight_decay } else { 0.0 };
        let keep = (1.0 - rate * decay) as f32;
        Ok(Common {
            rate,
            keep,
            decay,
            decays: slot.decays,
            scale: 1.0,
            step: self.step - self.skipped,
        })
    }

    /// The L2 norm over all gradients, summed in the parameters' order.
    fn gradient_norm(&self, gradients: &GradStore) -> candle_core::Result<f64> {
        let mut sum = 0.0;
        for slot in &self.slots {
            if let Some(gradient) = gradients.get(slot.var.as_tensor()) {
                let gradient = gradient.contiguous()?;
                let (storage, layout) = gradient.storage_and_layout();
                let (Storage::Cpu(CpuStorage::F32(values)), Some((start, end))) =
                    (&*storage, layout.contiguous_offsets())
                else {
                    bail!("{}: the gradient must be f32 on the CPU", slot.name)
                };
                let squares = values[start..end].iter().map(|&g| f64::from(g) * f64::from(g));
                sum += squares.sum::<f64>();
            }
        }
        Ok(sum.sqrt())
    }

    /// Everything remembered, by name, for a checkpoint.
    ///
    /// # Errors
    /// If memory for the tensors cannot be had.
    pub fn state(&self) -> candle_core::Result<BTreeMap<String, Tensor>> {
        if let Some(fused) = &self.fused {
            return fused.state(&self.slots, self.step);
        }
        let mut tensors = BTreeMap::new();
        if self.skipped > 0 {
            let taken = (self.step - self.skipped) as u32;
            tensors.insert(TAKEN.into(), Tensor::new(&[taken], &Device::Cpu)?);
        }
        for slot in &self.slots {
            let mut state = lock(&slot.state);
            for (part, values) in state.parts() {
                if !values.is_empty() {
                    let tensor = Tensor::from_slice(values, slot.var.shape(), slot.var.device())?;
                    tensors.insert(format!("{}.{part}", slot.name), tensor);
                }
            }
        }
        Ok(tensors)
    }

    /// Whether a tensor of that name is among what [`state`](Self::state) gives.
    ///
    /// # Errors
    /// If one of that name has another shape.
    pub fn remembers(&self, name: &str, shape: &[usize]) -> candle_core::Result<bool> {
        let is_part = |part| State::default().parts().iter().any(|(name, _)| *name == part);
        let (of, want) = match name.rsplit_once('.') {
            _ if name == TAKEN => ("count", &[1][..]),
            Some((of, part)) if is_part(part) => {
                let Some(slot) = self.slots.iter().find(|slot| slot.name == of) else {
                    return Ok(false);
                };
                ("parameter", slot.var.dims())
            }
            _ => return Ok(false),
        };
        if shape != want {
            bail!("{name} is {shape:?}, the {of} {want:?}")
        }
        Ok(true)
    }

    /// Takes up what [`state`](Self::state) gave, after `step` steps.
    ///
    /// # Errors
    /// If a tensor has another shape than its parameter.
    pub fn restore(
        &mut self,
        step: u64,
        tensors: &BTreeMap<String, Tensor>,
    ) -> candle_core::Result<()> {
        let taken = match tensors.get(TAKEN) {
            Some(taken) => taken.flatten_all()?.to_vec1::<u32>()?.first().map(|&n| u64::from(n)),
            None => None,
        };
        for slot in &self.slots {
            let mut state = lock(&slot.state);
            for (part, values) in state.parts() {
                let name = format!("{}.{part}", slot.name);
                let Some(tensor) = tensors.get(&name) else { continue };
                self.remembers(&name, tensor.dims())?;
                if slot.var.device().is_cpu() {
                    *values = tensor.flatten_all()?.to_vec1()?;
                }
            }
        }
        if self.on_gpu() {
            self.fused = Some(Fused::new(self.rule, &self.slots, step, tensors)?);
        }
        self.skipped = step.saturating_sub(taken.unwrap_or(step));
        self.step = step;
        Ok(())
    }
}

/// What gradients are multiplied by: `unscale`, and what clipping leaves of their `norm`.
fn scale(clip: Option<f64>, norm: Option<f64>, unscale: f64) -> f64 {
    match (clip, norm) {
        (Some(limit), Some(norm)) => {
            unscale * (limit / (norm * unscale).max(f64::MIN_POSITIVE)).min(1.0)
        }
        _ => unscale,
    }
}

/// A poisoned lock means that another thread panicked; its state is still whole numbers.
fn lock<T>(state: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// What all rules know of one step of one parameter.
struct Common {
    rate: f64,
    /// What decoupled weight decay leaves of a weight.
    keep: f32,
    /// The weight decay; 0 for norms and biases.
    decay: f64,
    /// Whether it is neither a norm nor a bias.
    decays: bool,
    /// What clipping leaves of a gradient.
    scale: f32,
    /// Counted from 1.
    step: u64,
}

/// One step of one parameter.
struct Update<'a> {
    rule: Rule,
    common: Common,
    state: &'a Mutex<State>,
}

impl InplaceOp2 for Update<'_> {
    fn name(&self) -> &'static str {
        "optimiser-step"
    }

    fn cpu_fwd(
        &self,
        weights: &mut CpuStorage,
        w: &Layout,
        gradient: &CpuStorage,
        g: &Layout,
    ) -> candle_core::Result<()> {
        let (CpuStorage::F32(weights), CpuStorage::F32(gradient)) = (weights, gradient) else {
            bail!("{}: weights and gradients must be f32", self.name())
        };
        let (Some((w0, w1)), Some((g0, g1))) = (w.contiguous_offsets(), g.contiguous_offsets())
        else {
            bail!("{}: weights and gradients must be contiguous", self.name())
        };
        self.apply(&mut weights[w0..w1], &gradient[g0..g1]);
        Ok(())
    }
}

impl Update<'_> {
    fn apply(&self, weights: &mut [f32], gradient: &[f32]) {
        let (state, common) = (&mut *lock(self.state), &self.common);
        state.first.resize(weights.len(), 0.0);
        if self.rule.squares() {
            state.second.resize(weights.len(), 0.0);
        }
        if matches!(self.rule, Rule::Ranger { .. }) && state.slow.is_empty() {
            // The slow weights start at the weights before the first step.
            state.slow = weights.to_vec();
        }
        let pieces = &mut piece::pieces(weights, gradient, state)[..];
        match self.rule {
            Rule::Sgd { momentum } => {
                piece::each(pieces, |piece| sgd::step(piece, common, momentum));
            }
            Rule::Adamw { beta1, beta2, eps } => {
                let adam = adamw::Adam { beta1, beta2, eps };
                piece::each(pieces, |piece| adamw::step(piece, common, &adam));
            }
            Rule::Ranger { momentum, squared_momentum, eps, every, pull } => {
                let pull = common.step.is_multiple_of(every).then_some(pull);
                let radam = ranger::Radam { momentum, squared_momentum, eps, pull };
                piece::each(pieces, |piece| ranger::step(piece, common, &radam));
            }
            Rule::Lars { momentum, trust } => lars::step(pieces, common, momentum, trust),
            Rule::Lamb { beta1, beta2, eps } => {
                lamb::step(pieces, common, &adamw::Adam { beta1, beta2, eps });
            }
        }
    }
}
