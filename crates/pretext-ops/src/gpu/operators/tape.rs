//! The backward pass of feature maps, beside candle's graph.
//!
//! candle clears a tensor for each gradient and adds to it, which for a feature map is four passes over
//! memory, and even for a token of one number two launches. So operators on feature maps write what is
//! to be done for their gradients on a tape, in the order in which they ran, and the graph knows of
//! a whole tape no more than where it begins, one node which goes through it from its end, and each
//! feature map that becomes a tensor.
//!
//! A tape begins where something comes in whose gradient is candle's business: a tensor of the graph, a
//! feature map of another tape. Gradients of parameters are left beside the graph.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use candle_core::{DType, Result, Tensor, bail};

use super::node::node;
use crate::channels_last::{Activation, FeatureMap, Gradient};
use crate::gpu::{Place, activation};
use crate::gradients::{in_last_pass, leave};

/// Hands on the gradients of an operator's arguments, from that of its result.
type Backward = Box<dyn Fn(&Tensor) -> Result<()> + Send + Sync>;

/// What an operator does with its result's gradient.
struct Step {
    gradient: Gradient,
    backward: Backward,
}

/// `None` once the last pass has gone through.
struct Steps(Mutex<Option<Vec<Step>>>);

impl Steps {
    /// A poisoned lock means that another thread panicked; what is in it is still whole.
    fn lock(&self) -> MutexGuard<'_, Option<Vec<Step>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, step: Step) -> Result<()> {
        match &mut *self.lock() {
            Some(steps) => steps.push(step),
            None => return Err(freed()),
        }
        Ok(())
    }

    /// From the last to the first; each is freed behind, with what it kept, if none will follow.
    fn backward(&self) -> Result<()> {
        let mut steps = self.lock();
        if !in_last_pass() {
            let Some(steps) = &*steps else { return Err(freed()) };
            return steps.iter().rev().try_for_each(Step::run);
        }
        let Some(mut steps) = steps.take() else { return Err(freed()) };
        while let Some(step) = steps.pop() {
            step.run()?;
        }
        Ok(())
    }
}

fn freed() -> candle_core::Error {
    candle_core::Error::msg("pretext_ops::backward has freed the feature maps of this graph")
}

impl Step {
    fn run(&self) -> Result<()> {
        // What nobody has used has no gradient.
        self.gradient.take_any().map_or(Ok(()), |gradient| (self.backward)(&gradient))
    }
}

/// Operators of feature maps, each of which has its arguments from those before it.
#[derive(Clone)]
pub(crate) struct Tape {
    steps: Arc<Steps>,
    /// What stands for all of them in candle's graph, a token of one number.
    root: Tensor,
    reveal: fn(&FeatureMap, &Self, &Gradient) -> Result<Tensor>,
}

impl fmt::Debug for Tape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tape").finish_non_exhaustive()
    }
}

/// Something that a tape begins with.
struct Argument {
    tensor: Tensor,
    gradient: Passes,
}

/// What a node of the graph gives back for an argument.
enum Passes {
    /// It stands for a tape or for other arguments, which wait for their turn alone.
    Turn,
    /// What has come together.
    Gradient(Gradient),
    /// It is there so that the graph has a node, and its gradient is left beside it.
    Nothing,
}

impl Tape {
    fn begin<M: Place>(gpu: &M, mut arguments: Vec<Argument>) -> Result<Self> {
        let steps = Arc::new(Steps(Mutex::new(Some(Vec::new()))));
        // candle's operators have three arguments at most.
        while arguments.len() > 3 {
            let rest = arguments.split_off(3);
            let tensor = token(gpu, arguments, None)?;
            arguments =
                std::iter::once(Argument { tensor, gradient: Passes::Turn }).chain(rest).collect();
        }
        let root = token(gpu, arguments, Some(steps.clone()))?;
        Ok(Self { steps, root, reveal: reveal::<M> })
    }

    /// A feature map of it as a tensor of candle's graph.
    pub(crate) fn tensor(&self, map: &FeatureMap, gradient: &Gradient) -> Result<Tensor> {
        (self.reveal)(map, self, gradient)
    }
}

/// A node of the graph that goes through the steps in its turn, and has gradients for the arguments then.
fn token<M: Place>(gpu: &M, arguments: Vec<Argument>, steps: Option<Arc<Steps>>) -> Result<Tensor> {
    let tensors: Vec<Tensor> = arguments.iter().map(|argument| argument.tensor.clone()).collect();
    let memory = gpu.numbers(DType::F32, 1)?;
    let tensors: Vec<&Tensor> = tensors.iter().collect();
    node("feature_maps", &tensors, (gpu, memory, DType::F32), 1, move |turn| {
        if let Some(steps) = &steps {
            steps.backward()?;
        }
        let gradient = |argument: &Argument| match &argument.gradient {
            Passes::Turn => Ok(Some(turn.clone())),
            Passes::Gradient(gradient) => match gradient.take_any() {
                Some(gradient) => Ok(Some(gradient)),
                None => argument.tensor.zeros_like().map(Some),
            },
            Passes::Nothing => Ok(None),
        };
        arguments.iter().map(gradient).collect()
    })
}

