//! Instruction sets: one binary runs anywhere and takes the widest vectors that it finds.
//!
//! All of them compute the same bytes and the same floats, bit for bit.

use std::fmt;
use std::sync::OnceLock;

use super::vectors::{Portable, Vectors};

/// An instruction set that the fused path is compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Isa {
    /// x86-64 with AVX-512 (F, BW, CD, DQ and VL).
    Avx512,
    /// x86-64 with AVX2 and FMA.
    Avx2,
    /// What every processor has; on aarch64 that is NEON.
    Portable,
}

/// The environment variable that forces an instruction set: `avx512`, `avx2` or `portable`.
pub const ISA_VARIABLE: &str = "PRETEXT_ISA";

impl Isa {
    /// All of them, the fastest first.
    pub const ALL: [Self; 3] = [Self::Avx512, Self::Avx2, Self::Portable];

    /// Those that this processor has, the fastest first.
    pub fn available() -> impl Iterator<Item = Self> + Clone {
        Self::ALL.into_iter().filter(|isa| isa.is_available())
    }

    /// Whether this processor has it.
    pub fn is_available(self) -> bool {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => super::x86::Avx512::new().is_some(),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => super::x86::Avx2::new().is_some(),
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
            let forced = Self::available().find(|isa| forced.as_deref() == Some(isa.name()));
            forced.or_else(|| Self::available().next()).unwrap_or(Self::Portable)
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

    /// Runs a kernel compiled for this instruction set, or the portable one if the processor lacks
    /// it.
    pub(super) fn run<K: Kernel>(self, kernel: K) -> K::Output {
        #[cfg(target_arch = "x86_64")]
        match self {
            Self::Avx512 => {
                if let Some(vectors) = super::x86::Avx512::new() {
                    return vectors.run(kernel);
                }
            }
            Self::Avx2 => {
                if let Some(vectors) = super::x86::Avx2::new() {
                    return vectors.run(kernel);
                }
            }
            Self::Portable => {}
        }
        kernel.run(Portable)
    }
}

impl fmt::Display for Isa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What is compiled for each instruction set. `run` and all that it calls must be
/// `#[inline(always)]`.
pub(super) trait Kernel {
    /// What comes out.
    type Output;

    /// The work.
    fn run<V: Vectors>(self, v: V) -> Self::Output;
}
