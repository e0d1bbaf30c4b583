//! Coded data: Huffman codes, and the blocks of coefficients they stand for (ITU-T T.81, annex F.2).

use memchr::memchr;

/// Bits that are looked up at once; longer codes are rare.
const LOOKUP: u32 = 11;

/// Bytes that a reader takes ahead of those it needs, and some more.
const AHEAD: usize = 16;

/// The place in a block, row by row, of each coefficient in the order of the file.
#[rustfmt::skip]
const ZIGZAG: [u8; 64] = [
     0,  1,  8, 16,  9,  2,  3, 10, 17, 24, 32, 25, 18, 11,  4,  5,
    12, 19, 26, 33, 40, 48, 41, 34, 27, 20, 13,  6,  7, 14, 21, 28,
    35, 42, 49, 56, 57, 50, 43, 36, 29, 22, 15, 23, 30, 37, 44, 51,
    58, 59, 52, 45, 38, 31, 39, 46, 53, 60, 61, 54, 47, 55, 62, 63,
];

/// The Huffman tables of a file, four of each class. Pictures of one source often have the same,
/// so that they are not made anew for each.
#[derive(Debug, Default)]
pub(super) struct Tables {
    /// DC, then AC.
    classes: Box<[[Table; 4]; 2]>,
    /// Which of them this file has.
    known: [[bool; 4]; 2],
}

/// One Huffman table.
#[derive(Debug)]
pub(super) struct Table {
    /// What it was made of: 16 counts of codes of each length, then the symbols.
    made_of: Vec<u8>,
    /// For the next bits, what [`entry`] says; 0 if their code is longer.
    lookup: [u16; 1 << LOOKUP],
    /// For each length, the first 16 bits that are no code of it any more.
    ends: [u32; 17],
    /// For each length, the index of a symbol less its code.
    offsets: [i32; 17],
    symbols: [u8; 256],
}

impl Default for Table {
    fn default() -> Self {
        Self {
            made_of: Vec::new(),
            lookup: [0; 1 << LOOKUP],
            ends: [0; 17],
            offsets: [0; 17],
            symbols: [0; 256],
        }
    }
}

/// From the lowest bit: length of code and value together (6 bits), of the value (4 bits), and zeros
/// before it (4 bits).
fn entry(length: u32, symbol: u8) -> u16 {
    let symbol = u32::from(symbol);
    let (zeros, size) = (symbol >> 4, symbol & 15);
    ((length + size) | (size << 6) | (zeros << 10)) as u16
}

impl Tables {
    pub(super) fn forget(&mut self) {
        self.known = Default::default();
    }

    /// Takes the tables of a segment; `None` if there is something wrong.
    pub(super) fn read(&mut self, mut segment: &[u8]) -> Option<()> {
        while let [place, rest @ ..] = segment {
            let (class, number) = (usize::from(place >> 4), usize::from(place & 15));
            let count: usize = rest.get(..16)?.iter().map(|count| usize::from(*count)).sum();
            let (made_of, rest) = rest.split_at_checked(16 + count)?;
            let table = self.classes.get_mut(class)?.get_mut(number)?;
            if table.made_of != made_of && table.make(made_of, class == 0).is_none() {
                table.made_of.clear();
                return None;
            }
            self.known[class][number] = true;
            segment = rest;
        }
        Some(())
    }

    /// Whether the file has both.
    pub(super) fn known(&self, (dc, ac): (usize, usize)) -> Option<()> {
        (self.known[0][dc] && self.known[1][ac]).then_some(())
    }

    pub(super) fn pair(&self, (dc, ac): (usize, usize)) -> (&Table, &Table) {
        (&self.classes[0][dc], &self.classes[1][ac])
    }
}

impl Table {
    /// The codes of T.81, annex C. `None` if there are more of a length than it has bits for, or if
    /// DC coefficients have more than 15.
    fn make(&mut self, made_of: &[u8], dc: bool) -> Option<()> {
        let (counts, symbols) = made_of.split_first_chunk::<16>()?;
        self.symbols.get_mut(..symbols.len())?.copy_from_slice(symbols);
        if dc && symbols.iter().any(|symbol| *symbol > 15) {
            return None;
        }
        self.lookup.fill(0);
        let (mut code, mut index) = (0_u32, 0);
        for (length, count) in (1..).zip(counts) {
            code <<= 1;
            self.offsets[length as usize] = index as i32 - code as i32;
            for symbol in &symbols[index..index + usize::from(*count)] {
                if length <= LOOKUP {
                    let free = LOOKUP - length;
                    let alike = (code << free) as usize..((code + 1) << free) as usize;
                    self.lookup.get_mut(alike)?.fill(entry(length, *symbol));
                }
                code += 1;
            }
            index += usize::from(*count);
            // A code of nothing but 1 bits is none.
            if *count > 0 && code >= 1 << length {
                return None;
            }
            self.ends[length as usize] = if *count > 0 { code << (16 - length) } else { 0 };
        }
        self.made_of.clear();
        self.made_of.extend_from_slice(made_of);
        Some(())
    }

