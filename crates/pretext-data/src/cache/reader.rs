//! Reading a cache: everything is checked when it is opened, so that a row cannot fail later.

use std::{fs::File, ops::Range, path::Path, sync::Arc};

use memmap2::Mmap;
use safetensors::{Dtype, SafeTensors, tensor::Metadata};

use super::{NO_LABEL, header::Header};
use crate::{Error, Picture, Pixels};

/// An open cache.
pub(crate) struct Reader {
    file: Arc<Mmap>,
    header: Header,
    rows: Vec<Row>,
}

struct Row {
    width: u32,
    height: u32,
    label: u32,
    /// Where in the file.
    pixels: Range<usize>,
    name: Range<usize>,
}

impl Reader {
    pub(crate) fn open(path: &Path) -> Result<Self, Error> {
        let failed = |error| Error::from_io(path, error);
        let file = File::open(path).map_err(failed)?;
        // SAFETY: the mapping is read-only. Caches are replaced by renaming, which leaves a mapped
        // file as it is; a program that writes into one while it is in use would break the
        // assumption, as it does for every reader of memory-mapped safetensors.
        let file = unsafe { Mmap::map(&file) }.map_err(failed)?;
        let refused = |problem| Error::Cache { path: path.to_owned(), problem };
        let (header, rows) = parse(&file).map_err(refused)?;
        Ok(Self { file: Arc::new(file), header, rows })
    }

    pub(crate) fn header(&self) -> &Header {
        &self.header
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.file.len() as u64
    }

    pub(crate) fn label(&self, row: usize) -> u32 {
        self.rows[row].label
    }

    pub(crate) fn name(&self, row: usize) -> &str {
        // Checked to be text when the cache was opened.
        std::str::from_utf8(&self.file[self.rows[row].name.clone()]).unwrap_or_default()
    }

    /// The picture of a row, where it lies.
    pub(crate) fn picture(&self, row: usize) -> Picture {
        let Row { width, height, pixels, .. } = &self.rows[row];
        let pixels = Pixels::mapped(&self.file, pixels.clone());
        Picture { width: *width, height: *height, pixels }
    }
}

/// Checks a whole file; the error says what is wrong with "it".
fn parse(file: &[u8]) -> Result<(Header, Vec<Row>), String> {
    let (length, metadata) = SafeTensors::read_metadata(file)
        .map_err(|error| format!("it is truncated or no safetensors file ({error})"))?;
    let start = 8 + length;
    let text = metadata.metadata().as_ref().ok_or("it is a safetensors file of another kind")?;
    let header = Header::from_metadata(text)?;
    let n = header.rows().ok_or("its number of rows is impossible")?;

    let pixels = tensor(&metadata, "pixels", Dtype::U8, None, start)?;
    let names = tensor(&metadata, "names", Dtype::U8, None, start)?;
    let bounds = n.checked_add(1).ok_or("its number of rows is impossible")?;
    let offsets = tensor(&metadata, "offsets", Dtype::I64, Some(&[bounds]), start)?;
    let sizes = tensor(&metadata, "sizes", Dtype::U32, Some(&[n, 2]), start)?;
    let labels = tensor(&metadata, "labels", Dtype::U32, Some(&[n]), start)?;
    let split = tensor(&metadata, "split", Dtype::U8, Some(&[n]), start)?;

    let u32_at = |tensor: &Range<usize>, i: usize| {
        let at = tensor.start + 4 * i;
        u32::from_le_bytes(std::array::from_fn(|k| file[at + k]))
    };
    let offset_at = |i: usize| {
        let at = offsets.start + 8 * i;
        i64::from_le_bytes(std::array::from_fn(|k| file[at + k]))
    };
    let mut name_end = names.start;
    // It grows with what was checked: a file with a hole has any number of rows that are nothing.
    let mut rows = Vec::new();
    for i in 0..n {
        let wrong = |what: &str| format!("the {what} of its row {i} is wrong");
        let (width, height) = (u32_at(&sizes, 2 * i), u32_at(&sizes, 2 * i + 1));
        let row_pixels = u64::from(width) * u64::from(height);
        let (from, to) = (offset_at(i), offset_at(i + 1));
        let fits = from >= 0
            && to >= from
            && to as u64 <= pixels.len() as u64
            && row_pixels > 0
            && row_pixels.checked_mul(3) == Some((to - from) as u64);
        if !fits {
            return Err(wrong("offset or size"));
        }
        let (expected_split, labelled) = match i {
            i if i < header.train => (0, true),
            i if i < header.train + header.val => (1, true),
            _ => (2, false),
        };
        if file[split.start + i] != expected_split {
            return Err(wrong("split"));
        }
        let label = u32_at(&labels, i);
        let known = (label as usize) < header.classes.len();
        if known != labelled || (!labelled && label != NO_LABEL) {
            return Err(wrong("label"));
        }
        let rest = file.get(name_end..names.end).unwrap_or_default();
        let length = rest.iter().position(|&byte| byte == 0).ok_or_else(|| wrong("name"))?;
        std::str::from_utf8(&rest[..length]).map_err(|_| wrong("name"))?;
        rows.push(Row {
            width,
            height,
            label,
            pixels: pixels.start + from as usize..pixels.start + to as usize,
            name: name_end..name_end + length,
        });
        name_end += length + 1;
    }
    Ok((header, rows))
}

/// Where in the file a tensor lies, if it is what it should be.
fn tensor(
    metadata: &Metadata,
    name: &str,
    dtype: Dtype,
    shape: Option<&[usize]>,
    start: usize,
) -> Result<Range<usize>, String> {
    let info = metadata.info(name).ok_or_else(|| format!("it lacks the tensor {name:?}"))?;
    let shape_fits = match shape {
        Some(shape) => info.shape == shape,
        None => info.shape.len() == 1,
    };
    if info.dtype != dtype || !shape_fits {
        return Err(format!("its tensor {name:?} is {:?} {:?}", info.dtype, info.shape));
    }
    let (from, to) = info.data_offsets;
    Ok(start + from..start + to)
}
