//! Any bytes as vmdk.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    forklift_fuzz::read_disk(bytes.to_vec(), Some(forklift_disk::Format::Vmdk), false);
});
