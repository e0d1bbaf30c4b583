//! The processor as a machine for the kernels, for tests, and how they compare.
//!
//! `kernels/host.cpp` holds nothing but a loop over threads; all else, the order of launches included,
//! is what runs on a GPU. It takes a C++ compiler (`$CXX`, or `c++`). Where there is none the tests
//! say so and pass, unless `PRETEXT_NEED_CXX` is set.

#![allow(unsafe_code)]

use std::cell::Cell;
use std::ffi::{CString, c_char};
use std::path::Path;
use std::sync::OnceLock;

use candle_core::{CpuStorage, DType, Device, Result, Storage, Tensor, Var, bail};
use half::{bf16, f16};

use super::pixels::Table;
use super::product::{At, Form, Order, Product};
use super::{Arg, Kernel, Machine, Place};
use crate::conv2d::Geometry;

type Run = unsafe extern "C" fn(*const c_char, u32, *const u64, usize) -> bool;

/// The processor as a machine, if there is a compiler.
#[derive(Clone, Copy)]
pub(super) struct Host(Run);

impl Host {
    pub(super) fn find() -> Option<Self> {
        static COMPILED: OnceLock<Option<Run>> = OnceLock::new();
        COMPILED.get_or_init(Self::compile).map(Self)
    }

    fn compile() -> Option<Run> {
        let package = Path::new(env!("CARGO_MANIFEST_DIR"));
        let out = Path::new(env!("OUT_DIR")).join("kernels-on-the-host.so");
        let out = pretext_kernels::on_the_processor(package, &out, &["-fPIC", "-shared"])?;
        // SAFETY: the library has no code of its own that runs when it is loaded or unloaded, but for
        // a table's constructor; the function has this signature.
        unsafe {
            let library = Box::leak(Box::new(libloading::Library::new(&out).unwrap()));
            Some(*library.get::<Run>(b"pretext_run").unwrap())
        }
    }

    /// A tensor's numbers, as they lie in memory.
    pub(super) fn upload(self, tensor: &Tensor) -> Memory {
        let tensor = tensor.flatten_all().unwrap();
        let bytes: Vec<u8> = match tensor.dtype() {
            DType::F32 => bytes(tensor.to_vec1::<f32>().unwrap(), f32::to_ne_bytes),
            DType::BF16 => bytes(tensor.to_vec1::<bf16>().unwrap(), bf16::to_ne_bytes),
            DType::F16 => bytes(tensor.to_vec1::<f16>().unwrap(), f16::to_ne_bytes),
            DType::U32 => bytes(tensor.to_vec1::<u32>().unwrap(), u32::to_ne_bytes),
            other => panic!("{other:?}"),
        };
        let memory = self.alloc(bytes.len()).unwrap();
        // SAFETY: it is as long.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), memory.start.cast(), bytes.len()) };
        memory
    }

    pub(super) fn room(self, dtype: DType, numbers: usize) -> Memory {
        self.alloc(numbers * dtype.size_in_bytes()).unwrap()
    }

    pub(super) fn table(self, table: Table) -> [Memory; 3] {
        let (pixels, terms) = (table.starts.len(), table.places.len());
        [
            self.upload(&Tensor::from_vec(table.starts, pixels, &Device::Cpu).unwrap()),
            self.upload(&Tensor::from_vec(table.places, terms, &Device::Cpu).unwrap()),
            self.upload(&Tensor::from_vec(table.weights, terms, &Device::Cpu).unwrap()),
        ]
    }
}

pub(super) fn bytes<T, const N: usize>(values: Vec<T>, f: impl Fn(T) -> [u8; N]) -> Vec<u8> {
    values.into_iter().flat_map(f).collect()
}

/// What memory holds before it is written: a NaN in each of the types.
pub(super) const POISON: u64 = u64::MAX;
/// Words behind the end, which must stay as they are.
pub(super) const GUARD: usize = 4;

pub(super) struct Memory {
    start: *mut u64,
    words: usize,
    bytes: usize,
}

