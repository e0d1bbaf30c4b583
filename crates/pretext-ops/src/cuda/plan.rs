//! How cuDNN computes one product of one shape: a graph of one operation, and the engine for it.
//!
//! By cuDNN's graphs rather than its older calls, which look for all this anew each time.

use candle_core::cuda_backend::cudarc::cudnn::{CudnnError, sys};
use candle_core::{DType, Result, bail};
use sys::cudnnBackendHeurMode_t as Mode;

use super::cudnn::is_unsupported;
use super::descriptor::{Address, Answer, Descriptor, Kind, Name, Note, Part};
use crate::conv2d::Geometry;
use crate::gpu::product::{At, Form, Order, Product};

/// More memory than this no engine gets if there is another.
const WORKSPACE: usize = 1 << 30;
/// Bytes at whose multiples all begins that cuDNN reads or writes.
const ALIGNMENT: i64 = 16;
/// Notes of an engine: more than cuDNN knows.
const NOTES: usize = 32;
/// It multiplies by tensor cores: `f32` as TF32.
const TENSOR_CORES: Note = Note(0);
/// It reads `f32` as something narrower.
const NARROW_INPUTS: Note = Note(1);
/// It adds in something narrower than it was told to.
const NARROW_SUMS: Note = Note(2);
/// Its sums are in no fixed order.
const NO_ORDER: Note = Note(4);
/// What `x`, `w` and `y` are called between us and cuDNN.
const NAMES: [i64; 3] = [1, 2, 3];

/// How a product of one shape is computed.
pub(super) struct Plan {
    plan: Descriptor,
    pub(super) workspace: usize,
    /// What the plan was made of.
    _parts: Vec<Descriptor>,
}

impl Plan {
    /// `Ok(Ok(None))` if there is no engine for it.
    pub(super) fn new(
        handle: sys::cudnnHandle_t,
        g: &Geometry,
        (dtype, order): Form,
        product: Product,
    ) -> Result<Answer<Option<Self>>> {
        let number = match dtype {
            DType::F32 => sys::cudnnDataType_t::CUDNN_DATA_FLOAT,
            DType::BF16 => sys::cudnnDataType_t::CUDNN_DATA_BFLOAT16,
            DType::F16 => sys::cudnnDataType_t::CUDNN_DATA_HALF,
            other => bail!("on a GPU convolutions are of f32, bf16 or f16, not {other:?}"),
        };
        let refused: &[Note] = match dtype {
            DType::F32 => &[NO_ORDER, NARROW_SUMS, NARROW_INPUTS, TENSOR_CORES],
            _ => &[NO_ORDER, NARROW_SUMS],
        };
        let made = graph(handle, g, (number, order), product);
        Ok(made.and_then(|parts| Self::choose(handle, parts, refused)))
    }

    /// The first of cuDNN's choices, fastest first, that gives the same result in each run and has room;
    /// or the one that takes the least. `parts` ends with the graph. Choices that fail are passed over;
    /// if none is left, a failure that is more than a lack of support is told.
    fn choose(
        handle: sys::cudnnHandle_t,
        parts: Vec<Descriptor>,
        refused: &[Note],
    ) -> Answer<Option<Self>> {
        let Some(graph) = parts.last() else { return Ok(None) };
        let mut least: Option<(Descriptor, Descriptor, usize)> = None;
        let mut failed = None;
        let mut passed_over = |error: CudnnError| {
            if !is_unsupported(&error) {
                failed.get_or_insert(error);
            }
        };
        for mode in
            [Mode::CUDNN_HEUR_MODE_B, Mode::CUDNN_HEUR_MODE_A, Mode::CUDNN_HEUR_MODE_FALLBACK]
        {
            let choices = choices(graph, mode).unwrap_or_else(|error| {
                passed_over(error);
                vec![]
            });
            for choice in choices {
                let (plan, workspace) = match plan(handle, &choice, refused) {
                    Ok(Some(plan)) => plan,
                    Ok(None) => continue,
                    Err(error) => {
                        passed_over(error);
                        continue;
                    }
                };
                if least.as_ref().is_none_or(|(.., before)| workspace < *before) {
                    least = Some((plan, choice, workspace));
                }
                if workspace <= WORKSPACE {
                    break;
                }
            }
            if least.as_ref().is_some_and(|(.., workspace)| *workspace <= WORKSPACE) {
                break;
            }
        }
        match (least, failed) {
            (Some((plan, choice, workspace)), _) => {
                let mut parts = parts;
                parts.push(choice);
                Ok(Some(Self { plan, workspace, _parts: parts }))
            }
            (None, Some(error)) => Err(error),
            (None, None) => Ok(None),
        }
    }

    pub(super) fn run(&self, handle: sys::cudnnHandle_t, at: At, workspace: u64) -> Answer<()> {
        let pack = Descriptor::new(Kind::CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR)?
            .with(Name::CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, &NAMES)?
            .with(
                Name::CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS,
                &[Address(at.x), Address(at.w), Address(at.y)],
            )?
            .with(Name::CUDNN_ATTR_VARIANT_PACK_WORKSPACE, &[Address(workspace)])?
            .finished()?;
        self.plan.execute(handle, &pack)
    }
}

