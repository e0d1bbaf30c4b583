//! Hugging Face's Parquet files of images: a struct column of `bytes` and `path`, a column of labels.
//!
//! Parquet compresses pictures by the page, about 1 MB of a column, so a picture cannot be mapped:
//! its page has to be unpacked. Opening a file looks at the headers of the pages and at the labels
//! and unpacks no picture; after that, 256 MiB of unpacked pages are kept for all files of a
//! data set, those used last. A set that fits is unpacked once; in a larger one, read in random
//! order, each picture costs the unpacking of its page, which a decoded cache saves.

mod pages;

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use memmap2::Mmap;
use parquet::{
    basic::Type,
    column::reader::ColumnReader,
    data_type::ByteArray,
    errors::ParquetError,
    file::reader::{FileReader as _, RowGroupReader, SerializedFileReader},
    schema::types::SchemaDescriptor,
};

use super::{Content, Sample};
use crate::{Error, place::Place};
use pages::Pages;

/// Unpacked pages, of all files of a data set.
pub(super) type Kept = Arc<Pages>;

/// An open file.
pub(crate) struct Table {
    path: PathBuf,
    file: SerializedFileReader<Bytes>,
    /// The column of the pictures' bytes.
    column: usize,
    pages: Vec<Page>,
    kept: Kept,
}

/// Rows that are compressed together.
struct Page {
    group: usize,
    /// The first row in the row group and in the file, and how many there are.
    first_in_group: usize,
    first: usize,
    rows: usize,
}

impl std::fmt::Debug for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Table({})", self.path.display())
    }
}

impl Table {
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Calls `f` with the encoded picture of a row.
    pub(crate) fn with_bytes<R>(
        &self,
        row: usize,
        f: impl FnOnce(&[u8]) -> R,
    ) -> Result<R, String> {
        let page = self.pages.partition_point(|page| page.first <= row).saturating_sub(1);
        // The file's address tells files apart: it lives as long as they are kept.
        let key = (std::ptr::from_ref(self) as usize, page);
        let unpacked = self.kept.get(key, || guarded(|| self.unpack(&self.pages[page])));
        let rows = match unpacked.get() {
            Some(Ok(rows)) => rows.as_slice(),
            Some(Err(problem)) => return Err(problem.clone()),
            None => &[],
        };
        match rows.get(row - self.pages[page].first) {
            Some(Some(bytes)) => Ok(f(bytes.data())),
            _ => Err("the row holds no bytes of a picture".into()),
        }
    }

    /// The pictures of a page; `None` where a row has none.
    fn unpack(&self, page: &Page) -> Result<Vec<Option<ByteArray>>, ParquetError> {
        let group = self.file.get_row_group(page.group)?;
        let ColumnReader::ByteArrayColumnReader(mut reader) =
            group.get_column_reader(self.column)?
        else {
            return Err(ParquetError::General("the pictures are no bytes".into()));
        };
        // Passes over whole pages without unpacking them.
        reader.skip_records(page.first_in_group)?;
        let (mut values, mut levels) = (Vec::new(), Vec::new());
        let (rows, _, _) = reader.read_records(page.rows, Some(&mut levels), None, &mut values)?;
        let deepest = group.metadata().column(self.column).column_descr().max_def_level();
        Ok(with_gaps(values, &levels, deepest, rows))
    }
}

/// Values in their rows, `None` where there is none.
fn with_gaps<T>(values: Vec<T>, levels: &[i16], deepest: i16, rows: usize) -> Vec<Option<T>> {
    let mut values = values.into_iter();
    // Without levels, every row has a value.
    let present = |row: usize| levels.get(row).is_none_or(|level| *level == deepest);
    (0..rows).map(|row| if present(row) { values.next() } else { None }).collect()
}

