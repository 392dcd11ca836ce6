//! A VMDK that comes as a stream and cannot be sought in: what an export lease of vSphere gives.
//!
//! ```text
//! header │ descriptor … overHead │ grain marker, packed grain │ … │ table marker, table │ … │ footer │ end of stream
//!                                  first sector, bytes, zlib        0 bytes, kind 1           kind 3   kind 0
//! ```
//!
//! The stream is read once, from front to back: grains come in ascending order, each with its place on the disk, so
//! that the tables behind them are not needed. Only the marker of the end says that nothing is missing. A stream that
//! breaks off is begun anew, and what was taken from it is passed over.
//!
//! Facts: VMware's "Virtual Disk Format 5.0", streamOptimized compressed sparse extents.

use std::io::{self, ErrorKind, Read};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::digest::CHUNK;
use crate::error::Result;
use crate::format::Fields;
use crate::image::Format;
use crate::inflate::{Packing, inflate};
use crate::open::SIZE;
use crate::source::failed;

const MAGIC: u32 = 0x564d_444b;
const SECTOR: usize = 512;
/// Compressed grains, and markers before them.
const PACKED: u32 = 1 << 16 | 1 << 17;
/// Bytes of a grain's marker before the packed ones.
const MARKER: usize = 12;
/// The largest grain, as for files.
const GRAIN: u64 = 2 << 20;
/// The most that lies before the first grain: header, descriptor, tables of 64 TiB.
const OVERHEAD: u64 = 256 << 20;
/// The most that follows the marker of the end and is read, so that the connection ends well.
const TAIL: u64 = 1 << 20;

/// A disk that comes as one streamOptimized VMDK, as often as it is begun.
pub trait Export: Send + Sync {
    /// Returns the name for messages.
    fn name(&self) -> &str;

    /// Begins the stream; an error's kind tells whether to try again.
    fn begin(&self) -> io::Result<Box<dyn Read + Send>>;

    /// Returns what changes when the disk's bytes change.
    fn stamp(&self) -> io::Result<String>;
}

/// An export whose header was read.
pub struct Stream {
    export: Arc<dyn Export>,
    header: Header,
    read: Arc<AtomicU64>,
    /// What was begun to read the header, for the first reader.
    begun: std::sync::Mutex<Option<Cursor>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Header {
    /// Bytes of the virtual disk.
    capacity: u64,
    grain: u64,
    overhead: u64,
}

/// A stream at a marker.
struct Cursor {
    bytes: Box<dyn Read + Send>,
    at: u64,
    /// The sector of a grain marker that belongs to a later chunk.
    ahead: Option<[u8; SECTOR]>,
    /// First sector of the disk that the next grain may have.
    next: u64,
    ended: bool,
}

/// The packed grains of one chunk.
#[derive(Default)]
pub(crate) struct Load {
    /// The chunk's number.
    pub index: u64,
    packed: Vec<u8>,
    /// Offset in the chunk, and where the packed bytes lie.
    grains: Vec<(u64, Range<usize>)>,
}

fn malformed(at: u64, reason: impl std::fmt::Display) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, format!("at byte {at} of the stream: {reason}"))
}

impl Header {
    fn parse(sector: &[u8]) -> io::Result<Self> {
        let fields = Fields(sector);
        if fields.u32_le(0) != MAGIC {
            return Err(malformed(0, "what comes is not a streamOptimized VMDK"));
        }
        if fields.u32_le(8) & PACKED != PACKED || fields.u16_le(77) != 1 {
            return Err(malformed(8, "the VMDK has no compressed grains with markers"));
        }
        let bytes = |at: usize, most: u64, field: &str| {
            let sectors = fields.u64_le(at);
            let bytes = sectors.checked_mul(SECTOR as u64).filter(|bytes| *bytes <= most);
            bytes.ok_or_else(|| malformed(at as u64, format!("{field} of {sectors} sectors is absurd")))
        };
        let header = Self {
            capacity: bytes(12, SIZE, "capacity")?,
            grain: bytes(20, GRAIN, "grainSize")?,
            overhead: bytes(64, OVERHEAD, "overHead")?,
        };
        if !header.grain.is_power_of_two() {
            return Err(malformed(20, format!("grainSize of {} bytes is no power of two", header.grain)));
        }
        if header.overhead < SECTOR as u64 {
            return Err(malformed(64, "overHead does not hold the header"));
        }
        Ok(header)
    }

