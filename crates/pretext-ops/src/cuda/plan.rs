//! How cuDNN computes one product of one shape: descriptors, algorithm, size of the workspace.

use std::ffi::{c_int, c_void};
use std::ptr;

use candle_core::cuda_backend::cudarc::cudnn::{CudnnError, result, sys};
use candle_core::{DType, Result, bail};

use crate::conv2d::Geometry;
use crate::gpu::product::{At, Form, Order, Product};

/// More memory than this no algorithm gets if there is another.
const WORKSPACE: usize = 1 << 30;
/// As many algorithms as cuDNN has for any product.
const ALGORITHMS: usize = 10;

/// Descriptors of one kind, destroyed in the end.
struct Descriptor<D: Copy> {
    descriptor: D,
    destroy: unsafe fn(D) -> std::result::Result<(), CudnnError>,
}

impl<D: Copy> Drop for Descriptor<D> {
    fn drop(&mut self) {
        // SAFETY: it is this one's alone. There is nobody to tell of a failure.
        let _ = unsafe { (self.destroy)(self.descriptor) };
    }
}

#[derive(Clone, Copy)]
enum Algorithm {
    Forward(sys::cudnnConvolutionFwdAlgo_t),
    Input(sys::cudnnConvolutionBwdDataAlgo_t),
    Weight(sys::cudnnConvolutionBwdFilterAlgo_t),
}

/// How a product of one shape is computed.
pub(super) struct Plan {
    x: Descriptor<sys::cudnnTensorDescriptor_t>,
    w: Descriptor<sys::cudnnFilterDescriptor_t>,
    y: Descriptor<sys::cudnnTensorDescriptor_t>,
    convolution: Descriptor<sys::cudnnConvolutionDescriptor_t>,
    algorithm: Algorithm,
    pub(super) workspace: usize,
}

/// The first of cuDNN's choices, fastest first, that gives the same result in each run and has room.
macro_rules! choose {
    ($get:path, $handle:expr, $a:expr, $b:expr, $convolution:expr, $c:expr) => {{
        let mut count: c_int = 0;
        // SAFETY: these are plain numbers, for which zeros are values.
        let mut choices = [unsafe { std::mem::zeroed() }; ALGORITHMS];
        // SAFETY: the descriptors live, and there is room for as many choices as said.
        unsafe {
            $get(
                $handle,
                $a,
                $b,
                $convolution,
                $c,
                ALGORITHMS as c_int,
                &raw mut count,
                choices.as_mut_ptr(),
            )
        }?;
        let fixed = choices.iter().take(count.max(0) as usize).filter(|choice| {
            choice.status == sys::cudnnStatus_t::CUDNN_STATUS_SUCCESS
                && choice.determinism == sys::cudnnDeterminism_t::CUDNN_DETERMINISTIC
        });
        fixed
            .clone()
            .find(|choice| choice.memory <= WORKSPACE)
            .or_else(|| fixed.min_by_key(|choice| choice.memory))
            .map(|choice| (choice.algo, choice.mathType))
    }};
}

impl Plan {
    /// `Ok(Ok(None))` if there is no algorithm for it.
    pub(super) fn new(
        handle: sys::cudnnHandle_t,
        g: &Geometry,
        (dtype, order): Form,
        product: Product,
    ) -> Result<std::result::Result<Option<Self>, CudnnError>> {
        let int = |size: usize| match c_int::try_from(size) {
            Ok(size) => Ok(size),
            Err(_) => bail!("a size of {size} is more than cuDNN counts"),
        };
        let x = [int(g.n)?, int(g.c)?, int(g.h)?, int(g.w)?];
        let w = [int(g.o)?, int(g.c)?, int(g.kernel.0)?, int(g.kernel.1)?];
        let y = [int(g.n)?, int(g.o)?, int(g.out.0)?, int(g.out.1)?];
        let (stride, padding) = (int(g.stride)?, int(g.padding)?);
        let (number, math) = match dtype {
            DType::F32 => {
                (sys::cudnnDataType_t::CUDNN_DATA_FLOAT, sys::cudnnMathType_t::CUDNN_FMA_MATH)
            }
            DType::BF16 => (
                sys::cudnnDataType_t::CUDNN_DATA_BFLOAT16,
                sys::cudnnMathType_t::CUDNN_TENSOR_OP_MATH,
            ),
            DType::F16 => {
                (sys::cudnnDataType_t::CUDNN_DATA_HALF, sys::cudnnMathType_t::CUDNN_TENSOR_OP_MATH)
            }
            other => bail!("on a GPU convolutions are of f32, bf16 or f16, not {other:?}"),
        };
        let format = match order {
            Order::ChannelsLast => sys::cudnnTensorFormat_t::CUDNN_TENSOR_NHWC,
            Order::ChannelsFirst => sys::cudnnTensorFormat_t::CUDNN_TENSOR_NCHW,
        };
        let describe = || Self::describe((number, format, math), [x, w, y], stride, padding);
        Ok(describe().and_then(|parts| Self::choose(handle, parts, dtype, product)))
    }

