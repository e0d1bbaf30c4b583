//! The rules over all parameters at once, for parameters on a GPU: a few launches a step.
//!
//! What is remembered lies in one piece of memory for each of its parts. Which numbers are whose is
//! written there once; a step sends nothing but its launches' arguments, and waits for nothing. The
//! number of steps taken is the GPU's own: it alone knows which were skipped because a gradient was not
//! finite.

use std::collections::BTreeMap;
use std::ops::Range;

use candle_core::backprop::GradStore;
use candle_core::{DType, Device, Result, Tensor, bail};

use super::arguments::{Arguments, CHUNK, CONSTANTS, GROUPS, SLOT, TENSORS};
use super::launch::address;
use super::{Rule, Slot, lamb};

/// Runs so many blocks of a kernel of `kernels/optimisers.cu`.
pub(super) type Launch<'a> = &'a dyn Fn(&str, u32, &Arguments) -> Result<()>;

/// The name under which a checkpoint has the number of steps that were taken, where some were skipped.
pub(super) const TAKEN: &str = "steps-taken";

/// The parts of a state begin at multiples of this for each parameter: 128 bytes.
const ALIGNED: usize = 32;

/// What a step has beside the gradients.
pub(super) struct Step<'a> {
    /// The learning rate of each layer group.
    pub(super) rates: &'a [f64],
    pub(super) weight_decay: f64,
    /// The most that the gradients' norm may be.
    pub(super) clip: Option<f64>,
    /// What the loss was multiplied by, a scalar.
    pub(super) loss_scale: Option<&'a Tensor>,
}

/// Parameters of one launch.
struct Part {
    slots: Range<usize>,
    chunks: Range<usize>,
}

/// All parameters' state, and where it lies.
pub(super) struct Fused {
    rule: Rule,
    pub(super) device: Device,
    /// Where each parameter's state begins.
    offsets: Vec<usize>,
    parts: Vec<Part>,
    chunks: usize,
    slots: Tensor,
    owners: Tensor,
    first: Tensor,
    second: Option<Tensor>,
    slow: Option<Tensor>,
    constants: Tensor,
    sums: Tensor,
    total: Tensor,
    /// At place `turn`.
    taken: Tensor,
    turn: usize,
}

impl Fused {
    /// The state of `parameters` after `steps` steps, as [`state`](Self::state) gave it; what is not
    /// there starts anew.
    pub(super) fn new(
        rule: Rule,
        parameters: &[Slot],
        steps: u64,
        state: &BTreeMap<String, Tensor>,
    ) -> Result<Self> {
        let Some(device) = parameters.first().map(|slot| slot.var.device().clone()) else {
            bail!("an optimiser without parameters")
        };
        let (mut table, mut owners) = (Vec::new(), Vec::<u32>::new());
        let (mut offsets, mut parts) = (Vec::new(), Vec::<Part>::new());
        let mut end = 0;
        for (i, slot) in parameters.iter().enumerate() {
            if slot.group >= GROUPS {
                bail!("{}: there are no more than {GROUPS} layer groups on a GPU", slot.name)
            }
            let count = slot.var.elem_count();
            let (chunk, chunks) = (owners.len(), count.div_ceil(CHUNK));
            owners.extend((0..chunks).map(|_| i as u32));
            let numbers = [end, count, slot.group, usize::from(slot.decays), chunk, chunks];
            table.extend(numbers.map(|number| number as i64));
            offsets.push(end);
            end += count.next_multiple_of(ALIGNED);
            match parts.last_mut() {
                Some(part) if part.slots.len() < TENSORS => {
                    (part.slots.end, part.chunks.end) = (i + 1, owners.len());
                }
                _ => parts.push(Part { slots: i..i + 1, chunks: chunk..owners.len() }),
            }
        }
        let chunks = owners.len();
        if u32::try_from(chunks).is_err() {
            bail!("an optimiser's parameters are more than a GPU's kernels count")
        }
        let part = |part: &str| remembered(parameters, &device, part, state);
        let steps = match state.get(TAKEN) {
            Some(taken) => taken.flatten_all()?.to_vec1::<u32>()?[0],
            None => steps as u32,
        };
        Ok(Self {
            rule,
            offsets,
            parts,
            chunks,
            slots: Tensor::from_vec(table, (parameters.len(), SLOT), &device)?,
            owners: Tensor::from_vec(owners, chunks, &device)?,
            first: part("first")?,
            second: rule.squares().then(|| part("second")).transpose()?,
            slow: matches!(rule, Rule::Ranger { .. }).then(|| part("slow")).transpose()?,
            constants: Tensor::zeros((parameters.len(), CONSTANTS), DType::U32, &device)?,
            sums: Tensor::zeros((chunks, 2), DType::F64, &device)?,
            total: Tensor::zeros(1, DType::F64, &device)?,
            taken: Tensor::from_vec(vec![steps; 2], 2, &device)?,
            turn: 0,
            device,
        })
    }

