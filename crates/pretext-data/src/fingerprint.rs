//! One line of digits that stands for the names and sizes of a folder's pictures.

use sha2::{Digest as _, Sha256};

use crate::catalog::{Catalog, File, hex};

/// SHA-256 over split, class, name and size in bytes of every picture, in the catalog's order.
///
/// Neither the root's name, nor times, nor contents take part: it is quick, and the same on every
/// machine that unpacked the same archive.
pub(crate) fn fingerprint(catalog: &Catalog) -> String {
    let mut hasher = Sha256::new();
    let mut add = |split: &str, class: &str, file: &File| {
        // Neither names nor classes can hold a zero byte, so the parts cannot run together.
        hasher.update([split.as_bytes(), b"\0", class.as_bytes(), b"\0"].concat());
        hasher.update(&file.name);
        hasher.update(format!("\0{}\0", file.bytes));
    };
    for (split, files) in [("train", &catalog.train), ("val", &catalog.val)] {
        for (file, label) in files {
            add(split, &catalog.classes[*label as usize], file);
        }
    }
    for file in &catalog.unsup {
        add("unsup", "", file);
    }
    hex(&hasher.finalize())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn catalog(class: &str, name: &str, bytes: u64) -> Catalog {
        let file = File { path: "anywhere".into(), name: name.into(), bytes };
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
        moved.train[0].0.path = "elsewhere".into();
        assert_eq!(fingerprint(&moved), one);
        for other in
            [catalog("dog", "1.jpg", 9), catalog("cat", "2.jpg", 9), catalog("cat", "1.jpg", 8)]
        {
            assert_ne!(fingerprint(&other), one);
        }
    }
}
