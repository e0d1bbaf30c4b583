//! Vectors of 16 numbers: what the kernels of whole numbers are written in.

/// Numbers in a vector.
pub(super) const LANES: usize = 16;

/// The vector at a place of memory, which must hold it.
#[inline(always)]
pub(super) fn vector<T>(from: &[T], at: usize) -> &[T; LANES] {
    match from[at..at + LANES].try_into() {
        Ok(vector) => vector,
        Err(_) => unreachable!("a slice is as long as asked for"),
    }
}

/// The same, to change.
#[inline(always)]
pub(super) fn vector_mut<T>(from: &mut [T], at: usize) -> &mut [T; LANES] {
    match (&mut from[at..at + LANES]).try_into() {
        Ok(vector) => vector,
        Err(_) => unreachable!("a slice is as long as asked for"),
    }
}

/// The operations that kernels need.
pub(super) trait Vectors: Copy {
    /// Whether `f32::mul_add` and `f32::floor` are single instructions here.
    const NATIVE: bool;

    /// 16 numbers of 16 bits, with a sign.
    type Words: Copy;
    /// 16 sums of 32 bits, in an order that `narrow` knows.
    type Sums: Copy;

    /// From memory.
    fn words(self, words: &[i16; LANES]) -> Self::Words;
    /// To memory.
    fn store(self, words: Self::Words, to: &mut [i16; LANES]);
    /// Bytes as numbers.
    fn bytes(self, bytes: &[u8; LANES]) -> Self::Words;
    /// Numbers as bytes, to memory; each must lie within `0..=255`.
    fn store_bytes(self, words: Self::Words, to: &mut [u8; LANES]);
    /// `a + b`.
    fn add(self, a: Self::Words, b: Self::Words) -> Self::Words;
    /// A pair of weights, for `multiply_add`.
    fn pair(self, weights: [i16; 2]) -> Self::Words;
    /// All alike.
    fn sums(self, start: i32) -> Self::Sums;
    /// `sums + a * weights[0] + b * weights[1]`.
    fn multiply_add(
        self,
        sums: Self::Sums,
        a: Self::Words,
        b: Self::Words,
        weights: Self::Words,
    ) -> Self::Sums;
    /// `sums >> SHIFT`, each of which must fit.
    fn narrow<const SHIFT: i32>(self, sums: Self::Sums) -> Self::Words;
    /// Rows to columns: `to[x][y]` becomes `from[y][x]`.
    fn transpose(self, from: &[[i16; LANES]; LANES], to: &mut [[i16; LANES]; LANES]);
    /// Columns of bytes to rows: row `y` becomes `columns[..][y]`.
    fn transpose_bytes(self, columns: &[Self::Words; LANES]) -> [[u8; LANES]; LANES];
    /// Copies past the caches, where the processor can; `fence` must follow before the memory is
    /// used.
    fn stream<T: Copy>(self, from: &[T], to: &mut [T]);
    /// Ends what `stream` began.
    fn fence(self);
}

/// Plain loops, which the compiler turns into whatever vectors the processor certainly has.
#[derive(Clone, Copy)]
pub(super) struct Portable;

impl Vectors for Portable {
    // On x86-64 both would be calls of functions.
    const NATIVE: bool = cfg!(target_arch = "aarch64");

    type Words = [i16; LANES];
    type Sums = [i32; LANES];

    #[inline(always)]
    fn words(self, words: &[i16; LANES]) -> Self::Words {
        *words
    }

    #[inline(always)]
    fn store(self, words: Self::Words, to: &mut [i16; LANES]) {
        *to = words;
    }

    #[inline(always)]
    fn bytes(self, bytes: &[u8; LANES]) -> Self::Words {
        bytes.map(i16::from)
    }

    #[inline(always)]
    fn store_bytes(self, words: Self::Words, to: &mut [u8; LANES]) {
        *to = words.map(|word| word as u8);
    }

    #[inline(always)]
    fn add(self, a: Self::Words, b: Self::Words) -> Self::Words {
        std::array::from_fn(|i| a[i].wrapping_add(b[i]))
    }

    #[inline(always)]
    fn pair(self, [first, second]: [i16; 2]) -> Self::Words {
        std::array::from_fn(|i| if i % 2 == 0 { first } else { second })
    }

    #[inline(always)]
    fn sums(self, start: i32) -> Self::Sums {
        [start; LANES]
    }

    #[inline(always)]
    fn multiply_add(
        self,
        sums: Self::Sums,
        a: Self::Words,
        b: Self::Words,
        weights: Self::Words,
    ) -> Self::Sums {
        let [first, second] = [weights[0], weights[1]].map(i32::from);
        std::array::from_fn(|i| sums[i] + i32::from(a[i]) * first + i32::from(b[i]) * second)
    }

    #[inline(always)]
    fn narrow<const SHIFT: i32>(self, sums: Self::Sums) -> Self::Words {
        sums.map(|sum| (sum >> SHIFT) as i16)
    }

    #[inline(always)]
    fn transpose(self, from: &[[i16; LANES]; LANES], to: &mut [[i16; LANES]; LANES]) {
        for x in 0..LANES {
            for y in 0..LANES {
                to[x][y] = from[y][x];
            }
        }
    }

    #[inline(always)]
    fn transpose_bytes(self, columns: &[Self::Words; LANES]) -> [[u8; LANES]; LANES] {
        std::array::from_fn(|y| std::array::from_fn(|x| columns[x][y] as u8))
    }

    #[inline(always)]
    fn stream<T: Copy>(self, from: &[T], to: &mut [T]) {
        to.copy_from_slice(from);
    }

    #[inline(always)]
    fn fence(self) {}
}
