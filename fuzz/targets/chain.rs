//! Two files that may name each other: descriptors, extents, overlays and parents.
//!
//! The first two bytes are the length of the first file, the rest is the second; whatever name is
//! asked for is answered with the second, or with the first where the name has an even length.
#![no_main]

use std::sync::Arc;

use forklift_disk::open::Options;
use forklift_disk::place::Place;
use forklift_disk::source::Source;
use forklift_disk::{Disk, Result};
use forklift_fuzz::Memory;

struct Beside(Vec<u8>, Vec<u8>);

impl Place for Beside {
    fn sibling(&self, name: &str) -> Result<Arc<dyn Source>> {
        Ok(Arc::new(Memory(if name.len() % 2 == 0 { self.0.clone() } else { self.1.clone() })))
    }
}

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Some((head, rest)) = bytes.split_at_checked(2) else { return };
    let length = usize::from(u16::from_le_bytes([head[0], head[1]])).min(rest.len());
    let (first, second) = rest.split_at(length);
    let place = Beside(first.to_vec(), second.to_vec());
    match Disk::at(Arc::new(Memory(first.to_vec())), &Options::default(), &place) {
        Ok(disk) => forklift_fuzz::read_ranges(&disk),
        Err(error) => forklift_fuzz::check_error(&error),
    }
});