    /// One step of each parameter that has a gradient. With a loss scale gradients are divided by it,
    /// and nothing steps if one of them is not finite: the scalar says 1 if all are, or else 0.
    pub(super) fn step(
        &mut self,
        parameters: &[Slot],
        gradients: &GradStore,
        step: &Step<'_>,
        launch: Launch<'_>,
    ) -> Result<Option<Tensor>> {
        // Kept until everything is launched.
        let mut kept = Vec::with_capacity(parameters.len());
        for slot in parameters {
            let gradient = gradients.get(slot.tensor()).map(Tensor::contiguous).transpose()?;
            if let Some(gradient) = &gradient
                && (gradient.dtype() != DType::F32 || gradient.shape() != slot.var.shape())
            {
                bail!("{}: the gradient must be f32 and shaped as its parameter", slot.name)
            }
            kept.push(gradient);
        }
        let finite = match step.loss_scale {
            Some(_) => Some(Tensor::zeros((), DType::F32, &self.device)?),
            None => None,
        };
        let all = self.arguments(parameters, step, finite.as_ref())?;
        let parts: Vec<(Arguments, u32)> = self
            .parts
            .iter()
            .map(|part| {
                let mut arguments = all;
                for (at, slot) in part.slots.clone().enumerate() {
                    if let Some(gradient) = &kept[slot] {
                        arguments.gradients[at] = address(gradient)?;
                        arguments.weights[at] = address(parameters[slot].tensor())?;
                    }
                }
                (arguments.slot, arguments.chunk) =
                    (part.slots.start as u32, part.chunks.start as u32);
                Ok((arguments, part.chunks.len() as u32))
            })
            .collect::<Result<_>>()?;
        let over_parts = |kernel: &str| {
            parts.iter().try_for_each(|(arguments, chunks)| launch(kernel, *chunks, arguments))
        };
        let slots = parameters.len();
        if step.clip.is_some() || step.loss_scale.is_some() {
            over_parts("squares")?;
            launch("total", 1, &all.of(self.chunks))?;
        }
        launch("begin", slots.div_ceil(THREADS) as u32, &all.of(slots))?;
        if matches!(self.rule, Rule::Lars { .. } | Rule::Lamb { .. }) {
            over_parts("norms")?;
            launch("ratios", slots as u32, &all)?;
        }
        over_parts("apply")?;
        self.turn = 1 - self.turn;
        Ok(finite)
    }

