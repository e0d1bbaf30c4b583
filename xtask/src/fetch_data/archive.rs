//! What is in an archive, told only as long as it is harmless.

use std::cell::Cell;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::{Component, Path, PathBuf};
use std::rc::Rc;

use anyhow::{Context as _, Result, bail};
use flate2::read::MultiGzDecoder;
use tar::{Archive, EntryType};

use super::tree::{MOST_ENTRIES, Tree};
use crate::short;

/// The most that an archive may unpack to: twenty times the largest of the known ones.
const MOST_BYTES: u64 = 64 << 30;
/// How many times its own length an archive may unpack to, besides [`SLACK`]: pictures are packed
/// already, gzip makes a thousandth of zeros.
const MOST_RATIO: u64 = 100;
/// What any archive may unpack to, in bytes.
const SLACK: u64 = 16 << 20;
/// What may stand between two files: headers, long names, padding, in bytes.
const BETWEEN: u64 = 1 << 20;

/// The most characters of a name that are shown.
const SHOWN: usize = 200;

/// Calls `visit` with the path of each folder, and with the path and the content of each file.
///
/// All of the archive is read: several gzip members, and several tar archives, one behind the other.
///
/// # Errors
/// If `visit` fails, or the archive is damaged, larger than it may be, or holds anything else than
/// files and folders that can be, below the folder they are unpacked into.
pub(super) fn walk(
    path: &Path,
    mut visit: impl FnMut(&Path, Option<&mut dyn Read>) -> Result<()>,
) -> Result<()> {
    const DAMAGED: &str = "it is damaged, or no gzipped tar archive";
    let file = File::open(path).with_context(|| format!("cannot open {}", short(path)))?;
    let most = MOST_BYTES.min(SLACK + MOST_RATIO * file.metadata()?.len());
    let left = Rc::new(Cell::new(BETWEEN));
    let inner = MultiGzDecoder::new(BufReader::new(file));
    let mut archive = Archive::new(Metered { inner, left: Rc::clone(&left) });
    archive.set_ignore_zeros(true);
    let (mut bytes, mut count, mut tree) = (0_u64, 0, Tree::default());
    for entry in archive.entries().context("it is no tar archive")? {
        let mut entry = entry.context(DAMAGED)?;
        let path = safe(&entry.path().context("a name in it is not readable")?)?;
        let size = entry.size();
        bytes = bytes.saturating_add(size);
        count += 1;
        if count > MOST_ENTRIES {
            bail!("it holds more than {MOST_ENTRIES} files and folders")
        }
        if bytes > most {
            bail!("it unpacks to more than {most} bytes, more than its length can hold in pictures")
        }
        // The iterator reads what follows the content, a file's content is read here.
        left.set(size.saturating_add(BETWEEN));
        match entry.header().entry_type() {
            EntryType::Directory => {
                tree.add(&path, false)?;
                visit(&path, None)?;
            }
            EntryType::Regular | EntryType::Continuous if path.file_name().is_none() => {
                bail!("a file in it has no name")
            }
            EntryType::Regular | EntryType::Continuous => {
                tree.add(&path, true)?;
                let mut content = entry.by_ref().take(u64::MAX);
                visit(&path, Some(&mut content))?;
                if u64::MAX - content.limit() != size {
                    bail!("{} is cut off", quoted(&path))
                }
            }
            // What tar notes about entries, not an entry.
            EntryType::XHeader | EntryType::XGlobalHeader => {}
            other => {
                bail!("{} is a {other:?}; only files and folders are unpacked", quoted(&path))
            }
        }
        left.set(BETWEEN);
    }
    // gzip's checksum comes last.
    io::copy(&mut archive.into_inner(), &mut io::sink()).context(DAMAGED)?;
    if count == 0 { bail!("it is empty") } else { Ok(()) }
}

/// A name with line breaks and control characters as escapes, so that a message stays one line, and
/// cut so that it stays a short one.
pub(super) fn quoted(path: &Path) -> String {
    let name = path.display().to_string();
    match name.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{:?}…", &name[..end]),
        None => format!("{name:?}"),
    }
}

/// The path, if it stays below the folder it is unpacked into.
fn safe(path: &Path) -> Result<PathBuf> {
    let mut out = PathBuf::new();
    for component in path.components() {
        match component {
            Component::Normal(part) => out.push(part),
            Component::CurDir => {}
            _ => bail!("{} would be unpacked outside of the folder", quoted(path)),
        }
    }
    Ok(out)
}

/// Reads no more than is left, so that nothing that stands between files fills the memory.
struct Metered<R> {
    inner: R,
    left: Rc<Cell<u64>>,
}

impl<R: Read> Read for Metered<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        match self.left.get().checked_sub(count as u64) {
            Some(left) => self.left.set(left),
            None => return Err(io::Error::other("too much stands between its files")),
        }
        Ok(count)
    }
}
