//! Opening a disk: where it lies, what format it has, what belongs to it.
//!
//! ```text
//! path ──► file ──────────────► [gzip] ──► probe ──► format ──► Disk
//!      └─► archive ─► member ─┘                       │
//!                                 files it names ◄────┘  beside it only, unless the caller allows more
//! ```
//!
//! An image may name other files (a backing file, extents). An appliance comes from strangers: one
//! that names `/etc/shadow` as its backing file must not be read into a disk. Only siblings in the
//! same folder or archive are opened by default, and symbolic links are not followed there.

use std::fs::{File, OpenOptions};
use std::io;
use std::ops::Range;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::archive::Archive;
use crate::error::{Error, Result};
use crate::extents::Extents;
use crate::format::chain::{Chain, DEPTH};
use crate::format::qcow2::Qcow2;
use crate::format::raw::Raw;
use crate::format::vmdk::Vmdk;
use crate::gzip::GzipSource;
use crate::image::{Format, Image};
use crate::source::{FileRange, Input, Source, advise_sequential};

/// Which files an image may name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum References {
    /// Files in the same folder or archive.
    #[default]
    Siblings,
    /// Files anywhere; only for images that are trusted.
    Anywhere,
}

/// How to open a disk.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Member of a tar archive; none for a plain file.
    pub member: Option<String>,
    /// Format; none to look at the bytes.
    pub format: Option<Format>,
    /// Whether the bytes are a gzip stream.
    pub gzip: bool,
    /// Which other files the image may name.
    pub references: References,
}

/// The largest virtual disk: VHDX allows 64 TiB, the others less in practice. A copy keeps some 40
/// bytes a chunk in memory, so that a header with an absurd size must not get further.
pub(crate) const SIZE: u64 = 64 << 40;

/// An open disk.
pub struct Disk {
    image: Box<dyn Image>,
    stored: Arc<dyn Source>,
    parts: Vec<Arc<dyn Source>>,
    read: Arc<AtomicU64>,
    sequential: bool,
}

impl Disk {
    /// Opens the disk at `path`.
    pub fn open(path: &Path, options: &Options) -> Result<Self> {
        let place = Place::find(path, options)?;
        let stored: Arc<dyn Source> = match &options.member {
            Some(member) => place.sibling(member)?,
            None => Arc::new(open_file(path, false)?),
        };
        Self::from_source(stored, options, Some(&place))
    }

    /// Opens the disk whose stored bytes are `stored`, at no place that could hold other files.
    pub fn over(stored: Arc<dyn Source>, options: &Options) -> Result<Self> {
        Self::from_source(stored, options, None)
    }

    fn from_source(stored: Arc<dyn Source>, options: &Options, place: Option<&Place>) -> Result<Self> {
        let read = Arc::new(AtomicU64::new(0));
        let opener = Opener { place, read: read.clone(), parts: Mutex::default() };
        let source: Arc<dyn Source> =
            if options.gzip { Arc::new(GzipSource::new(stored.clone())) } else { stored.clone() };
        let sequential = source.sequential();
        let image = opener.open(source.clone(), options.format, 0)?;
        if image.size() > SIZE {
            return Err(Error::Malformed(crate::error::Malformed {
                path: source.name().to_owned(),
                offset: 0,
                field: "virtual size".into(),
                reason: format!("{} bytes are more than the {SIZE} of any hypervisor's disk", image.size()),
            }));
        }
        if sequential {
            let tables = image.tables()?;
            source.pin(&tables).map_err(|error| Error::Source {
                path: source.name().to_owned(),
                offset: 0,
                source: error,
            })?;
        }
        let parts = opener.parts.into_inner().unwrap_or_else(PoisonError::into_inner);
        Ok(Self { image, stored, parts, read, sequential })
    }

    /// Returns the format.
    pub fn format(&self) -> Format {
        self.image.format()
    }

    /// Returns the size of the virtual disk in bytes.
    pub fn size(&self) -> u64 {
        self.image.size()
    }

    /// Returns the name for messages.
    pub fn name(&self) -> &str {
        self.stored.name()
    }

    /// Returns the image.
    pub fn image(&self) -> &dyn Image {
        &*self.image
    }

    /// Returns the bytes as they are stored (packed, in the archive): what an OVF manifest digests.
    pub fn stored(&self) -> &Arc<dyn Source> {
        &self.stored
    }