    /// What all launches of a step have in common.
    fn arguments(
        &self,
        parameters: &[Slot],
        step: &Step<'_>,
        finite: Option<&Tensor>,
    ) -> Result<Arguments> {
        if let Some(slot) = parameters.iter().find(|slot| slot.group >= step.rates.len()) {
            bail!("{}: no learning rate for layer group {}", slot.name, slot.group)
        }
        let any = |tensor: Option<&Tensor>| tensor.map_or(Ok(0), address);
        let mut arguments = Arguments {
            weight_decay: step.weight_decay,
            most: lamb::MOST,
            clip: step.clip.unwrap_or(0.0),
            slots: address(&self.slots)?,
            owners: address(&self.owners)?,
            first: address(&self.first)?,
            second: any(self.second.as_ref())?,
            slow: any(self.slow.as_ref())?,
            constants: address(&self.constants)?,
            sums: address(&self.sums)?,
            total: address(&self.total)?,
            loss_scale: any(step.loss_scale)?,
            finite: any(finite)?,
            taken: address(&self.taken)?,
            turn: self.turn as u32,
            ..Arguments::none()
        };
        for (to, rate) in arguments.rates.iter_mut().zip(step.rates) {
            *to = *rate;
        }
        let a = &mut arguments;
        match self.rule {
            Rule::Sgd { momentum } => (a.rule, a.momentum) = (0, momentum),
            Rule::Adamw { beta1, beta2, eps } => {
                (a.rule, a.momentum, a.squared_momentum, a.eps) = (1, beta1, beta2, eps);
            }
            Rule::Ranger { momentum, squared_momentum, eps, every, pull } => {
                (a.rule, a.momentum, a.squared_momentum, a.eps) =
                    (2, momentum, squared_momentum, eps);
                (a.every, a.pull) = (u32::try_from(every).unwrap_or(u32::MAX), pull);
            }
            Rule::Lars { momentum, trust } => {
                (a.rule, a.momentum, a.trust) = (3, momentum, trust);
            }
            Rule::Lamb { beta1, beta2, eps } => {
                (a.rule, a.momentum, a.squared_momentum, a.eps) = (4, beta1, beta2, eps);
            }
        }
        Ok(arguments)
    }

    /// Everything remembered, by name. It waits for the GPU.
    pub(super) fn state(
        &self,
        parameters: &[Slot],
        steps: u64,
    ) -> Result<BTreeMap<String, Tensor>> {
        let mut state = BTreeMap::new();
        let all = [
            ("first", Some(&self.first)),
            ("second", self.second.as_ref()),
            ("slow", self.slow.as_ref()),
        ];
        for (part, numbers) in all {
            let Some(numbers) = numbers else { continue };
            for (slot, &offset) in parameters.iter().zip(&self.offsets) {
                let tensor = numbers.narrow(0, offset, slot.var.elem_count())?;
                // A copy of this alone: the next step writes over these.
                let tensor = tensor.force_contiguous()?.reshape(slot.var.shape())?;
                state.insert(format!("{}.{part}", slot.name), tensor);
            }
        }
        let taken = self.taken.to_vec1::<u32>()?[self.turn];
        if u64::from(taken) != steps {
            state.insert(TAKEN.into(), Tensor::new(&[taken], &self.device)?);
        }
        Ok(state)
    }
}

/// Threads of a block.
pub(super) const THREADS: usize = 256;

/// A part of the state of all parameters: what a checkpoint has of it, or the start, which is the weights
/// for Lookahead's slow ones and zeros for all else.
fn remembered(
    parameters: &[Slot],
    device: &Device,
    part: &str,
    state: &BTreeMap<String, Tensor>,
) -> Result<Tensor> {
    let mut pieces = Vec::with_capacity(2 * parameters.len());
    for slot in parameters {
        let count = slot.var.elem_count();
        pieces.push(match state.get(&format!("{}.{part}", slot.name)) {
            Some(tensor) => tensor.to_device(device)?.flatten_all()?,
            None if part == "slow" => slot.tensor().detach().flatten_all()?,
            None => Tensor::zeros(count, DType::F32, device)?,
        });
        let padding = count.next_multiple_of(ALIGNED) - count;
        if padding > 0 {
            pieces.push(Tensor::zeros(padding, DType::F32, device)?);
        }
    }
    // A copy where there is one piece: the weights must not be the slow ones.
    Tensor::cat(&pieces, 0)?.force_contiguous()
}
