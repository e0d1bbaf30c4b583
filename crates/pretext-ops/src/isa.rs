//! Instruction sets: one binary runs anywhere and takes the widest vectors that it finds.
//!
//! Kernels are written once, over `pulp`'s vectors, and compiled for each of these.

use std::fmt;
use std::sync::OnceLock;

use pulp::WithSimd;

/// An instruction set that the fast paths are compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isa {
    /// AVX-512 with products of `bf16` tiles (AMX-BF16), else as the next.
    AmxBf16,
    /// AVX-512 with products of `bf16` pairs (AVX512-BF16), else as the next.
    Avx512Bf16,
    /// x86-64 with AVX-512 (F, BW, CD, DQ and VL): 16 numbers at a time.
    Avx512,
    /// x86-64 with AVX2 and FMA: 8 numbers at a time.
    Avx2,
    /// What every processor has: 4 numbers at a time.
    Portable,
}

/// The environment variable that forces an instruction set: `amx-bf16`, `avx512-bf16`, `avx512`,
/// `avx2` or `portable`.
pub const ISA_VARIABLE: &str = "PRETEXT_ISA";

impl Isa {
    /// All of them, the fastest first.
    pub const ALL: [Self; 5] =
        [Self::AmxBf16, Self::Avx512Bf16, Self::Avx512, Self::Avx2, Self::Portable];

    /// Whether this processor has it, and the system lets us use it.
    pub fn is_available(self) -> bool {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::AmxBf16 => Self::Avx512Bf16.is_available() && crate::amx::is_available(),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512Bf16 => {
                Self::Avx512.is_available() && std::arch::is_x86_feature_detected!("avx512bf16")
            }
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => pulp::x86::V4::is_available(),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => pulp::x86::V3::is_available(),
            #[cfg(not(target_arch = "x86_64"))]
            Self::AmxBf16 | Self::Avx512Bf16 | Self::Avx512 | Self::Avx2 => false,
            Self::Portable => true,
        }
    }

    /// The one in use: the fastest that this processor has, or, if it has that, the one which
    /// [`ISA_VARIABLE`] names. Read once.
    pub fn current() -> Self {
        static CURRENT: OnceLock<Isa> = OnceLock::new();
        *CURRENT.get_or_init(|| {
            let forced = std::env::var(ISA_VARIABLE).ok();
            let mut available = Self::ALL.into_iter().filter(|isa| isa.is_available());
            let forced = available.clone().find(|isa| forced.as_deref() == Some(isa.name()));
            forced.or_else(|| available.next()).unwrap_or(Self::Portable)
        })
    }

    /// Its name, as [`ISA_VARIABLE`] takes it.
    pub fn name(self) -> &'static str {
        match self {
            Self::AmxBf16 => "amx-bf16",
            Self::Avx512Bf16 => "avx512-bf16",
            Self::Avx512 => "avx512",
            Self::Avx2 => "avx2",
            Self::Portable => "portable",
        }
    }

    /// Numbers in a vector.
    pub(crate) fn lanes(self) -> usize {
        match self {
            Self::AmxBf16 | Self::Avx512Bf16 | Self::Avx512 => 16,
            Self::Avx2 => 8,
            Self::Portable => 4,
        }
    }

    /// Runs a kernel compiled for this instruction set, or the portable one if the processor lacks
    /// it.
    pub(crate) fn run<K: WithSimd>(self, kernel: K) -> K::Output {
        #[cfg(target_arch = "x86_64")]
        match self {
            Self::AmxBf16 | Self::Avx512Bf16 | Self::Avx512 => {
                if let Some(simd) = pulp::x86::V4::try_new() {
                    return pulp::Simd::vectorize(simd, kernel);
                }
            }
            Self::Avx2 => {
                if let Some(simd) = pulp::x86::V3::try_new() {
                    return pulp::Simd::vectorize(simd, kernel);
                }
            }
            Self::Portable => {}
        }
        pulp::Simd::vectorize(pulp::Scalar128b, kernel)
    }

    /// The same for a kernel that multiplies pairs of `bf16`, which is told how.
    pub(crate) fn run_pairs<K: WithSimd>(self, kernel: impl FnOnce(Pairs) -> K) -> K::Output {
        #[cfg(target_arch = "x86_64")]
        if let (Self::AmxBf16 | Self::Avx512Bf16, true) = (self, self.is_available())
            && let Some(simd) = pulp::x86::V4::try_new()
        {
            let pairs = if self == Self::AmxBf16 { Pairs::Tiles } else { Pairs::Vectors };
            // SAFETY: the processor has all of the features.
            return unsafe { run_avx512_bf16(simd, kernel(pairs)) };
        }
        self.run(kernel(Pairs::Apart))
    }
}

/// How a kernel multiplies pairs of `bf16`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(not(target_arch = "x86_64"), expect(dead_code, reason = "x86-64's instructions"))]
pub(crate) enum Pairs {
    /// By taking them apart.
    Apart,
    /// By AVX512-BF16's instruction.
    Vectors,
    /// By that of AMX, and by the one for vectors.
    Tiles,
}

impl Isa {
    /// Runs a loop that the compiler turns into vectors by itself; `f` must be `#[inline(always)]`.
    pub(crate) fn run_plain<R>(self, f: impl FnOnce() -> R) -> R {
        struct Plain<F>(F);
        impl<R, F: FnOnce() -> R> WithSimd for Plain<F> {
            type Output = R;
            #[inline(always)]
            fn with_simd<S: pulp::Simd>(self, _: S) -> R {
                (self.0)()
            }
        }
        self.run(Plain(f))
    }
}

/// Compiles a kernel with the products of `bf16` pairs, which `pulp`'s AVX-512 lacks.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512cd,avx512dq,avx512vl,avx512bf16")]
#[target_feature(enable = "bmi1,bmi2,lzcnt,popcnt,fxsr")]
fn run_avx512_bf16<K: WithSimd>(simd: pulp::x86::V4, kernel: K) -> K::Output {
    kernel.with_simd(simd)
}

impl fmt::Display for Isa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
