//! Writing a cache: pictures stream through in parallel, and the file appears whole or not at all.

use std::{
    io::{self, BufWriter, Seek as _, SeekFrom, Write as _},
    ops::ControlFlow,
    path::Path,
};

use image::{
    RgbImage,
    imageops::{self, FilterType},
};
use serde_json::json;
use tempfile::NamedTempFile;

use super::{NO_LABEL, has_cache_name, header::Header};
use crate::{Damaged, Dataset, Error, Loader, Picture, Pictures};

/// How to write a cache.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Shorter side in pixels that larger pictures are reduced to, with an antialiasing triangle
    /// filter; smaller ones stay as they are. `None` keeps every pixel.
    pub size: Option<u32>,
    /// Threads that decode; 0 is one for each processor. The file is the same for any number.
    pub threads: usize,
    /// Whether a damaged picture is an error. Otherwise it is left out and listed.
    pub strict: bool,
}

/// How far the writing has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Pictures done, damaged ones included.
    pub done: usize,
    /// Pictures altogether.
    pub total: usize,
}

/// What was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Pictures in the cache.
    pub pictures: usize,
    /// Pictures that were left out.
    pub damaged: Vec<Damaged>,
    /// Size of the file.
    pub bytes: u64,
}

/// Decodes all pictures of a folder or of shards into a cache at `path`, replacing one that is there.
///
/// The file is built beside its final place under another name, and renamed once it is whole and
/// on disk. Memory holds a few pictures at a time, however large the data set is. `progress` is
/// called after every few pictures; if it breaks, the writing stops.
///
/// ```
/// use std::ops::ControlFlow;
/// use pretext_data::{Dataset, cache};
/// # let folder = tempfile::tempdir()?;
/// # std::fs::copy("../../data/hostile/good/grey.jpg", folder.path().join("a.jpg"))?;
/// # let path = folder.path().join("pictures.safetensors");
/// let data = Dataset::open(folder.path())?;
/// let report = cache::write(&data, &path, &cache::Options::default(), |_| ControlFlow::Continue(()))?;
/// assert_eq!(report.pictures, 1);
/// assert_eq!(Dataset::open(&path)?.fingerprint(), data.fingerprint());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// If `path` is not named `*.safetensors` or cannot be written, if `dataset` is a cache itself, if
/// all its pictures are damaged (or, with [`Options::strict`], if one is), or if `progress` breaks.
/// Nothing is left behind then.
pub fn write(
    dataset: &Dataset,
    path: &Path,
    options: &Options,
    mut progress: impl FnMut(Progress) -> ControlFlow<()>,
) -> Result<Report, Error> {
    if !has_cache_name(path) {
        return Err(Error::CacheName { path: path.to_owned() });
    }
    if dataset.summary().cached {
        return Err(Error::AlreadyCached { path: dataset.root().to_owned() });
    }
    let failed = |source| Error::Write { path: path.to_owned(), source };
    let (train, val) = (dataset.train(), dataset.val());
    let pictures = Pictures::concat(&[
        train.pictures().clone(),
        val.pictures().clone(),
        dataset.unsup().clone(),
    ]);
    let total = pictures.len();
    let mut header = Header {
        classes: dataset.classes().to_vec(),
        fingerprint: dataset.fingerprint(),
        source: std::path::absolute(dataset.root())
            .ok()
            .and_then(|path| path.into_os_string().into_string().ok())
            .unwrap_or_default(),
        stamp: dataset.stamp().to_owned(),
        train: 0,
        val: 0,
        unsup: 0,
        damaged: 0,
        ignored: dataset.summary().ignored,
        size: options.size,
    };

    let mut file = Draft::create(path, &header).map_err(failed)?;
    let size = options.size;
    let loader = Loader {
        // Together at most 64 pictures in memory: few enough for the largest ones.
        batch_size: 16,
        threads: options.threads,
        prefetch: 3,
        // Twice as large, so that the filter behind still decides how it looks.
        shortest_side: size.map(|size| size.saturating_mul(2)),
        strict: options.strict,
        drop_last: false,
    };
    let mut damaged = Vec::new();
    let order = (0..total).collect();
    let batches = loader.batches(&pictures, order, move |_, picture| reduce(picture, size));
    let mut done = 0;
    for batch in batches {
        let batch = batch?;
        done += batch.items.len() + batch.damaged.len();
        for (id, picture) in batch.ids.into_iter().zip(&batch.items) {
            let (split, label) = if id < train.len() {
                header.train += 1;
                (0, train.label(id))
            } else if id < train.len() + val.len() {
                header.val += 1;
                (1, val.label(id - train.len()))
            } else {
                header.unsup += 1;
                (2, NO_LABEL)
            };
            file.push(picture, split, label, &pictures.name(id)?).map_err(failed)?;
        }
        damaged.extend(batch.damaged);
        if progress(Progress { done, total }).is_break() {
            return Err(Error::Stopped { path: path.to_owned() });
        }
    }
    if damaged.len() == total {
        return Err(Error::AllDamaged { path: dataset.root().to_owned(), count: total });
    }
    header.damaged = damaged.len();
    let bytes = file.finish(path, &header).map_err(failed)?;
    Ok(Report { pictures: total - damaged.len(), damaged, bytes })
}