/// The numbers are copied, for the graph's tensors have memory of their own.
fn reveal<M: Place>(map: &FeatureMap, tape: &Tape, gradient: &Gradient) -> Result<Tensor> {
    let numbers = map.numbers()?;
    let gpu = M::of(&numbers)?;
    let (dtype, count) = (numbers.dtype(), numbers.elem_count());
    let copy = gpu.numbers(dtype, count)?;
    let (from, to) = (gpu.at(&numbers)?, gpu.address(&copy));
    activation::activation(&gpu, (dtype, count), from, Activation::Identity, to)?;
    let (gradient, root) = (gradient.clone(), tape.root.clone());
    node("feature_map", &[&tape.root], (&gpu, copy, dtype), numbers.shape(), move |dy| {
        gather::<M>(&gradient, dy.clone())?;
        Ok(vec![Some(root.zeros_like()?)])
    })
}

/// Adds to what has come together of a gradient.
fn gather<M: Place>(gradient: &Gradient, more: Tensor) -> Result<()> {
    let sum = match gradient.take_any() {
        None => more,
        Some(so_far) => {
            let gpu = M::of(&more)?;
            let (dtype, count) = (more.dtype(), more.elem_count());
            let sum = gpu.numbers(dtype, count)?;
            let both = (gpu.at(&so_far)?, gpu.at(&more)?);
            activation::add(&gpu, (dtype, count), both, gpu.address(&sum))?;
            gpu.tensor(sum, dtype, more.shape())?
        }
    };
    gradient.put(sum);
    Ok(())
}

/// Who gets an argument's gradient.
enum Receiver {
    Nobody,
    Gradient(Gradient),
    Parameter(Tensor),
}

impl Receiver {
    fn take<M: Place>(&self, name: &str, gradient: Tensor) -> Result<()> {
        match self {
            Self::Nobody => Ok(()),
            Self::Gradient(so_far) => gather::<M>(so_far, gradient),
            Self::Parameter(parameter) => match leave(parameter, gradient)? {
                None => Ok(()),
                Some(_) => bail!(
                    "{name}: on a GPU gradients of parameters come by pretext_ops::backward alone"
                ),
            },
        }
    }
}

/// An operator's result as a feature map. `backward` gives the gradients of feature maps and then of
/// parameters, as far as they are wanted, from the contiguous gradient of the result.
pub(super) fn record<M: Place>(
    name: &'static str,
    maps: &[&FeatureMap],
    parameters: &[&Tensor],
    y: Tensor,
    backward: impl Fn(&Tensor) -> Result<Vec<Option<Tensor>>> + Send + Sync + 'static,
) -> Result<FeatureMap> {
    let (mut receivers, mut arguments) = (Vec::new(), Vec::new());
    let mut tapes: Vec<&Tape> = Vec::new();
    let mut variable = None;
    let mut of_graph = |tensor: &Tensor| {
        let gradient = Gradient::default();
        let passes = Passes::Gradient(gradient.clone());
        arguments.push(Argument { tensor: tensor.clone(), gradient: passes });
        Receiver::Gradient(gradient)
    };
    for map in maps {
        receivers.push(match map.tape() {
            Some((tape, gradient)) => {
                if !tapes.iter().any(|known| Arc::ptr_eq(&known.steps, &tape.steps)) {
                    tapes.push(tape);
                }
                Receiver::Gradient(gradient.clone())
            }
            None if map.tracks() => of_graph(&map.values()?),
            None => Receiver::Nobody,
        });
    }
    for &parameter in parameters {
        receivers.push(if parameter.is_variable() {
            variable.get_or_insert(parameter);
            Receiver::Parameter(parameter.clone())
        } else if parameter.track_op() {
            of_graph(parameter)
        } else {
            Receiver::Nobody
        });
    }
    let tape = match (&tapes[..], &arguments[..], variable) {
        ([], [], None) => return Ok(y.into()),
        (&[tape], [], _) => tape.clone(),
        _ => {
            let turns = tapes.iter().map(|tape| (&tape.root, Passes::Turn));
            arguments
                .extend(turns.map(|(root, gradient)| Argument { tensor: root.clone(), gradient }));
            if let (true, Some(variable)) = (arguments.is_empty(), variable) {
                arguments.push(Argument { tensor: variable.clone(), gradient: Passes::Nothing });
            }
            Tape::begin(&M::of(&y)?, arguments)?
        }
    };
    let gradient = Gradient::default();
    let backward = Box::new(move |dy: &Tensor| {
        let gradients = backward(dy)?;
        if gradients.len() != receivers.len() {
            bail!("{name}: there must be {} gradients", receivers.len())
        }
        receivers.iter().zip(gradients).try_for_each(|(receiver, gradient)| {
            gradient.map_or(Ok(()), |gradient| receiver.take::<M>(name, gradient))
        })
    });
    tape.steps.push(Step { gradient: gradient.clone(), backward })?;
    Ok(FeatureMap::on_tape(y, tape, gradient))
}
