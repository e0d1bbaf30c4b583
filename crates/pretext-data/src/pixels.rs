//! Bytes of a picture: its own, or a part of a mapped cache that nobody copies.

use std::{fmt, ops::Deref, ops::Range, sync::Arc};

use memmap2::Mmap;

/// The pixels of a [`crate::Picture`]; use them as the slice of bytes that they deref to.
///
/// A decoded picture owns its pixels. One from a cache is a window into the mapped file, so that
/// reading it copies nothing; it keeps the mapping alive. [`Pixels::into_vec`] is free for the
/// first and copies the second.
///
/// ```
/// use pretext_data::Pixels;
/// let pixels = Pixels::from(vec![10, 20, 30]);
/// assert_eq!(pixels.chunks_exact(3).count(), 1);
/// assert_eq!(pixels.into_vec(), [10, 20, 30]);
/// ```
#[derive(Clone)]
pub struct Pixels(Store);

#[derive(Clone)]
enum Store {
    Owned(Vec<u8>),
    Mapped { file: Arc<Mmap>, range: Range<usize> },
}

impl Pixels {
    /// A part of a mapped file; the range lies inside it.
    pub(crate) fn mapped(file: &Arc<Mmap>, range: Range<usize>) -> Self {
        Self(Store::Mapped { file: Arc::clone(file), range })
    }

    /// The bytes as a vector: the picture's own, or a copy if they lie in a mapped file.
    #[must_use]
    pub fn into_vec(self) -> Vec<u8> {
        match self.0 {
            Store::Owned(bytes) => bytes,
            Store::Mapped { file, range } => file[range].to_vec(),
        }
    }
}

impl From<Vec<u8>> for Pixels {
    fn from(bytes: Vec<u8>) -> Self {
        Self(Store::Owned(bytes))
    }
}

impl Deref for Pixels {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.0 {
            Store::Owned(bytes) => bytes,
            Store::Mapped { file, range } => &file[range.clone()],
        }
    }
}

impl AsRef<[u8]> for Pixels {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl<'a> IntoIterator for &'a Pixels {
    type Item = &'a u8;
    type IntoIter = std::slice::Iter<'a, u8>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// By content, wherever it lies.
impl<T: AsRef<[u8]> + ?Sized> PartialEq<T> for Pixels {
    fn eq(&self, other: &T) -> bool {
        **self == *other.as_ref()
    }
}

impl Eq for Pixels {}

impl fmt::Debug for Pixels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pixels({} bytes)", self.len())
    }
}