// SAFETY: it is owned memory; kernels that share it run one after the other.
unsafe impl Send for Memory {}
// SAFETY: as above.
unsafe impl Sync for Memory {}

impl Memory {
    pub(super) fn at(&self) -> u64 {
        self.start as u64
    }

    /// It as numbers of a tensor.
    pub(super) fn tensor(&self, like: &Tensor) -> Tensor {
        assert_eq!(self.bytes, like.elem_count() * like.dtype().size_in_bytes());
        // SAFETY: it is as long.
        let bytes = unsafe { std::slice::from_raw_parts(self.start.cast::<u8>(), self.bytes) };
        Tensor::from_raw_buffer(bytes, like.dtype(), like.dims(), &Device::Cpu).unwrap()
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: it was made of such a vector.
        let words = unsafe { Vec::from_raw_parts(self.start, self.words, self.words) };
        let end = self.bytes.div_ceil(8);
        assert!(words[end..].iter().all(|&word| word == POISON), "written beyond the end");
    }
}

impl Machine for Host {
    type Memory = Memory;

    fn alloc(&self, bytes: usize) -> Result<Memory> {
        counted(|counts| counts.allocations += 1);
        let words = vec![POISON; bytes.div_ceil(8) + GUARD].into_boxed_slice();
        let words_count = words.len();
        Ok(Memory { start: Box::into_raw(words).cast(), words: words_count, bytes })
    }

    fn address(&self, memory: &Memory) -> u64 {
        memory.at()
    }

    fn launch(&self, kernel: Kernel, count: u32, arguments: &[Arg]) -> Result<()> {
        counted(|counts| counts.launches += 1);
        let bits: Vec<u64> = arguments
            .iter()
            .map(|argument| match *argument {
                Arg::Address(value) => value,
                Arg::Count(value) => value.into(),
                Arg::Number(value) => value.to_bits(),
            })
            .collect();
        let name = CString::new(kernel.as_bytes()).unwrap();
        // SAFETY: the arguments are those that the GPU gets, addresses of `Memory`.
        let known = unsafe { self.0(name.as_ptr(), count, bits.as_ptr(), bits.len()) };
        assert!(known, "there is no kernel {kernel} of {} arguments", bits.len());
        Ok(())
    }
}

/// Numbers between about -2 and 2 that repeat at no power of two, some of them equal.
pub(super) fn noise(shape: &[usize], seed: usize, dtype: DType) -> Tensor {
    let count: usize = shape.iter().product();
    let number = |i: usize| ((i * 7919 + seed * 104_729) % 1013) as f32 / 253.0 - 2.0;
    let values: Vec<f32> = (0..count).map(number).collect();
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap().to_dtype(dtype).unwrap()
}

