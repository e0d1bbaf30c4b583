//! AMX: products of whole tiles of `bf16`, which live in registers of 16 rows of 64 bytes.
//!
//! One instruction multiplies a tile of up to 16 rows of 16 pairs by one of 16 pairs of rows and
//! adds to a tile of 16 x 16 sums of `f32`. Here four tiles of sums, 32 x 32, take a whole sum of
//! products, for which each tile that is loaded is used twice. Rust has no stable intrinsics for
//! them, so it is assembly: everything from the zeros to the stored sums is one block of it.

use std::arch::asm;
use std::arch::x86_64::__cpuid_count;
use std::sync::OnceLock;

/// Rows of a tile, and its pairs or sums in a row.
pub(crate) const TILE: usize = 16;

/// Bytes of a row of 32 pairs or sums.
pub(crate) const ROW: usize = 2 * 4 * TILE;

/// Whether the processor has AMX-BF16 and the system lets this process use it.
///
/// Its registers are large, so that Linux saves them only for processes that have asked; threads
/// that are started later inherit the permission.
pub(crate) fn is_available() -> bool {
    static AVAILABLE: OnceLock<bool> = OnceLock::new();
    *AVAILABLE.get_or_init(|| {
        const BF16_AND_TILES: u32 = 1 << 22 | 1 << 24;
        let leaves = __cpuid_count(0, 0).eax;
        let features = if leaves < 7 { 0 } else { __cpuid_count(7, 0).edx };
        features & BF16_AND_TILES == BF16_AND_TILES && ask()
    })
}

/// Asks the system for the tiles' registers.
#[cfg(target_os = "linux")]
fn ask() -> bool {
    const ARCH_PRCTL: u64 = 158;
    const ARCH_REQ_XCOMP_PERM: u64 = 0x1023;
    const XFEATURE_XTILEDATA: u64 = 18;
    let refused: u64;
    // SAFETY: the call reads and writes no memory; a kernel that does not know it says so.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") ARCH_PRCTL => refused,
            in("rdi") ARCH_REQ_XCOMP_PERM,
            in("rsi") XFEATURE_XTILEDATA,
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack),
        );
    }
    refused == 0
}

#[cfg(not(target_os = "linux"))]
fn ask() -> bool {
    false
}

/// The tiles' sizes, in force on this thread until it is dropped.
pub(crate) struct Tiles {
    /// A thread has its own registers.
    of_thread: std::marker::PhantomData<*const ()>,
}

impl Tiles {
    /// For sums of up to [`TILE`] pairs at a time.
    ///
    /// # Panics
    /// If AMX is not available or there are more pairs: a bug of the calling operator.
    pub(crate) fn configure(pairs: usize) -> Self {
        assert!(is_available() && (1..=TILE).contains(&pairs), "no tiles of {pairs} pairs");
        #[repr(C, align(64))]
        struct Configuration {
            palette: u8,
            start: u8,
            reserved: [u8; 14],
            row_bytes: [u16; 16],
            rows: [u8; 16],
        }
        let mut configuration = Configuration {
            palette: 1,
            start: 0,
            reserved: [0; 14],
            row_bytes: [0; 16],
            rows: [0; 16],
        };
        for tile in 0..8 {
            let (rows, row_bytes) = match tile {
                4 | 5 => (TILE, 4 * pairs),
                6 | 7 => (pairs, 4 * TILE),
                _ => (TILE, 4 * TILE),
            };
            (configuration.rows[tile], configuration.row_bytes[tile]) =
                (rows as u8, row_bytes as u16);
        }
        // SAFETY: AMX is available, and the configuration is one that its first palette allows.
        unsafe {
            asm!(
                "ldtilecfg [{}]", in(reg) &raw const configuration,
                out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                options(nostack, readonly),
            );
        }
        Self { of_thread: std::marker::PhantomData }
    }

