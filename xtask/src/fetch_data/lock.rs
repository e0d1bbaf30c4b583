//! One fetch at a time in a folder.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::path::Path;

use anyhow::{Context as _, Result};

use super::unpack::UNPACKING;
use crate::{mistake, say_error, short};

/// The file that is locked. It stays: deleting it would let two fetches lock two files.
const LOCK: &str = ".fetch-data.lock";

/// Held while a fetch works; the system lets go of it even when the fetch is killed.
pub(super) struct Lock {
    _file: File,
}

/// Waits until no other fetch works in the folder, and removes what a killed one left half unpacked.
pub(super) fn lock(into: &Path) -> Result<Lock> {
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(into.join(LOCK));
    let file = file.map_err(|error| {
        mistake(format!("cannot write into {}: {error}; give another --into", short(into)))
    })?;
    let locked = match file.try_lock() {
        Ok(()) => Ok(()),
        Err(TryLockError::WouldBlock) => {
            say_error(&format!("another fetch-data works in {}; waiting for it", short(into)));
            file.lock()
        }
        Err(TryLockError::Error(error)) => Err(error),
    };
    // Some network file systems have no locks; there two fetches do the work twice, no more.
    if locked.is_ok() {
        sweep(into)?;
    }
    Ok(Lock { _file: file })
}

fn sweep(into: &Path) -> Result<()> {
    let entries = fs::read_dir(into).with_context(|| format!("cannot read {}", short(into)))?;
    for entry in entries.flatten() {
        if entry.file_name().to_string_lossy().starts_with(UNPACKING) {
            fs::remove_dir_all(entry.path())
                .with_context(|| format!("cannot delete {}", short(&entry.path())))?;
        }
    }
    Ok(())
}
