//! The files and folders that an archive makes, each counted once and none of them impossible.

use std::collections::HashMap;
use std::ffi::OsString;
use std::path::Path;

use anyhow::{Result, bail};

use super::archive::quoted;

/// The most files and folders: ten times those of the largest of the known archives.
pub(super) const MOST_ENTRIES: usize = 500_000;
/// The most folders within each other; a data set has three or four.
const DEEPEST: usize = 32;
/// Bytes of a name that every file system takes.
const LONGEST_NAME: usize = 255;

/// What an archive was found to make so far.
#[derive(Default)]
pub(super) struct Tree {
    /// Each by the number of the folder it lies in, 0 for the outermost, and its name: its own number,
    /// and whether it is a file.
    made: HashMap<(usize, OsString), (usize, bool)>,
}

impl Tree {
    /// Adds a file or a folder, and the folders it lies in. A file may come twice: the later one
    /// counts, as for tar.
    ///
    /// # Errors
    /// If there are too many of them, or none can be called so.
    pub(super) fn add(&mut self, path: &Path, is_file: bool) -> Result<()> {
        let depth = path.iter().count();
        if depth > DEEPEST {
            bail!("{} in it lies deeper than {DEEPEST} folders", quoted(path))
        }
        let mut folder = 0;
        for (i, name) in path.iter().enumerate() {
            if name.len() > LONGEST_NAME {
                bail!(
                    "{} in it has a name of {} bytes, more than a file can have: {LONGEST_NAME}",
                    quoted(path),
                    name.len()
                )
            }
            if name.as_encoded_bytes().contains(&0) {
                bail!("{} in it has a byte of 0 in its name, as no file can have", quoted(path))
            }
            let number = self.made.len() + 1;
            let is_file = is_file && i + 1 == depth;
            let found = *self.made.entry((folder, name.to_owned())).or_insert((number, is_file));
            if found.1 != is_file {
                let both: std::path::PathBuf = path.iter().take(i + 1).collect();
                bail!("{} in it is a file and a folder at once", quoted(&both))
            }
            if self.made.len() > MOST_ENTRIES {
                bail!("it holds more than {MOST_ENTRIES} files and folders")
            }
            folder = found.0;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_counted_once() {
        let mut tree = Tree::default();
        for (path, is_file, count) in [
            ("a/b/c", true, 3),
            ("a/b", false, 3),
            ("a/b/c", true, 3),
            ("b/b/c", false, 6),
            ("b/b/c/c", true, 7),
            ("", false, 7),
        ] {
            tree.add(Path::new(path), is_file).unwrap();
            assert_eq!(tree.made.len(), count, "{path}");
        }
        assert!(tree.add(Path::new("a/b/c/d"), true).is_err(), "in a file");
        assert!(tree.add(Path::new("b/b"), true).is_err(), "a folder as a file");
    }
}
