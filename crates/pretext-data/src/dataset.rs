//! A data set: three splits, opened from a folder, from shards, or from a decoded cache of either.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::{
    ClassCount, Error, Labelled, Pictures, Summary,
    cache::{self, Reader},
    catalog::{self, Catalog},
    fingerprint::{fingerprint, stamp},
    pictures::Entry,
};

/// The pictures of a folder, of shards, or of a decoded cache: what to train on, with labels and
/// without, and what to validate with.
pub struct Dataset {
    root: PathBuf,
    /// What a cache of it is compared with.
    stamp: String,
    train: Labelled,
    val: Labelled,
    unsup: Pictures,
    classes: Vec<String>,
    summary: Summary,
}

impl Dataset {
    /// Opens a folder, shards, or a decoded cache (`*.safetensors`, see [`crate::cache`]).
    ///
    /// Three layouts of folders are told apart by what lies directly in the root:
    ///
    /// 1. **Splits**: a folder named `train`, `val` or `unsup`. `train/<class>/` and
    ///    `val/<class>/` hold labelled pictures, `unsup/` unlabelled ones; `val/` and `unsup/` are
    ///    optional, and `unsup/` may stand alone. Anything else in the root is passed over. This
    ///    is Image网's layout.
    /// 2. **Classes**: other folders. Each is a class of `train`; `val` and `unsup` are empty.
    /// 3. **Flat**: pictures and no folders. All are `unsup`.
    ///
    /// Class folders and `unsup/` are searched to any depth; symbolic links are followed. Pictures
    /// are files whose names end in jpg, jpeg, png, webp, bmp or gif, in any case; hidden files
    /// (`.name`) and all others are passed over and counted in [`Summary::ignored`].
    ///
    /// The order depends on names alone, never on the file system: `train` and `val` are sorted by
    /// class, then by name, byte by byte. `unsup` is sorted by the SHA-256 of the name below
    /// `unsup/`, because Image网's names begin with the class, and so an alphabetical order would
    /// put the hidden classes one after the other.
    ///
    /// **Shards** are large files that hold many pictures: a path to one (`*.tar`, and with the
    /// feature `parquet` `*.parquet`), a range in braces (`shard-{000..017}.tar`), or a folder of
    /// them without folders or pictures beside. Nothing is unpacked to disk.
    ///
    /// - Which split one is of, its name tells by its first word: `val`, `valid`, `validation`;
    ///   `test`, which is validated with if nothing else is there for it, and passed over
    ///   otherwise; `unsup`, `unlabeled`, `unlabelled`. Anything else is `train`, where samples
    ///   without a label go to `unsup`.
    /// - A **tar** archive is WebDataset's: members of one name, up to the first dot, are a sample,
    ///   such as `000.jpg` and `000.cls`. The label is the text of the `.cls`, or `label`, `cls` or
    ///   `class` of the `.json`: a number or a name. Archives are memory-mapped.
    /// - A **Parquet** file is Hugging Face's: a struct column `image` (or another) with `bytes`,
    ///   and a column `label` (or another) of numbers, whose names are in the file's metadata, or
    ///   of names; below 0 is no label. Pictures are unpacked page by page (about 1 MB), and 256
    ///   MiB of them are kept for the data set: a larger one, read in random order, unpacks a page
    ///   for each picture, which a decoded cache saves.
    /// - The order is that of the shards' names, and inside of one its own; `unsup` alone is sorted
    ///   as above. Classes are in the order of their names, or of their numbers.
    ///
    /// A **cache** whose folder or shards are where they were is compared with them by names, sizes
    /// and times of change, which takes as long as listing them. One that moved, or whose source is
    /// gone, is taken at its word.
    ///
    /// # Errors
    /// One line that names the folder or file and the remedy, if the path is missing, of no known
    /// kind or not readable, if the root, a split or a class of `train` holds no pictures, if
    /// `val/` has a class that `train/` has not, if pictures lie loose beside class folders, or if
    /// a shard or a cache is damaged, or a cache stale. Pictures are not read here: see
    /// [`Pictures::read`].
    pub fn open(path: &Path) -> Result<Self, Error> {
        if cache::has_cache_name(path) && !path.is_dir() {
            return Self::from_cache(path);
        }
        Ok(Self::from_catalog(path, catalog::find(path)?))
    }

