//! Which files are common enough, and what their segments say (ITU-T T.81, annex B).

use super::super::super::segments::Frame;
use super::huffman::Tables;

/// What Adobe's descriptions of pictures, in XML, begin with.
const XMP: &[u8] = b"http://ns.adobe.com/xap/1.0/\0";

/// How finely chroma is sampled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sampling {
    /// There is none.
    Grey,
    /// As finely as luma.
    S444,
    /// Half the columns.
    S422,
    /// Half the columns and half the rows.
    S420,
}

impl Sampling {
    /// Blocks of luma beside and below each other for one of each other channel.
    pub(super) fn luma(self) -> (usize, usize) {
        match self {
            Self::Grey | Self::S444 => (1, 1),
            Self::S422 => (2, 1),
            Self::S420 => (2, 2),
        }
    }
}

/// What decoding needs to know besides the Huffman tables.
pub(super) struct Header {
    pub(super) sampling: Sampling,
    pub(super) channels: usize,
    /// Factors of the coefficients for each channel, in the order of the file.
    pub(super) factors: [[i32; 64]; 3],
    /// The numbers of the Huffman tables for each channel: DC and AC.
    pub(super) tables: [(usize, usize); 3],
    /// Groups of blocks between two restart markers; 0 if there are none.
    pub(super) restart: usize,
    /// Where the coded data starts.
    pub(super) data: usize,
}

impl Header {
    /// Reads the segments up to the coded data, and takes over the Huffman tables. `None` if there
    /// is anything that a photograph need not have.
    pub(super) fn read(file: &[u8], frame: &Frame, tables: &mut Tables) -> Option<Self> {
        let mut quantisation = [None::<[i32; 64]>; 4];
        let (mut restart, mut chosen, mut at) = (0, None, 2);
        tables.forget();
        loop {
            let [0xFF, marker, high, low, ..] = *file.get(at..)? else { return None };
            let end = at + 2 + usize::from(u16::from_be_bytes([high, low]));
            let segment = file.get(at + 4..end)?;
            at = end;
            match marker {
                0xC0 | 0xC1 => chosen = Some(channels(segment, frame)?),
                0xC4 => tables.read(segment)?,
                0xDA => {
                    let (sampling, numbers) = chosen?;
                    let channels = frame.channels.len();
                    let mut header = Self {
                        sampling,
                        channels,
                        factors: [[0; 64]; 3],
                        tables: scan(segment, frame)?,
                        restart,
                        data: end,
                    };
                    for i in 0..channels {
                        header.factors[i] = quantisation[numbers[i]]?;
                        tables.known(header.tables[i])?;
                    }
                    return Some(header);
                }
                0xDB => read_factors(segment, &mut quantisation)?,
                0xDD => restart = usize::from(u16::from_be_bytes(segment.try_into().ok()?)),
                0xE0 if !segment.starts_with(b"AVI1") => {}
                0xE1 if segment.len() > 6 && segment.starts_with(b"Exif\0\0") => {}
                0xE1 if segment.len() > XMP.len() && segment.starts_with(XMP) => {}
                0xE2 if segment.len() > 14 && segment.starts_with(b"ICC_PROFILE\0") => {}
                // Adobe's, where it says that colour is YCbCr, and there is colour.
                0xEE if frame.channels.len() == 3
                    && matches!(segment, [b'A', b'd', b'o', b'b', b'e', _, _, _, _, _, _, 1]) => {}
                // Of other applications, and comments.
                0xE3..=0xEC | 0xEF | 0xFE => {}
                _ => return None,
            }
        }
    }
}

/// How chroma is sampled, and the number of each channel's factors.
fn channels(segment: &[u8], frame: &Frame) -> Option<(Sampling, [usize; 3])> {
    let listed = segment.get(6..).filter(|listed| listed.len() == 3 * frame.channels.len())?;
    let mut numbers = [0; 3];
    for (number, listed) in numbers.iter_mut().zip(listed.chunks_exact(3)) {
        *number = usize::from(listed[2]);
    }
    if numbers.iter().any(|number| *number > 3) {
        return None;
    }
    let names = || listed.chunks_exact(3).map(|listed| listed[0]);
    let [first, others @ ..] = &frame.channels[..] else { return None };
    let whole = others.iter().all(|channel| channel.sampling == (1, 1));
    let sampling = match (others.len(), first.sampling) {
        (0, (1, 1)) => Sampling::Grey,
        (2, (1, 1)) => Sampling::S444,
        (2, (2, 1)) => Sampling::S422,
        (2, (2, 2)) => Sampling::S420,
        _ => return None,
    };
    // These names say that the channels are not YCbCr.
    let usual = whole && !names().eq(*b"RGB") && distinct(names());
    usual.then_some((sampling, numbers))
}

/// Whether no name is there twice.
fn distinct(names: impl Iterator<Item = u8> + Clone) -> bool {
    names.clone().enumerate().all(|(i, name)| names.clone().position(|n| n == name) == Some(i))
}

/// The Huffman tables of each channel, if the scan has all channels in their order.
fn scan(segment: &[u8], frame: &Frame) -> Option<[(usize, usize); 3]> {
    let [count, listed @ .., 0, 63, 0] = segment else { return None };
    let all = frame.channels.len();
    if usize::from(*count) != all || listed.len() != 2 * all {
        return None;
    }
    let mut tables = [(0, 0); 3];
    for ((table, listed), channel) in
        tables.iter_mut().zip(listed.chunks_exact(2)).zip(&frame.channels)
    {
        let (dc, ac) = (usize::from(listed[1] >> 4), usize::from(listed[1] & 15));
        if listed[0] != channel.name || dc > 3 || ac > 3 {
            return None;
        }
        *table = (dc, ac);
    }
    Some(tables)
}

fn read_factors(mut segment: &[u8], quantisation: &mut [Option<[i32; 64]>; 4]) -> Option<()> {
    while let [number @ 0..=3, values @ ..] = segment {
        let (values, rest) = values.split_first_chunk::<64>()?;
        quantisation[usize::from(*number)] = Some(values.map(i32::from));
        segment = rest;
    }
    segment.is_empty().then_some(())
}