    /// `sums = sum over steps and their depth of left right`, 32 rows of 32.
    ///
    /// # Safety
    /// With the walk's offsets, each step's addresses must be readable: on the left 16 rows of the
    /// configured pairs in each of two tiles, on the right so many rows of 32 pairs, `depth` times.
    #[inline(always)]
    pub(crate) unsafe fn multiply(&self, steps: &[Step], walk: &Walk, sums: &mut Sums) {
        if steps.is_empty() {
            sums.0.fill([0.0; 2 * TILE]);
            return;
        }
        let end = steps.as_ptr_range().end;
        // SAFETY: the tiles are configured, for `self` lives and belongs to this thread; the caller
        // vouches for what is read, and the sums are 16 rows 128 bytes apart, four times.
        unsafe {
            asm!(
                "tilezero tmm0",
                "tilezero tmm1",
                "tilezero tmm2",
                "tilezero tmm3",
                "2:",
                "mov {left_a}, [{step}]",
                "mov {left_b}, [{step} + 8]",
                "mov {stride_a}, [{step} + 16]",
                "mov {stride_b}, [{step} + 24]",
                "mov {right}, [{step} + 32]",
                "mov {k}, [{step} + 40]",
                "add {left_a}, [{walk}]",
                "add {left_b}, [{walk}]",
                "add {right}, [{walk} + 8]",
                "3:",
                "tileloadd tmm4, [{left_a} + {stride_a}*1]",
                "tileloadd tmm6, [{right} + {row}*1]",
                "tdpbf16ps tmm0, tmm4, tmm6",
                "tileloadd tmm7, [{right} + {row}*1 + 64]",
                "tdpbf16ps tmm1, tmm4, tmm7",
                "tileloadd tmm5, [{left_b} + {stride_b}*1]",
                "tdpbf16ps tmm2, tmm5, tmm6",
                "tdpbf16ps tmm3, tmm5, tmm7",
                "add {left_a}, [{walk} + 16]",
                "add {left_b}, [{walk} + 16]",
                "add {right}, [{walk} + 24]",
                "dec {k}",
                "jnz 3b",
                "add {step}, {size}",
                "cmp {step}, {end}",
                "jne 2b",
                "tilestored [{sums} + {row}*1], tmm0",
                "tilestored [{sums} + {row}*1 + 64], tmm1",
                "tilestored [{sums} + {row}*1 + 2048], tmm2",
                "tilestored [{sums} + {row}*1 + 2112], tmm3",
                step = inout(reg) steps.as_ptr() => _,
                end = in(reg) end,
                walk = in(reg) walk,
                row = in(reg) ROW,
                sums = in(reg) sums.0.as_mut_ptr(),
                left_a = out(reg) _,
                left_b = out(reg) _,
                stride_a = out(reg) _,
                stride_b = out(reg) _,
                right = out(reg) _,
                k = out(reg) _,
                size = const size_of::<Step>(),
                out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                options(nostack),
            );
        }
    }
}

impl Drop for Tiles {
    fn drop(&mut self) {
        // SAFETY: the tiles are configured. Given back, the system need not save them.
        unsafe {
            asm!(
                "tilerelease",
                out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                options(nomem, nostack),
            );
        }
    }
}

/// A part of a sum of products.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct Step {
    /// The first rows of two tiles.
    pub(crate) left: [*const u8; 2],
    /// Bytes from row to row of each.
    pub(crate) stride: [usize; 2],
    pub(crate) right: *const u8,
    /// Products of tiles, at least 1.
    pub(crate) depth: usize,
}

/// How the addresses of steps move, in bytes.
#[repr(C)]
pub(crate) struct Walk {
    /// What is added to a step's left and right addresses at first.
    pub(crate) offset: [usize; 2],
    /// And after each of its products.
    pub(crate) advance: [usize; 2],
}

/// Sums of 32 rows and columns.
#[repr(C, align(64))]
pub(crate) struct Sums(pub(crate) [[f32; 2 * TILE]; 2 * TILE]);
