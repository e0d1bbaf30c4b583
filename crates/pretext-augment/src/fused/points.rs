//! Operations that look at one pixel alone, as many as follow one another in one go: the arithmetic
//! of `ops/colour.rs`, `ops/grey.rs` and `ops/solarise.rs` in vectors of floats.
//!
//! Between two operations values are whole numbers in `0..=255`, which `f32` holds exactly. Nothing is
//! computed in another order or another precision than in the plain versions, so that the bytes are
//! the same.

use super::isa::Kernel;
use super::planes::{Planes, SLACK};
use super::vectors::Vectors;
use crate::Op;
use crate::ops::Colour;

/// Pixels that go through all operations together; they stay in the nearest cache.
const CHUNK: usize = 64;
const _: () = assert!(SLACK >= CHUNK, "the last chunk reaches beyond the planes");

type Values = [f32; CHUNK];

/// Whether an operation looks at one pixel alone (and at most at the picture's mean luma).
pub(super) fn is_point(op: &Op) -> bool {
    matches!(op, Op::Colour(_) | Op::Grey(_) | Op::Solarise(_))
}

/// Carries out operations of one pixel, first to last.
pub(super) struct Points<'a> {
    pub(super) ops: &'a [Op],
    pub(super) planes: &'a mut Planes,
}

impl Kernel for Points<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vectors>(self, v: V) {
        let Self { ops, planes } = self;
        let needs_mean = |op: &Op| matches!(op, Op::Colour(Colour::Contrast(_)));
        let area = planes.size.area() as f64;
        let mut mean = 0.0;
        if ops.first().is_some_and(needs_mean) {
            mean = (segment(v, &[], mean, true, planes) as f64 / area) as f32;
        }
        let mut rest = ops;
        while !rest.is_empty() {
            // Up to the next operation that must have seen all of the picture.
            let end = rest[1..].iter().position(needs_mean).map_or(rest.len(), |i| i + 1);
            let (now, later) = rest.split_at(end);
            let sum = segment(v, now, mean, !later.is_empty(), planes);
            mean = (sum as f64 / area) as f32;
            rest = later;
        }
    }
}

/// Operations that share one mean luma; returns the sum of the luma after them if that is wanted.
#[inline(always)]
fn segment<V: Vectors>(v: V, ops: &[Op], mean: f32, luma: bool, planes: &mut Planes) -> u64 {
    let len = planes.len();
    let end = len.next_multiple_of(CHUNK);
    let [red, green, blue] =
        planes.channels.each_mut().map(|plane| plane[..end].as_chunks_mut::<CHUNK>().0);
    let (mut total, mut left) = (0, len);
    let mut values = [[0.0; CHUNK]; 3];
    for ((r, g), b) in red.iter_mut().zip(green).zip(blue) {
        for i in 0..CHUNK {
            values[0][i] = f32::from(r[i]);
            values[1][i] = f32::from(g[i]);
            values[2][i] = f32::from(b[i]);
        }
        for op in ops {
            point(v, op, mean, &mut values);
        }
        if !ops.is_empty() {
            for (bytes, values) in [r, g, b].into_iter().zip(&values) {
                for (byte, &value) in bytes.iter_mut().zip(values) {
                    *byte = to_byte(value);
                }
            }
        }
        if luma {
            total += luma_sum(v, &values, left.min(CHUNK));
        }
        left = left.saturating_sub(CHUNK);
    }
    total
}

/// The sum of torchvision's luma, rounded down, of the first pixels.
#[inline(always)]
fn luma_sum<V: Vectors>(v: V, [red, green, blue]: &[Values; 3], count: usize) -> u64 {
    let mut lumas = [0; CHUNK];
    for i in 0..CHUNK {
        lumas[i] = (floor_luma(v, red[i], green[i], blue[i]) + WHOLE).to_bits() & 0xff;
    }
    let mut sum = 0_u32;
    if count == CHUNK {
        for luma in lumas {
            sum += luma;
        }
    } else {
        for &luma in &lumas[..count] {
            sum += luma;
        }
    }
    sum.into()
}

#[inline(always)]
fn point<V: Vectors>(v: V, op: &Op, mean: f32, values: &mut [Values; 3]) {
    match *op {
        Op::Colour(Colour::Brightness(factor)) => {
            for value in values.as_flattened_mut() {
                *value = byte(v, *value * factor);
            }
        }
        Op::Colour(Colour::Contrast(factor)) => {
            let other = (1.0 - factor) * mean;
            for value in values.as_flattened_mut() {
                *value = byte(v, factor * *value + other);
            }
        }
        Op::Colour(Colour::Saturation(factor)) => pixels(values, |r, g, b| {
            let other = (1.0 - factor) * floor_luma(v, r, g, b);
            [r, g, b].map(|value| byte(v, factor * value + other))
        }),
        Op::Colour(Colour::Hue(shift)) => pixels(values, |r, g, b| turned(v, [r, g, b], shift)),
        // Whole numbers up to 2^24, which floats hold exactly.
        Op::Grey(_) => pixels(values, |r, g, b| {
            let sum = 19_595.0 * r + 38_470.0 * g + 7_471.0 * b + 32_768.0;
            [floor(v, sum * (1.0 / 65_536.0)); 3]
        }),
        Op::Solarise(op) => {
            let threshold = f32::from(op.threshold);
            for value in values.as_flattened_mut() {
                *value = chosen(*value >= threshold, 255.0 - *value, *value);
            }
        }
        _ => {}
    }
}

