//! Data sets in few large files: WebDataset's tar archives and Hugging Face's Parquet files.

#[cfg(feature = "parquet")]
pub(crate) mod parquet;
pub(crate) mod tar;

use std::{
    collections::{BTreeSet, HashMap},
    fs,
    path::{Path, PathBuf},
};

use crate::{
    Error,
    catalog::{self, Catalog, File, Shard},
    place::Place,
};
#[cfg(feature = "parquet")]
use parquet::Kept;

/// What files of a data set keep together.
#[cfg(not(feature = "parquet"))]
#[derive(Default)]
struct Kept {}

/// A picture of a shard, as the shard describes it.
pub(crate) struct Sample {
    pub(crate) place: Place,
    /// Name in the shard.
    pub(crate) name: String,
    /// Name of the class.
    pub(crate) label: Option<String>,
    /// Size, where the shard tells it.
    pub(crate) bytes: u64,
}

/// What one shard holds.
pub(crate) struct Content {
    pub(crate) samples: Vec<Sample>,
    /// Names of all classes in the order of their numbers, where the shard tells them.
    pub(crate) classes: Option<Vec<String>>,
    /// Members that are neither picture nor label.
    pub(crate) ignored: usize,
}

/// The shards that a path stands for, sorted by name: a file, a range in braces
/// (`shard-{000..017}.tar`), or a folder of nothing but shards. `None` if it stands for none.
pub(crate) fn find(path: &Path) -> Result<Option<Vec<PathBuf>>, Error> {
    if is_shard(path) {
        let paths = if path.exists() { vec![path.to_owned()] } else { expand(path) };
        return match paths.iter().find(|path| !path.is_file()) {
            Some(missing) if missing.is_dir() => Ok(None),
            Some(missing) => Err(Error::Missing { path: missing.clone() }),
            None => Ok(Some(paths)),
        };
    }
    if !path.is_dir() {
        return Ok(None);
    }
    let failed = |error| Error::from_io(path, error);
    let mut shards = Vec::new();
    for entry in fs::read_dir(path).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let path = entry.path();
        if entry.file_name().as_encoded_bytes().starts_with(b".") {
            continue;
        }
        // Pictures and folders make it a folder of pictures, whatever else lies there.
        if path.is_dir() || catalog::is_picture(&path) {
            return Ok(None);
        }
        if is_shard(&path) {
            shards.push(path);
        }
    }
    shards.sort();
    Ok((!shards.is_empty()).then_some(shards))
}

/// Whether a path is named as shards are.
pub(crate) fn is_shard(path: &Path) -> bool {
    let extension = path.extension().and_then(|extension| extension.to_str());
    extension.is_some_and(|extension| ["tar", "parquet"].contains(&extension))
}

/// The paths of a range in braces, `{000..017}`; the path itself if it holds none.
fn expand(path: &Path) -> Vec<PathBuf> {
    let parts = || {
        let text = path.to_str()?;
        let (before, rest) = text.split_once('{')?;
        let (range, after) = rest.split_once('}')?;
        let (first, last) = range.split_once("..")?;
        let (from, to) = (first.parse::<u32>().ok()?, last.parse::<u32>().ok()?);
        // Nobody has more shards; a slip of the finger must not take all memory.
        let sound = from <= to && to - from < 1_000_000;
        sound.then(|| {
            let width = first.len();
            (from..=to).map(|i| format!("{before}{i:0width$}{after}").into()).collect()
        })
    };
    parts().unwrap_or_else(|| vec![path.to_owned()])
}

/// The part of a data set that a shard holds, by the beginning of its file's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Train,
    Val,
    Test,
    Unsup,
}

/// `train-00000-of-00002.parquet`, `val_3.tar`, `test.tar`; any other name is of `train`.
fn part(path: &Path) -> Part {
    let stem = stem(path).to_ascii_lowercase();
    let word: String = stem.chars().take_while(char::is_ascii_alphabetic).collect();
    match word.as_str() {
        "val" | "valid" | "validation" => Part::Val,
        "test" => Part::Test,
        "unsup" | "unsupervised" | "unlabeled" | "unlabelled" => Part::Unsup,
        _ => Part::Train,
    }
}

