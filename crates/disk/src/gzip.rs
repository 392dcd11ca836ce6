//! A gzip stream as a source: what OVF 1.x calls a compressed reference. It is read [forwards](crate::forward).

use std::io::{self, Read};
use std::ops::Range;
use std::sync::{Arc, OnceLock};

use flate2::bufread::MultiGzDecoder;

use crate::forward::Forward;
use crate::open::SIZE;
use crate::source::Source;

/// The inflated bytes of a gzip source.
pub struct GzipSource {
    packed: Arc<dyn Source>,
    name: String,
    length: OnceLock<u64>,
    forward: Forward,
}

/// Reads a source from front to back.
struct Sequential {
    source: Arc<dyn Source>,
    at: u64,
    length: u64,
}

impl Read for Sequential {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.length.saturating_sub(self.at).min(buf.len() as u64) as usize;
        let Some(part) = buf.get_mut(..n) else {
            return Ok(0);
        };
        self.source.read_at(part, self.at)?;
        crate::patience::alive();
        self.at += n as u64;
        Ok(n)
    }
}

impl GzipSource {
    /// Wraps a source whose bytes are a gzip stream.
    pub fn new(packed: Arc<dyn Source>) -> Self {
        let name = format!("{} (gzip)", packed.name());
        Self { packed, name, length: OnceLock::new(), forward: Forward::default() }
    }

    fn start(&self) -> io::Result<MultiGzDecoder<io::BufReader<Sequential>>> {
        let length = self.packed.len()?;
        let bytes = Sequential { source: self.packed.clone(), at: 0, length };
        Ok(MultiGzDecoder::new(io::BufReader::with_capacity(256 << 10, bytes)))
    }
}

impl Source for GzipSource {
    fn name(&self) -> &str {
        &self.name
    }

    fn len(&self) -> io::Result<u64> {
        if let Some(length) = self.length.get() {
            return Ok(*length);
        }
        // the trailer's size is modulo 4 GiB: only a pass over the stream knows, and it checks the CRC
        let mut stream = self.start()?;
        let length = io::copy(&mut Read::by_ref(&mut stream).take(SIZE + 1), &mut io::sink())?;
        if length > SIZE {
            return Err(io::Error::new(io::ErrorKind::InvalidData, format!("inflates to more than {SIZE} bytes")));
        }
        Ok(*self.length.get_or_init(|| length))
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        self.forward.read_at(buf, offset, || Ok(Box::new(self.start()?)))
    }

    fn sequential(&self) -> bool {
        true
    }

    fn pin(&self, ranges: &[Range<u64>]) -> io::Result<()> {
        self.forward.pin(ranges, self.len()?, |buf, at| self.read_at(buf, at))
    }

    fn stamp(&self) -> io::Result<String> {
        self.packed.stamp()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::FileRange;
    use std::io::Write;

    #[test]
    fn reads_anywhere_even_backwards_and_across_windows() {
        let bytes: Vec<u8> = (0..9_000_000u32).map(|i| (i / 7 % 251) as u8).collect();
        let mut file = tempfile::tempfile().expect("a temporary file");
        // two members, as `cat a.gz b.gz` makes
        for part in bytes.chunks(5_000_000) {
            let mut packer = flate2::write::GzEncoder::new(&mut file, flate2::Compression::fast());
            packer.write_all(part).expect("packs");
            packer.finish().expect("packs");
        }
        let packed = FileRange::whole(Arc::new(file), "a.gz".into()).expect("opens");
        let source = GzipSource::new(Arc::new(packed));
        assert_eq!(source.len().expect("length"), 9_000_000);
        source.pin(&[8_999_000..9_000_000, 10..20]).expect("pins");
        for offset in [0usize, 15, 8_999_500, 4_999_990, 4_000_000, 8_900_000, 1] {
            let mut buf = vec![0; 500];
            source.read_at(&mut buf, offset as u64).expect("reads");
            assert_eq!(buf, bytes[offset..offset + 500], "offset {offset}");
        }
        let error = source.read_at(&mut [0; 10], 8_999_995).expect_err("past the end");
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }
}
