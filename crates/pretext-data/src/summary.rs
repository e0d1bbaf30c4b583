//! What a data set holds, in numbers.

use std::fmt;

/// The counts of a data set; prints as a few lines of text.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Summary {
    /// One for each class, in the order of [`crate::Dataset::classes`].
    pub classes: Vec<ClassCount>,
    /// Pictures in `train/`.
    pub train: usize,
    /// Pictures in `val/`.
    pub val: usize,
    /// Pictures without a label.
    pub unsup: usize,
    /// Files and folders that were passed over: hidden ones, and ones that are no pictures.
    pub ignored: usize,
    /// Damaged pictures that a cache left out; a folder does not know before it is read.
    pub damaged: usize,
    /// Bytes of all picture files of the folder, of the shards, or of the cache file.
    pub bytes: u64,
    /// Shards (tar or Parquet); 0 for a folder of pictures and for a cache.
    pub shards: usize,
    /// Whether this is a decoded cache.
    pub cached: bool,
    /// Shorter side that a cache reduced larger pictures to, in pixels.
    pub cached_size: Option<u32>,
    /// The data set's fingerprint.
    pub fingerprint: String,
}

/// The pictures of one class.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct ClassCount {
    /// Name of the class folder.
    pub class: String,
    /// Pictures in `train/`.
    pub train: usize,
    /// Pictures in `val/`.
    pub val: usize,
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match (self.cached, self.cached_size) {
            (false, _) if self.shards == 1 => "1 shard".to_owned(),
            (false, _) if self.shards > 1 => format!("{} shards", self.shards),
            (false, _) => "folder".to_owned(),
            (true, None) => "decoded cache".to_owned(),
            (true, Some(size)) => format!("decoded cache, shorter side at most {size} px"),
        };
        writeln!(f, "kind         {kind}, {:.1} MB", self.bytes as f64 / 1e6)?;
        writeln!(f, "train        {} pictures in {} classes", self.train, self.classes.len())?;
        writeln!(f, "unsup        {} pictures", self.unsup)?;
        let validated = self.classes.iter().filter(|count| count.val > 0).count();
        writeln!(f, "val          {} pictures in {validated} classes", self.val)?;
        writeln!(f, "passed over  {} files, {} damaged", self.ignored, self.damaged)?;
        write!(f, "fingerprint  {}", self.fingerprint)?;
        let width = self.classes.iter().map(|count| count.class.chars().count()).max().unwrap_or(0);
        for ClassCount { class, train, val } in &self.classes {
            write!(f, "\n  {class:width$}  {train:>6} train  {val:>6} val")?;
        }
        Ok(())
    }
}
