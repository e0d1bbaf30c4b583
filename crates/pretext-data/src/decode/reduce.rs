//! Reducing a picture by a whole factor: the mean of each square of pixels.

use crate::Picture;

/// The factors, the largest first: those that JPEG decoders can do on the way.
const FACTORS: [u32; 3] = [8, 4, 2];

/// How far a picture may be reduced so that its shorter side stays at least `shortest_side`.
pub(super) fn factor(width: u32, height: u32, shortest_side: Option<u32>) -> u32 {
    let Some(least) = shortest_side else { return 1 };
    let shorter = width.min(height);
    FACTORS.into_iter().find(|factor| shorter / factor >= least.max(1)).unwrap_or(1)
}

/// The bytes of a picture of these sides when it is reduced, whichever way round it stands.
pub(crate) fn bytes(width: u32, height: u32, shortest_side: Option<u32>) -> u64 {
    let factor = factor(width, height, shortest_side);
    3 * u64::from(width.div_ceil(factor)) * u64::from(height.div_ceil(factor))
}

/// The mean of each square of `factor` pixels, rounded; at the right and lower edge, of what is
/// there. A side of `n` pixels becomes `n / factor`, rounded up.
pub(crate) fn reduce(picture: Picture, shortest_side: Option<u32>) -> Picture {
    let factor = factor(picture.width, picture.height, shortest_side);
    if factor == 1 {
        return picture;
    }
    let (width, height) = (picture.width.div_ceil(factor), picture.height.div_ceil(factor));
    let (row, factor) = (3 * picture.width as usize, factor as usize);
    let mut pixels = Vec::with_capacity(3 * width as usize * height as usize);
    // Down first, over whole rows, then across: at most 8 values of 255 fit easily.
    let mut sums = vec![0_u16; row];
    for rows in picture.pixels.chunks(row * factor) {
        sums.fill(0);
        for row in rows.chunks_exact(row) {
            for (sum, value) in sums.iter_mut().zip(row) {
                *sum += u16::from(*value);
            }
        }
        let high = rows.len() / row;
        for square in sums.chunks(3 * factor) {
            let count = (high * square.len() / 3) as u32;
            let mut total = [0_u32; 3];
            for pixel in square.chunks_exact(3) {
                for (total, value) in total.iter_mut().zip(pixel) {
                    *total += u32::from(*value);
                }
            }
            pixels.extend(total.map(|total| ((total + count / 2) / count) as u8));
        }
    }
    Picture { width, height, pixels: pixels.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shorter_side_stays_long_enough() {
        for (width, height, least, expected) in [
            (2000, 1500, Some(128), 8),
            (2000, 1500, Some(188), 4),
            (1500, 2000, Some(400), 2),
            (1500, 2000, Some(751), 1),
            (213, 160, Some(80), 2),
            (7, 7, Some(0), 4),
            (1, 1, Some(0), 1),
            (2000, 1500, None, 1),
        ] {
            assert_eq!(factor(width, height, least), expected, "{width} x {height}, {least:?}");
        }
    }

    #[test]
    fn each_pixel_is_the_mean_of_a_square() {
        // 5 x 3 pixels: the last column and row are halves of squares.
        let pixels: Vec<u8> = (0..15).flat_map(|i| [i * 10, 255 - i, 7]).collect();
        let reduced = reduce(Picture { width: 5, height: 3, pixels: pixels.into() }, Some(1));
        assert_eq!((reduced.width, reduced.height), (3, 2));
        let red: Vec<u8> = reduced.pixels.chunks_exact(3).map(|pixel| pixel[0]).collect();
        assert_eq!(red, [30, 50, 65, 105, 125, 140]);
        assert!(reduced.pixels.chunks_exact(3).all(|pixel| pixel[2] == 7));
    }
}
