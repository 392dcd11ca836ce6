//! Opening a disk: where it lies, what format it has, what belongs to it.
//!
//! ```text
//! path ──► file, URL, export ──► [gzip] ──► probe ──► format ──► Disk
//!      └─► archive ─► member ──┘                       │
//!                                  files it names ◄────┘  beside it only, unless the caller allows more
//! ```
//!
//! Which files an image may name is decided in [`place`](crate::place).

use std::ops::Range;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::error::{Error, Result};
use crate::extents::Extents;
use crate::format::chain::{Chain, DEPTH};
use crate::format::qcow2::Qcow2;
use crate::format::raw::Raw;
use crate::format::vhd::{self, Vhd};
use crate::format::vhdx::{self, Vhdx};
use crate::format::vmdk::Vmdk;
use crate::format::within::Within;
use crate::gzip::GzipSource;
use crate::image::{Format, Image};
use crate::location::Location;
use crate::place::Place;
use crate::probe::{Found, probe};
use crate::remote::Access;
use crate::source::{Input, Source};

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
    /// How servers are talked to.
    pub access: Access,
}

/// Tells which state of a source there is, by asking its server.
pub type State = Arc<dyn Fn() -> std::io::Result<String> + Send + Sync>;

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
    state: Option<State>,
}

impl Disk {
    /// Opens the disk at `path`, which may be a URL: see [`Location`].
    pub fn open(path: &Path, options: &Options) -> Result<Self> {
        let location = Location::of(path)?;
        match &options.member {
            Some(member) => {
                let archive = location.archive(&options.access)?;
                Self::from_source(archive.member(member)?, options, Some(&archive))
            }
            None => {
                let (source, place) = location.open(&options.access, options.references == References::Anywhere)?;
                Self::from_source(source, options, Some(&*place))
            }
        }
    }

    /// Opens the disk whose stored bytes are `stored`, at no place that could hold other files.
    pub fn over(stored: Arc<dyn Source>, options: &Options) -> Result<Self> {
        Self::from_source(stored, options, None)
    }

    /// Opens the disk whose stored bytes are `stored`; files that it names are looked for in `place`.
    pub fn at(stored: Arc<dyn Source>, options: &Options, place: &dyn Place) -> Result<Self> {
        Self::from_source(stored, options, Some(place))
    }

    fn from_source(stored: Arc<dyn Source>, options: &Options, place: Option<&dyn Place>) -> Result<Self> {
        let read = Arc::new(AtomicU64::new(0));
        let opener = Opener { place, read: read.clone(), parts: Mutex::default() };
        let source: Arc<dyn Source> =
            if options.gzip { Arc::new(GzipSource::new(stored.clone())) } else { stored.clone() };
        let sequential = source.sequential();
        let image = opener.open(opener.input(source.clone())?, options.format, 0)?;
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
        Ok(Self { image, stored, parts, read, sequential, state: None })
    }

    /// Returns a disk of bytes that are at hand elsewhere, e.g. read by a library; `stored` names and stamps it.
    pub fn of(image: Box<dyn Image>, stored: Arc<dyn Source>, read: Arc<AtomicU64>) -> Self {
        Self { image, parts: vec![stored.clone()], stored, read, sequential: false, state: None }
    }

    /// Leaves out what lies outside of these ranges, which are in order and apart: the source says that nothing was
    /// ever written there.
    pub fn within(mut self, ranges: Vec<Range<u64>>) -> Self {
        self.image = Box::new(Within::new(self.image, ranges));
        self
    }

