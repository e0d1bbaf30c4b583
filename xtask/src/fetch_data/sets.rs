//! The data sets that can be fetched by name.

/// A data set of the fastai collection.
#[derive(Debug)]
pub(crate) struct Set {
    /// Its name: of the archive without `.tgz`, and of the folder inside.
    pub(crate) name: &'static str,
    /// The archive's length and SHA-256, where they are published (TensorFlow Datasets).
    pub(crate) known: Option<(u64, &'static str)>,
}

/// Where the archives lie, as `<name>.tgz`.
pub(crate) const HOME: &str = "https://s3.amazonaws.com/fast-ai-imageclas";

/// Every data set that has a name.
pub(crate) const SETS: &[Set] = &[
    Set {
        name: "imagewang-160",
        known: Some((
            191_498_213,
            "a0d360f9d8159055b3bf2b8926a51d19b2f1ff98a1eef6034e4b891c59ca3f1a",
        )),
    },
    Set {
        name: "imagewang-320",
        known: Some((
            669_826_647,
            "fd53301c335aa46f0f4add68dd471cd0b8b66412382cc36f5f510d0a03fb4d9d",
        )),
    },
    Set {
        name: "imagewang",
        known: Some((
            2_900_347_689,
            "7a5ee5a0e8bd91f26d6a22cad2e2e0fa8af0b299e0130aadf6bf8f772371ecfb",
        )),
    },
    Set { name: "imagenette2-160", known: None },
    Set { name: "imagenette2-320", known: None },
    Set { name: "imagenette2", known: None },
    Set { name: "imagewoof2-160", known: None },
    Set { name: "imagewoof2-320", known: None },
    Set { name: "imagewoof2", known: None },
];

/// The set of that name.
pub(crate) fn by_name(name: &str) -> Option<&'static Set> {
    SETS.iter().find(|set| set.name == name)
}
