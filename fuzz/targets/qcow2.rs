//! Any bytes as qcow2.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    forklift_fuzz::read_disk(bytes.to_vec(), Some(forklift_disk::Format::Qcow2), false);
});
