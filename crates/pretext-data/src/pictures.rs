//! Lists of pictures that can be read by index, with labels and without.

use std::{fmt, sync::Arc};

use crate::{
    Decoder, Error, Picture,
    cache::Reader,
    decode::{bytes, reduce},
    place::Place,
};

/// Pictures without labels, in a fixed order; a copy is cheap.
///
/// There is no way from here to a label. For the pictures of `unsup/`, whose file names begin with
/// the class in Image网, there is none to a file name either: only the message about a damaged
/// file names it.
#[derive(Clone)]
pub struct Pictures(Arc<[Entry]>);

/// Where one picture lies.
#[derive(Clone)]
pub(crate) enum Entry {
    Encoded { place: Place, name: String },
    Cached { cache: Arc<Reader>, row: usize },
}

impl Pictures {
    pub(crate) fn new(entries: impl IntoIterator<Item = Entry>) -> Self {
        Self(entries.into_iter().collect())
    }

    /// Several lists, one behind the other: picture `i` of the second part has the index
    /// `parts[0].len() + i`.
    #[must_use]
    pub fn concat(parts: &[Pictures]) -> Pictures {
        Self::new(parts.iter().flat_map(|part| part.0.iter().cloned()))
    }

    /// The number of pictures.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Reads and decodes picture `index`.
    ///
    /// # Errors
    /// [`Error::Damaged`], [`Error::Read`] and [`Error::Missing`] name the file;
    /// [`Error::NoSuchPicture`] is the caller's mistake.
    pub fn read(&self, index: usize) -> Result<Picture, Error> {
        self.read_with(index, &mut Decoder::default())
    }

    /// Reads and decodes picture `index` with a decoder that keeps its memory, and reduces pictures
    /// if it is told to: those of a cache, too.
    ///
    /// # Errors
    /// Those of [`Pictures::read`].
    pub fn read_with(&self, index: usize, decoder: &mut Decoder) -> Result<Picture, Error> {
        match self.entry(index)? {
            Entry::Encoded { place, .. } => place.decode(decoder),
            Entry::Cached { cache, row } => {
                Ok(reduce(cache.picture(*row), decoder.shortest_side()))
            }
        }
    }

    /// How many bytes picture `index` has when [`Pictures::read_with`] gives it, without decoding it: by
    /// the cache's list of sizes, or by what the file says of itself.
    ///
    /// # Errors
    /// Those of [`Pictures::read`]; a file that is damaged further behind is not found out.
    pub fn decoded_bytes(&self, index: usize, decoder: &mut Decoder) -> Result<u64, Error> {
        match self.entry(index)? {
            Entry::Encoded { place, .. } => place.announced(decoder),
            Entry::Cached { cache, row } => {
                let Picture { width, height, .. } = cache.picture(*row);
                Ok(bytes(width, height, decoder.shortest_side()))
            }
        }
    }

    /// A name that stays the same in a data set and in its cache, for messages and result tables:
    /// `train/cat/1.jpg`, or `unsup/` and 16 digits that do not tell the file's name.
    ///
    /// # Errors
    /// [`Error::NoSuchPicture`] if there is no picture of this index.
    pub fn name(&self, index: usize) -> Result<String, Error> {
        Ok(match self.entry(index)? {
            Entry::Encoded { name, .. } => name.clone(),
            Entry::Cached { cache, row } => cache.name(*row).to_owned(),
        })
    }

    fn entry(&self, index: usize) -> Result<&Entry, Error> {
        self.0.get(index).ok_or(Error::NoSuchPicture { index, len: self.len() })
    }
}

impl fmt::Debug for Pictures {
    /// Tells only the number: a list of names would tell the classes of `unsup/`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pictures({})", self.len())
    }
}

/// Pictures with one label each; a copy is cheap.
#[derive(Clone, Debug)]
pub struct Labelled {
    pictures: Pictures,
    labels: Arc<[u32]>,
}

impl Labelled {
    pub(crate) fn new(entries: impl IntoIterator<Item = (Entry, u32)>) -> Self {
        let (entries, labels): (Vec<_>, Vec<_>) = entries.into_iter().unzip();
        Self { pictures: Pictures::new(entries), labels: labels.into() }
    }

    /// The pictures alone.
    #[must_use]
    pub fn pictures(&self) -> &Pictures {
        &self.pictures
    }

    /// The label of picture `index`: a place in [`crate::Dataset::classes`].
    ///
    /// # Panics
    /// If there is no picture of this index, as a slice does.
    #[must_use]
    pub fn label(&self, index: usize) -> u32 {
        self.labels[index]
    }

    /// The labels of all pictures, in order.
    #[must_use]
    pub fn labels(&self) -> &[u32] {
        &self.labels
    }

    /// The number of pictures.
    #[must_use]
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }
}
