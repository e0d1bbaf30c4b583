//! A data set: three splits, opened from a folder or from a decoded cache of it.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::{
    ClassCount, Error, Labelled, Pictures, Summary,
    cache::{self, Reader},
    catalog::{self, Catalog},
    fingerprint::fingerprint,
    pictures::Entry,
};

/// The pictures of a folder or of a decoded cache: what to train on, with labels and without, and
/// what to validate with.
pub struct Dataset {
    root: PathBuf,
    train: Labelled,
    val: Labelled,
    unsup: Pictures,
    classes: Vec<String>,
    summary: Summary,
}

impl Dataset {
    /// Opens a folder, or a decoded cache (`*.safetensors`, see [`crate::cache`]).
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
    /// # Errors
    /// One line that names the folder or file and the remedy, if the path is missing, no folder or
    /// not readable, if the root, a split or a class of `train` holds no pictures, if `val/` has a
    /// class that `train/` has not, if pictures lie loose beside class folders, or if a cache is
    /// damaged. Pictures are not read here: see [`Pictures::read`].
    pub fn open(path: &Path) -> Result<Self, Error> {
        let metadata = path.metadata().map_err(|error| Error::from_io(path, error))?;
        if metadata.is_dir() {
            Ok(Self::from_catalog(path, catalog::scan(path)?))
        } else if cache::has_cache_name(path) {
            Self::from_cache(path)
        } else {
            Err(Error::NotAFolder { path: path.to_owned() })
        }
    }

    fn from_catalog(root: &Path, catalog: Catalog) -> Self {
        let fingerprint = fingerprint(&catalog);
        let Catalog { classes, train, val, unsup, ignored } = catalog;
        let labelled = train.iter().chain(&val).map(|(file, _)| file);
        let bytes = labelled.chain(&unsup).map(|file| file.bytes).sum();
        let entry = |split: &str, file: catalog::File, label: u32| {
            let name = String::from_utf8_lossy(&file.name);
            let name = format!("{split}/{}/{name}", classes[label as usize]);
            (Entry::File { path: file.path, name }, label)
        };
        let of_split = |split: &'static str, files: Vec<(catalog::File, u32)>| {
            Labelled::new(files.into_iter().map(|(file, label)| entry(split, file, label)))
        };
        let unsup = unsup.into_iter().map(|file| Entry::File {
            name: format!("unsup/{}", &catalog::hash(&file.name)[..16]),
            path: file.path,
        });
        let (train, val, unsup) =
            (of_split("train", train), of_split("val", val), Pictures::new(unsup));
        let summary = Summary {
            ignored,
            damaged: 0,
            bytes,
            cached: false,
            cached_size: None,
            fingerprint,
            ..count(&classes, &train, &val, &unsup)
        };
        Self { root: root.to_owned(), train, val, unsup, classes, summary }
    }

    fn from_cache(path: &Path) -> Result<Self, Error> {
        let cache = Arc::new(Reader::open(path)?);
        let header = cache.header();
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
            cached: true,
            cached_size: header.size,
            fingerprint: header.fingerprint.clone(),
            ..count(&classes, &train, &val, &unsup)
        };
        Ok(Self { root: path.to_owned(), train, val, unsup, classes, summary })
    }

    /// The sorted names of the folders in `train/`; a label is a place in this list.
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
    /// picture files: the same on every machine, and for a folder and its cache.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        self.summary.fingerprint.clone()
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
