//! Unpacking: first all of it is looked at, then it is written, all or nothing.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use super::archive::{quoted, walk};
use super::names::{is_plain, stem};
use super::{STAMP, cannot_write, stamp_of};
use crate::short;

/// What the names of half unpacked folders begin with.
pub(super) const UNPACKING: &str = ".unpacking-";

/// Refuses an archive that is damaged, hostile or no data set, and one that is to name its folder and
/// cannot; writes nothing.
pub(super) fn inspect(archive: &Path, name: Option<&str>) -> Result<()> {
    let shown = short(archive);
    let mut train = false;
    walk(archive, |path, content| {
        let parts: Vec<_> = path.iter().collect();
        let is_folder = |at: usize| at + 1 < parts.len() || content.is_none();
        if let Some(at) = parts.iter().take(2).position(|part| *part == STAMP)
            && is_folder(at)
        {
            bail!("{} in it is a folder, where a note is written", quoted(path))
        }
        // `train/` is the top folder, or in it.
        let at = parts.iter().take(2).position(|part| *part == "train");
        train |= parts.len() > 1 && at.is_some_and(is_folder);
        if at == Some(1) && name.is_none() && !is_plain(&parts[0].to_string_lossy()) {
            bail!("its folder {} has a name that is kept for fetch-data; give the data set another: fetch-data NAME", quoted(Path::new(parts[0])))
        }
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
    // The temporary folder itself cannot be renamed away from under its guard.
    let all = temporary.path().join("all");
    fs::create_dir(&all).map_err(|error| cannot_write(&all, &error))?;
    write(archive, &all)?;
    let (top, found) = data_folder(all, &short(archive))?;
    let name = match (name, found) {
        (Some(name), _) => name.to_owned(),
        (None, Some(found)) => found,
        (None, None) => stem(&archive.display().to_string()).to_owned(),
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
fn data_folder(top: PathBuf, shown: &str) -> Result<(PathBuf, Option<String>)> {
    if top.join("train").is_dir() {
        return Ok((top, None));
    }
    for entry in fs::read_dir(&top)? {
        let entry = entry?;
        if entry.path().join("train").is_dir() {
            let name = entry.file_name().to_string_lossy().into_owned();
            return Ok((entry.path(), Some(name)));
        }
    }
    bail!("{shown} has no train/ folder; it is not a data set in Image网's layout")
}
