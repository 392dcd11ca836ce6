//! A cache of small reads, for sources far away: tables are read again and again, a few bytes each.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use crate::source::Source;

/// What is read at once; 32 grain tables, or the L2 table of a usual qcow2.
const BLOCK: u64 = 64 << 10;
/// Blocks that are kept: 4 MiB.
const BLOCKS: usize = 64;
/// Longer reads are of data, which is read once.
const SMALL: usize = 16 << 10;

/// A source whose small reads are kept for a while.
pub struct Cached {
    under: Arc<dyn Source>,
    length: u64,
    blocks: Mutex<Blocks>,
}

#[derive(Default)]
struct Blocks {
    kept: BTreeMap<u64, Arc<[u8]>>,
    /// Oldest first.
    order: VecDeque<u64>,
}

impl Cached {
    /// Lays a cache over a source.
    pub fn new(under: Arc<dyn Source>) -> io::Result<Self> {
        Ok(Self { length: under.len()?, under, blocks: Mutex::default() })
    }

    fn block(&self, index: u64) -> io::Result<Arc<[u8]>> {
        let lock = || self.blocks.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = lock().kept.get(&index) {
            return Ok(found.clone());
        }
        // not under the lock: another reader may wait for another block
        let start = index * BLOCK;
        let mut bytes = vec![0; BLOCK.min(self.length - start) as usize];
        self.under.read_at(&mut bytes, start)?;
        let bytes: Arc<[u8]> = bytes.into();
        let mut blocks = lock();
        if blocks.kept.insert(index, bytes.clone()).is_none() {
            blocks.order.push_back(index);
        }
        while blocks.order.len() > BLOCKS {
            if let Some(oldest) = blocks.order.pop_front() {
                blocks.kept.remove(&oldest);
            }
        }
        Ok(bytes)
    }
}

impl Source for Cached {
    fn name(&self) -> &str {
        self.under.name()
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.length)
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        if buf.len() > SMALL {
            return self.under.read_at(buf, offset);
        }
        if offset.checked_add(buf.len() as u64).is_none_or(|end| end > self.length) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let mut done = 0;
        while done < buf.len() {
            let at = offset + done as u64;
            let block = self.block(at / BLOCK)?;
            let ready = block.get((at % BLOCK) as usize..).unwrap_or_default();
            let count = ready.len().min(buf.len() - done);
            buf[done..done + count].copy_from_slice(&ready[..count]);
            done += count;
        }
        Ok(())
    }

    fn next_data(&self, offset: u64) -> io::Result<Option<Range<u64>>> {
        self.under.next_data(offset)
    }

    fn stamp(&self) -> io::Result<String> {
        self.under.stamp()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    struct Counted(Vec<u8>, AtomicUsize);

    impl Source for Counted {
        fn name(&self) -> &str {
            "counted"
        }

        fn len(&self) -> io::Result<u64> {
            Ok(self.0.len() as u64)
        }

        fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
            self.1.fetch_add(1, Ordering::Relaxed);
            buf.copy_from_slice(&self.0[offset as usize..offset as usize + buf.len()]);
            Ok(())
        }

        fn stamp(&self) -> io::Result<String> {
            Ok(String::new())
        }
    }

    #[test]
    fn small_reads_are_kept_and_those_across_blocks_are_whole() {
        let bytes: Vec<u8> = (0..300_000u32).map(|i| (i % 251) as u8).collect();
        let under = Arc::new(Counted(bytes.clone(), AtomicUsize::new(0)));
        let cached = Cached::new(under.clone()).expect("opens");
        for offset in [0usize, 5, 65_530, 65_535, 131_000, 299_900] {
            let mut buf = [0; 100];
            cached.read_at(&mut buf, offset as u64).expect("reads");
            assert_eq!(buf, bytes[offset..offset + 100], "offset {offset}");
        }
        assert_eq!(under.1.load(Ordering::Relaxed), 4, "blocks 0, 1, 2 and the last");
        let mut long = vec![0; 100_000];
        cached.read_at(&mut long, 100_000).expect("reads");
        assert_eq!(long, bytes[100_000..200_000]);
        assert!(cached.read_at(&mut [0; 8], 299_999).is_err());
    }
}
