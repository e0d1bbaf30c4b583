//! Feature maps: what the layers of a network hand each other.
//!
//! candle's backward pass clears a gradient tensor for every node of its graph and adds to it, which
//! for a network's feature maps takes a tenth of a training step or more. So a feature map may pass
//! beside the graph: the graph knows a *token* of one number, which orders the backward pass, and
//! gradients are handed over as they are, or added up by the operator that makes the second one.
//! On a GPU, where even such a node takes launches, operators are on a tape of their own.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use candle_core::{CpuStorage, CustomOp1, DType, Layout, Result, Shape, Tensor, bail};
use rayon::iter::{IndexedParallelIterator as _, ParallelIterator as _};
use rayon::slice::{ParallelSlice as _, ParallelSliceMut as _};

use crate::buffer::unwritten;
#[cfg(any(feature = "cuda", test))]
use crate::gpu::operators::Tape;
use crate::gradients::in_last_pass;
use crate::isa::Isa;
use crate::stored::Stored;
use crate::values::{by_stored, output, with1, with2};

/// A batch of feature maps, `[N, H, W, C]`.
///
/// It is made of a tensor, and becomes one by [`tensor`](Self::tensor); gradients flow through
/// either.
#[derive(Clone, Debug)]
pub struct FeatureMap {
    values: Values,
    edge: Option<Edge>,
    #[cfg(any(feature = "cuda", test))]
    recorded: Recorded,
}

/// The numbers of a feature map, `[N, H, W, C]`: contiguous, and without a graph if there is an edge.
///
/// All who use the feature map share them, so that the operator that made it, whose backward pass
/// comes last, can give their memory back.
#[derive(Clone, Debug)]
pub(super) struct Values {
    tensor: Arc<Mutex<Option<Tensor>>>,
    shape: Shape,
    dtype: DType,
}

impl From<Tensor> for Values {
    fn from(tensor: Tensor) -> Self {
        let (shape, dtype) = (tensor.shape().clone(), tensor.dtype());
        Self { tensor: Arc::new(Mutex::new(Some(tensor))), shape, dtype }
    }
}

impl Values {
    pub(super) fn get(&self) -> Result<Tensor> {
        match &*self.tensor.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(tensor) => Ok(tensor.clone()),
            None => bail!("pretext_ops::backward has freed the feature maps of this graph"),
        }
    }

    /// Frees them if the graph will not be walked again.
    pub(super) fn used_up(&self) {
        if in_last_pass() {
            *self.tensor.lock().unwrap_or_else(PoisonError::into_inner) = None;
        }
    }
}

/// The graph's stand-in for a feature map.
#[derive(Clone, Debug)]
struct Edge {
    token: Tensor,
    gradient: Gradient,
}

/// Where it is written what is to be done for its gradient, on a GPU.
#[cfg(any(feature = "cuda", test))]
type Recorded = Option<(Tape, Gradient)>;

/// The gradient that has been handed over so far.
#[derive(Clone, Debug, Default)]
pub(crate) struct Gradient(Arc<Mutex<Option<Tensor>>>);

impl Gradient {
    /// A poisoned lock means that another thread panicked; what is in it is still whole.
    fn lock(&self) -> MutexGuard<'_, Option<Tensor>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was handed over, for the operator that made the feature map.
    pub(super) fn take(&self) -> Result<Tensor> {
        match self.take_any() {
            Some(gradient) => Ok(gradient),
            None => bail!("a feature map's gradient was not handed over"),
        }
    }

    /// What was handed over, if anything was.
    pub(crate) fn take_any(&self) -> Option<Tensor> {
        self.lock().take()
    }

    /// Hands it over in place of what was.
    #[cfg(any(feature = "cuda", test))]
    pub(crate) fn put(&self, gradient: Tensor) {
        *self.lock() = Some(gradient);
    }
}

impl From<Tensor> for FeatureMap {
    fn from(values: Tensor) -> Self {
        Self::new(values.into(), None)
    }
}

impl From<&Tensor> for FeatureMap {
    fn from(values: &Tensor) -> Self {
        values.clone().into()
    }
}

impl FeatureMap {
    /// Values that pass beside the graph, in which `token` stands for them; their gradient will be
    /// in `gradient` when the token's node is asked for its own.
    pub(super) fn beside(values: Values, token: Tensor, gradient: Gradient) -> Self {
        Self::new(values, Some(Edge { token, gradient }))
    }

    fn new(values: Values, edge: Option<Edge>) -> Self {
        Self {
            values,
            edge,
            #[cfg(any(feature = "cuda", test))]
            recorded: None,
        }
    }

    /// Values without a graph, whose gradient will be in `gradient` when its step on the tape has its turn.
    #[cfg(any(feature = "cuda", test))]
    pub(crate) fn on_tape(values: Tensor, tape: Tape, gradient: Gradient) -> Self {
        Self { recorded: Some((tape, gradient)), ..Self::new(values.into(), None) }
    }

