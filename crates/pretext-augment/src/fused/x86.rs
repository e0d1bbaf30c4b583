//! Vectors of AVX2, which AVX-512 processors take for whole numbers too; and the only `unsafe` code
//! of this crate.
#![allow(unsafe_code)]

use std::arch::is_x86_feature_detected as detected;
use std::arch::x86_64::*;

// No closures around vectors in here, nor in any kernel: a closure is compiled by itself, without the
// instructions, and would call a function for each of them.
use super::isa::Kernel;
use super::vectors::{LANES, Vectors};

/// Proof that the processor has AVX2 and FMA.
#[derive(Clone, Copy)]
pub(super) struct Avx2(());

/// Proof that it has AVX-512 (F, BW, CD, DQ and VL) too.
#[derive(Clone, Copy)]
pub(super) struct Avx512(Avx2);

impl Avx2 {
    /// If the processor has it.
    pub(super) fn new() -> Option<Self> {
        let all = detected!("avx2") && detected!("fma") && detected!("bmi1") && detected!("bmi2");
        all.then_some(Self(()))
    }

    /// Runs a kernel compiled for this instruction set.
    pub(super) fn run<K: Kernel>(self, kernel: K) -> K::Output {
        #[target_feature(enable = "avx2,fma,bmi1,bmi2")]
        fn compiled<K: Kernel>(v: Avx2, kernel: K) -> K::Output {
            kernel.run(v)
        }
        // SAFETY: `self` is proof that the processor has the features.
        unsafe { compiled(self, kernel) }
    }
}

impl Avx512 {
    /// If the processor has AVX-512 too.
    pub(super) fn new() -> Option<Self> {
        let all = detected!("avx512f")
            && detected!("avx512bw")
            && detected!("avx512cd")
            && detected!("avx512dq")
            && detected!("avx512vl");
        Avx2::new().filter(|_| all).map(Self)
    }

    /// Runs a kernel compiled for this instruction set.
    pub(super) fn run<K: Kernel>(self, kernel: K) -> K::Output {
        #[target_feature(enable = "avx512f,avx512bw,avx512cd,avx512dq,avx512vl")]
        #[target_feature(enable = "avx2,fma,bmi1,bmi2")]
        fn compiled<K: Kernel>(v: Avx2, kernel: K) -> K::Output {
            kernel.run(v)
        }
        // SAFETY: `self` is proof that the processor has the features.
        unsafe { compiled(self.0, kernel) }
    }
}

/// Calls an intrinsic of AVX2 or of an older set.
macro_rules! avx2 {
    ($call:expr) => {
        // SAFETY: `Avx2` is proof that the processor has the features; the intrinsics that are
        // called by this macro touch no memory.
        unsafe { $call }
    };
}

impl Avx2 {
    /// 16 bytes from memory.
    #[inline(always)]
    fn load_half<T: Copy, const N: usize>(self, from: &[T; N]) -> __m128i {
        const { assert!(size_of::<T>() * N == 16) };
        // SAFETY: the reference points to 16 bytes, and the load asks for no alignment.
        unsafe { _mm_loadu_si128(std::ptr::from_ref(from).cast()) }
    }

    /// 16 bytes to memory.
    #[inline(always)]
    fn store_half(self, half: __m128i, to: &mut [u8; LANES]) {
        // SAFETY: the reference points to 16 bytes, and the store asks for no alignment.
        unsafe { _mm_storeu_si128(std::ptr::from_mut(to).cast(), half) }
    }
}

impl Vectors for Avx2 {
    const NATIVE: bool = true;

    type Words = __m256i;
    type Sums = [__m256i; 2];

    #[inline(always)]
    fn words(self, words: &[i16; LANES]) -> __m256i {
        // SAFETY: the reference points to 32 bytes, and the load asks for no alignment.
        unsafe { _mm256_loadu_si256(std::ptr::from_ref(words).cast()) }
    }

    #[inline(always)]
    fn store(self, words: __m256i, to: &mut [i16; LANES]) {
        // SAFETY: the reference points to 32 bytes, and the store asks for no alignment.
        unsafe { _mm256_storeu_si256(std::ptr::from_mut(to).cast(), words) }
    }

    #[inline(always)]
    fn bytes(self, bytes: &[u8; LANES]) -> __m256i {
        avx2!(_mm256_cvtepu8_epi16(self.load_half(bytes)))
    }

    #[inline(always)]
    fn store_bytes(self, words: __m256i, to: &mut [u8; LANES]) {
        let half = avx2!(_mm_packus_epi16(
            _mm256_castsi256_si128(words),
            _mm256_extracti128_si256::<1>(words)
        ));
        self.store_half(half, to);
    }