    /// Returns whether the disk has to be read in order, by one reader.
    pub fn sequential(&self) -> bool {
        self.sequential
    }

    /// Returns how many bytes of the source were read so far.
    pub fn bytes_read(&self) -> u64 {
        self.read.load(Ordering::Relaxed)
    }

    /// Returns a text that changes when a file of the disk changes.
    pub fn stamp(&self) -> Result<String> {
        let stamps = self.parts.iter().map(|part| {
            part.stamp().map_err(|source| Error::Source { path: part.name().to_owned(), offset: 0, source })
        });
        Ok(stamps.collect::<Result<Vec<_>>>()?.join(" "))
    }

    /// Calls `visit` with the merged extents of the whole disk, a step of the disk at a time.
    pub fn map(&self, mut visit: impl FnMut(crate::extents::Extent)) -> Result<()> {
        const STEP: u64 = 64 << 20;
        let mut last: Option<crate::extents::Extent> = None;
        let mut extents = Extents::default();
        let mut at = 0;
        while at < self.size() {
            let end = self.size().min(at.saturating_add(STEP));
            extents.clear();
            self.image.extents(at..end, &mut extents)?;
            for extent in extents.as_slice() {
                match &mut last {
                    Some(last) if last.kind == extent.kind => last.length += extent.length,
                    _ => {
                        if let Some(done) = last.replace(*extent) {
                            visit(done);
                        }
                    }
                }
            }
            at = end;
        }
        if let Some(done) = last {
            visit(done);
        }
        Ok(())
    }

    /// Returns how many bytes of `range` are stored as data.
    pub fn data_bytes(&self, range: Range<u64>) -> Result<u64> {
        let mut extents = Extents::default();
        self.image.extents(range, &mut extents)?;
        Ok(extents.data_bytes())
    }
}

/// Where the files lie that an image may name.
enum Place {
    Folder { folder: PathBuf, anywhere: bool },
    Archive(Archive),
}

impl Place {
    fn find(path: &Path, options: &Options) -> Result<Self> {
        if options.member.is_some() {
            return Ok(Self::Archive(Archive::open(path)?));
        }
        let folder = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        Ok(Self::Folder { folder: folder.to_owned(), anywhere: options.references == References::Anywhere })
    }

    fn sibling(&self, name: &str) -> Result<Arc<dyn Source>> {
        match self {
            Self::Archive(archive) => Ok(Arc::new(archive.member(name)?)),
            Self::Folder { folder, anywhere: true } => Ok(Arc::new(open_file(&folder.join(name), false)?)),
            Self::Folder { folder, anywhere: false } => {
                if name.is_empty() || name.contains(['/', '\\', '\0']) || name == ".." || name == "." {
                    return Err(Error::Unsupported {
                        path: folder.display().to_string(),
                        what: format!("the image names {name:?}, which is not a file beside it"),
                    });
                }
                Ok(Arc::new(open_file(&folder.join(name), true)?))
            }
        }
    }
}

fn open_file(path: &Path, beside: bool) -> Result<FileRange> {
    let shown = path.display().to_string();
    let flags = if beside { libc::O_NOFOLLOW | libc::O_NONBLOCK } else { libc::O_NONBLOCK };
    let open = || {
        let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
        regular(&file)?;
        advise_sequential(&file);
        FileRange::whole(Arc::new(file), shown.clone())
    };
    open().map_err(|source| Error::Source { path: shown.clone(), offset: 0, source })
}

/// A pipe or a socket would be waited for without end.
fn regular(file: &File) -> io::Result<()> {
    use std::os::unix::fs::FileTypeExt;
    let kind = file.metadata()?.file_type();
    if kind.is_file() || kind.is_block_device() {
        return Ok(());
    }
    Err(io::Error::other("is neither a file nor a block device"))
}

struct Opener<'a> {
    place: Option<&'a Place>,
    read: Arc<AtomicU64>,
    parts: Mutex<Vec<Arc<dyn Source>>>,
}