pub(super) fn values(tensor: &Tensor) -> Vec<f64> {
    tensor.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

/// Holds each number against what it should be, `tolerance` of the largest of them apart at most.
#[track_caller]
pub(super) fn close(what: &str, got: &Tensor, want: &Tensor, tolerance: f64) {
    assert_eq!(got.dims(), want.dims(), "{what}");
    let (got, want) = (values(got), values(want));
    let most = want.iter().fold(1e-3_f64, |most, v| most.max(v.abs()));
    for (i, (got, want)) in got.iter().zip(&want).enumerate() {
        assert!((got - want).abs() <= tolerance * most, "{what}: {got} at {i}, not {want}");
    }
}

/// Holds bits against bits; NaNs are equal.
#[track_caller]
pub(super) fn equal(what: &str, got: &Tensor, want: &Tensor) {
    assert_eq!(got.dims(), want.dims(), "{what}");
    for (i, (got, want)) in values(got).iter().zip(&values(want)).enumerate() {
        let same = got.to_bits() == want.to_bits() || (got.is_nan() && want.is_nan());
        assert!(same, "{what}: {got} at {i}, not {want}");
    }
}

/// The gradients of `variables` where `dy` is the gradient of `y`.
pub(super) fn gradients(y: &Tensor, dy: &Tensor, variables: &[&Var]) -> Vec<Tensor> {
    let in_f32 = |t: &Tensor| t.to_dtype(DType::F32).unwrap();
    let loss = (in_f32(y) * in_f32(dy)).unwrap().sum_all().unwrap();
    let gradients = crate::backward(&loss).unwrap();
    variables.iter().map(|v| gradients.get(v.as_tensor()).unwrap().clone()).collect()
}

pub(super) const DTYPES: [DType; 2] = [DType::F32, DType::BF16];

/// `f32` differs in the order of sums; a `bf16` has 8 bits, the last of which may fall either way.
pub(super) fn tolerance(dtype: DType) -> f64 {
    if dtype == DType::F32 { 3e-6 } else { 1.0 / 128.0 }
}

/// What a form lacks: one of the products, or all of them.
pub(super) type Lack = (Form, Option<Product>);

thread_local! {
    /// Products that cannot be computed.
    static LACKS: Cell<&'static [Lack]> = const { Cell::new(&[]) };
    static COUNTS: Cell<Counts> = const { Cell::new(Counts::NONE) };
}

/// What a GPU would have been told to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Counts {
    /// Of kernels.
    pub(super) launches: usize,
    /// Of cuDNN.
    pub(super) products: usize,
    pub(super) allocations: usize,
}

impl Counts {
    const NONE: Self = Self { launches: 0, products: 0, allocations: 0 };

    /// Since the last time on this thread.
    pub(super) fn taken() -> Self {
        COUNTS.replace(Self::NONE)
    }
}

fn counted(count: impl FnOnce(&mut Counts)) {
    let mut counts = COUNTS.get();
    count(&mut counts);
    COUNTS.set(counts);
}

fn lacks(form: Form, product: Product) -> bool {
    LACKS.get().iter().any(|(of, only)| *of == form && only.is_none_or(|only| only == product))
}

/// Runs something where these cannot be computed.
pub(super) fn lacking<R>(lacks: &'static [Lack], f: impl FnOnce() -> R) -> R {
    LACKS.set(lacks);
    let result = f();
    LACKS.set(&[]);
    result
}

impl Place for Host {
    fn of(_: &Tensor) -> Result<Self> {
        match Self::find() {
            Some(host) => Ok(host),
            None => bail!("there is no C++ compiler"),
        }
    }

    fn at(&self, tensor: &Tensor) -> Result<u64> {
        let (storage, layout) = tensor.storage_and_layout();
        let (Storage::Cpu(storage), Some((start, _))) = (&*storage, layout.contiguous_offsets())
        else {
            bail!("not in one piece")
        };
        Ok(match storage {
            CpuStorage::F32(values) => values[start..].as_ptr() as u64,
            CpuStorage::BF16(values) => values[start..].as_ptr() as u64,
            CpuStorage::F16(values) => values[start..].as_ptr() as u64,
            CpuStorage::U32(values) => values[start..].as_ptr() as u64,
            CpuStorage::F64(values) => values[start..].as_ptr() as u64,
            other => bail!("{other:?}"),
        })
    }

    fn storage(&self, memory: Memory, dtype: DType, count: usize) -> Result<Storage> {
        assert_eq!(memory.bytes, count * dtype.size_in_bytes());
        Ok(Storage::Cpu(match dtype {
            // SAFETY: it is as long.
            DType::F32 => CpuStorage::F32(unsafe { read(memory.at(), count) }),
            // SAFETY: as above.
            DType::BF16 => CpuStorage::BF16(unsafe { read(memory.at(), count) }),
            // SAFETY: as above.
            DType::F16 => CpuStorage::F16(unsafe { read(memory.at(), count) }),
            // SAFETY: as above.
            DType::F64 => CpuStorage::F64(unsafe { read(memory.at(), count) }),
            other => bail!("{other:?}"),
        }))
    }

    fn computes(&self, _: &Geometry, form: Form, product: Product) -> Result<bool> {
        Ok(!lacks(form, product))
    }