    #[inline(always)]
    fn add(self, a: __m256i, b: __m256i) -> __m256i {
        avx2!(_mm256_add_epi16(a, b))
    }

    #[inline(always)]
    fn pair(self, [first, second]: [i16; 2]) -> __m256i {
        avx2!(_mm256_set1_epi32(i32::from(first as u16) | i32::from(second) << 16))
    }

    #[inline(always)]
    fn sums(self, start: i32) -> [__m256i; 2] {
        [avx2!(_mm256_set1_epi32(start)); 2]
    }

    #[inline(always)]
    fn multiply_add(
        self,
        [low, high]: [__m256i; 2],
        a: __m256i,
        b: __m256i,
        weights: __m256i,
    ) -> [__m256i; 2] {
        avx2!([
            _mm256_add_epi32(low, _mm256_madd_epi16(_mm256_unpacklo_epi16(a, b), weights)),
            _mm256_add_epi32(high, _mm256_madd_epi16(_mm256_unpackhi_epi16(a, b), weights)),
        ])
    }

    #[inline(always)]
    fn narrow<const SHIFT: i32>(self, [low, high]: [__m256i; 2]) -> __m256i {
        // The halves of each lane were unpacked by `multiply_add`; packing puts them back.
        avx2!(_mm256_packs_epi32(_mm256_srai_epi32::<SHIFT>(low), _mm256_srai_epi32::<SHIFT>(high)))
    }

    #[inline(always)]
    fn transpose(self, from: &[[i16; LANES]; LANES], to: &mut [[i16; LANES]; LANES]) {
        for half in 0..2 {
            // Row `y` in the lower lane, row `y + 8` in the upper one.
            let mut rows = [avx2!(_mm256_setzero_si256()); 8];
            for (y, row) in rows.iter_mut().enumerate() {
                let low = self.load_half(&from[y].as_chunks::<8>().0[half]);
                let high = self.load_half(&from[y + 8].as_chunks::<8>().0[half]);
                *row = avx2!(_mm256_set_m128i(high, low));
            }
            // Three perfect shuffles of 8 rows of 8 are a transposition.
            for _ in 0..3 {
                let from = rows;
                for i in 0..4 {
                    rows[2 * i] = avx2!(_mm256_unpacklo_epi16(from[i], from[i + 4]));
                    rows[2 * i + 1] = avx2!(_mm256_unpackhi_epi16(from[i], from[i + 4]));
                }
            }
            for i in 0..8 {
                self.store(rows[i], &mut to[8 * half + i]);
            }
        }
    }

    #[inline(always)]
    fn transpose_bytes(self, columns: &[__m256i; LANES]) -> [[u8; LANES]; LANES] {
        // Two columns in each, rows 0 to 7 in the lower lane and 8 to 15 in the upper one.
        let mut parts = [avx2!(_mm256_setzero_si256()); 8];
        for i in 0..8 {
            parts[i] = avx2!(_mm256_packus_epi16(columns[2 * i], columns[2 * i + 1]));
        }
        for _ in 0..4 {
            let from = parts;
            for i in 0..4 {
                parts[2 * i] = avx2!(_mm256_unpacklo_epi8(from[i], from[i + 4]));
                parts[2 * i + 1] = avx2!(_mm256_unpackhi_epi8(from[i], from[i + 4]));
            }
        }
        let mut rows = [[0; LANES]; LANES];
        for y in 0..8 {
            self.store_half(avx2!(_mm256_castsi256_si128(parts[y])), &mut rows[y]);
            self.store_half(avx2!(_mm256_extracti128_si256::<1>(parts[y])), &mut rows[y + 8]);
        }
        rows
    }

    #[inline(always)]
    fn stream<T: Copy>(self, from: &[T], to: &mut [T]) {
        assert_eq!(from.len(), to.len());
        let whole = to.as_ptr().cast::<__m256i>().is_aligned()
            && size_of_val(to).is_multiple_of(size_of::<__m256i>());
        if !whole {
            to.copy_from_slice(from);
            return;
        }
        let (from, to, bytes) = (from.as_ptr(), to.as_mut_ptr(), size_of_val(to));
        for i in 0..bytes / size_of::<__m256i>() {
            // SAFETY: both slices hold so many whole vectors, and `to` is aligned for them. `T` is
            // copied bit by bit; nobody reads it before the fence.
            unsafe {
                let vector = _mm256_loadu_si256(from.cast::<__m256i>().add(i));
                _mm256_stream_si256(to.cast::<__m256i>().add(i), vector);
            }
        }
    }

    #[inline(always)]
    fn fence(self) {
        avx2!(_mm_sfence());
    }
}