    /// The entry of a code that is longer than [`LOOKUP`].
    #[cold]
    #[inline(never)]
    fn long(&self, bits: u64) -> Option<u16> {
        let next = (bits >> 48) as u32;
        let length = (LOOKUP + 1..17).find(|length| next < self.ends[*length as usize])?;
        let index = (next >> (16 - length)) as i32 + self.offsets[length as usize];
        Some(entry(length, *self.symbols.get(index as usize)?))
    }
}

/// Coded data without the bytes that only keep it apart from markers.
pub(super) struct Coded<'a> {
    bytes: &'a [u8],
    /// Where each restart interval ends.
    ends: Vec<usize>,
}

impl<'a> Coded<'a> {
    /// Takes the coded data of a scan over; `None` if there is a marker in it that is no restart
    /// marker, or not the next one.
    pub(super) fn copy(mut data: &[u8], room: &'a mut Vec<u8>) -> Option<Self> {
        let mut ends = Vec::new();
        room.clear();
        room.reserve(data.len() + AHEAD);
        while let Some(at) = memchr(0xFF, data) {
            let (before, after) = data.split_at(at + 1);
            let (next, rest) = after.split_first()?;
            match next {
                0 => room.extend_from_slice(before),
                0xD0..=0xD7 if usize::from(next & 7) == ends.len() % 8 => {
                    room.extend_from_slice(&before[..at]);
                    ends.push(room.len());
                }
                _ => return None,
            }
            data = rest;
        }
        room.extend_from_slice(data);
        ends.push(room.len());
        room.extend_from_slice(&[0; AHEAD]);
        Some(Self { bytes: room, ends })
    }

    /// How many restart intervals there are.
    pub(super) fn intervals(&self) -> usize {
        self.ends.len()
    }

    /// A reader of the restart interval with this number.
    pub(super) fn interval(&self, number: usize) -> Option<Reader<'a>> {
        let end = *self.ends.get(number)?;
        let at = if number == 0 { 0 } else { self.ends[number - 1] };
        let mut reader = Reader { bytes: self.bytes, bits: 0, count: 0, at, end };
        reader.fill()?;
        Some(reader)
    }
}

/// Reads bits, the highest of a byte first.
pub(super) struct Reader<'a> {
    bytes: &'a [u8],
    /// The next bits from the top; those behind `count` are right or 0.
    bits: u64,
    /// How many of them there are at least.
    count: u32,
    /// The byte behind them.
    at: usize,
    /// Where the interval ends.
    end: usize,
}

impl Reader<'_> {
    /// Whether all of the interval was read, but for less than a byte.
    pub(super) fn is_at_end(&self) -> bool {
        let read = 8 * self.at - self.count as usize;
        read <= 8 * self.end && 8 * self.end < read + 8
    }

    /// Whether more was read than there is.
    #[inline(always)]
    pub(super) fn is_beyond(&self) -> bool {
        8 * self.at - self.count as usize > 8 * self.end
    }

    /// At least 56 bits.
    #[inline(always)]
    fn fill(&mut self) -> Option<()> {
        let next = u64::from_be_bytes(*self.bytes.get(self.at..)?.first_chunk()?);
        self.bits |= next >> self.count;
        self.at += (63 - self.count as usize) >> 3;
        self.count |= 56;
        Some(())
    }

    /// The entry of the next code, and its value. No more than 31 of 56 bits are used, so that the
    /// longest code is there for the next time.
    #[inline(always)]
    fn next(&mut self, table: &Table) -> Option<(u32, i32)> {
        // Found before there are new bits: the next code waits for this, and for nothing else.
        let mut entry = table.lookup[(self.bits >> (64 - LOOKUP)) as usize];
        self.fill()?;
        if entry == 0 {
            entry = table.long(self.bits)?;
        }
        let entry = u32::from(entry);
        let (both, size) = (entry & 63, (entry >> 6) & 15);
        let value = self.bits << (both - size);
        // Values whose highest bit is 0 are negative.
        let negative = !((value as i64) >> 63) as i32;
        let value = ((value >> 1) >> (63 - size)) as i32 + (negative & ((-1 << size) + 1));
        self.bits <<= both;
        self.count -= both;
        Some((entry, value))
    }

    /// The coefficients of the next block, multiplied by their factors, row by row; `mean` is the DC
    /// coefficient of the channel's last one. `None` if the block is damaged.
    #[inline(always)]
    pub(super) fn block(
        &mut self,
        (dc, ac): (&Table, &Table),
        factors: &[i32; 64],
        mean: &mut i32,
        block: &mut [i32; 64],
    ) -> Option<()> {
        *block = [0; 64];
        *mean = mean.wrapping_add(self.next(dc)?.1);
        block[0] = mean.wrapping_mul(factors[0]);
        // Far more than the extremes of a picture, and still small enough for every way to calculate.
        if mean.unsigned_abs() > 1 << 16 || block[0].unsigned_abs() > 1 << 16 {
            return None;
        }
        let mut place = 1;
        while place < 64 {
            let (entry, value) = self.next(ac)?;
            let zeros = (entry >> 10) as usize;
            place += zeros;
            if entry & (15 << 6) == 0 {
                if zeros != 15 {
                    break;
                }
            } else {
                let factor = factors.get(place)?;
                block[usize::from(ZIGZAG[place & 63] & 63)] = value * factor;
            }
            place += 1;
        }
        Some(())
    }
}
