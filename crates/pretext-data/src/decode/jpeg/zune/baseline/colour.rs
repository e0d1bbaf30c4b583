//! Samples to colours: the missing ones interpolated, YCbCr turned into RGB, exactly as `zune-jpeg`
//! does it.

use std::arch::x86_64::*;

/// A row of chroma at full width, made of the nearest one of half the columns and, if there are half
/// the rows, of the next nearest above or below.
///
/// Each new sample is three quarters of the nearest and a quarter of the next (libjpeg's "fancy
/// upsampling"), first down, then across, rounded each time.
#[inline(always)]
pub(super) fn widen(nearest: &[u8], next: Option<&[u8]>, row: &mut [u8], sums: &mut [u16]) {
    // The ends are their own neighbours.
    let [first, middle @ .., last] = sums else { return };
    match next {
        Some(next) => {
            for ((sum, a), b) in middle.iter_mut().zip(nearest).zip(next) {
                *sum = (3 * u16::from(*a) + u16::from(*b) + 2) >> 2;
            }
        }
        None => {
            for (sum, a) in middle.iter_mut().zip(nearest) {
                *sum = u16::from(*a);
            }
        }
    }
    (*first, *last) = (middle[0], middle[middle.len() - 1]);
    let (pairs, _) = row.as_chunks_mut::<2>();
    let neighbours = sums.iter().zip(&sums[1..]).zip(&sums[2..]);
    for (pair, ((before, sum), after)) in pairs.iter_mut().zip(neighbours) {
        let sum = 3 * sum + 2;
        *pair = [((sum + before) >> 2) as u8, ((sum + after) >> 2) as u8];
    }
}

/// A row of pixels (ITU-R BT.601, as JFIF wants it), with 14 bits behind the point.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn to_rgb(y: &[u8], cb: &[u8], cr: &[u8], pixels: &mut [[u8; 3]]) {
    let width = pixels.len();
    let (y, cb, cr) = (&y[..width], &cb[..width], &cr[..width]);
    let mut at = 0;
    while at < width {
        // The last ones are made twice rather than one by one.
        let start = at.min(width.saturating_sub(32));
        let rest = (&y[start..], &cb[start..], &cr[start..]);
        let (Some(y), Some(cb), Some(cr)) =
            (rest.0.first_chunk(), rest.1.first_chunk(), rest.2.first_chunk())
        else {
            return narrow_to_rgb(y, cb, cr, pixels);
        };
        let Some(pixels) = pixels[start..].first_chunk_mut() else { return };
        thirty_two_to_rgb(y, cb, cr, pixels);
        at += 32;
    }
}

/// Fewer pixels than fit into a vector.
fn narrow_to_rgb(y: &[u8], cb: &[u8], cr: &[u8], pixels: &mut [[u8; 3]]) {
    for (((pixel, y), cb), cr) in pixels.iter_mut().zip(y).zip(cb).zip(cr) {
        let (y, cb, cr) = (i32::from(*y), i32::from(*cb) - 128, i32::from(*cr) - 128);
        let rgb = [cr * 22970, cr * -11700 + cb * -5638, cb * 29032];
        *pixel = rgb.map(|colour| (y + ((colour + 8191) >> 14)).clamp(0, 255) as u8);
    }
}

#[inline]
#[target_feature(enable = "avx2")]
fn thirty_two_to_rgb(y: &[u8; 32], cb: &[u8; 32], cr: &[u8; 32], pixels: &mut [[u8; 3]; 32]) {
    let (y, cb, cr) = (halves(load(y)), halves(load(cb)), halves(load(cr)));
    let middle = _mm256_set1_epi16(128);
    let cb = [_mm256_sub_epi16(cb[0], middle), _mm256_sub_epi16(cb[1], middle)];
    let cr = [_mm256_sub_epi16(cr[0], middle), _mm256_sub_epi16(cr[1], middle)];
    let r = _mm256_packus_epi16(near(y[0], cr[0], 22970), near(y[1], cr[1], 22970));
    let g = _mm256_packus_epi16(green(y[0], cb[0], cr[0]), green(y[1], cb[1], cr[1]));
    let b = _mm256_packus_epi16(near(y[0], cb[0], 29032), near(y[1], cb[1], 29032));
    // Byte `i` of each goes to place `3 * i` of 48, and the places of the others are between.
    #[rustfmt::skip]
    let (to_r, to_g, to_b) = (
        twice([0, 11, 6, 1, 12, 7, 2, 13, 8, 3, 14, 9, 4, 15, 10, 5]),
        twice([5, 0, 11, 6, 1, 12, 7, 2, 13, 8, 3, 14, 9, 4, 15, 10]),
        twice([10, 5, 0, 11, 6, 1, 12, 7, 2, 13, 8, 3, 14, 9, 4, 15]),
    );
    let (r, g) = (_mm256_shuffle_epi8(r, to_r), _mm256_shuffle_epi8(g, to_g));
    let b = _mm256_shuffle_epi8(b, to_b);
    let second = twice([0, -1, 0, 0, -1, 0, 0, -1, 0, 0, -1, 0, 0, -1, 0, 0]);
    let third = twice([0, 0, -1, 0, 0, -1, 0, 0, -1, 0, 0, -1, 0, 0, -1, 0]);
    let a = _mm256_blendv_epi8(_mm256_blendv_epi8(r, g, second), b, third);
    let m = _mm256_blendv_epi8(_mm256_blendv_epi8(g, b, second), r, third);
    let z = _mm256_blendv_epi8(_mm256_blendv_epi8(b, r, second), g, third);
    let parts = pixels.as_flattened_mut().as_chunks_mut::<32>().0;
    store(_mm256_permute2x128_si256::<0x20>(a, m), &mut parts[0]);
    store(_mm256_permute2x128_si256::<0x30>(z, a), &mut parts[1]);
    store(_mm256_permute2x128_si256::<0x31>(m, z), &mut parts[2]);
}