/// A file's name without its last ending.
fn stem(path: &Path) -> String {
    path.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

/// Lists the pictures of shards.
///
/// The order is that of the shards' names, and in a shard its own; `unsup` alone is in the order of
/// the SHA-256 of the names, as everywhere.
pub(crate) fn scan(paths: &[PathBuf]) -> Result<Catalog, Error> {
    let mut found = Catalog::default();
    let (mut train, mut val, mut told) = (Vec::new(), Vec::new(), None);
    let kept = Kept::default();
    let has_val = paths.iter().any(|path| part(path) == Part::Val);
    for path in paths {
        let part = match part(path) {
            Part::Test if has_val => {
                // The choice between two sets to score on is the user's.
                found.ignored += 1;
                continue;
            }
            Part::Test => Part::Val,
            part => part,
        };
        let metadata = path.metadata().map_err(|error| Error::from_io(path, error))?;
        let stem = stem(path);
        found.shards.push(Shard {
            name: stem.clone().into_bytes(),
            bytes: metadata.len(),
            modified: catalog::modified(&metadata),
        });
        let Content { samples, classes, ignored } = open(path, &kept)?;
        found.ignored += ignored;
        if part != Part::Unsup && told.is_some() && classes.is_some() && told != classes {
            let problem = "names other classes than the shards before it; keep only shards of one \
                           data set together";
            return Err(Error::Shard { path: path.clone(), problem: problem.into() });
        }
        told = told.or(classes);
        for Sample { place, name, label, bytes } in samples {
            let file =
                File { place, name: format!("{stem}/{name}").into_bytes(), bytes, modified: 0 };
            match (part, label) {
                (Part::Unsup, _) | (Part::Train, None) => found.unsup.push(file),
                (Part::Train, Some(label)) => train.push((file, label)),
                (_, Some(label)) => val.push((file, label)),
                (_, None) => {
                    let problem = format!(
                        "{name} has no label, which a shard to validate with needs; rename it to \
                         unsup-*, or leave it out"
                    );
                    return Err(Error::Shard { path: path.clone(), problem });
                }
            }
        }
    }
    let counts = [train.len(), val.len(), found.unsup.len()];
    if counts.iter().sum::<usize>() == 0 {
        let path = paths.first().cloned().unwrap_or_default();
        return Err(Error::Shard { path, problem: "holds no pictures; give another file".into() });
    }
    if counts[0] == 0 && counts[1] > 0 {
        let problem = "is to validate with, but nothing is there to train on; give the train-* \
                       shards too, as their folder";
        let path = paths.iter().find(|path| matches!(part(path), Part::Val | Part::Test));
        let path = path.cloned().unwrap_or_default();
        return Err(Error::Shard { path, problem: problem.into() });
    }
    found.classes = told.unwrap_or_else(|| sorted(train.iter().map(|(_, label)| label)));
    let places: HashMap<&str, u32> =
        found.classes.iter().zip(0..).map(|(class, i)| (class.as_str(), i)).collect();
    let number = |(file, label): (File, String)| match places.get(label.as_str()) {
        Some(place) => Ok((file, *place)),
        None => {
            let name = String::from_utf8_lossy(&file.name).into_owned();
            let problem =
                format!("{name} is of the class {label:?}, of which no train shard holds any");
            let path = paths.first().cloned().unwrap_or_default();
            Err(Error::Shard { path, problem: problem + "; add one or remove it" })
        }
    };
    found.train = train.into_iter().map(number).collect::<Result<_, _>>()?;
    found.val = val.into_iter().map(number).collect::<Result<_, _>>()?;
    found.unsup.sort_by_cached_key(|file| catalog::hash(&file.name));
    Ok(found)
}

/// Each class once: numbers by size, if all are, else by bytes.
fn sorted<'a>(labels: impl Iterator<Item = &'a String>) -> Vec<String> {
    let labels: BTreeSet<&String> = labels.collect();
    let mut labels: Vec<String> = labels.into_iter().cloned().collect();
    let number = |label: &String| label.parse::<u64>().ok();
    if labels.iter().all(|label| number(label).is_some()) {
        labels.sort_by_key(number);
    }
    labels
}

#[cfg_attr(not(feature = "parquet"), expect(unused_variables, reason = "kept for Parquet"))]
fn open(path: &Path, kept: &Kept) -> Result<Content, Error> {
    if path.extension().is_some_and(|extension| extension == "tar") {
        return tar::open(path);
    }
    #[cfg(feature = "parquet")]
    return parquet::open(path, kept);
    #[cfg(not(feature = "parquet"))]
    return Err(Error::Shard {
        path: path.to_owned(),
        problem: "this build reads no Parquet; build it with the feature `parquet`".into(),
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_in_braces() {
        let paths = |text: &str| {
            let paths = expand(Path::new(text));
            paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>()
        };
        assert_eq!(paths("a/x-{008..010}.tar"), ["a/x-008.tar", "a/x-009.tar", "a/x-010.tar"]);
        assert_eq!(paths("x{1..1}.tar"), ["x1.tar"]);
        for other in ["x.tar", "x{1}.tar", "x{2..1}.tar", "x{a..b}.tar", "x{0..4000000}.tar"] {
            assert_eq!(paths(other), [other]);
        }
    }

    #[test]
    fn names_tell_the_part() {
        for (name, expected) in [
            ("train-00000-of-00001.parquet", Part::Train),
            ("shard-000000.tar", Part::Train),
            ("validity.tar", Part::Train),
            ("val-0.tar", Part::Val),
            ("x/Validation-00000.parquet", Part::Val),
            ("test.tar", Part::Test),
            ("unsup_0.tar", Part::Unsup),
        ] {
            assert_eq!(part(Path::new(name)), expected, "{name}");
        }
    }

    #[test]
    fn numbers_are_sorted_as_numbers() {
        let sorted = |labels: &[&str]| {
            sorted(labels.iter().map(|&label| label.to_owned()).collect::<Vec<_>>().iter())
        };
        assert_eq!(sorted(&["10", "9", "9", "0"]), ["0", "9", "10"]);
        assert_eq!(sorted(&["10", "9", "a"]), ["10", "9", "a"]);
    }
}
