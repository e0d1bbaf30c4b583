//! A checkpoint or a file of weights.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pretext_train::checkpoint;
use pretext_train::saved::WeightFile;

fuzz_target!(|bytes: &[u8]| {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(checkpoint::FILE);
    std::fs::write(&path, bytes).unwrap();
    let _ = checkpoint::inspect(&path);
    if let Ok(file) = WeightFile::open(&path) {
        let _ = (file.kind(), file.encoder(), file.provenance());
        assert!(file.shapes().count() <= bytes.len());
    }
});
