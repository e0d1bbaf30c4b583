//! Numbers that lie apart, brought side by side.

use pulp::Simd;

/// Numbers that are brought together at once.
pub(super) const COUNT: usize = 16;

/// `to[i] = from[i stride]`, for up to [`COUNT`] numbers.
///
/// # Panics
/// If there are fewer numbers: a bug of the calling operator.
#[inline(always)]
pub(super) fn gather<S: Simd>(from: &[f32], stride: usize, to: &mut [f32]) {
    #[cfg(target_arch = "x86_64")]
    if S::F32_LANES == COUNT && to.len() == COUNT {
        let last = (COUNT - 1) * stride;
        assert!(last < from.len(), "numbers that are not there");
        if i32::try_from(last).is_ok() {
            // SAFETY: only AVX-512 has so many lanes; the last of the numbers is there.
            unsafe { gather_avx512(from.as_ptr(), stride as i32, to.as_mut_ptr()) };
            return;
        }
    }
    for (i, to) in to.iter_mut().enumerate() {
        *to = from[i * stride];
    }
}

/// # Safety
/// There are sixteen numbers `stride` apart behind `from`, whose last place fits an `i32`, and room
/// for them behind `to`.
#[cfg(target_arch = "x86_64")]
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn gather_avx512(from: *const f32, stride: i32, to: *mut f32) {
    use std::arch::x86_64::*;

    let counted = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    let places = _mm512_mullo_epi32(counted, _mm512_set1_epi32(stride));
    // SAFETY: the caller vouches for both.
    unsafe { _mm512_storeu_ps(to, _mm512_i32gather_ps::<4>(places, from)) };
}
