//! Any bytes as a VHD whose checksums are right: they protect against accidents, not against others.
#![no_main]

fn sum(bytes: &[u8]) -> u32 {
    !bytes.iter().map(|byte| u32::from(*byte)).sum::<u32>()
}

fn seal(bytes: &mut [u8], at: usize) {
    bytes[at..at + 4].fill(0);
    let sum = sum(bytes);
    bytes[at..at + 4].copy_from_slice(&sum.to_be_bytes());
}

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let mut bytes = bytes.to_vec();
    let length = bytes.len();
    if length >= 2048 {
        seal(&mut bytes[..512], 64);
        seal(&mut bytes[512..1536], 36);
        seal(&mut bytes[length - 512..], 64);
    }
    forklift_fuzz::read_disk(bytes, Some(forklift_disk::Format::Vhd), false);
});
