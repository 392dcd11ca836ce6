//! Blocks of a disk that were read, kept for a while: whoever looks into a file system reads its tables again and again.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use crate::error::Result;
use crate::image::Image;

/// What is read at once: sources are far away, a round trip costs as much as these bytes.
const BLOCK: u64 = 128 << 10;
/// Blocks that are kept: 96 MiB.
const BLOCKS: usize = 768;

/// A block, once it was read. Whoever comes while it is read waits, and does not read it again.
type Slot = Arc<Mutex<Option<Arc<[u8]>>>>;

/// A disk with a cache over it.
pub(super) struct Blocks {
    image: Arc<dyn Image>,
    size: u64,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    slots: HashMap<u64, Slot>,
    /// Oldest first.
    order: VecDeque<u64>,
}

impl Blocks {
    /// Lays a cache over a disk.
    pub(super) fn new(image: Arc<dyn Image>) -> Self {
        Self { size: image.size(), image, kept: Mutex::default() }
    }

    /// Returns the size of the disk in bytes.
    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// Fills `buf` from `offset`; the range lies within the disk.
    pub(super) fn read(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        let mut done = 0;
        while done < buf.len() {
            let at = offset + done as u64;
            let block = self.block(at / BLOCK)?;
            let ready = block.get((at % BLOCK) as usize..).unwrap_or_default();
            let count = ready.len().min(buf.len() - done);
            if count == 0 {
                // past the end: a caller's mistake must not turn in a circle
                buf[done..].fill(0);
                break;
            }
            buf[done..done + count].copy_from_slice(&ready[..count]);
            done += count;
        }
        Ok(())
    }

    fn slot(&self, index: u64) -> Slot {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(slot) = kept.slots.get(&index) {
            return slot.clone();
        }
        let slot = Slot::default();
        kept.slots.insert(index, slot.clone());
        kept.order.push_back(index);
        while kept.order.len() > BLOCKS {
            if let Some(oldest) = kept.order.pop_front() {
                kept.slots.remove(&oldest);
            }
        }
        slot
    }

    fn block(&self, index: u64) -> Result<Arc<[u8]>> {
        let slot = self.slot(index);
        let mut bytes = slot.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = &*bytes {
            return Ok(known.clone());
        }
        let start = index * BLOCK;
        let mut read = vec![0; BLOCK.min(self.size.saturating_sub(start)) as usize];
        // a failed read leaves the slot empty: the next one tries again
        self.image.read_at(&mut read, start)?;
        Ok(bytes.insert(read.into()).clone())
    }
}
