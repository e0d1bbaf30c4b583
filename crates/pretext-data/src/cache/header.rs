//! The metadata of a cache: text in, checked values out.

use std::{
    collections::{BTreeMap, HashMap},
    path::PathBuf,
};

use crate::{Error, catalog, fingerprint::stamp};

const FORMAT: &str = "pretext-cache";
const VERSION: &str = "2";

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) classes: Vec<String>,
    pub(crate) fingerprint: String,
    /// Where the pictures were; empty if the path is no text.
    pub(crate) source: String,
    /// What they were, by names, sizes and times of change.
    pub(crate) stamp: String,
    /// Rows of each split.
    pub(crate) train: usize,
    pub(crate) val: usize,
    pub(crate) unsup: usize,
    pub(crate) damaged: usize,
    pub(crate) ignored: usize,
    /// Shorter side in pixels that larger pictures were reduced to.
    pub(crate) size: Option<u32>,
}

impl Header {
    pub(super) fn to_metadata(&self) -> BTreeMap<&'static str, String> {
        BTreeMap::from([
            ("format", FORMAT.to_owned()),
            ("version", VERSION.to_owned()),
            ("classes", serde_json::Value::from(self.classes.as_slice()).to_string()),
            ("fingerprint", self.fingerprint.clone()),
            ("source", self.source.clone()),
            ("stamp", self.stamp.clone()),
            ("train", self.train.to_string()),
            ("val", self.val.to_string()),
            ("unsup", self.unsup.to_string()),
            ("damaged", self.damaged.to_string()),
            ("ignored", self.ignored.to_string()),
            ("size", self.size.map_or("full".to_owned(), |size| size.to_string())),
        ])
    }

    pub(super) fn from_metadata(metadata: &HashMap<String, String>) -> Result<Self, String> {
        let text = |key: &str| metadata.get(key).map(String::as_str);
        if text("format") != Some(FORMAT) {
            return Err("it is a safetensors file of another kind".into());
        }
        match text("version") {
            Some(VERSION) => {}
            other => return Err(format!("its version is {other:?}, not {VERSION}")),
        }
        let need = |key: &str| text(key).ok_or_else(|| format!("its metadata lacks {key:?}"));
        let number = |key: &str| {
            let value = need(key)?;
            value.parse::<usize>().map_err(|_| format!("its {key} is {value:?}, no number"))
        };
        Ok(Self {
            classes: serde_json::from_str(need("classes")?)
                .map_err(|_| "its classes are no list of names".to_owned())?,
            fingerprint: need("fingerprint")?.to_owned(),
            source: need("source")?.to_owned(),
            stamp: need("stamp")?.to_owned(),
            train: number("train")?,
            val: number("val")?,
            unsup: number("unsup")?,
            damaged: number("damaged")?,
            ignored: number("ignored")?,
            size: match need("size")? {
                "full" => None,
                size => Some(size.parse().map_err(|_| format!("its size is {size:?}, no number"))?),
            },
        })
    }

    /// The source, if it is still there but has changed.
    pub(crate) fn changed_source(&self) -> Option<PathBuf> {
        let source = PathBuf::from(&self.source);
        match catalog::find(&source) {
            _ if self.source.is_empty() => None,
            Ok(catalog) => (stamp(&catalog) != self.stamp).then_some(source),
            Err(Error::Missing { .. }) => None,
            // It is there, but no longer what pictures could be taken from.
            Err(_) => Some(source),
        }
    }

    /// Rows of all splits; `None` if that is no possible number.
    pub(super) fn rows(&self) -> Option<usize> {
        self.train.checked_add(self.val)?.checked_add(self.unsup)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> Header {
        Header {
            classes: vec!["a \"quoted\" one".into(), "猫".into()],
            fingerprint: "ab".into(),
            source: "some/where".into(),
            stamp: "cd".into(),
            train: 3,
            val: 2,
            unsup: 1,
            damaged: 4,
            ignored: 5,
            size: Some(128),
        }
    }

    fn metadata(header: &Header) -> HashMap<String, String> {
        header.to_metadata().into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
    }

    #[test]
    fn metadata_comes_back() {
        for header in [header(), Header { size: None, ..header() }] {
            assert_eq!(Header::from_metadata(&metadata(&header)), Ok(header));
        }
    }

    #[test]
    fn what_is_missing_or_wrong_is_named() {
        for (key, value, named) in [
            ("format", "other", "another kind"),
            ("version", "1", "version"),
            ("classes", "cat", "classes"),
            ("train", "-1", "train"),
            ("size", "large", "size"),
        ] {
            let mut wrong = metadata(&header());
            wrong.insert(key.to_owned(), value.to_owned());
            let problem = Header::from_metadata(&wrong).unwrap_err();
            assert!(problem.contains(named), "{problem}");
            wrong.remove(key);
            assert!(Header::from_metadata(&wrong).is_err(), "without {key}");
        }
    }
}
