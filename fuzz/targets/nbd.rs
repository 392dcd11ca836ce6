//! Any bytes as what an NBD server sends.
#![no_main]

use std::io::{self, Cursor, Read, Write};

/// Output of a server; what it is told is forgotten.
struct Hostile(Cursor<Vec<u8>>);

impl Read for Hostile {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.0.read(buf)
    }
}

impl Write for Hostile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    // an error is what is expected of most inputs
    let _ = forklift_disk::nbd::hostile(Hostile(Cursor::new(bytes.to_vec())));
});
