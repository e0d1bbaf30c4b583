//! Files that are either whole or not there: temporary, fsync, rename.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::{Digest as _, Sha256};

use crate::error::{AtPath as _, Error, Result};

/// Replaces `path` by `bytes` in one step, so that an interrupted write leaves the old file whole.
///
/// # Errors
/// If the folder cannot be written to.
pub(crate) fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    let folder = folder(path);
    fs::create_dir_all(folder).at(folder)?;
    let part = part(path, bytes)?;
    part.as_file().sync_all().at(path)?;
    part.persist(path).map_err(|error| error.error).at(path)?;
    sync_folder(folder);
    Ok(())
}

fn folder(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// Makes a rename durable; some file systems refuse to sync folders, and lose nothing by it.
pub(crate) fn sync_folder(folder: &Path) {
    if let Ok(folder) = File::open(folder) {
        let _ = folder.sync_all();
    }
}

/// Replaces `path` by a value as JSON without waiting for the disk: for what is of no use after a
/// power failure.
///
/// # Errors
/// If the folder cannot be written to.
pub(crate) fn replace_json(path: &Path, value: &impl Serialize) -> Result<()> {
    part(path, &json(path, value)?)?.persist(path).map_err(|error| error.error).at(path)?;
    Ok(())
}

/// Creates `path` with a value as JSON, whole, and says whether it did: of many processes on many
/// machines that try, one does.
///
/// # Errors
/// If the folder cannot be written to.
pub(crate) fn create_json(path: &Path, value: &impl Serialize) -> Result<bool> {
    match part(path, &json(path, value)?)?.persist_noclobber(path) {
        Ok(_) => Ok(true),
        Err(error) if error.error.kind() == std::io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(error.error).at(path),
    }
}

/// A temporary file beside `path` that holds `bytes`.
fn part(path: &Path, bytes: &[u8]) -> Result<tempfile::NamedTempFile> {
    let folder = folder(path);
    let mut builder = tempfile::Builder::new();
    // A temporary file is for its owner only; a result is as readable as any other file.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    let mut part = builder.prefix(".part-").tempfile_in(folder).at(folder)?;
    part.write_all(bytes).at(path)?;
    Ok(part)
}

/// Writes a value as readable JSON.
///
/// # Errors
/// As for [`write_whole`].
pub(crate) fn write_json(path: &Path, value: &impl Serialize) -> Result<()> {
    write_whole(path, &json(path, value)?)
}

fn json(path: &Path, value: &impl Serialize) -> Result<Vec<u8>> {
    let mut text = serde_json::to_vec_pretty(value).map_err(|error| Error::File {
        path: path.to_owned(),
        problem: format!("cannot be written as JSON: {error}"),
    })?;
    text.push(b'\n');
    Ok(text)
}

/// Reads a value from JSON.
///
/// # Errors
/// If the file cannot be read or holds something else.
pub(crate) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let bytes = fs::read(path).at(path)?;
    serde_json::from_slice(&bytes).map_err(|error| Error::File {
        path: path.to_owned(),
        problem: format!("is not such a file as pretext writes ({error})"),
    })
}

/// The SHA-256 of a file's bytes, in hexadecimal.
///
/// # Errors
/// If the file cannot be read.
pub(crate) fn sha256_of_file(path: &Path) -> Result<String> {
    let mut file = File::open(path).at(path)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        match file.read(&mut buffer).at(path)? {
            0 => return Ok(hex(&hash.finalize())),
            count => hash.update(&buffer[..count]),
        }
    }
}

/// Bytes in hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The time, in UTC, as RFC 3339 with seconds.
pub(crate) fn now() -> String {
    let elapsed = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    rfc3339(elapsed.map_or(0, |elapsed| elapsed.as_secs()))
}

/// Seconds since 1970 as a date, by Hinnant's days-to-civil formula.
fn rfc3339(seconds: u64) -> String {
    let (days, time) = (seconds / 86_400, seconds % 86_400);
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (hour, minute, second) = (time / 3600, time / 60 % 60, time % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates() {
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00Z");
        assert_eq!(rfc3339(951_782_400), "2000-02-29T00:00:00Z");
        assert_eq!(rfc3339(1_767_225_599), "2025-12-31T23:59:59Z");
    }

    #[test]
    fn a_failed_write_leaves_the_old_file_and_no_other() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("record.json");
        write_whole(&path, b"old").unwrap();
        // A folder in the way of the rename makes the last step fail.
        let blocked = folder.path().join("blocked");
        fs::create_dir_all(blocked.join("inside")).unwrap();
        assert!(write_whole(&blocked, b"new").is_err());
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
    }
}
