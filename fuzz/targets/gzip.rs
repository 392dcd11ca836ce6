//! Any bytes as a gzip stream of any format.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    forklift_fuzz::read_disk(bytes.to_vec(), None, true);
});
