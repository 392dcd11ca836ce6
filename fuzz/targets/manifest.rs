//! Any bytes as a manifest.
#![no_main]

use forklift_disk::Manifest;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    forklift_fuzz::with_file(bytes, |path| {
        match Manifest::read(path).and_then(|manifest| manifest.map(|manifest| manifest.chunks(path)).transpose()) {
            Ok(_) => {}
            Err(error) => forklift_fuzz::check_error(&error),
        }
    });
});
