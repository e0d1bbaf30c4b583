//! The inverse cosine transform of a block, exactly as `zune-jpeg` rounds it.
//!
//! It is the one of libjpeg's `jidctint`, after Loeffler, Ligtenberg and Moschytz (1989), with 12 bits
//! behind the point.

use std::arch::x86_64::*;

/// Rows of samples of 8 x 8 coefficients, which are multiplied by their factors already.
#[target_feature(enable = "avx2")]
pub(super) fn transform(block: &[i32; 64]) -> [[u8; 8]; 8] {
    let (rows, _) = block.as_chunks::<8>();
    let rows: [__m256i; 8] = [
        load(&rows[0]),
        load(&rows[1]),
        load(&rows[2]),
        load(&rows[3]),
        load(&rows[4]),
        load(&rows[5]),
        load(&rows[6]),
        load(&rows[7]),
    ];
    let columns = transposed(pass::<10>(rows, 512));
    bytes(pass::<17>(columns, 512 + (1 << 16) + (128 << 17)))
}

#[inline]
#[target_feature(enable = "avx2")]
fn load(row: &[i32; 8]) -> __m256i {
    // SAFETY: the reference points to 32 bytes, and the load asks for no alignment.
    unsafe { _mm256_loadu_si256(std::ptr::from_ref(row).cast()) }
}

/// One dimension of it, eight times side by side.
#[inline]
#[target_feature(enable = "avx2")]
fn pass<const SHIFT: i32>(s: [__m256i; 8], rounding: i32) -> [__m256i; 8] {
    let rounding = _mm256_set1_epi32(rounding);
    // Even half.
    let p1 = times(add(s[2], s[6]), 2217);
    let t2 = add(p1, times(s[6], -7567));
    let t3 = add(p1, times(s[2], 3135));
    let t0 = add(_mm256_slli_epi32::<12>(add(s[0], s[4])), rounding);
    let t1 = add(_mm256_slli_epi32::<12>(sub(s[0], s[4])), rounding);
    let (x0, x3) = (add(t0, t3), sub(t0, t3));
    let (x1, x2) = (add(t1, t2), sub(t1, t2));
    // Odd half.
    let p3 = add(s[7], s[3]);
    let p4 = add(s[5], s[1]);
    let p5 = times(add(p3, p4), 4816);
    let p1 = add(p5, times(add(s[7], s[1]), -3685));
    let p2 = add(p5, times(add(s[5], s[3]), -10497));
    let p3 = times(p3, -8034);
    let p4 = times(p4, -1597);
    let t3 = add(times(s[1], 6149), add(p1, p4));
    let t2 = add(times(s[3], 12586), add(p2, p3));
    let t1 = add(times(s[5], 8410), add(p2, p4));
    let t0 = add(times(s[7], 1223), add(p1, p3));
    [
        _mm256_srai_epi32::<SHIFT>(add(x0, t3)),
        _mm256_srai_epi32::<SHIFT>(add(x1, t2)),
        _mm256_srai_epi32::<SHIFT>(add(x2, t1)),
        _mm256_srai_epi32::<SHIFT>(add(x3, t0)),
        _mm256_srai_epi32::<SHIFT>(sub(x3, t0)),
        _mm256_srai_epi32::<SHIFT>(sub(x2, t1)),
        _mm256_srai_epi32::<SHIFT>(sub(x1, t2)),
        _mm256_srai_epi32::<SHIFT>(sub(x0, t3)),
    ]
}

#[inline]
#[target_feature(enable = "avx2")]
fn add(a: __m256i, b: __m256i) -> __m256i {
    _mm256_add_epi32(a, b)
}

#[inline]
#[target_feature(enable = "avx2")]
fn sub(a: __m256i, b: __m256i) -> __m256i {
    _mm256_sub_epi32(a, b)
}

#[inline]
#[target_feature(enable = "avx2")]
fn times(a: __m256i, factor: i32) -> __m256i {
    _mm256_mullo_epi32(a, _mm256_set1_epi32(factor))
}

#[inline]
#[target_feature(enable = "avx2")]
fn transposed(r: [__m256i; 8]) -> [__m256i; 8] {
    let (a0, a1) = (_mm256_unpacklo_epi32(r[0], r[1]), _mm256_unpackhi_epi32(r[0], r[1]));
    let (a2, a3) = (_mm256_unpacklo_epi32(r[2], r[3]), _mm256_unpackhi_epi32(r[2], r[3]));
    let (a4, a5) = (_mm256_unpacklo_epi32(r[4], r[5]), _mm256_unpackhi_epi32(r[4], r[5]));
    let (a6, a7) = (_mm256_unpacklo_epi32(r[6], r[7]), _mm256_unpackhi_epi32(r[6], r[7]));
    let (b0, b1) = (_mm256_unpacklo_epi64(a0, a2), _mm256_unpackhi_epi64(a0, a2));
    let (b2, b3) = (_mm256_unpacklo_epi64(a1, a3), _mm256_unpackhi_epi64(a1, a3));
    let (b4, b5) = (_mm256_unpacklo_epi64(a4, a6), _mm256_unpackhi_epi64(a4, a6));
    let (b6, b7) = (_mm256_unpacklo_epi64(a5, a7), _mm256_unpackhi_epi64(a5, a7));
    [
        _mm256_permute2x128_si256::<0x20>(b0, b4),
        _mm256_permute2x128_si256::<0x20>(b1, b5),
        _mm256_permute2x128_si256::<0x20>(b2, b6),
        _mm256_permute2x128_si256::<0x20>(b3, b7),
        _mm256_permute2x128_si256::<0x31>(b0, b4),
        _mm256_permute2x128_si256::<0x31>(b1, b5),
        _mm256_permute2x128_si256::<0x31>(b2, b6),
        _mm256_permute2x128_si256::<0x31>(b3, b7),
    ]
}

/// Columns of numbers to rows of bytes; what is below 0 or above 255 becomes that.
#[inline]
#[target_feature(enable = "avx2")]
fn bytes(c: [__m256i; 8]) -> [[u8; 8]; 8] {
    let even = _mm256_packus_epi16(_mm256_packs_epi32(c[0], c[4]), _mm256_packs_epi32(c[2], c[6]));
    let odd = _mm256_packus_epi16(_mm256_packs_epi32(c[1], c[5]), _mm256_packs_epi32(c[3], c[7]));
    // Columns 0, 1, 4, 5 and 2, 3, 6, 7 of rows 0 to 3, and of 4 to 7 in the upper half.
    let (low, high) = (_mm256_unpacklo_epi8(even, odd), _mm256_unpackhi_epi8(even, odd));
    let (left, right) = (_mm256_unpacklo_epi16(low, high), _mm256_unpackhi_epi16(low, high));
    let first = eight_bytes(_mm256_unpacklo_epi32(left, right));
    let second = eight_bytes(_mm256_unpackhi_epi32(left, right));
    let ([r0, r1, r4, r5], [r2, r3, r6, r7]) = (first, second);
    [r0, r1, r2, r3, r4, r5, r6, r7]
}

#[inline]
#[target_feature(enable = "avx2")]
fn eight_bytes(v: __m256i) -> [[u8; 8]; 4] {
    [
        _mm256_extract_epi64::<0>(v).to_le_bytes(),
        _mm256_extract_epi64::<1>(v).to_le_bytes(),
        _mm256_extract_epi64::<2>(v).to_le_bytes(),
        _mm256_extract_epi64::<3>(v).to_le_bytes(),
    ]
}