/// Reduces the shorter side to `size`, if it is larger.
fn reduce(picture: Picture, size: Option<u32>) -> Picture {
    let Picture { width, height, pixels } = picture;
    let shorter = width.min(height);
    let Some(size) = size.map(|size| size.max(1)).filter(|size| *size < shorter) else {
        return Picture { width, height, pixels };
    };
    let scale = |side: u32| {
        let (side, size, shorter) = (u64::from(side), u64::from(size), u64::from(shorter));
        ((2 * side * size + shorter) / (2 * shorter)) as u32
    };
    let image = RgbImage::from_raw(width, height, pixels.into_vec()).unwrap_or_default();
    let small = imageops::resize(&image, scale(width), scale(height), FilterType::Triangle);
    Picture { width: small.width(), height: small.height(), pixels: small.into_raw().into() }
}

/// A cache under construction: pixels go to the file at once, the small tensors are kept.
///
/// The header stands first but is known last, so room for it is reserved: JSON may be followed by
/// spaces.
struct Draft {
    file: BufWriter<NamedTempFile>,
    room: usize,
    offsets: Vec<i64>,
    sizes: Vec<u8>,
    labels: Vec<u8>,
    split: Vec<u8>,
    names: Vec<u8>,
}

impl Draft {
    fn create(path: &Path, header: &Header) -> io::Result<Self> {
        let folder = match path.parent() {
            Some(folder) if folder != Path::new("") => folder,
            _ => Path::new("."),
        };
        let mut builder = tempfile::Builder::new();
        builder.prefix(".pretext-cache-").suffix(".part");
        // Private by default; a cache is as readable as any other file of its owner.
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
        let mut file = BufWriter::with_capacity(1 << 20, builder.tempfile_in(folder)?);
        // No number will have more digits than these.
        let most = usize::MAX / 2;
        let widest =
            Header { train: most, val: most, unsup: most, damaged: most, ..header.clone() };
        let room = header_text(&widest, &[(most, most); 6], most, most).len().next_multiple_of(8);
        file.write_all(&vec![b' '; 8 + room])?;
        let (sizes, labels, split, names) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        Ok(Self { file, room, offsets: vec![0], sizes, labels, split, names })
    }

    fn push(&mut self, picture: &Picture, split: u8, label: u32, name: &str) -> io::Result<()> {
        self.file.write_all(&picture.pixels)?;
        let end = self.offsets.last().copied().unwrap_or(0) + picture.pixels.len() as i64;
        self.offsets.push(end);
        self.sizes.extend(picture.width.to_le_bytes());
        self.sizes.extend(picture.height.to_le_bytes());
        self.labels.extend(label.to_le_bytes());
        self.split.push(split);
        self.names.extend(name.as_bytes());
        self.names.push(0);
        Ok(())
    }

