//! Lines of digits that stand for the pictures of a data set: one for what they are, one for whether
//! anybody touched them.

use sha2::{Digest as _, Sha256};

use crate::catalog::{Catalog, File, hex};

/// SHA-256 over split, class, name and size in bytes of every picture, in the catalog's order, and
/// over name and size of every shard.
///
/// Neither the root's name, nor times, nor contents take part: it is quick, and the same on every
/// machine that unpacked the same archive.
pub(crate) fn fingerprint(catalog: &Catalog) -> String {
    hex(&digest(catalog, |_| String::new()).finalize())
}

/// The same, and times of the last change: what a cache is compared with, on the machine where it
/// was made.
pub(crate) fn stamp(catalog: &Catalog) -> String {
    hex(&digest(catalog, |modified| format!("{modified}\0")).finalize())
}

/// `time` says what to make of a time of change.
fn digest(catalog: &Catalog, time: impl Fn(u128) -> String) -> Sha256 {
    let mut hasher = Sha256::new();
    let mut add = |split: &str, class: &str, name: &[u8], bytes: u64, modified: u128| {
        // Neither names nor classes can hold a zero byte, so the parts cannot run together.
        hasher.update([split.as_bytes(), b"\0", class.as_bytes(), b"\0"].concat());
        hasher.update(name);
        hasher.update(format!("\0{bytes}\0{}", time(modified)));
    };
    for (split, files) in [("train", &catalog.train), ("val", &catalog.val)] {
        for (File { name, bytes, modified, .. }, label) in files {
            add(split, &catalog.classes[*label as usize], name, *bytes, *modified);
        }
    }
    for File { name, bytes, modified, .. } in &catalog.unsup {
        add("unsup", "", name, *bytes, *modified);
    }
    for shard in &catalog.shards {
        add("shard", "", &shard.name, shard.bytes, shard.modified);
    }
    hasher
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{catalog::Shard, place::Place};

    fn catalog(class: &str, name: &str, bytes: u64) -> Catalog {
        let place = Place::File("anywhere".into());
        let file = File { place, name: name.into(), bytes, modified: 0 };
        let mut catalog = Catalog { classes: vec![class.into()], ..Catalog::default() };
        catalog.train.push((file, 0));
        catalog
    }

    #[test]
    fn names_classes_and_sizes_count_and_the_place_does_not() {
        let one = fingerprint(&catalog("cat", "1.jpg", 9));
        assert_eq!(one.len(), 64);
        // Computed with Python: hashlib.sha256(b"train\0cat\x001.jpg\x009\0").hexdigest()
        assert_eq!(one, "824aeee46937cdc0e4e52be3f154b77e509eb59b4f854d9ea14db46405d56356");
        let mut moved = catalog("cat", "1.jpg", 9);
        moved.train[0].0.place = Place::File("elsewhere".into());
        moved.train[0].0.modified = 1;
        assert_eq!(fingerprint(&moved), one);
        for other in
            [catalog("dog", "1.jpg", 9), catalog("cat", "2.jpg", 9), catalog("cat", "1.jpg", 8)]
        {
            assert_ne!(fingerprint(&other), one);
        }
    }

    #[test]
    fn times_and_shards_count_where_they_should() {
        let (one, mut other) = (catalog("cat", "1.jpg", 9), catalog("cat", "1.jpg", 9));
        assert_eq!(stamp(&one), stamp(&other));
        other.train[0].0.modified = 1;
        assert_ne!(stamp(&one), stamp(&other));
        assert_eq!(fingerprint(&one), fingerprint(&other));
        other.shards.push(Shard { name: "a.tar".into(), bytes: 1, modified: 0 });
        assert_ne!(fingerprint(&one), fingerprint(&other));
    }
}