/// Finds the pictures and labels of a file.
pub(super) fn open(path: &Path, kept: &Kept) -> Result<Content, Error> {
    let failed = |error| Error::from_io(path, error);
    let file = fs::File::open(path).map_err(failed)?;
    // SAFETY: the mapping is read-only. Parquet files are written once and then only read; a
    // program that cuts one short while it is in use would break the assumption, as it does for
    // every reader of memory-mapped files.
    let file = unsafe { Mmap::map(&file) }.map_err(failed)?;
    let refused = |problem: String| {
        let problem = format!("no usable Parquet file of images: {problem}; give another file");
        Error::Shard { path: path.to_owned(), problem }
    };
    let (table, labels, classes) =
        guarded(|| read(path, Bytes::from_owner(file), kept)).map_err(refused)?;
    let table = Arc::new(table);
    let sample = |(row, label): (usize, Option<String>)| Sample {
        place: Place::Row { table: Arc::clone(&table), row },
        name: row.to_string(),
        label,
        bytes: 0,
    };
    let samples = labels.into_iter().enumerate().map(sample).collect();
    Ok(Content { samples, classes, ignored: 0 })
}

/// A table, the label of each row, and the names of all classes.
type Described = (Table, Vec<Option<String>>, Option<Vec<String>>);

fn read(path: &Path, file: Bytes, kept: &Kept) -> Result<Described, ParquetError> {
    let file = SerializedFileReader::new(file)?;
    let metadata = file.metadata().file_metadata();
    let features = features(metadata.key_value_metadata().map_or(&[], Vec::as_slice));
    let schema = metadata.schema_descr();
    let column = picture_column(schema).ok_or_else(|| {
        ParquetError::General("it has no column of pictures (a struct with `bytes`)".into())
    })?;
    let label = label_column(schema, &features);
    let classes = label.and_then(|column| class_names(&features, schema, column));

    let (mut pages, mut labels, mut first) = (Vec::new(), Vec::new(), 0);
    for group in 0..file.num_row_groups() {
        let reader = file.get_row_group(group)?;
        let rows = usize::try_from(reader.metadata().num_rows())?;
        let mut page_reader = reader.get_column_page_reader(column)?;
        let mut first_in_group = 0;
        while let Some(page) = page_reader.peek_next_page()? {
            // Pictures do not repeat in a row: a level is a row.
            let rows = page.num_rows.or(page.num_levels).unwrap_or(0);
            if !page.is_dict && rows > 0 {
                pages.push(Page { group, first_in_group, first: first + first_in_group, rows });
                first_in_group += rows;
            }
            page_reader.skip_next_page()?;
        }
        if first_in_group != rows {
            let text = format!("row group {group} has {first_in_group} pictures in {rows} rows");
            return Err(ParquetError::General(text));
        }
        match label {
            Some(column) => labels.extend(read_labels(&*reader, column, rows, classes.as_deref())?),
            None => labels.extend(std::iter::repeat_n(None, rows)),
        }
        first += rows;
    }
    let table = Table { path: path.to_owned(), file, column, pages, kept: Arc::clone(kept) };
    Ok((table, labels, classes))
}

/// What Hugging Face's `datasets` says of each column.
fn features(metadata: &[parquet::file::metadata::KeyValue]) -> serde_json::Value {
    let text = metadata.iter().find(|pair| pair.key == "huggingface");
    let text = text.and_then(|pair| pair.value.as_deref()).unwrap_or("null");
    let mut value: serde_json::Value = serde_json::from_str(text).unwrap_or_default();
    value.pointer_mut("/info/features").map(serde_json::Value::take).unwrap_or_default()
}

/// The column of bytes: `image.bytes` or `img.bytes`, else the first of that shape.
fn picture_column(schema: &SchemaDescriptor) -> Option<usize> {
    let fits = |column: usize| {
        let described = schema.column(column);
        let parts = described.path().parts();
        let shape = parts.len() == 2 && parts[1] == "bytes";
        shape && described.physical_type() == Type::BYTE_ARRAY && described.max_rep_level() == 0
    };
    let all = || (0..schema.num_columns()).filter(|column| fits(*column));
    let named = |name: &str| all().find(|column| schema.column(*column).path().parts()[0] == name);
    named("image").or_else(|| named("img")).or_else(|| all().next())
}

