//! Rows of pictures turned so that the pictures' numbers lie side by side, 32 of them at a time.

use std::arch::x86_64::*;

use half::bf16;

use crate::amx::TILE;

/// Numbers of each row that are copied together first: rows may lie so far apart that they drive
/// each other out of the cache.
const AHEAD: usize = 128;

/// Numbers of a row that are turned at a time.
const STEP: usize = 8;

/// Turns up to 32 rows of equal lengths: `to[i][j]` are the `i`th numbers of rows `2 j` and
/// `2 j + 1`, zeros where there are none, for `j < pairs`.
///
/// # Panics
/// If the processor lacks AVX-512, there are more rows than the pairs take, or `to` has not so many
/// numbers: a bug of the calling operator.
pub(super) fn transpose<'a>(
    rows: impl ExactSizeIterator<Item = &'a [bf16]> + Clone,
    to: &mut [u32],
    pairs: usize,
) {
    let length = rows.clone().next().map_or(0, <[bf16]>::len);
    assert!(pulp::x86::V4::is_available(), "there is no AVX-512");
    assert!(
        pairs <= TILE && rows.len() <= 2 * pairs && to.len() == length * pairs,
        "rows that do not fit"
    );
    let mut copies = [[bf16::ZERO; AHEAD]; 2 * TILE];
    for first in (0..length).step_by(AHEAD) {
        let count = AHEAD.min(length - first);
        for (copy, row) in copies.iter_mut().zip(rows.clone()) {
            if count == AHEAD {
                copy.copy_from_slice(&row[first..first + AHEAD]);
            } else {
                copy[..count].copy_from_slice(&row[first..]);
            }
        }
        for i in (0..count).step_by(STEP) {
            let to = &mut to[(first + i) * pairs..];
            // SAFETY: the processor has AVX-512.
            unsafe { turn(&copies, i, to, pairs) };
        }
    }
}

/// Turns the numbers from `first` on, [`STEP`] of them or as many as there is room for.
#[target_feature(enable = "avx512f,avx512bw")]
fn turn(rows: &[[bf16; AHEAD]; 2 * TILE], first: usize, to: &mut [u32], pairs: usize) {
    // Four rows, eight apart, in the four quarters of a vector: what is done within the quarters
    // then leaves the pairs in order.
    let load = |row: usize| {
        // SAFETY: eight numbers, 128 bits, from `first` on lie within each row.
        let quarter = |i: usize| unsafe {
            _mm_loadu_si128(rows[row + 8 * i][first..first + STEP].as_ptr().cast())
        };
        let vector = _mm512_castsi128_si512(quarter(0));
        let vector = _mm512_inserti32x4::<1>(vector, quarter(1));
        let vector = _mm512_inserti32x4::<2>(vector, quarter(2));
        _mm512_inserti32x4::<3>(vector, quarter(3))
    };
    let (mut low, mut high) = ([_mm512_setzero_si512(); 4], [_mm512_setzero_si512(); 4]);
    for i in 0..4 {
        let (a, b) = (load(2 * i), load(2 * i + 1));
        low[i] = _mm512_unpacklo_epi16(a, b);
        high[i] = _mm512_unpackhi_epi16(a, b);
    }
    let mask = ((1_u32 << pairs) - 1) as __mmask16;
    for (half, [a, b, c, d]) in [low, high].into_iter().enumerate() {
        let (ab, cd) = (_mm512_unpacklo_epi32(a, b), _mm512_unpacklo_epi32(c, d));
        let (ab_high, cd_high) = (_mm512_unpackhi_epi32(a, b), _mm512_unpackhi_epi32(c, d));
        let turned = [
            _mm512_unpacklo_epi64(ab, cd),
            _mm512_unpackhi_epi64(ab, cd),
            _mm512_unpacklo_epi64(ab_high, cd_high),
            _mm512_unpackhi_epi64(ab_high, cd_high),
        ];
        for (i, vector) in turned.into_iter().enumerate() {
            if let Some(to) = to.get_mut((4 * half + i) * pairs..(4 * half + i + 1) * pairs) {
                // SAFETY: there is room for the numbers that the mask lets through.
                unsafe { _mm512_mask_storeu_epi32(to.as_mut_ptr().cast(), mask, vector) };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_become_columns() {
        if !pulp::x86::V4::is_available() {
            return;
        }
        for (count, pairs, length) in
            [(32, 16, 300), (31, 16, 8), (5, 3, 130), (1, 1, 1), (4, 16, 77)]
        {
            let number = |row: usize, i: usize| bf16::from_bits((row * 1000 + i + 1) as u16);
            let rows: Vec<Vec<bf16>> =
                (0..count).map(|row| (0..length).map(|i| number(row, i)).collect()).collect();
            let mut to = vec![u32::MAX; length * pairs];
            transpose(rows.iter().map(Vec::as_slice), &mut to, pairs);
            let bits =
                |row: usize, i: usize| rows.get(row).map_or(0, |row| u32::from(row[i].to_bits()));
            for (at, &pair) in to.iter().enumerate() {
                let (i, j) = (at / pairs, at % pairs);
                assert_eq!(pair, bits(2 * j, i) | bits(2 * j + 1, i) << 16, "{count}: {i}, {j}");
            }
        }
    }
}
