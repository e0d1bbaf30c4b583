//! A record: what is read is written, and read again, the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pretext_train::record::{FILE, Record};

fuzz_target!(|bytes: &[u8]| {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join(FILE), bytes).unwrap();
    if let Ok(Some(record)) = Record::read(folder.path()) {
        record.write(folder.path()).unwrap();
        assert_eq!(Record::read(folder.path()).unwrap(), Some(record));
    }
});
