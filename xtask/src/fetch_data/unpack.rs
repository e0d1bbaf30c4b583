//! Unpacking: only plain files and folders, only below the target, and all or nothing.

use std::fs::{self, File};
use std::io;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use flate2::read::GzDecoder;
use tar::{Archive, EntryType};

use super::STAMP;
use crate::short;

/// The most that an archive may unpack to: twenty times the largest of the known ones.
const MOST_BYTES: u64 = 64 << 30;
/// The most files.
const MOST_FILES: u64 = 5_000_000;

/// Unpacks an archive into `into/<name>` and stamps the folder with the archive's SHA-256.
///
/// Without a name, the archive's single top folder names it.
pub(super) fn unpack(
    archive: &Path,
    into: &Path,
    name: Option<&str>,
    sha256: &str,
) -> Result<PathBuf> {
    let shown = short(archive);
    let file = File::open(archive).with_context(|| format!("cannot open {shown}"))?;
    let temporary = tempfile::Builder::new()
        .prefix(".unpacking-")
        .tempdir_in(into)
        .with_context(|| format!("cannot write into {}", short(into)))?;
    extract(Archive::new(GzDecoder::new(io::BufReader::new(file))), temporary.path())
        .with_context(|| format!("{shown} cannot be unpacked"))?;
    let (top, found) = data_folder(temporary.path(), &shown)?;
    let name = match (name, found) {
        (Some(name), _) => name.to_owned(),
        (None, Some(found)) => found,
        (None, None) => super::stem(&archive.display().to_string()).to_owned(),
    };
    let folder = into.join(&name);
    if folder.exists() {
        bail!("{} is in the way; delete it or give another --into", short(&folder))
    }
    fs::write(top.join(STAMP), format!("{sha256}\n"))?;
    File::open(top.join(STAMP))?.sync_all()?;
    fs::rename(&top, &folder).with_context(|| format!("cannot create {}", short(&folder)))?;
    if let Ok(into) = File::open(into) {
        // Makes the rename durable where the file system lets folders be synced.
        let _ = into.sync_all();
    }
    Ok(folder)
}

fn extract(mut archive: Archive<impl io::Read>, into: &Path) -> Result<()> {
    let (mut bytes, mut files) = (0, 0);
    for entry in archive.entries().context("it is no tar archive")? {
        let mut entry = entry.context("it is damaged, or no gzipped tar archive")?;
        let path = entry.path().context("a name in it is not readable")?.into_owned();
        let path = safe(&path)?;
        bytes += entry.size();
        files += 1;
        if bytes > MOST_BYTES || files > MOST_FILES {
            bail!("it holds more than {MOST_BYTES} bytes or {MOST_FILES} files")
        }
        let target = into.join(&path);
        match entry.header().entry_type() {
            EntryType::Directory => fs::create_dir_all(&target)?,
            EntryType::Regular | EntryType::Continuous => {
                if let Some(folder) = target.parent() {
                    fs::create_dir_all(folder)?;
                }
                let mut file = File::create(&target)
                    .with_context(|| format!("cannot create {}", path.display()))?;
                io::copy(&mut entry, &mut file)
                    .with_context(|| format!("{} is cut off or damaged", path.display()))?;
            }
            // What tar notes about entries, not an entry.
            EntryType::XHeader | EntryType::XGlobalHeader => {}
            other => {
                bail!("{} is a {other:?}; only files and folders are unpacked", path.display())
            }
        }
    }
    if files == 0 { bail!("it is empty") } else { Ok(()) }
}

/// The path, if it stays below the folder it is unpacked into.
fn safe(path: &Path) -> Result<PathBuf> {
    let mut out = PathBuf::new();
    for component in path.components() {
        match component {
            Component::Normal(part) => out.push(part),
            Component::CurDir => {}
            _ => bail!("{} would be unpacked outside of the folder", path.display()),
        }
    }
    Ok(out)
}

/// The folder with `train/` in it, at the top or one below, and its name if it has one.
fn data_folder(top: &Path, shown: &str) -> Result<(PathBuf, Option<String>)> {
    if top.join("train").is_dir() {
        // A temporary folder itself cannot be renamed away from under its guard.
        let inner = top.join(".top");
        fs::create_dir(&inner)?;
        for entry in fs::read_dir(top)? {
            let entry = entry?;
            if entry.file_name() != ".top" {
                fs::rename(entry.path(), inner.join(entry.file_name()))?;
            }
        }
        return Ok((inner, None));
    }
    for entry in fs::read_dir(top)? {
        let entry = entry?;
        if entry.path().join("train").is_dir() {
            let name = entry.file_name().to_string_lossy().into_owned();
            return Ok((entry.path(), Some(name)));
        }
    }
    bail!("{shown} has no train/ folder; it is not a data set in Image网's layout")
}