/// The descriptors of a product, of which the last is the graph that they make.
fn graph(
    handle: sys::cudnnHandle_t,
    g: &Geometry,
    (number, order): (sys::cudnnDataType_t, Order),
    product: Product,
) -> Answer<Vec<Descriptor>> {
    let tensor = |name: i64, sizes: [usize; 4]| {
        let [n, c, h, w] = sizes.map(|size| size as i64);
        let strides = match order {
            Order::ChannelsLast => [h * w * c, 1, w * c, c],
            Order::ChannelsFirst => [c * h * w, h * w, w, 1],
        };
        Descriptor::new(Kind::CUDNN_BACKEND_TENSOR_DESCRIPTOR)?
            .with(Name::CUDNN_ATTR_TENSOR_DATA_TYPE, &[number])?
            .with(Name::CUDNN_ATTR_TENSOR_DIMENSIONS, &[n, c, h, w])?
            .with(Name::CUDNN_ATTR_TENSOR_STRIDES, &strides)?
            .with(Name::CUDNN_ATTR_TENSOR_UNIQUE_ID, &[name])?
            .with(Name::CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, &[ALIGNMENT])?
            .finished()
    };
    let x = tensor(NAMES[0], [g.n, g.c, g.h, g.w])?;
    let w = tensor(NAMES[1], [g.o, g.c, g.kernel.0, g.kernel.1])?;
    let y = tensor(NAMES[2], [g.n, g.o, g.out.0, g.out.1])?;
    let padding = [g.padding as i64; 2];
    let convolution = Descriptor::new(Kind::CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR)?
        .with(Name::CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS, &[2_i64])?
        .with(Name::CUDNN_ATTR_CONVOLUTION_COMP_TYPE, &[sys::cudnnDataType_t::CUDNN_DATA_FLOAT])?
        .with(
            Name::CUDNN_ATTR_CONVOLUTION_CONV_MODE,
            &[sys::cudnnConvolutionMode_t::CUDNN_CROSS_CORRELATION],
        )?
        .with(Name::CUDNN_ATTR_CONVOLUTION_DILATIONS, &[1_i64; 2])?
        .with(Name::CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES, &[g.stride as i64; 2])?
        .with(Name::CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS, &padding)?
        .with(Name::CUDNN_ATTR_CONVOLUTION_POST_PADDINGS, &padding)?
        .finished()?;
    let (kind, [of_x, of_w, of_y, of_convolution, alpha, beta]) = operation(product);
    let operation = Descriptor::new(kind)?
        .with(of_x, &[x.part()])?
        .with(of_w, &[w.part()])?
        .with(of_y, &[y.part()])?
        .with(of_convolution, &[convolution.part()])?
        .with(alpha, &[1.0_f32])?
        .with(beta, &[0.0_f32])?
        .finished()?;
    let graph = Descriptor::new(Kind::CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR)?
        .with(Name::CUDNN_ATTR_OPERATIONGRAPH_HANDLE, &[handle])?
        .with(Name::CUDNN_ATTR_OPERATIONGRAPH_OPS, &[operation.part()])?
        .finished()?;
    Ok(vec![x, w, y, convolution, operation, graph])
}

/// A product's operation, and what it calls `x`, `w`, `y`, the convolution and the two factors.
fn operation(product: Product) -> (Kind, [Name; 6]) {
    match product {
        Product::Forward => (
            Kind::CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR,
            [
                Name::CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X,
                Name::CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W,
                Name::CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y,
                Name::CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC,
                Name::CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_ALPHA,
                Name::CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_BETA,
            ],
        ),
        Product::Input => (
            Kind::CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR,
            [
                Name::CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DX,
                Name::CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_W,
                Name::CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DY,
                Name::CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_CONV_DESC,
                Name::CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_ALPHA,
                Name::CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_BETA,
            ],
        ),
        Product::Weight => (
            Kind::CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR,
            [
                Name::CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_X,
                Name::CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DW,
                Name::CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DY,
                Name::CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_CONV_DESC,
                Name::CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_ALPHA,
                Name::CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_BETA,
            ],
        ),
    }
}

/// What cuDNN proposes for a graph, fastest first.
fn choices(graph: &Descriptor, mode: Mode) -> Answer<Vec<Descriptor>> {
    const RESULTS: Name = Name::CUDNN_ATTR_ENGINEHEUR_RESULTS;
    let heuristic = Descriptor::new(Kind::CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR)?
        .with(Name::CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, &[graph.part()])?
        .with(Name::CUDNN_ATTR_ENGINEHEUR_MODE, &[mode])?
        .finished()?;
    let count = heuristic.count::<Part>(RESULTS)?;
    let choices: Answer<Vec<Descriptor>> =
        (0..count).map(|_| Descriptor::new(Kind::CUDNN_BACKEND_ENGINECFG_DESCRIPTOR)).collect();
    let mut choices = choices?;
    let filled = heuristic.get(RESULTS, choices.iter().map(Descriptor::part).collect())?.len();
    choices.truncate(filled);
    Ok(choices)
}

/// What the results of a choice are like.
fn notes(choice: &Descriptor) -> Answer<Vec<Note>> {
    let engine = Descriptor::new(Kind::CUDNN_BACKEND_ENGINE_DESCRIPTOR)?;
    choice.get(Name::CUDNN_ATTR_ENGINECFG_ENGINE, vec![engine.part()])?;
    engine.get(Name::CUDNN_ATTR_ENGINE_NUMERICAL_NOTE, vec![Note(u32::MAX); NOTES])
}

/// The plan of a choice, and the bytes of its workspace; `None` if it has a note that is refused.
fn plan(
    handle: sys::cudnnHandle_t,
    choice: &Descriptor,
    refused: &[Note],
) -> Answer<Option<(Descriptor, usize)>> {
    if notes(choice)?.iter().any(|note| refused.contains(note)) {
        return Ok(None);
    }
    let plan = Descriptor::new(Kind::CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR)?
        .with(Name::CUDNN_ATTR_EXECUTION_PLAN_HANDLE, &[handle])?
        .with(Name::CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, &[choice.part()])?
        .finished()?;
    let bytes = plan.get(Name::CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE, vec![0_i64])?;
    Ok(Some((plan, bytes.first().map_or(0, |&bytes| bytes.max(0) as usize))))
}