    /// Returns the most bytes that a packed grain takes.
    fn most_packed(&self) -> u64 {
        self.grain + self.grain / 16 + SECTOR as u64
    }
}

impl Stream {
    /// Begins the export and reads its header.
    pub fn open(export: Arc<dyn Export>) -> Result<Self> {
        let read = Arc::<AtomicU64>::default();
        let mut begun = None;
        crate::patience::retry(export.name(), 0, || {
            begun = Some(begin(&*export, &read)?);
            Ok(())
        })
        .map_err(|error| failed(export.name(), 0, error))?;
        let Some((header, cursor)) = begun else {
            return Err(failed(export.name(), 0, ErrorKind::UnexpectedEof.into()));
        };
        Ok(Self { export, header, read, begun: std::sync::Mutex::new(Some(cursor)) })
    }

    /// Returns the name for messages.
    pub fn name(&self) -> &str {
        self.export.name()
    }

    /// Returns the size of the virtual disk in bytes.
    pub fn size(&self) -> u64 {
        self.header.capacity
    }

    /// Returns the format.
    pub fn format(&self) -> Format {
        Format::StreamOptimized
    }

    /// Returns how many bytes of the stream were read so far.
    pub fn bytes_read(&self) -> u64 {
        self.read.load(Ordering::Relaxed)
    }

    /// Returns what changes when the disk's bytes change.
    pub fn stamp(&self) -> Result<String> {
        self.export.stamp().map_err(|error| failed(self.name(), 0, error))
    }

    /// Returns a reader of the chunks, from the first one.
    pub(crate) fn loads(self: &Arc<Self>) -> Loads {
        let cursor = self.begun.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
        Loads { stream: self.clone(), cursor, from: 0 }
    }

    /// Inflates a chunk into `out`, which has its length; `each` sees the bytes in order, piece after piece.
    pub(crate) fn unpack(&self, load: &Load, out: &mut [u8], mut each: impl FnMut(&[u8])) -> Result<()> {
        let grain = self.header.grain as usize;
        let mut done = 0;
        for (place, packed) in &load.grains {
            let place = *place as usize;
            let gap = out.get_mut(done..place).unwrap_or_default();
            gap.fill(0);
            each(gap);
            let end = (place + grain).min(out.len());
            let packed = load.packed.get(packed.clone()).unwrap_or_default();
            let bytes = out.get_mut(place..end).unwrap_or_default();
            let wrong = |reason: String| {
                let at = load.index * CHUNK + place as u64;
                failed(self.name(), at, malformed(at, format!("the grain of disk offset {at}: {reason}")))
            };
            let got = if bytes.len() == grain {
                inflate(Packing::Zlib, packed, bytes).map_err(wrong)?
            } else {
                // the last one of a disk may be whole, or cut to what the disk still has
                let mut whole = vec![0; grain];
                let got = inflate(Packing::Zlib, packed, &mut whole).map_err(wrong)?;
                bytes.copy_from_slice(&whole[..bytes.len()]);
                got
            };
            if got < bytes.len() {
                return Err(wrong(format!("inflates to {got} bytes, not {}", bytes.len())));
            }
            each(bytes);
            done = end;
        }
        let rest = out.get_mut(done..).unwrap_or_default();
        rest.fill(0);
        each(rest);
        Ok(())
    }
}

/// Begins the stream and reads up to its first marker.
fn begin(export: &dyn Export, read: &AtomicU64) -> io::Result<(Header, Cursor)> {
    let bytes = export.begin()?;
    let mut cursor = Cursor { bytes, at: 0, ahead: None, next: 0, ended: false };
    let mut sector = [0; SECTOR];
    cursor.take(&mut sector, read)?;
    let header = Header::parse(&sector)?;
    cursor.skip(header.overhead - SECTOR as u64, read)?;
    Ok((header, cursor))
}

impl Cursor {
    fn take(&mut self, buf: &mut [u8], read: &AtomicU64) -> io::Result<()> {
        self.bytes.read_exact(buf).map_err(|error| match error.kind() {
            ErrorKind::UnexpectedEof => {
                io::Error::new(ErrorKind::ConnectionAborted, format!("the stream ends early, at byte {}", self.at))
            }
            _ => error,
        })?;
        self.at += buf.len() as u64;
        read.fetch_add(buf.len() as u64, Ordering::Relaxed);
        crate::patience::alive();
        Ok(())
    }

