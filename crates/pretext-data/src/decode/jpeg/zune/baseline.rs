//! Most JPEGs, quickly: baseline, three channels or one, all in one scan. For processors with AVX2.
//!
//! `zune-jpeg` is the definition: what is decoded here is the same to the bit, and whatever is unusual
//! or damaged in any way is left to it, so that it alone decides what a file shows or what is wrong
//! with it. What makes the difference: codes are found with one look into a table and without
//! branches, tables are kept from file to file, and samples stay bytes that fit into the cache.

mod colour;
mod header;
mod huffman;
mod idct;
#[cfg(test)]
mod tests;

use super::super::segments::Examined;
use header::{Header, Sampling};
use huffman::{Coded, Tables};

/// Decodes, and keeps its memory from file to file.
#[derive(Debug, Default)]
pub(super) struct Decoder {
    tables: Tables,
    bands: Bands,
}

/// Samples under way.
#[derive(Debug, Default)]
struct Bands {
    /// A row of blocks of each channel, and before it the last two rows of samples of the one above.
    channels: [Vec<u8>; 3],
    /// Samples in a row of each.
    strides: [usize; 3],
    /// A row of each channel of chroma at full width, and what one is made of.
    wide: [Vec<u8>; 2],
    sums: Vec<u16>,
}

impl Decoder {
    /// RGB of a file, with some room for its coded data; `None` if it is not for this decoder.
    pub(super) fn decode(
        &mut self,
        examined: &Examined<'_>,
        room: &mut Vec<u8>,
    ) -> Option<Vec<u8>> {
        let all = is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("bmi1")
            && is_x86_feature_detected!("bmi2");
        if !all {
            return None;
        }
        let (file, frame) = (examined.whole()?, &examined.frame);
        let header = Header::read(file, frame, &mut self.tables)?;
        let coded = Coded::copy(&file[header.data..], room)?;
        // SAFETY: the processor has the features, as seen above.
        unsafe { self.decode_coded(&header, &coded, frame.width as usize, frame.height as usize) }
    }

    #[target_feature(enable = "avx2,bmi1,bmi2")]
    fn decode_coded(
        &mut self,
        header: &Header,
        coded: &Coded<'_>,
        width: usize,
        height: usize,
    ) -> Option<Vec<u8>> {
        let (across, down) = header.sampling.luma();
        let (columns, rows) = (width.div_ceil(8 * across), height.div_ceil(8 * down));
        let (luma, channels) = (across * down, header.channels);
        let restart = if header.restart == 0 { columns * rows } else { header.restart };
        if coded.intervals() != (columns * rows).div_ceil(restart) {
            return None;
        }
        self.bands.resize([8 * across * columns, 8 * columns, 8 * columns], 8 * down);
        let mut pixels = Vec::with_capacity(3 * width * height);
        let tables = header.tables.map(|pair| self.tables.pair(pair));
        let mut reader = coded.interval(0)?;
        let (mut interval, mut left, mut dc) = (0, restart, [0; 3]);
        let mut blocks = [[0; 64]; 6];
        for row in 0..rows {
            for column in 0..columns {
                if left == 0 {
                    if !reader.is_at_end() {
                        return None;
                    }
                    interval += 1;
                    reader = coded.interval(interval)?;
                    (left, dc) = (restart, [0; 3]);
                }
                left -= 1;
                // All of them first: to read a block right after it was written takes long.
                for block in &mut blocks[..luma] {
                    reader.block(tables[0], &header.factors[0], &mut dc[0], block)?;
                }
                for channel in 1..channels {
                    let block = &mut blocks[luma + channel - 1];
                    let factors = &header.factors[channel];
                    reader.block(tables[channel], factors, &mut dc[channel], block)?;
                }
                for (i, block) in blocks[..luma].iter().enumerate() {
                    let place = (column * across + i % across, i / across);
                    self.bands.put(0, place, idct::transform(block));
                }
                for channel in 1..channels {
                    let samples = idct::transform(&blocks[luma + channel - 1]);
                    self.bands.put(channel, (column, 0), samples);
                }
            }
            if reader.is_beyond() {
                return None;
            }
            let place = (row == 0, row + 1 == rows);
            self.bands.write(header.sampling, (width, height), place, &mut pixels);
        }
        reader.is_at_end().then_some(pixels)
    }
}

impl Bands {
    /// Room for rows of these lengths, and so many of the first channel.
    fn resize(&mut self, strides: [usize; 3], rows: usize) {
        self.strides = strides;
        for (i, (channel, stride)) in self.channels.iter_mut().zip(strides).enumerate() {
            channel.resize(stride * (2 + if i == 0 { rows } else { 8 }), 0);
        }
        for row in &mut self.wide {
            row.resize(strides[0], 0);
        }
        self.sums.resize(strides[1] + 2, 0);
    }

    /// Puts a block in its place, counted in blocks.
    #[inline(always)]
    fn put(&mut self, channel: usize, (x, y): (usize, usize), block: [[u8; 8]; 8]) {
        let stride = self.strides[channel];
        let rows = self.channels[channel][(8 * y + 2) * stride + 8 * x..].chunks_mut(stride);
        for (row, samples) in rows.zip(block) {
            row[..8].copy_from_slice(&samples);
        }
    }

    /// Appends the lines of pixels that a new band completes, and keeps what the next one needs.
    #[inline]
    #[target_feature(enable = "avx2,bmi1,bmi2")]
    fn write(
        &mut self,
        sampling: Sampling,
        (width, height): (usize, usize),
        (first, last): (bool, bool),
        pixels: &mut Vec<u8>,
    ) {
        let [luma, cb, cr] = &mut self.channels;
        let [wide, narrow, _] = self.strides;
        // Where there are half the rows of chroma, the last line of a band needs some of the next.
        let waits = usize::from(sampling == Sampling::S420);
        let from = if first { 2 } else { 2 - waits };
        let to = luma.len() / wide - if last { 0 } else { waits };
        for line in (from..to).take(height - pixels.len() / (3 * width)) {
            let y = &luma[line * wide..(line + 1) * wide];
            let start = pixels.len();
            pixels.resize(start + 3 * width, 0);
            let (pixels, _) = pixels[start..].as_chunks_mut::<3>();
            if sampling == Sampling::Grey {
                for (pixel, y) in pixels.iter_mut().zip(y) {
                    *pixel = [*y; 3];
                }
                continue;
            }
            let (nearest, next) = match sampling {
                // Lines 2 and 3 belong to row 2 of chroma, line 1 to row 1.
                Sampling::S420 => {
                    let nearest = (line + 2) / 2;
                    let next = if line % 2 == 0 { nearest - 1 } else { nearest + 1 };
                    let outside = (first && next < 2) || (last && next > 9);
                    (nearest, Some(if outside { nearest } else { next }))
                }
                _ => (line, None),
            };
            for (channel, row) in [&*cb, &*cr].into_iter().zip(&mut self.wide) {
                let at = |row: usize| &channel[row * narrow..(row + 1) * narrow];
                match sampling {
                    Sampling::S444 => row.copy_from_slice(at(nearest)),
                    _ => colour::widen(at(nearest), next.map(at), row, &mut self.sums),
                }
            }
            colour::to_rgb(y, &self.wide[0], &self.wide[1], pixels);
        }
        for (channel, stride) in self.channels.iter_mut().zip(self.strides) {
            let end = channel.len();
            channel.copy_within(end - 2 * stride..end, 0);
        }
    }
}
