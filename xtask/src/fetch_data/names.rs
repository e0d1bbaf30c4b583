//! What archives and the folders they make are called.

use std::path::{Component, Path};

/// Whether a folder can be called so beside what is kept here in the meantime: archives that are not
/// whole or not right, half unpacked folders, a lock.
pub(super) fn is_plain(name: &str) -> bool {
    let mut parts = Path::new(name).components();
    let alone = matches!(parts.next(), Some(Component::Normal(part)) if part == name);
    alone
        && parts.next().is_none()
        && !name.starts_with('.')
        && !name.contains('\0')
        && !name.ends_with(&format!("{ARCHIVE}.{PART}"))
        && !name.ends_with(&format!("{ARCHIVE}.{REFUSED}"))
}

/// What names of archives end in.
pub(super) const ARCHIVE: &str = ".tgz";
/// What is put behind the name of one that is not whole.
pub(super) const PART: &str = "part";
/// What is put behind the name of one that is not what it should be.
pub(super) const REFUSED: &str = "refused";

/// Whether `--from` names one archive, and not a place that has several.
pub(super) fn is_archive(from: &str) -> bool {
    let path = from.split(['?', '#']).next().unwrap_or(from);
    path.ends_with(".tgz") || path.ends_with(".tar.gz") || Path::new(from).is_file()
}

/// An archive's file name without its ending.
pub(super) fn stem(from: &str) -> &str {
    let path = from.split(['?', '#']).next().unwrap_or(from);
    let name = path.rsplit('/').next().unwrap_or(path);
    name.strip_suffix(".tgz").or_else(|| name.strip_suffix(".tar.gz")).unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_names_a_folder() {
        assert_eq!(stem("http://m/a-b.tar.gz?x=1"), "a-b");
        assert!(is_archive("http://m/a.tgz#x") && !is_archive("http://m/a"));
        for plain in ["a", "imagewang-160", "a.b", "a.part", "a b"] {
            assert!(is_plain(plain), "{plain}");
        }
        for other in
            ["", ".", "..", ".a", "a/", "a/b", "/a", "../a", "a\0", "a.tgz.part", "a.tgz.refused"]
        {
            assert!(!is_plain(other), "{other}");
        }
    }
}
