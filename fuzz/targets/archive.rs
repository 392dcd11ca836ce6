//! Any bytes as an archive whose checksums are right, and each of its members as a disk.
#![no_main]

use std::sync::Arc;

use forklift_disk::Disk;
use forklift_disk::archive::Archive;
use forklift_disk::open::Options;
use forklift_fuzz::{Memory, check_error, read_ranges};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let mut bytes = bytes.to_vec();
    // whatever looks like a header gets its sum
    for block in bytes.chunks_exact_mut(512) {
        if block[257..262] == *b"ustar" {
            block[148..156].fill(b' ');
            let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
            block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        }
    }
    let length = bytes.len() as u64;
    match Archive::over(Arc::new(Memory(bytes))) {
        Ok(archive) => {
            for member in archive.members().iter().take(4) {
                let source = archive.member(&member.name).expect("a listed member is there");
                assert!(source.len().expect("its length") <= length);
                match Disk::at(source, &Options::default(), &archive) {
                    Ok(disk) => read_ranges(&disk),
                    Err(error) => check_error(&error),
                }
            }
        }
        Err(error) => check_error(&error),
    }
});
