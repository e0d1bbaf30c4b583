//! WebDataset's tar archives: the members of one name, up to its first dot, are one sample.
//!
//! One pass over the headers finds the members; after that the archive is memory-mapped, and a
//! picture is decoded where it lies. Nothing is unpacked.

use std::{
    collections::HashMap,
    fs,
    io::Cursor,
    ops::Range,
    path::{Path, PathBuf},
    sync::Arc,
};

use memmap2::Mmap;

use super::{Content, Sample};
use crate::{Error, catalog::EXTENSIONS, place::Place};

/// The most bytes of a label that are looked at.
const MAX_LABEL: usize = 1 << 20;

/// A mapped archive.
pub(crate) struct Archive {
    path: PathBuf,
    file: Mmap,
    members: Vec<(String, Range<usize>)>,
}

impl Archive {
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn name(&self, member: usize) -> &str {
        &self.members[member].0
    }

    pub(crate) fn bytes(&self, member: usize) -> &[u8] {
        &self.file[self.members[member].1.clone()]
    }
}

impl std::fmt::Debug for Archive {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Archive({})", self.path.display())
    }
}

/// Finds the samples of an archive.
pub(super) fn open(path: &Path) -> Result<Content, Error> {
    let failed = |error| Error::from_io(path, error);
    let refused = |problem: String| Error::Shard { path: path.to_owned(), problem };
    let file = fs::File::open(path).map_err(failed)?;
    // SAFETY: the mapping is read-only. Archives are written once and then only read; a program
    // that cuts one short while it is in use would break the assumption, as it does for every
    // reader of memory-mapped files.
    let file = unsafe { Mmap::map(&file) }.map_err(failed)?;
    let index = index(&file).map_err(refused)?;
    let mut samples = HashMap::<&str, (Option<usize>, Option<String>)>::new();
    let mut order = Vec::new();
    let mut ignored = 0;
    for (i, (name, range)) in index.iter().enumerate() {
        let Some((key, ending)) = split(name) else {
            ignored += 1;
            continue;
        };
        let sample = samples.entry(key).or_insert_with(|| {
            order.push(key);
            (None, None)
        });
        let content = &file[range.clone()];
        match ending.as_str() {
            ending if EXTENSIONS.contains(&ending) && sample.0.is_none() => sample.0 = Some(i),
            // A class file is meant as the label, JSON may be about anything.
            "cls" => sample.1 = Some(class(content).ok_or_else(|| no_label(path, name))?),
            "json" if sample.1.is_none() => sample.1 = json_label(content),
            "json" => {}
            _ => ignored += 1,
        }
    }
    let described: Vec<_> = order
        .into_iter()
        .filter_map(|key| samples.remove(key))
        .filter_map(|(picture, label)| Some((picture?, label)))
        .collect();
    let archive = Arc::new(Archive { path: path.to_owned(), file, members: index });
    let sample = |(member, label): (usize, Option<String>)| {
        let (name, bytes) = (archive.name(member).to_owned(), archive.bytes(member).len() as u64);
        Sample {
            place: Place::Member { archive: Arc::clone(&archive), member },
            name,
            label,
            bytes,
        }
    };
    let samples = described.into_iter().map(sample).collect();
    Ok(Content { samples, classes: None, ignored })
}

fn no_label(path: &Path, name: &str) -> Error {
    let problem = format!("{name} holds no class (a number or a name); mend it or leave it out");
    Error::Shard { path: path.to_owned(), problem }
}

/// Names of all regular files and where their content lies.
fn index(file: &[u8]) -> Result<Vec<(String, Range<usize>)>, String> {
    let broken = |error| format!("no usable tar archive ({error}); write it again");
    let mut archive = ::tar::Archive::new(Cursor::new(file));
    let mut members = Vec::new();
    for entry in archive.entries_with_seek().map_err(broken)? {
        let entry = entry.map_err(broken)?;
        if !entry.header().entry_type().is_file() {
            continue;
        }
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let content = entry
            .raw_file_position()
            .checked_add(entry.size())
            .filter(|end| *end <= file.len() as u64)
            .map(|end| entry.raw_file_position() as usize..end as usize)
            .ok_or_else(|| format!("it ends inside of {name}; write it again"))?;
        members.push((name, content));
    }
    Ok(members)
}

/// The key of a member's sample, and its ending in small letters; `None` for hidden files.
fn split(name: &str) -> Option<(&str, String)> {
    let start = name.rfind('/').map_or(0, |slash| slash + 1);
    let base = &name[start..];
    if base.starts_with('.') {
        return None;
    }
    let dot = base.find('.')?;
    Some((&name[..start + dot], base[dot + 1..].to_ascii_lowercase()))
}

/// A class file's text.
fn class(content: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(content.get(..content.len().min(MAX_LABEL))?).ok()?.trim();
    (!text.is_empty() && !text.contains(['\0', '\n'])).then(|| text.to_owned())
}

/// `label`, `cls` or `class` of a JSON object: a number that counts classes, or a name.
fn json_label(content: &[u8]) -> Option<String> {
    if content.len() > MAX_LABEL {
        return None;
    }
    let object: serde_json::Value = serde_json::from_slice(content).ok()?;
    let value = ["label", "cls", "class"].iter().find_map(|key| object.get(key))?;
    match value {
        serde_json::Value::String(text) => class(text.as_bytes()),
        number => number.as_u64().map(|number| number.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_end_at_the_first_dot_of_the_file_name() {
        let split = |name| split(name).map(|(key, ending)| (key.to_owned(), ending));
        let some = |key: &str, ending: &str| Some((key.to_owned(), ending.to_owned()));
        assert_eq!(split("a.b/000.seg.PNG"), some("a.b/000", "seg.png"));
        assert_eq!(split("000.jpg"), some("000", "jpg"));
        assert_eq!(split("./a/._000.jpg"), None);
        assert_eq!(split("README"), None);
    }

    #[test]
    fn labels_are_numbers_or_names() {
        assert_eq!(class(b" 12\n").as_deref(), Some("12"));
        assert_eq!(class(b"tabby cat").as_deref(), Some("tabby cat"));
        for none in [b"".as_slice(), b"\n", b"a\nb", b"\xFF"] {
            assert_eq!(class(none), None);
        }
        assert_eq!(json_label(br#"{"label": 3, "caption": "x"}"#).as_deref(), Some("3"));
        assert_eq!(json_label(br#"{"class": "cat"}"#).as_deref(), Some("cat"));
        for none in [r#"{"label": -1}"#, r#"{"caption": "x"}"#, "[1]", "{"] {
            assert_eq!(json_label(none.as_bytes()), None);
        }
    }
}