    fn skip(&mut self, mut bytes: u64, read: &AtomicU64) -> io::Result<()> {
        let mut scratch = vec![0; bytes.min(64 << 10) as usize];
        while bytes > 0 {
            let step = bytes.min(scratch.len() as u64);
            self.take(scratch.get_mut(..step as usize).unwrap_or_default(), read)?;
            bytes -= step;
        }
        Ok(())
    }

    /// Returns the sector of the next grain's marker; none at the end of the stream.
    fn marker(&mut self, read: &AtomicU64) -> io::Result<Option<[u8; SECTOR]>> {
        if let Some(sector) = self.ahead.take() {
            return Ok(Some(sector));
        }
        let mut sector = [0; SECTOR];
        while !self.ended {
            self.take(&mut sector, read)?;
            let fields = Fields(&sector);
            if fields.u32_le(8) != 0 {
                return Ok(Some(sector));
            }
            let (sectors, kind) = (fields.u64_le(0), fields.u32_le(12));
            if kind == 0 {
                self.ended = true;
                // read to its end, the connection is closed in order; what follows the marker says nothing
                let _ = io::copy(&mut (&mut self.bytes).take(TAIL), &mut io::sink());
                break;
            }
            if kind > 3 || sectors > OVERHEAD / SECTOR as u64 {
                return Err(malformed(self.at, format!("a marker of kind {kind} with {sectors} sectors")));
            }
            self.skip(sectors * SECTOR as u64, read)?;
        }
        Ok(None)
    }
}

impl Load {
    /// Returns how many bytes of the stream the chunk took.
    pub(crate) fn bytes(&self) -> u64 {
        self.packed.len() as u64
    }
}

/// Reads a stream chunk by chunk, and begins it anew where it breaks off.
pub(crate) struct Loads {
    stream: Arc<Stream>,
    cursor: Option<Cursor>,
    /// First chunk that was not given out yet.
    from: u64,
}

impl Loads {
    /// Returns the grains of the next chunk that has any and that `wanted` asks for; none at the end of the stream.
    pub(crate) fn next(&mut self, wanted: impl Fn(u64) -> bool) -> Result<Option<Load>> {
        let mut load = None;
        let stream = self.stream.clone();
        let at = self.from * CHUNK;
        crate::patience::retry(stream.name(), at, || {
            load = self.read(&wanted).inspect_err(|_| self.cursor = None)?;
            Ok(())
        })
        .map_err(|error| failed(stream.name(), at, error))?;
        if let Some(load) = &load {
            self.from = load.index + 1;
        }
        Ok(load)
    }

    fn read(&mut self, wanted: impl Fn(u64) -> bool) -> io::Result<Option<Load>> {
        let header = self.stream.header;
        let read = &*self.stream.read;
        let cursor = match &mut self.cursor {
            Some(cursor) => cursor,
            None => {
                let (now, cursor) = begin(&*self.stream.export, read)?;
                if now != header {
                    let size = |header: Header| header.capacity.to_string();
                    return Err(crate::remote::changed("size", size(header), size(now)));
                }
                self.cursor.insert(cursor)
            }
        };
        let mut load: Option<Load> = None;
        while let Some(sector) = cursor.marker(read)? {
            let fields = Fields(&sector);
            let (first, length) = (fields.u64_le(0), u64::from(fields.u32_le(8)));
            let place = first.checked_mul(SECTOR as u64).filter(|place| place.is_multiple_of(header.grain));
            let place = place.filter(|place| *place < header.capacity && length <= header.most_packed());
            let place = place.ok_or_else(|| {
                malformed(cursor.at, format!("a grain of {length} bytes for sector {first} is out of range"))
            })?;
            let index = place / CHUNK;
            if load.as_ref().is_some_and(|load| load.index != index) {
                cursor.ahead = Some(sector);
                break;
            }
            if first < cursor.next {
                return Err(malformed(cursor.at, format!("the grain of sector {first} is out of order")));
            }
            cursor.next = first + header.grain / SECTOR as u64;
            let total = (MARKER + length as usize).next_multiple_of(SECTOR);
            if index < self.from || !wanted(index) {
                cursor.skip((total - SECTOR) as u64, read)?;
                continue;
            }
            let load = load.get_or_insert_with(|| Load { index, ..Load::default() });
            let start = load.packed.len();
            load.packed.extend_from_slice(&sector);
            load.packed.resize(start + total, 0);
            cursor.take(load.packed.get_mut(start + SECTOR..).unwrap_or_default(), read)?;
            let packed = start + MARKER..start + MARKER + length as usize;
            load.grains.push((place % CHUNK, packed));
        }
        Ok(load)
    }
}
