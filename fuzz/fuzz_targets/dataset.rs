//! A cache, a tar archive or a Parquet file, by the first byte; every picture of it is read.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pretext_data::Dataset;

// Libraries that panic on a damaged file are caught by ours, which the fuzzer's own hook would not
// let them be; what is not caught still ends the process.
fuzz_target!(init: drop(std::panic::take_hook()), |bytes: &[u8]| {
    let Some((kind, bytes)) = bytes.split_first() else { return };
    let folder = tempfile::tempdir().unwrap();
    let name = ["cache.safetensors", "shard.tar", "shard.parquet"][usize::from(kind % 3)];
    let path = folder.path().join(name);
    std::fs::write(&path, bytes).unwrap();
    let Ok(data) = Dataset::open(&path) else { return };
    for pictures in [data.train().pictures(), data.val().pictures(), data.unsup()] {
        for index in 0..pictures.len() {
            let _ = pictures.read(index);
            pictures.name(index).unwrap();
        }
    }
    for split in [data.train(), data.val()] {
        let classes = data.classes().len();
        assert!(split.labels().iter().all(|&label| (label as usize) < classes));
    }
});
