//! Unpacking: first all of it is looked at, then it is written, all or nothing.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use super::archive::{quoted, walk};
use super::{STAMP, cannot_write, stamp_of};
use crate::short;

/// What the names of half unpacked folders begin with.
pub(super) const UNPACKING: &str = ".unpacking-";

/// Refuses an archive that is damaged, hostile or no data set; writes nothing.
pub(super) fn inspect(archive: &Path) -> Result<()> {
    let shown = short(archive);
    let mut train = false;
    walk(archive, |path, content| {
        // `train/` is the top folder, or in it.
        train |= path.iter().take(2).any(|part| part == "train") && path.iter().count() > 1;
        if let Some(content) = content {
            io::copy(content, &mut io::sink())
                .with_context(|| format!("{} is cut off or damaged", quoted(path)))?;
        }
        Ok(())
    })
    .with_context(|| format!("{shown} cannot be unpacked"))?;
    if !train {
        bail!("{shown} has no train/ folder; it is not a data set in Image网's layout")
    }
    Ok(())
}

/// Unpacks an inspected archive into `into/<name>` and stamps the folder with the archive's
/// SHA-256.
///
/// Without a name, the archive's single top folder names it.
pub(super) fn unpack(
    archive: &Path,
    into: &Path,
    name: Option<&str>,
    sha256: &str,
) -> Result<PathBuf> {
    let temporary = tempfile::Builder::new()
        .prefix(UNPACKING)
        .tempdir_in(into)
        .with_context(|| format!("cannot write into {}", short(into)))?;
    write(archive, temporary.path())?;
    let (top, found) = data_folder(temporary.path(), &short(archive))?;
    let name = match (name, found) {
        (Some(name), _) => name.to_owned(),
        (None, Some(found)) => found,
        (None, None) => super::names::stem(&archive.display().to_string()).to_owned(),
    };
    let folder = into.join(&name);
    if stamp_of(&folder).is_some_and(|stamp| stamp == sha256) {
        return Ok(folder);
    }
    super::not_in_the_way(&folder)?;
    let stamp = top.join(STAMP);
    fs::write(&stamp, format!("{sha256}\n")).map_err(|error| cannot_write(&stamp, &error))?;
    File::open(&stamp)?.sync_all().map_err(|error| cannot_write(&stamp, &error))?;
    fs::rename(&top, &folder).with_context(|| format!("cannot create {}", short(&folder)))?;
    if let Ok(into) = File::open(into) {
        // Makes the rename durable where the file system lets folders be synced.
        let _ = into.sync_all();
    }
    Ok(folder)
}

/// Writes what is in the archive below a folder.
fn write(archive: &Path, below: &Path) -> Result<()> {
    walk(archive, |path, content| {
        let target = below.join(path);
        let write = || -> io::Result<()> {
            let Some(content) = content else { return fs::create_dir_all(&target) };
            if let Some(folder) = target.parent() {
                fs::create_dir_all(folder)?;
            }
            io::copy(content, &mut File::create(&target)?).map(|_| ())
        };
        write().map_err(|error| cannot_write(&target, &error))
    })
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