    fn product(&self, g: &Geometry, form: Form, product: Product, at: At) -> Result<()> {
        assert!(!lacks(form, product), "{form:?} is lacking");
        counted(|counts| counts.products += 1);
        for address in [at.x, at.w, at.y] {
            assert!(address.is_multiple_of(super::ALIGNED), "cuDNN reads 16 bytes at a time");
        }
        products(g, form, product, at);
        Ok(())
    }
}

/// # Safety
/// So many numbers must lie there.
unsafe fn read<T: Copy>(address: u64, count: usize) -> Vec<T> {
    // SAFETY: the caller vouches for them.
    unsafe { std::slice::from_raw_parts(address as *const T, count) }.to_vec()
}

/// The products by their definition.
fn products(g: &Geometry, (dtype, order): Form, product: Product, at: At) {
    let Geometry { n, c, h, w, o, kernel: (kh, kw), stride, padding, out: (oh, ow) } = *g;
    let place =
        |channels: usize, (rows, columns): (usize, usize), [i, j, y, x]: [usize; 4]| match order {
            Order::ChannelsLast => ((i * rows + y) * columns + x) * channels + j,
            Order::ChannelsFirst => ((i * channels + j) * rows + y) * columns + x,
        };
    let wide = |address: u64, count: usize| -> Vec<f64> {
        // SAFETY: so many numbers lie there, by the operators' account.
        let floats = |address| unsafe { read::<f32>(address, count) };
        // SAFETY: as above.
        let halves = |address| unsafe { read::<bf16>(address, count) };
        // SAFETY: as above.
        let f16s = |address| unsafe { read::<f16>(address, count) };
        match dtype {
            DType::F32 => floats(address).into_iter().map(f64::from).collect(),
            DType::F16 => f16s(address).into_iter().map(f64::from).collect(),
            _ => halves(address).into_iter().map(f64::from).collect(),
        }
    };
    let (xs, ws, ys) = (n * c * h * w, o * c * kh * kw, n * o * oh * ow);
    let [mut x, mut weight, mut y] = [(at.x, xs), (at.w, ws), (at.y, ys)].map(|(a, n)| wide(a, n));
    match product {
        Product::Forward => y.fill(0.0),
        Product::Input => x.fill(0.0),
        Product::Weight => weight.fill(0.0),
    }
    for (i, p, q) in (0..n).flat_map(|i| (0..o).flat_map(move |p| (0..c).map(move |q| (i, p, q)))) {
        for (u, v) in (0..kh).flat_map(|u| (0..kw).map(move |v| (u, v))) {
            for (row, column) in (0..oh).flat_map(|r| (0..ow).map(move |s| (r, s))) {
                let (Some(down), Some(across)) = (
                    (row * stride + u).checked_sub(padding).filter(|&y| y < h),
                    (column * stride + v).checked_sub(padding).filter(|&x| x < w),
                ) else {
                    continue;
                };
                let at_x = place(c, (h, w), [i, q, down, across]);
                let at_w = place(c, (kh, kw), [p, q, u, v]);
                let at_y = place(o, (oh, ow), [i, p, row, column]);
                match product {
                    Product::Forward => y[at_y] += x[at_x] * weight[at_w],
                    Product::Input => x[at_x] += weight[at_w] * y[at_y],
                    Product::Weight => weight[at_w] += x[at_x] * y[at_y],
                }
            }
        }
    }
    let (values, address) = match product {
        Product::Forward => (y, at.y),
        Product::Input => (x, at.x),
        Product::Weight => (weight, at.w),
    };
    for (i, value) in values.into_iter().enumerate() {
        // SAFETY: the operators have so many numbers there, for this product to write.
        unsafe {
            match dtype {
                DType::F32 => (address as *mut f32).add(i).write(value as f32),
                DType::F16 => (address as *mut f16).add(i).write(f16::from_f64(value)),
                _ => (address as *mut bf16).add(i).write(bf16::from_f64(value)),
            }
        }
    }
}