    fn from_catalog(root: &Path, catalog: Catalog) -> Self {
        let (fingerprint, stamp) = (fingerprint(&catalog), stamp(&catalog));
        let Catalog { classes, train, val, unsup, shards, ignored } = catalog;
        let labelled = train.iter().chain(&val).map(|(file, _)| file);
        let bytes = match shards.as_slice() {
            [] => labelled.chain(&unsup).map(|file| file.bytes).sum(),
            shards => shards.iter().map(|shard| shard.bytes).sum(),
        };
        let entry = |split: &str, file: catalog::File, label: u32| {
            let name = String::from_utf8_lossy(&file.name);
            let name = format!("{split}/{}/{name}", classes[label as usize]);
            (Entry::Encoded { place: file.place, name }, label)
        };
        let of_split = |split: &'static str, files: Vec<(catalog::File, u32)>| {
            Labelled::new(files.into_iter().map(|(file, label)| entry(split, file, label)))
        };
        let unsup = unsup.into_iter().map(|file| Entry::Encoded {
            name: format!("unsup/{}", &catalog::hash(&file.name)[..16]),
            place: file.place,
        });
        let (train, val, unsup) =
            (of_split("train", train), of_split("val", val), Pictures::new(unsup));
        let summary = Summary {
            ignored,
            damaged: 0,
            bytes,
            shards: shards.len(),
            cached: false,
            cached_size: None,
            fingerprint,
            ..count(&classes, &train, &val, &unsup)
        };
        Self { root: root.to_owned(), stamp, train, val, unsup, classes, summary }
    }

    fn from_cache(path: &Path) -> Result<Self, Error> {
        let cache = Arc::new(Reader::open(path)?);
        let header = cache.header();
        if let Some(source_path) = header.changed_source() {
            return Err(Error::StaleCache { path: path.to_owned(), source_path });
        }
        let row = |row: usize| Entry::Cached { cache: Arc::clone(&cache), row };
        let labelled = |rows: std::ops::Range<usize>| {
            Labelled::new(rows.map(|index| (row(index), cache.label(index))))
        };
        let val_starts = header.train;
        let unsup_starts = val_starts + header.val;
        let train = labelled(0..val_starts);
        let val = labelled(val_starts..unsup_starts);
        let unsup = Pictures::new((unsup_starts..unsup_starts + header.unsup).map(row));
        let classes = header.classes.clone();
        let summary = Summary {
            ignored: header.ignored,
            damaged: header.damaged,
            bytes: cache.bytes(),
            shards: 0,
            cached: true,
            cached_size: header.size,
            fingerprint: header.fingerprint.clone(),
            ..count(&classes, &train, &val, &unsup)
        };
        let stamp = header.stamp.clone();
        Ok(Self { root: path.to_owned(), stamp, train, val, unsup, classes, summary })
    }

    /// The names of the classes: those of the folders in `train/`, sorted. A label is a place in
    /// this list.
    #[must_use]
    pub fn classes(&self) -> &[String] {
        &self.classes
    }

    /// Labelled pictures to train on.
    #[must_use]
    pub fn train(&self) -> &Labelled {
        &self.train
    }

    /// Labelled pictures to validate with.
    #[must_use]
    pub fn val(&self) -> &Labelled {
        &self.val
    }

    /// Pictures whose labels nobody is to know: there is no way to ask for them.
    ///
    /// ```compile_fail
    /// # fn labels(data: &pretext_data::Dataset) {
    /// data.unsup().labels();
    /// # }
    /// ```
    #[must_use]
    pub fn unsup(&self) -> &Pictures {
        &self.unsup
    }

    /// SHA-256, in hexadecimal digits, over splits, classes, names and sizes in bytes of all
    /// picture files, and of all shards: the same on every machine, and for a data set and its
    /// cache.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        self.summary.fingerprint.clone()
    }

    /// What a cache of this data set is compared with: the fingerprint, and times of change.
    pub(crate) fn stamp(&self) -> &str {
        &self.stamp
    }

    /// The path that was opened.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// What is there, in numbers.
    #[must_use]
    pub fn summary(&self) -> &Summary {
        &self.summary
    }
}

impl fmt::Debug for Dataset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dataset")
            .field("root", &self.root)
            .field("classes", &self.classes)
            .field("train", &self.train.len())
            .field("val", &self.val.len())
            .field("unsup", &self.unsup.len())
            .finish()
    }
}

/// The counts alone; the rest of the summary is the caller's.
fn count(classes: &[String], train: &Labelled, val: &Labelled, unsup: &Pictures) -> Summary {
    let mut counts: Vec<_> =
        classes.iter().map(|class| ClassCount { class: class.clone(), train: 0, val: 0 }).collect();
    for label in train.labels() {
        counts[*label as usize].train += 1;
    }
    for label in val.labels() {
        counts[*label as usize].val += 1;
    }
    Summary {
        classes: counts,
        train: train.len(),
        val: val.len(),
        unsup: unsup.len(),
        ..Summary::default()
    }
}