impl Opener<'_> {
    fn open(&self, source: Arc<dyn Source>, format: Option<Format>, depth: usize) -> Result<Box<dyn Image>> {
        let input = self.input(source)?;
        let found = match format {
            Some(Format::Raw) => Found::Raw,
            // what a descriptor calls VMDK may be any of its kinds
            Some(_) | None => probe(&input)?,
        };
        let matches = match (format, found) {
            (None, _) | (Some(Format::Raw), Found::Raw) => true,
            (Some(Format::Qcow2), Found::Qcow2) => true,
            (Some(Format::Vmdk | Format::StreamOptimized), Found::Sparse | Found::Descriptor) => true,
            (Some(_), _) => false,
        };
        if !matches {
            let wanted = format.map_or("", Format::name);
            return Err(input.malformed(0, "magic", format!("the file is not {wanted}, which it is said to be")));
        }
        match found {
            Found::Raw => Ok(Box::new(Raw::open(input)?)),
            Found::Qcow2 => {
                let image = Qcow2::open(input.clone())?;
                let header = image.header();
                match header.backing.clone() {
                    None => Ok(Box::new(image)),
                    Some(name) => {
                        let format = header.backing_format.as_deref().and_then(|name| name.parse().ok());
                        let base = self.base(&input, &name, format, depth)?;
                        Ok(Box::new(Chain::new(Box::new(image), base)))
                    }
                }
            }
            Found::Sparse => self.vmdk(Vmdk::open_monolithic(input.clone())?, &input, depth),
            Found::Descriptor => {
                let image = Vmdk::open_descriptor(&input, |name| self.input(self.sibling(&input, name)?))?;
                self.vmdk(image, &input, depth)
            }
        }
    }

    fn vmdk(&self, image: Vmdk, input: &Input, depth: usize) -> Result<Box<dyn Image>> {
        match image.descriptor().parent.clone() {
            None => Ok(Box::new(image)),
            Some(name) => {
                let base = self.base(input, &name, Some(Format::Vmdk), depth)?;
                Ok(Box::new(Chain::new(Box::new(image), base)))
            }
        }
    }

    fn base(&self, input: &Input, name: &str, format: Option<Format>, depth: usize) -> Result<Box<dyn Image>> {
        if depth + 1 >= DEPTH {
            return Err(input.malformed(
                0,
                "backing file",
                format!("the chain is longer than {DEPTH}, or goes in a circle"),
            ));
        }
        self.open(self.sibling(input, name)?, format, depth + 1)
    }

    fn input(&self, source: Arc<dyn Source>) -> Result<Input> {
        self.parts.lock().unwrap_or_else(PoisonError::into_inner).push(source.clone());
        Input::new(source, self.read.clone())
    }

    fn sibling(&self, input: &Input, name: &str) -> Result<Arc<dyn Source>> {
        match self.place {
            Some(place) => place.sibling(name),
            None => Err(input.unsupported(format!("the image needs {name:?}, and only its own bytes are at hand"))),
        }
    }
}

/// What the first bytes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Found {
    Raw,
    Qcow2,
    Sparse,
    Descriptor,
}

/// Formats that are recognised in order to say so.
const NOT_READ: &[(usize, &[u8], &str)] = &[
    (0, b"COWD", "ESX sparse VMDK (COWD)"),
    (0, b"vhdxfile", "VHDX"),
    (0, b"conectix", "dynamic VHD"),
    (0, b"QED\0", "QED"),
    (0, b"LUKS\xba\xbe", "LUKS-encrypted image"),
    (0, b"\x1f\x8b\x08", "gzip stream: say that it is compressed"),
    (64, b"\x7f\x10\xda\xbe", "VDI"),
];

fn probe(input: &Input) -> Result<Found> {
    let mut head = vec![0; input.length().min(512) as usize];
    input.read(&mut head, 0, "magic")?;
    let at = |offset: usize, magic: &[u8]| head.get(offset..).is_some_and(|rest| rest.starts_with(magic));
    if at(0, b"KDMV") {
        return Ok(Found::Sparse);
    }
    if at(0, b"QFI\xfb") {
        return Ok(Found::Qcow2);
    }
    let text = head.trim_ascii_start();
    if text.starts_with(b"# Disk DescriptorFile") || text.starts_with(b"# disk DescriptorFile") {
        return Ok(Found::Descriptor);
    }
    if let Some((_, _, name)) = NOT_READ.iter().find(|(offset, magic, _)| at(*offset, magic)) {
        return Err(input.unsupported(*name));
    }
    if input.length() >= 512 {
        let mut tail = [0; 8];
        input.read(&mut tail, input.length() - 512, "VHD footer")?;
        if &tail == b"conectix" {
            return Err(input.unsupported("fixed VHD"));
        }
    }
    Ok(Found::Raw)
}
