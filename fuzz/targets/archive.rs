//! Any bytes as an archive, and each of its members as a disk.
#![no_main]

use forklift_disk::archive::Archive;
use forklift_disk::source::Source;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    forklift_fuzz::with_file(bytes, |path| match Archive::open(path) {
        Ok(archive) => {
            for member in archive.members().iter().take(20) {
                let source = archive.member(&member.name).expect("a listed member is there");
                assert!(source.len().expect("its length") <= bytes.len() as u64);
            }
        }
        Err(error) => forklift_fuzz::check_error(&error),
    });
});
