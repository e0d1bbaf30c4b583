//! Instruction sets: one binary runs anywhere and takes the widest vectors that it finds.
//!
//! Kernels are written once, over `pulp`'s vectors, and compiled for each of these.

use std::fmt;
use std::sync::OnceLock;

use pulp::WithSimd;

/// An instruction set that the fast paths are compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isa {
    /// x86-64 with AVX-512 (F, BW, CD, DQ and VL): 16 numbers at a time.
    Avx512,
    /// x86-64 with AVX2 and FMA: 8 numbers at a time.
    Avx2,
    /// What every processor has: 4 numbers at a time.
    Portable,
}

/// The environment variable that forces an instruction set: `avx512`, `avx2` or `portable`.
pub const ISA_VARIABLE: &str = "PRETEXT_ISA";

impl Isa {
    /// All of them, the fastest first.
    pub const ALL: [Self; 3] = [Self::Avx512, Self::Avx2, Self::Portable];

    /// Whether this processor has it.
    pub fn is_available(self) -> bool {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => pulp::x86::V4::is_available(),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => pulp::x86::V3::is_available(),
            #[cfg(not(target_arch = "x86_64"))]
            Self::Avx512 | Self::Avx2 => false,
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
            Self::Avx512 => "avx512",
            Self::Avx2 => "avx2",
            Self::Portable => "portable",
        }
    }

    /// Numbers in a vector.
    pub(crate) fn lanes(self) -> usize {
        match self {
            Self::Avx512 => 16,
            Self::Avx2 => 8,
            Self::Portable => 4,
        }
    }

    /// Runs a kernel compiled for this instruction set, or the portable one if the processor lacks
    /// it.
    pub(crate) fn run<K: WithSimd>(self, kernel: K) -> K::Output {
        #[cfg(target_arch = "x86_64")]
        match self {
            Self::Avx512 => {
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

impl fmt::Display for Isa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
