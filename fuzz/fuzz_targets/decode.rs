//! Bytes of a picture file, whole and reduced: a picture or an error, never a panic.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pretext_data::{Decoder, MAX_PIXELS};

// Libraries that panic on a damaged file are caught by ours, which the fuzzer's own hook would not
// let them be; what is not caught still ends the process.
fuzz_target!(init: drop(std::panic::take_hook()), |bytes: &[u8]| {
    for shortest_side in [None, Some(16)] {
        if let Ok(picture) = Decoder::reducing_to(shortest_side).decode(bytes) {
            let pixels = u64::from(picture.width) * u64::from(picture.height);
            assert!(pixels > 0 && pixels <= MAX_PIXELS);
            assert_eq!(picture.pixels.len() as u64, 3 * pixels);
        }
    }
});
