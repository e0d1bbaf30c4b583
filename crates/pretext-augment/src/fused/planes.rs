//! The fused path's picture: one plane of bytes for each channel.

use super::isa::Kernel;
use super::vectors::{LANES, Vectors};
use crate::{ImageRef, Rect, Size};

/// What may be read and written beyond the end of a plane, so that no kernel needs a special last
/// vector.
pub(super) const SLACK: usize = 64;

/// Three planes of `[height, width]` bytes, each longer by [`SLACK`].
#[derive(Debug)]
pub(super) struct Planes {
    pub(super) size: Size,
    pub(super) channels: [Vec<u8>; 3],
}

impl Default for Planes {
    fn default() -> Self {
        Self { size: Size { width: 0, height: 0 }, channels: Default::default() }
    }
}

/// Makes room for so many bytes; what is in them is of no meaning.
pub(super) fn room(bytes: &mut Vec<u8>, count: usize) {
    if bytes.len() < count {
        bytes.resize(count, 0);
    }
}

impl Planes {
    /// Makes room for a size; the pixels are of no meaning.
    pub(super) fn reset(&mut self, size: Size) {
        self.size = size;
        for channel in &mut self.channels {
            room(channel, size.area() as usize + SLACK);
        }
    }

    /// Pixels in a plane.
    pub(super) fn len(&self) -> usize {
        self.size.area() as usize
    }

    /// The part of a row of a channel that a rectangle inside the picture covers.
    pub(super) fn row_mut(&mut self, channel: usize, rect: Rect, y: u32) -> &mut [u8] {
        let at = y as usize * self.size.width as usize + rect.x as usize;
        &mut self.channels[channel][at..at + rect.width as usize]
    }

    /// Mirrors left and right.
    pub(super) fn flip(&mut self) {
        let (width, len) = (self.size.width as usize, self.len());
        for channel in &mut self.channels {
            channel[..len].chunks_exact_mut(width).for_each(<[u8]>::reverse);
        }
    }

    /// Writes the pixels one after the other.
    pub(super) fn interleave(&self, out: &mut [u8]) {
        let (out, _) = out.as_chunks_mut::<3>();
        let [red, green, blue] = &self.channels;
        for (((out, &r), &g), &b) in out.iter_mut().zip(red).zip(green).zip(blue) {
            *out = [r, g, b];
        }
    }
}

/// Splits a borrowed picture into planes.
pub(super) struct Load<'a> {
    pub(super) image: ImageRef<'a>,
    pub(super) planes: &'a mut Planes,
}

impl Kernel for Load<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vectors>(self, _: V) {
        let Self { image, planes } = self;
        planes.reset(image.size());
        let whole = Rect::whole(image.size());
        let width = whole.width as usize;
        let [red, green, blue] = &mut planes.channels;
        for y in 0..whole.height {
            let (pixels, _) = image.row(y).as_chunks::<3>();
            let at = y as usize * width;
            let rows = [&mut *red, green, blue].map(|plane| &mut plane[at..at + width]);
            let [red, green, blue] = rows;
            for (((pixel, r), g), b) in pixels.iter().zip(red).zip(green).zip(blue) {
                [*r, *g, *b] = *pixel;
            }
        }
    }
}

/// The luma of `ops::Grey` of what a rectangle inside the planes covers, written to the same places
/// of `luma`, and of some pixels to the right of it.
pub(super) struct Luma<'a> {
    pub(super) planes: &'a Planes,
    pub(super) rect: Rect,
    pub(super) luma: &'a mut [u8],
}

impl Kernel for Luma<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vectors>(self, v: V) {
        let Self { planes, rect, luma } = self;
        // The weight of green does not fit into 16 bits with a sign: it is halved and comes twice.
        let (red_green, green_blue) = (v.pair([19_595, 19_235]), v.pair([19_235, 7_471]));
        for y in rect.y..rect.y + rect.height {
            let at = y as usize * planes.size.width as usize + rect.x as usize;
            let end = at + (rect.width as usize).next_multiple_of(LANES);
            let rows = planes.channels.each_ref().map(|plane| plane[at..end].as_chunks().0);
            let (out, _) = luma[at..end].as_chunks_mut();
            let [red, green, blue] = rows;
            for (((out, r), g), b) in out.iter_mut().zip(red).zip(green).zip(blue) {
                let [r, g, b] = [v.bytes(r), v.bytes(g), v.bytes(b)];
                let sums = v.multiply_add(v.sums(0x8000), r, g, red_green);
                let sums = v.multiply_add(sums, g, b, green_blue);
                v.store_bytes(v.narrow::<16>(sums), out);
            }
        }
    }
}
