//! Letters of 5 by 9 pixels, drawn in `font.txt`, for the labels.

use image::{Rgb, RgbImage};

/// Bands of a line of characters and nine lines of their pixels, each character six columns wide.
const LETTERS: &str = include_str!("font.txt");
const INK: Rgb<u8> = Rgb([40; 3]);
/// Pixels of the picture for one of the letter.
const SCALE: u32 = 2;

/// Writes a text whose left and top are at `(x, y)`. What there is no letter for stays blank, and
/// what lies outside of the picture is not written.
pub(super) fn write(picture: &mut RgbImage, text: &str, x: u32, y: u32) {
    for (left, letter) in (x..).step_by(6 * SCALE as usize).zip(text.chars()) {
        for (column, row) in pixels(letter) {
            for at in 0..SCALE * SCALE {
                let x = left + column * SCALE + at % SCALE;
                let y = y + row * SCALE + at / SCALE;
                if let Some(pixel) = picture.get_pixel_mut_checked(x, y) {
                    *pixel = INK;
                }
            }
        }
    }
}

/// The columns and rows of a letter's pixels.
fn pixels(letter: char) -> Vec<(u32, u32)> {
    let lines: Vec<&str> = LETTERS.lines().collect();
    for band in lines.chunks_exact(10) {
        if let Some(start) = band[0].find(letter).filter(|_| letter != ' ') {
            let columns = |line: &str| -> Vec<u32> {
                let own = line.chars().skip(start).take(5);
                (0..)
                    .zip(own)
                    .filter(|(_, pixel)| *pixel == '#')
                    .map(|(column, _)| column)
                    .collect()
            };
            let rows = (0..).zip(&band[1..]);
            return rows
                .flat_map(|(y, line)| columns(line).into_iter().map(move |x| (x, y)))
                .collect();
        }
    }
    vec![]
}