#[inline(always)]
fn pixels([red, green, blue]: &mut [Values; 3], f: impl Fn(f32, f32, f32) -> [f32; 3]) {
    for i in 0..CHUNK {
        [red[i], green[i], blue[i]] = f(red[i], green[i], blue[i]);
    }
}

/// From here on floats are whole numbers.
const WHOLE: f32 = 8_388_608.0;

/// Rounded down; for numbers below [`WHOLE`].
#[inline(always)]
fn floor<V: Vectors>(_: V, value: f32) -> f32 {
    if V::NATIVE {
        value.floor()
    } else {
        // Where it is no instruction it would be a call for each number.
        let away = if value < 0.0 { -WHOLE } else { WHOLE };
        let near = (value + away) - away;
        if near > value { near - 1.0 } else { near }
    }
}

/// Cut off at 0 and 255 and rounded down; a NaN counts as 0.
#[inline(always)]
fn byte<V: Vectors>(v: V, value: f32) -> f32 {
    let value = if value > 0.0 { value } else { 0.0 };
    floor(v, if value < 255.0 { value } else { 255.0 })
}

/// A whole number in `0..=255`.
#[inline(always)]
fn to_byte(value: f32) -> u8 {
    (value + WHOLE).to_bits() as u8
}

#[inline(always)]
fn floor_luma<V: Vectors>(v: V, red: f32, green: f32, blue: f32) -> f32 {
    floor(v, 0.2989 * red + 0.587 * green + 0.114 * blue)
}

/// `value / divisor`, correctly rounded.
#[inline(always)]
fn divided<V: Vectors>(_: V, value: f32, divisor: f32) -> f32 {
    if V::NATIVE {
        // Markstein: with a correctly rounded reciprocal, one correction is enough.
        let reciprocal = 1.0 / divisor;
        let near = value * reciprocal;
        (-near).mul_add(divisor, value).mul_add(reciprocal, near)
    } else {
        value / divisor
    }
}

/// The pixel with its hue turned, by way of hue, saturation and value.
#[inline(always)]
fn turned<V: Vectors>(v: V, pixel: [f32; 3], shift: f32) -> [f32; 3] {
    let [red, green, blue] = pixel.map(|value| divided(v, value, 255.0));
    let most = larger(larger(red, green), blue);
    let least = smaller(smaller(red, green), blue);
    let range = most - least;
    // One division for the three sixths of the circle.
    let is_red = most == red;
    let is_green = most == green;
    let above = if is_red {
        green
    } else if is_green {
        blue
    } else {
        red
    };
    let below = if is_red {
        blue
    } else if is_green {
        red
    } else {
        green
    };
    let start = if is_red {
        0.0
    } else if is_green {
        2.0
    } else {
        4.0
    };
    let sixths = start + (above - below) / range;
    let turns = divided(v, sixths, 6.0) + shift;
    let part = turns - truncated(v, turns);
    let hue = (if part < 0.0 { part + 1.0 } else { part }) * 6.0;
    let saturation = range / most;
    let sector = floor(v, hue);
    let part = hue - sector;
    let p = most * (1.0 - saturation);
    let q = most * (1.0 - saturation * part);
    let t = most * (1.0 - saturation * (1.0 - part));
    // Everything that is in none of the other five sectors is in the first. (An array of these would
    // be packed into one number.)
    let (first, second, third) = (sector == 1.0, sector == 2.0, sector == 3.0);
    let (fourth, fifth) = (sector == 4.0, sector == 5.0);
    let red = if first { q } else { most };
    let red = if second | third { p } else { red };
    let red = if fourth { t } else { red };
    let green = if first | second { most } else { t };
    let green = if third { q } else { green };
    let green = if fourth | fifth { p } else { green };
    let blue = if second { t } else { p };
    let blue = if third | fourth { most } else { blue };
    let blue = if fifth { q } else { blue };
    let [r, g, b] = [red, green, blue].map(|value| byte(v, value * 255.999));
    // Grey has no hue.
    let grey = range == 0.0;
    [chosen(grey, pixel[0], r), chosen(grey, pixel[1], g), chosen(grey, pixel[2], b)]
}

/// `a` or `b`, both whole numbers. A plain choice of what is in memory already would become a store
/// for some of a vector's numbers, which is slow.
#[inline(always)]
fn chosen(is_a: bool, a: f32, b: f32) -> f32 {
    b + (a - b) * if is_a { 1.0 } else { 0.0 }
}

#[inline(always)]
fn larger(a: f32, b: f32) -> f32 {
    if a > b { a } else { b }
}

#[inline(always)]
fn smaller(a: f32, b: f32) -> f32 {
    if a < b { a } else { b }
}

/// Rounded towards 0.
#[inline(always)]
fn truncated<V: Vectors>(v: V, value: f32) -> f32 {
    if V::NATIVE {
        value.trunc()
    } else {
        let size = value.abs();
        let whole = if size < WHOLE { floor(v, size) } else { size };
        whole.copysign(value)
    }
}
