//! Archives made here, good ones and others.

use flate2::Compression;
use flate2::write::GzEncoder;
use sha2::{Digest as _, Sha256};
use tar::{Builder, EntryType, Header};

pub(crate) type Entry<'a> = (&'a str, EntryType, &'a [u8]);

pub(crate) const FILE: EntryType = EntryType::Regular;

fn header(name: &str, kind: EntryType, size: usize) -> Header {
    let mut header = Header::new_ustar();
    // Written past the checks of the tar crate, as a wrong-doer would.
    header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
    header.set_entry_type(kind);
    header.set_mode(0o644);
    if kind == EntryType::Symlink || kind == EntryType::Link {
        header.set_link_name("/etc/passwd").unwrap();
    }
    header.set_size(size as u64);
    header.set_cksum();
    header
}

/// A gzipped tar archive of entries with any name and type.
pub(crate) fn archive(entries: &[Entry<'_>]) -> Vec<u8> {
    let mut builder = Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
    for &(name, kind, bytes) in entries {
        builder.append(&header(name, kind, bytes.len()), bytes).unwrap();
    }
    builder.into_inner().unwrap().finish().unwrap()
}

/// Incompressible bytes.
pub(crate) fn noise(count: usize) -> Vec<u8> {
    let mut state = 1_u32;
    let mut draw = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    (0..count).map(|_| draw()).collect()
}

/// A small data set, long enough to be cut in the middle.
pub(crate) fn pictures() -> Vec<u8> {
    archive(&[
        ("small-wang/train/a/", EntryType::Directory, b""),
        ("small-wang/train/a/1.jpg", FILE, &noise(200_000)),
        ("small-wang/val/a/1.jpg", FILE, b"two"),
        ("small-wang/unsup/1.jpg", FILE, b"three"),
    ])
}

/// A data set of many small files.
pub(crate) fn many(count: usize) -> Vec<u8> {
    let mut builder = Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
    for i in 0..count {
        builder.append(&header(&format!("many-wang/train/a/{i}.jpg"), FILE, 0), &[][..]).unwrap();
    }
    let rest = noise(2_000_000);
    builder.append(&header("many-wang/train/a/last.jpg", FILE, rest.len()), &rest[..]).unwrap();
    builder.into_inner().unwrap().finish().unwrap()
}

/// A harmless file, and one whose name only tar's way with long names can hold.
pub(crate) fn long_name(name: &str) -> Vec<u8> {
    let long = [name.as_bytes(), b"\0"].concat();
    archive(&[
        ("w/train/1.jpg", FILE, b"x"),
        ("././@LongLink", EntryType::GNULongName, &long),
        ("cut", FILE, b"x"),
    ])
}

/// One member of a gzip file.
pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    std::io::Write::write_all(&mut encoder, bytes).unwrap();
    encoder.finish().unwrap()
}

/// A harmless file, then `length` zeros where a long name is expected.
pub(crate) fn endless_name(length: usize) -> Vec<u8> {
    archive(&[("w/train/1.jpg", FILE, b"x"), ("long", EntryType::GNULongName, &vec![0; length])])
}

pub(crate) fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}
