//! Changes brightness, contrast, saturation or hue, as torchvision does on bytes.
//!
//! # Specification
//!
//! All is `f32`, in the order written here, without fused multiply-adds. A result is cut off at 0 and
//! 255 and rounded down; a NaN counts as 0. Luma is `0.2989 R + 0.587 G + 0.114 B`, added from left to
//! right and rounded down; the mean luma is the exact sum of it over the image by the number of
//! pixels, in `f64`, then `f32`.
//!
//! - Brightness: `value * factor`.
//! - Contrast: `factor * value + (1 - factor) * mean luma`.
//! - Saturation: `factor * value + (1 - factor) * luma`.
//! - Hue: each value by 255; then hue, saturation and value, the shift added to the hue, and back, as
//!   `turned` has it; then times 255.999. A grey pixel stays.

use crate::Image;

/// One change of colour. A factor of 1, or a hue shift of 0, changes nothing.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Colour {
    /// Every value times the factor, from 0.
    Brightness(f32),
    /// Away from (above 1) or towards (below 1) the image's mean luma.
    Contrast(f32),
    /// Away from or towards each pixel's own luma.
    Saturation(f32),
    /// Around the colour circle by this share of a turn, `-0.5..=0.5`.
    Hue(f32),
}

impl Colour {
    /// Carries the operation out. Results are cut off at 0 and 255 and rounded down, as
    /// torchvision's are.
    pub fn apply(&self, mut image: Image) -> Image {
        match *self {
            Self::Brightness(factor) => {
                each(&mut image, |pixel| pixel.map(|value| byte(f32::from(value) * factor)))
            }
            Self::Contrast(factor) => {
                let mean = mean_luma(&image);
                each(&mut image, |pixel| pixel.map(|value| blend(value, mean, factor)));
            }
            Self::Saturation(factor) => each(&mut image, |pixel| {
                let grey = floor_luma(pixel);
                pixel.map(|value| blend(value, grey, factor))
            }),
            Self::Hue(shift) => each(&mut image, |pixel| turned(pixel, shift)),
        }
        image
    }
}

fn each(image: &mut Image, f: impl Fn([u8; 3]) -> [u8; 3]) {
    let (pixels, _) = image.pixels_mut().as_chunks_mut::<3>();
    for pixel in pixels {
        *pixel = f(*pixel);
    }
}

/// Cut off and rounded down. A NaN, which no finite factor makes, counts as 0.
fn byte(value: f32) -> u8 {
    value as u8
}

fn blend(value: u8, other: f32, factor: f32) -> u8 {
    byte(factor * f32::from(value) + (1.0 - factor) * other)
}

/// torchvision's luma of a pixel, rounded down.
fn floor_luma([red, green, blue]: [u8; 3]) -> f32 {
    (0.2989 * f32::from(red) + 0.587 * f32::from(green) + 0.114 * f32::from(blue)).floor()
}

fn mean_luma(image: &Image) -> f32 {
    let (pixels, _) = image.pixels().as_chunks::<3>();
    let sum: u64 = pixels.iter().map(|&pixel| floor_luma(pixel) as u64).sum();
    (sum as f64 / image.size().area() as f64) as f32
}

/// The pixel with its hue turned, by way of hue, saturation and value.
fn turned(pixel: [u8; 3], shift: f32) -> [u8; 3] {
    let [red, green, blue] = pixel.map(|value| f32::from(value) / 255.0);
    let most = red.max(green).max(blue);
    let range = most - red.min(green).min(blue);
    if range == 0.0 {
        return pixel;
    }
    let sixths = if most == red {
        (green - blue) / range
    } else if most == green {
        2.0 + (blue - red) / range
    } else {
        4.0 + (red - green) / range
    };
    let hue = (sixths / 6.0 + shift).rem_euclid(1.0) * 6.0;
    let saturation = range / most;
    let part = hue - hue.floor();
    let p = most * (1.0 - saturation);
    let q = most * (1.0 - saturation * part);
    let t = most * (1.0 - saturation * (1.0 - part));
    let unit = match hue as u32 % 6 {
        0 => [most, t, p],
        1 => [q, most, p],
        2 => [p, most, t],
        3 => [p, q, most],
        4 => [t, p, most],
        _ => [most, p, q],
    };
    // torchvision's way back to bytes: 256 equal steps.
    unit.map(|value| byte(value * 255.999))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Size;

    #[track_caller]
    fn check(colour: Colour, pixel: [u8; 3], want: [u8; 3]) {
        let image = Image::filled(Size::square(2), pixel);
        assert_eq!(colour.apply(image).pixel(1, 1), want);
    }

    #[test]
    fn at_hand_computed_points() {
        check(Colour::Brightness(0.5), [100, 201, 3], [50, 100, 1]);
        check(Colour::Brightness(2.0), [100, 201, 3], [200, 255, 6]);
        check(Colour::Saturation(0.0), [100, 200, 50], [152, 152, 152]);
        check(Colour::Contrast(0.0), [100, 200, 50], [152, 152, 152]);
        check(Colour::Hue(1.0 / 3.0), [255, 0, 0], [0, 255, 0]);
        check(Colour::Hue(-1.0 / 3.0), [255, 0, 0], [0, 0, 255]);
        check(Colour::Hue(0.5), [9, 9, 9], [9, 9, 9]);
    }
}
