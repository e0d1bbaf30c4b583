//! The photographs that both sides read.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::mistake;

/// JPEGs in one flat folder.
pub(in super::super) struct Corpus {
    pub(in super::super) folder: PathBuf,
    pub(in super::super) pictures: usize,
    bytes: u64,
}

impl Corpus {
    /// A folder of the user's own.
    ///
    /// # Errors
    /// If it holds anything else than JPEGs, which is the user's mistake.
    pub(in super::super) fn open(folder: &Path) -> Result<Self> {
        let entries = fs::read_dir(folder).map_err(|error| {
            mistake(format!("--corpus: cannot read {}: {error}", folder.display()))
        })?;
        let (mut pictures, mut bytes) = (0, 0);
        for entry in entries {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
            let jpeg = name.ends_with(".jpg") || name.ends_with(".jpeg");
            if !jpeg || name.starts_with('.') || !path.is_file() {
                let path = path.display();
                let told = format!("--corpus: {path} is no JPEG; give a folder of nothing else");
                return Err(mistake(told));
            }
            (pictures, bytes) = (pictures + 1, bytes + path.metadata()?.len());
        }
        if pictures == 0 {
            let folder = folder.display();
            return Err(mistake(format!("--corpus: {folder} is empty; give a folder of JPEGs")));
        }
        Ok(Self { folder: folder.to_owned(), pictures, bytes })
    }

    /// Made anew of the embedded sample, so that it is never one of another time.
    pub(in super::super) fn make(bench: &Path, pictures: usize) -> Result<Self> {
        let (sample, folder) =
            (crate::root().join("data/sample"), crate::root().join("target/bench-corpus"));
        if folder.exists() {
            fs::remove_dir_all(&folder)
                .with_context(|| format!("cannot remove {}", crate::short(&folder)))?;
        }
        let mut command = Command::new(bench);
        command.arg("corpus").arg(sample).arg(&folder).arg(pictures.to_string());
        if !command.status().context("cannot run the bench")?.success() {
            bail!("the photographs cannot be made in {}; see above", crate::short(&folder))
        }
        Self::open(&folder)
    }

    /// Copies its pictures to `data/SPLIT/CLASS/`, as many to each split as it is to have. Copies
    /// repeat where there are fewer.
    pub(in super::super) fn lay_out(
        &self,
        data: &Path,
        classes: usize,
        splits: &[(&str, usize)],
    ) -> Result<()> {
        let folder = &self.folder;
        let entries =
            fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
        let files: std::io::Result<Vec<PathBuf>> = entries.map(|entry| Ok(entry?.path())).collect();
        let mut files = files?;
        files.sort();
        for (split, count) in splits {
            for i in 0..*count {
                let folder = data.join(split).join(format!("{:02}", i % classes));
                if i < classes {
                    fs::create_dir_all(&folder)?;
                }
                fs::copy(&files[i % files.len()], folder.join(format!("{i:05}.jpg")))?;
            }
        }
        Ok(())
    }

    /// It in a few words.
    pub(in super::super) fn describe(&self) -> String {
        let kilobytes = self.bytes as f64 / self.pictures as f64 / 1e3;
        format!("{} photographs of {kilobytes:.1} kB", self.pictures)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_are_laid_out_by_class() {
        let folder = tempfile::tempdir().unwrap();
        let (corpus, data) = (folder.path().join("corpus"), folder.path().join("data"));
        fs::create_dir(&corpus).unwrap();
        for (name, byte) in [("b.jpg", 2), ("a.jpg", 1), ("c.jpg", 3)] {
            fs::write(corpus.join(name), [byte]).unwrap();
        }
        let corpus = Corpus::open(&corpus).unwrap();
        corpus.lay_out(&data, 20, &[("train", 45), ("val", 20)]).unwrap();
        let count = |split: &str| -> usize {
            let classes = fs::read_dir(data.join(split)).unwrap();
            classes.map(|class| fs::read_dir(class.unwrap().path()).unwrap().count()).sum()
        };
        assert_eq!((count("train"), count("val")), (45, 20));
        assert_eq!(fs::read(data.join("train/04/00044.jpg")).unwrap(), [3]);
    }

    #[test]
    fn a_corpus_is_jpegs_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let said = || match Corpus::open(folder.path()) {
            Ok(corpus) => corpus.describe(),
            Err(error) => error.to_string(),
        };
        assert!(said().ends_with("is empty; give a folder of JPEGs"), "{}", said());
        fs::write(folder.path().join("a.JPG"), [0; 3000]).unwrap();
        fs::write(folder.path().join("b.jpeg"), [0; 4000]).unwrap();
        assert_eq!(said(), "2 photographs of 3.5 kB");
        fs::write(folder.path().join("c.png"), []).unwrap();
        assert!(said().contains("c.png is no JPEG"), "{}", said());
        fs::remove_dir_all(folder.path()).unwrap();
        assert!(said().starts_with("--corpus: cannot read "), "{}", said());
    }
}
