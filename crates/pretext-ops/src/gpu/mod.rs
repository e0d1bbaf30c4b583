//! What the operators do on a GPU, kernel after kernel.
//!
//! The kernels in `kernels/` are functions of one thread's place. They run on whatever a [`Machine`]
//! is: a GPU by the feature `cuda`, the processor in tests, where they are held against the operators
//! of this crate. No two threads write to one place and sums have a fixed order, so that results are
//! the same in each run and on each GPU.

pub(crate) mod activation;
pub(crate) mod layer_norm;
pub(crate) mod loss;
pub(crate) mod norm;
pub(crate) mod operators;
pub(crate) mod pixels;
pub(crate) mod product;
pub(crate) mod weights;

#[cfg(test)]
mod half_test;
#[cfg(test)]
mod host;
#[cfg(test)]
mod kernels_test;
#[cfg(test)]
mod operators_test;
#[cfg(test)]
mod tape_test;

use std::borrow::Cow;

use candle_core::op::BackpropOp;
use candle_core::{DType, Result, Shape, Storage, Tensor, bail};

use self::product::{At, Form, Product};
use crate::conv2d::Geometry;

/// An argument of a kernel.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Arg {
    /// Where numbers lie; 0 where there are none.
    Address(u64),
    /// A whole number.
    Count(u32),
    /// A number.
    Number(f64),
}

/// A kernel's name.
pub(crate) type Kernel = Cow<'static, str>;

/// Where kernels run, one after the other.
pub(crate) trait Machine {
    /// A piece of its memory.
    type Memory;

    /// Memory that holds whatever it held, aligned for any number.
    fn alloc(&self, bytes: usize) -> Result<Self::Memory>;

    fn address(&self, memory: &Self::Memory) -> u64;

    /// Runs `count` threads of a kernel, which has read and written all it will when the next one
    /// begins.
    fn launch(&self, kernel: Kernel, count: u32, arguments: &[Arg]) -> Result<()>;
}

/// Bytes that the tensor cores' convolutions read at a time, and our kernels where they can.
pub(crate) const ALIGNED: u64 = 16;

/// A machine that tensors lie on.
pub(crate) trait Place:
    Machine<Memory: Send + Sync> + Clone + Send + Sync + 'static
{
    /// The one that a tensor lies on.
    fn of(tensor: &Tensor) -> Result<Self>;

    /// Where the numbers of a contiguous tensor lie. It must outlive the launch of what reads them.
    fn at(&self, tensor: &Tensor) -> Result<u64>;

    /// Memory as the storage of a tensor of that many numbers.
    fn storage(&self, memory: Self::Memory, dtype: DType, count: usize) -> Result<Storage>;

    /// Whether there is this product of a convolution in this form.
    fn computes(&self, g: &Geometry, form: Form, product: Product) -> Result<bool>;

    /// Computes it. What it reads and writes begins at multiples of [`ALIGNED`] bytes.
    fn product(&self, g: &Geometry, form: Form, product: Product, at: At) -> Result<()>;

    /// A tensor as [`Place::product`] takes it: in one piece that begins at a multiple of
    /// [`ALIGNED`] bytes. A copy where it is part of another one and does not.
    fn aligned(&self, tensor: &Tensor) -> Result<Tensor> {
        let tensor = tensor.contiguous()?;
        if self.at(&tensor)?.is_multiple_of(ALIGNED) {
            Ok(tensor)
        } else {
            tensor.force_contiguous()
        }
    }

    /// Memory for so many numbers.
    fn numbers(&self, dtype: DType, count: usize) -> Result<Self::Memory> {
        self.alloc(count * dtype.size_in_bytes())
    }

    /// Memory as a tensor without a graph.
    fn tensor(
        &self,
        memory: Self::Memory,
        dtype: DType,
        shape: impl Into<Shape>,
    ) -> Result<Tensor> {
        let shape = shape.into();
        let storage = self.storage(memory, dtype, shape.elem_count())?;
        Ok(Tensor::from_storage(storage, shape, BackpropOp::none(), false))
    }

    /// Where a tensor's numbers lie, if there is one; 0 if not.
    fn at_any(&self, tensor: Option<&Tensor>) -> Result<u64> {
        tensor.map_or(Ok(0), |tensor| self.at(tensor))
    }
}

/// The kernel of that name for pictures of a dtype.
pub(crate) fn of_dtype(kernel: &str, dtype: DType) -> Result<Kernel> {
    match dtype {
        DType::F32 => Ok(format!("{kernel}_f32").into()),
        DType::BF16 => Ok(format!("{kernel}_bf16").into()),
        DType::F16 => Ok(format!("{kernel}_f16").into()),
        other => bail!("on a GPU pictures are f32, bf16 or f16, not {other:?}"),
    }
}

/// How many numbers a thread takes at a time: sixteen bytes, where rows of all these `sizes` are made of
/// such pieces and each of the `pictures` begins with one; else 1.
pub(crate) fn pack(dtype: DType, sizes: &[u32], pictures: &[u64]) -> u32 {
    let pack = ALIGNED as u32 / dtype.size_in_bytes() as u32;
    let whole = sizes.iter().all(|size| size.is_multiple_of(pack))
        && pictures.iter().all(|address| address.is_multiple_of(ALIGNED));
    if whole { pack } else { 1 }
}

/// A size as kernels count, in 32 bits.
pub(crate) fn count(size: usize) -> Result<u32> {
    match u32::try_from(size) {
        Ok(count) => Ok(count),
        Err(_) => bail!("{size} numbers in one tensor are more than a GPU's kernels count"),
    }
}

/// Parts that are joined at a time, as in `kernels/numbers.cuh`.
const FAN: u32 = 16;

/// Sums of columns in parts, `f64` `[parts, columns]`.
pub(crate) struct Sums<Memory> {
    pub(crate) memory: Memory,
    pub(crate) parts: u32,
}

/// Joins parts until there are no more than so many.
fn join_sums<M: Machine>(
    machine: &M,
    mut sums: Sums<M::Memory>,
    columns: u32,
    most: u32,
) -> Result<Sums<M::Memory>> {
    while sums.parts > most {
        let parts = sums.parts.div_ceil(FAN);
        let memory = machine.alloc(parts as usize * columns as usize * size_of::<f64>())?;
        machine.launch(
            "join_sums".into(),
            parts * columns,
            &[
                Arg::Address(machine.address(&sums.memory)),
                Arg::Count(sums.parts),
                Arg::Count(columns),
                Arg::Address(machine.address(&memory)),
            ],
        )?;
        sums = Sums { memory, parts };
    }
    Ok(sums)
}