    /// Writes what is left, makes sure that it is on disk, and gives the file its name.
    fn finish(mut self, path: &Path, header: &Header) -> io::Result<u64> {
        let written = self.offsets.last().copied().unwrap_or(0) as usize;
        // Python's readers want i64 tensors to start at a multiple of 8.
        let pixels = written.next_multiple_of(8);
        self.file.write_all(&vec![0; pixels - written])?;
        let offsets: Vec<u8> =
            self.offsets.iter().flat_map(|offset| offset.to_le_bytes()).collect();
        let mut ranges = vec![(0, pixels)];
        for part in [&offsets, &self.sizes, &self.labels, &self.split, &self.names] {
            let start = ranges.last().map_or(0, |(_, end)| *end);
            ranges.push((start, start + part.len()));
            self.file.write_all(part)?;
        }
        let mut text = header_text(header, &ranges, self.split.len(), self.names.len());
        text.push_str(&" ".repeat(self.room.saturating_sub(text.len())));
        self.file.seek(SeekFrom::Start(0))?;
        self.file.write_all(&(text.len() as u64).to_le_bytes())?;
        self.file.write_all(text.as_bytes())?;
        let file = self.file.into_inner().map_err(io::IntoInnerError::into_error)?;
        file.as_file().sync_all()?;
        let bytes = file.as_file().metadata()?.len();
        file.persist(path).map_err(|error| error.error)?;
        Ok(bytes)
    }
}

/// The JSON of a safetensors header for `n` rows.
fn header_text(header: &Header, ranges: &[(usize, usize)], n: usize, names: usize) -> String {
    let pixels = ranges[0].1;
    let tensors = [
        ("pixels", "U8", vec![pixels]),
        ("offsets", "I64", vec![n + 1]),
        ("sizes", "U32", vec![n, 2]),
        ("labels", "U32", vec![n]),
        ("split", "U8", vec![n]),
        ("names", "U8", vec![names]),
    ];
    let mut text = serde_json::Map::new();
    text.insert("__metadata__".into(), json!(header.to_metadata()));
    for ((name, dtype, shape), (start, end)) in tensors.into_iter().zip(ranges) {
        let info = json!({ "dtype": dtype, "shape": shape, "data_offsets": [start, end] });
        text.insert(name.into(), info);
    }
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(width: u32, height: u32, size: Option<u32>, reduced: (u32, u32)) {
        let pixels = vec![77; (width * height * 3) as usize];
        let picture = reduce(Picture { width, height, pixels: pixels.into() }, size);
        assert_eq!((picture.width, picture.height), reduced);
        assert_eq!(picture.pixels, vec![77; (reduced.0 * reduced.1 * 3) as usize]);
    }

    #[test]
    fn the_shorter_side_is_reduced_and_never_enlarged() {
        check(40, 20, None, (40, 20));
        check(40, 20, Some(20), (40, 20));
        check(40, 20, Some(30), (40, 20));
        check(40, 20, Some(10), (20, 10));
        check(15, 31, Some(10), (10, 21));
        check(1, 9, Some(0), (1, 9));
        check(9, 4, Some(0), (2, 1));
    }

    #[test]
    fn reducing_averages() {
        let column = [[0; 3], [255; 3]].concat();
        let picture = Picture { width: 64, height: 64, pixels: column.repeat(32 * 64).into() };
        // Stripes of one pixel: every eighth of them would be black, an average is grey.
        let small = reduce(picture, Some(8));
        let inner = |x: usize| small.pixels[3 * (8 * 4 + x)];
        for x in 1..7 {
            assert!(inner(x).abs_diff(128) <= 2, "{}", inner(x));
        }
    }
}