/// `label` or `labels`, else the first that the features call a class label.
fn label_column(schema: &SchemaDescriptor, features: &serde_json::Value) -> Option<usize> {
    let fits = |column: usize| {
        let described = schema.column(column);
        let kinds = [Type::INT32, Type::INT64, Type::BYTE_ARRAY];
        let flat = described.path().parts().len() == 1 && described.max_rep_level() == 0;
        flat && kinds.contains(&described.physical_type())
    };
    let all = || (0..schema.num_columns()).filter(|column| fits(*column));
    let named = |name: &str| all().find(|column| schema.column(*column).name() == name);
    let class_label =
        |column: &usize| features[schema.column(*column).name()]["_type"] == "ClassLabel";
    named("label").or_else(|| named("labels")).or_else(|| all().find(class_label))
}

fn class_names(
    features: &serde_json::Value,
    schema: &SchemaDescriptor,
    column: usize,
) -> Option<Vec<String>> {
    let names = features[schema.column(column).name()]["names"].as_array()?;
    names.iter().map(|name| name.as_str().map(str::to_owned)).collect()
}

/// The label of each row of a row group as the name of its class; a negative number is none.
fn read_labels(
    group: &dyn RowGroupReader,
    column: usize,
    rows: usize,
    names: Option<&[String]>,
) -> Result<Vec<Option<String>>, ParquetError> {
    let deepest = group.metadata().column(column).column_descr().max_def_level();
    let mut levels = Vec::new();
    let number = |number: i64| match (usize::try_from(number), names) {
        (Err(_), _) => Ok(None),
        (Ok(number), None) => Ok(Some(number.to_string())),
        (Ok(number), Some(names)) => names.get(number).cloned().map(Some).ok_or_else(|| {
            ParquetError::General(format!("label {number} is none of its {} classes", names.len()))
        }),
    };
    // Labels are few and small: they are read at once.
    let labels: Vec<Option<Option<String>>> = match group.get_column_reader(column)? {
        ColumnReader::Int64ColumnReader(mut reader) => {
            let mut values = Vec::new();
            let (rows, ..) = reader.read_records(rows, Some(&mut levels), None, &mut values)?;
            let values = values.into_iter().map(number).collect::<Result<_, _>>()?;
            with_gaps(values, &levels, deepest, rows)
        }
        ColumnReader::Int32ColumnReader(mut reader) => {
            let mut values = Vec::new();
            let (rows, ..) = reader.read_records(rows, Some(&mut levels), None, &mut values)?;
            let values = values.into_iter().map(|v| number(v.into())).collect::<Result<_, _>>()?;
            with_gaps(values, &levels, deepest, rows)
        }
        ColumnReader::ByteArrayColumnReader(mut reader) => {
            let mut values = Vec::new();
            let (rows, ..) = reader.read_records(rows, Some(&mut levels), None, &mut values)?;
            let text = |value: ByteArray| String::from_utf8(value.data().to_vec()).ok();
            with_gaps(values.into_iter().map(text).collect(), &levels, deepest, rows)
        }
        _ => return Err(ParquetError::General("its labels are neither numbers nor names".into())),
    };
    if labels.len() != rows {
        return Err(ParquetError::General(format!("{} labels for {rows} rows", labels.len())));
    }
    Ok(labels.into_iter().map(Option::flatten).collect())
}

/// What a reader of untrusted files says, in one line, even where it panics.
fn guarded<T>(read: impl FnOnce() -> Result<T, ParquetError>) -> Result<T, String> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(read))
        .unwrap_or_else(|_| Err(ParquetError::General("the reader failed on it".into())))
        .map_err(|error| crate::decode::one_line(&error))
}