/// `y + factor * c / 2^14`, rounded. There is one instruction for it, as no product of a whole number
/// lies in the middle between two.
#[inline]
#[target_feature(enable = "avx2")]
fn near(y: __m256i, c: __m256i, factor: i16) -> __m256i {
    _mm256_add_epi16(y, _mm256_mulhrs_epi16(_mm256_slli_epi16::<1>(c), _mm256_set1_epi16(factor)))
}

#[inline]
#[target_feature(enable = "avx2")]
fn green(y: __m256i, cb: __m256i, cr: __m256i) -> __m256i {
    let factors = _mm256_set1_epi32(-5638 << 16 | -11700 & 0xFFFF);
    let half = _mm256_set1_epi32(8191);
    let low = _mm256_madd_epi16(_mm256_unpacklo_epi16(cr, cb), factors);
    let high = _mm256_madd_epi16(_mm256_unpackhi_epi16(cr, cb), factors);
    let low = _mm256_srai_epi32::<14>(_mm256_add_epi32(low, half));
    let high = _mm256_srai_epi32::<14>(_mm256_add_epi32(high, half));
    _mm256_add_epi16(y, _mm256_packs_epi32(low, high))
}

/// Numbers of 16 bits, in the order that packing them restores.
#[inline]
#[target_feature(enable = "avx2")]
fn halves(bytes: __m256i) -> [__m256i; 2] {
    let zero = _mm256_setzero_si256();
    [_mm256_unpacklo_epi8(bytes, zero), _mm256_unpackhi_epi8(bytes, zero)]
}

#[inline]
#[target_feature(enable = "avx2")]
fn twice(b: [i8; 16]) -> __m256i {
    _mm256_broadcastsi128_si256(_mm_setr_epi8(
        b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7], b[8], b[9], b[10], b[11], b[12], b[13],
        b[14], b[15],
    ))
}

#[inline]
#[target_feature(enable = "avx2")]
fn load(bytes: &[u8; 32]) -> __m256i {
    // SAFETY: the reference points to 32 bytes, and the load asks for no alignment.
    unsafe { _mm256_loadu_si256(std::ptr::from_ref(bytes).cast()) }
}

#[inline]
#[target_feature(enable = "avx2")]
fn store(vector: __m256i, to: &mut [u8; 32]) {
    // SAFETY: the reference points to 32 bytes, and the store asks for no alignment.
    unsafe { _mm256_storeu_si256(std::ptr::from_mut(to).cast(), vector) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_colour_is_rounded_as_defined() {
        if !is_x86_feature_detected!("avx2") {
            return;
        }
        let cr: Vec<u8> = (0..=255).collect();
        for luma in [0, 1, 100, 255] {
            for cb in 0..=255 {
                // In vectors, and fewer than fit into one.
                for part in [0..256, 0..31, 31..60, 200..231, 231..256] {
                    let cr = &cr[part];
                    let mut pixels = vec![[0; 3]; cr.len()];
                    let (y, cb) = (vec![luma; cr.len()], vec![cb; cr.len()]);
                    // SAFETY: the processor has the feature, as seen above.
                    unsafe { to_rgb(&y, &cb, cr, &mut pixels) };
                    for (pixel, cr) in pixels.iter().zip(cr) {
                        let (cb, cr) = (i32::from(cb[0]) - 128, i32::from(*cr) - 128);
                        let sum = 16384 * i32::from(luma) + 8191;
                        let rgb = [22970 * cr, -11700 * cr - 5638 * cb, 29032 * cb];
                        let rgb = rgb.map(|part| ((sum + part) >> 14).clamp(0, 255) as u8);
                        assert_eq!(*pixel, rgb, "{luma} {cb} {cr}");
                    }
                }
            }
        }
    }
}