    /// The tape that it is on, and where its gradient comes together.
    #[cfg(any(feature = "cuda", test))]
    pub(crate) fn tape(&self) -> Option<&(Tape, Gradient)> {
        self.recorded.as_ref()
    }

    /// Whether it has a gradient.
    #[cfg(any(feature = "cuda", test))]
    pub(crate) fn tracks(&self) -> bool {
        self.recorded.is_some() || self.argument().is_ok_and(|argument| argument.track_op())
    }

    /// The numbers in one piece, without a graph.
    #[cfg(any(feature = "cuda", test))]
    pub(crate) fn numbers(&self) -> Result<Tensor> {
        self.values()?.detach().contiguous()
    }

    /// It as a tensor of candle's graph.
    ///
    /// # Errors
    /// If memory cannot be had, or [`backward`](crate::backward()) has freed the numbers.
    pub fn tensor(&self) -> Result<Tensor> {
        #[cfg(any(feature = "cuda", test))]
        if let Some((tape, gradient)) = &self.recorded {
            return tape.tensor(self, gradient);
        }
        match &self.edge {
            None => self.values(),
            Some(edge) => edge.token.apply_op1(Reveal(self.clone())),
        }
    }

    /// `[N, H, W, C]`.
    ///
    /// # Errors
    /// If it was made of a tensor of another rank.
    pub fn dims4(&self) -> Result<(usize, usize, usize, usize)> {
        self.values.shape.dims4()
    }

    /// The type of its numbers.
    pub fn dtype(&self) -> DType {
        self.values.dtype
    }

    /// The numbers; not for the graph.
    pub(crate) fn values(&self) -> Result<Tensor> {
        self.values.get()
    }

    /// `[N, H, W, C]`, or whatever it was made of.
    pub(super) fn dims(&self) -> &[usize] {
        self.values.shape.dims()
    }

    /// Whether it lies on a GPU.
    #[cfg(feature = "cuda")]
    pub(super) fn on_gpu(&self) -> bool {
        self.values().is_ok_and(|values| crate::values::on_gpu(&values))
    }

    /// Its stand-in among an operator's arguments.
    pub(super) fn argument(&self) -> Result<Tensor> {
        self.edge.as_ref().map_or_else(|| self.values(), |edge| Ok(edge.token.clone()))
    }

    /// The same with its values in one piece.
    pub(super) fn contiguous(&self) -> Result<Self> {
        match self.edge {
            None => Ok(self.values()?.contiguous()?.into()),
            Some(_) => Ok(self.clone()),
        }
    }

    /// The gradient that others have handed over, for an operator that will add its own to it and
    /// [`hand_over`](Self::hand_over) the sum.
    pub(super) fn take_others(&self) -> Option<Tensor> {
        self.edge.as_ref().and_then(|edge| edge.gradient.lock().take())
    }

    /// Hands a gradient over; returns what the graph gets as the argument's.
    pub(super) fn hand_over(&self, gradient: Tensor) -> Result<Tensor> {
        let Some(edge) = &self.edge else { return Ok(gradient) };
        let mut waiting = edge.gradient.lock();
        *waiting = Some(match waiting.take() {
            None => gradient,
            Some(other) => by_stored!("gradient", gradient.dtype(), sum(&gradient, &other))?,
        });
        edge.token.zeros_like()
    }
}

/// What the graph gets for a result that passes beside it.
pub(super) fn token() -> (CpuStorage, Shape) {
    output(vec![0.0_f32], 1)
}

/// Numbers a thread takes at a time.
const CHUNK: usize = 1 << 14;

fn sum<T: Stored>(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    let sum = with2::<T, _>(a, b, |a, b| {
        // SAFETY: each chunk is written in full.
        let mut sum = unsafe { unwritten::<T>(a.len()) };
        let chunks = sum.par_chunks_mut(CHUNK).zip(a.par_chunks(CHUNK)).zip(b.par_chunks(CHUNK));
        chunks.for_each(|((sum, a), b)| {
            Isa::current().run_plain(
                #[inline(always)]
                || {
                    for ((sum, a), b) in sum.iter_mut().zip(a).zip(b) {
                        *sum = T::narrow(a.widen() + b.widen());
                    }
                },
            );
        });
        sum
    })?;
    Tensor::from_vec(sum, a.shape(), a.device())
}

/// The token becomes the values.
struct Reveal(FeatureMap);

impl CustomOp1 for Reveal {
    fn name(&self) -> &'static str {
        "feature_map"
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        by_stored!("feature_map", self.0.dtype(), copy(&self.0.values()?))
    }

    fn bwd(&self, _token: &Tensor, _: &Tensor, gradient: &Tensor) -> Result<Option<Tensor>> {
        self.0.hand_over(gradient.contiguous()?).map(Some)
    }
}

fn copy<T: Stored>(values: &Tensor) -> Result<(CpuStorage, Shape)> {
    Ok(output(with1::<T, _>(values, <[T]>::to_vec)?, values.shape()))
}