    fn describe(
        (number, format, math): (
            sys::cudnnDataType_t,
            sys::cudnnTensorFormat_t,
            sys::cudnnMathType_t,
        ),
        [x, w, y]: [[c_int; 4]; 3],
        stride: c_int,
        padding: c_int,
    ) -> std::result::Result<Parts, CudnnError> {
        let tensor = |sizes| {
            let descriptor = result::create_tensor_descriptor()?;
            let made = Descriptor { descriptor, destroy: result::destroy_tensor_descriptor };
            // SAFETY: it was just made.
            unsafe { result::set_tensor4d_descriptor(descriptor, format, number, sizes) }?;
            Ok::<_, CudnnError>(made)
        };
        let (x, y) = (tensor(x)?, tensor(y)?);
        let descriptor = result::create_filter_descriptor()?;
        let filter = Descriptor { descriptor, destroy: result::destroy_filter_descriptor };
        // SAFETY: it was just made.
        unsafe { result::set_filter4d_descriptor(descriptor, number, format, w) }?;
        let descriptor = result::create_convolution_descriptor()?;
        let convolution =
            Descriptor { descriptor, destroy: result::destroy_convolution_descriptor };
        // SAFETY: it was just made.
        unsafe {
            result::set_convolution2d_descriptor(
                descriptor,
                padding,
                padding,
                stride,
                stride,
                1,
                1,
                sys::cudnnConvolutionMode_t::CUDNN_CROSS_CORRELATION,
                sys::cudnnDataType_t::CUDNN_DATA_FLOAT,
            )?;
            result::set_convolution_math_type(descriptor, math)?;
        }
        Ok((x, filter, y, convolution))
    }

    fn choose(
        handle: sys::cudnnHandle_t,
        (x, w, y, convolution): Parts,
        dtype: DType,
        product: Product,
    ) -> std::result::Result<Option<Self>, CudnnError> {
        let (xd, wd, yd, conv) = (x.descriptor, w.descriptor, y.descriptor, convolution.descriptor);
        let chosen = match product {
            Product::Forward => {
                choose!(result::get_convolution_forward_algorithm, handle, xd, wd, conv, yd)
                    .map(|(algorithm, math)| (Algorithm::Forward(algorithm), math))
            }
            Product::Input => {
                choose!(result::get_convolution_backward_data_algorithm, handle, wd, yd, conv, xd)
                    .map(|(algorithm, math)| (Algorithm::Input(algorithm), math))
            }
            Product::Weight => {
                choose!(result::get_convolution_backward_filter_algorithm, handle, xd, yd, conv, wd)
                    .map(|(algorithm, math)| (Algorithm::Weight(algorithm), math))
            }
        };
        let Some((algorithm, math)) = chosen else { return Ok(None) };
        // SAFETY: the descriptors live.
        let workspace = unsafe {
            if dtype != DType::F32 {
                // A choice is for one way of multiplying; `f32` keeps to its own.
                result::set_convolution_math_type(conv, math)?;
            }
            // Asked again: what was said is for the choice's way. It fails where there is none.
            match algorithm {
                Algorithm::Forward(algorithm) => result::get_convolution_forward_workspace_size(
                    handle, xd, wd, conv, yd, algorithm,
                ),
                Algorithm::Input(algorithm) => {
                    result::get_convolution_backward_data_workspace_size(
                        handle, wd, yd, conv, xd, algorithm,
                    )
                }
                Algorithm::Weight(algorithm) => {
                    result::get_convolution_backward_filter_workspace_size(
                        handle, xd, yd, conv, wd, algorithm,
                    )
                }
            }
        }?;
        Ok(Some(Self { x, w, y, convolution, algorithm, workspace }))
    }

    pub(super) fn run(
        &self,
        handle: sys::cudnnHandle_t,
        at: At,
        workspace: u64,
    ) -> std::result::Result<(), CudnnError> {
        let (one, zero) = (1.0_f32, 0.0_f32);
        let (one, zero) = (ptr::from_ref(&one).cast(), ptr::from_ref(&zero).cast());
        let place = |address: u64| address as *mut c_void;
        let (x, w, y) = (place(at.x), place(at.w), place(at.y));
        let (xd, wd, yd) = (self.x.descriptor, self.w.descriptor, self.y.descriptor);
        let (conv, room) = (self.convolution.descriptor, place(workspace));
        let size = self.workspace;
        // SAFETY: the descriptors say what lies there, packed and of one dtype; the workspace is at
        // least as large as the algorithm asked for; factors of `f32`, `bf16` and `f16` pictures are `f32`.
        unsafe {
            match self.algorithm {
                Algorithm::Forward(algorithm) => result::convolution_forward(
                    handle, one, xd, x, wd, w, conv, algorithm, room, size, zero, yd, y,
                ),
                Algorithm::Input(algorithm) => result::convolution_backward_data(
                    handle, one, wd, w, yd, y, conv, algorithm, room, size, zero, xd, x,
                ),
                Algorithm::Weight(algorithm) => result::convolution_backward_filter(
                    handle, one, xd, x, yd, y, conv, algorithm, room, size, zero, wd, w,
                ),
            }
        }
    }
}

/// Pictures, kernels, sums, convolution.
type Parts = (
    Descriptor<sys::cudnnTensorDescriptor_t>,
    Descriptor<sys::cudnnFilterDescriptor_t>,
    Descriptor<sys::cudnnTensorDescriptor_t>,
    Descriptor<sys::cudnnConvolutionDescriptor_t>,
);