    /// Says what tells which state of the source is read, where its files do not: a copy goes on with the same one
    /// only, and fails where it is another one at its end.
    pub fn in_state(mut self, state: State) -> Self {
        self.state = Some(state);
        self
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

    /// Returns the image alone, for whoever reads it at any offset.
    pub fn into_image(self) -> Box<dyn Image> {
        self.image
    }

    /// Returns a counter of the bytes of the source that are read, which goes on counting without the disk.
    pub fn read_counter(&self) -> Arc<AtomicU64> {
        self.read.clone()
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
            let mut stamp = String::new();
            // asked for before the first byte and after the last: a connection that breaks off there is none the worse
            crate::patience::retry(part.name(), 0, || part.stamp().map(|told| stamp = told))
                .map_err(|source| Error::Source { path: part.name().to_owned(), offset: 0, source })?;
            Ok(stamp)
        });
        let unreadable = |source| Error::Source { path: self.name().to_owned(), offset: 0, source };
        let stamps = self.state.iter().map(|state| state().map_err(unreadable)).chain(stamps);
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

struct Opener<'a> {
    place: Option<&'a dyn Place>,
    read: Arc<AtomicU64>,
    parts: Mutex<Vec<Arc<dyn Source>>>,
}

impl Opener<'_> {
    fn open(&self, input: Input, format: Option<Format>, depth: usize) -> Result<Box<dyn Image>> {
        let found = match format {
            Some(Format::Raw) => Found::Raw,
            _ => probe(&input)?,
        };
        if let Some(wanted) = format.filter(|format| !found.is(*format)) {
            return Err(input.malformed(0, "magic", format!("the file is not {wanted}, which it is said to be")));
        }
        match found {
            Found::Raw => Ok(Box::new(Raw::open(input)?)),
            Found::Qcow2 => {
                let image = Qcow2::open(input.clone())?;
                let Some(name) = image.header().backing.clone() else {
                    return Ok(Box::new(image));
                };
                let format = image.header().backing_format.as_deref().and_then(|name| name.parse().ok());
                let base = self.open(self.beside(&input, &name, depth)?, format, depth + 1)?;
                Ok(Box::new(Chain::new(Box::new(image), base)))
            }
            Found::Sparse | Found::Cowd | Found::SeSparse => {
                self.vmdk(Vmdk::open_monolithic(input.clone())?, &input, depth)
            }
            Found::Descriptor => {
                let image = Vmdk::open_descriptor(&input, |name| self.input(self.sibling(&input, name)?))?;
                self.vmdk(image, &input, depth)
            }
            Found::Vhd => {
                let image = Vhd::open(input.clone())?;
                let Some(parent) = image.parent().cloned() else {
                    return Ok(Box::new(image));
                };
                let under = self.beside(&input, &parent.name, depth)?;
                if vhd::identity(&under)? != parent.id {
                    return Err(not_the_parent(&input, "parent unique ID", under.name()));
                }
                Ok(Box::new(Chain::new(Box::new(image), self.open(under, Some(Format::Vhd), depth + 1)?)))
            }
            Found::Vhdx => {
                let image = Vhdx::open(input.clone())?;
                let Some(parent) = image.parent().cloned() else {
                    return Ok(Box::new(image));
                };
                let under = self.beside(&input, &parent.name, depth)?;
                if !parent.ids.contains(&vhdx::identity(&under)?) {
                    return Err(not_the_parent(&input, "parent_linkage", under.name()));
                }
                Ok(Box::new(Chain::new(Box::new(image), self.open(under, Some(Format::Vhdx), depth + 1)?)))
            }
        }
    }

    fn vmdk(&self, image: Vmdk, input: &Input, depth: usize) -> Result<Box<dyn Image>> {
        let Some(parent) = image.descriptor().parent.clone() else {
            return Ok(Box::new(image));
        };
        let under = self.beside(input, &parent.name, depth)?;
        if Vmdk::identity(&under)?.is_some_and(|id| id != parent.id) {
            return Err(not_the_parent(input, "parentCID", under.name()));
        }
        Ok(Box::new(Chain::new(Box::new(image), self.open(under, Some(Format::Vmdk), depth + 1)?)))
    }

    /// Opens the file that an image lies over.
    fn beside(&self, input: &Input, name: &str, depth: usize) -> Result<Input> {
        if depth + 1 >= DEPTH {
            let reason = format!("the chain is longer than {DEPTH}, or goes in a circle");
            return Err(input.malformed(0, "backing file", reason));
        }
        self.input(self.sibling(input, name)?)
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

fn not_the_parent(input: &Input, field: &str, found: &str) -> Error {
    input.malformed(0, field, format!("{found} is another disk, or was changed after this one was made over it"))
}
