//! VMDK: one virtual disk made of extents.
//!
//! ```text
//! descriptor   RW 4192256 SPARSE "d-s001.vmdk"     sparse   header ─► grain directory ─► grain tables ─► grains
//! (a file or   RW 4192256 FLAT   "d-f002.vmdk" 0   flat     raw bytes
//! embedded)    RW 1024    ZERO                     zero     nothing
//! ```
//!
//! A monolithic sparse or streamOptimized file is one sparse extent that carries its descriptor.
//! Facts: VMware's "Virtual Disk Format 5.0" technical note; ranges of real files from qemu-img and
//! ovftool-shaped exports. For seSparse see [`sesparse`].

pub mod descriptor;
pub mod sesparse;
pub mod sparse;

use std::ops::Range;

use crate::error::Result;
use crate::extents::{Extents, Kind};
use crate::image::{Format, Image};
use crate::source::Input;

use descriptor::Descriptor;
use sesparse::SeSparse;
use sparse::Sparse;

/// A part of the virtual disk.
enum Part {
    Sparse(Sparse),
    SeSparse(SeSparse),
    Flat { input: Input, offset: u64 },
    Zero,
}

/// A VMDK made of one or several extents.
pub struct Vmdk {
    /// Ordered parts with their ranges of the virtual disk.
    parts: Vec<(Range<u64>, Part)>,
    size: u64,
    format: Format,
    descriptor: Descriptor,
}

impl Vmdk {
    /// Opens a file that is a sparse extent, with its descriptor inside or without any.
    pub fn open_monolithic(input: Input) -> Result<Self> {
        if sesparse::is(&input)? {
            let sparse = SeSparse::open(input)?;
            let (size, part) = (sparse.size(), Part::SeSparse(sparse));
            return Ok(Self {
                parts: vec![(0..size, part)],
                size,
                format: Format::Vmdk,
                descriptor: Descriptor::default(),
            });
        }
        let sparse = Sparse::open(input.clone())?;
        let descriptor = match sparse.descriptor()? {
            Some(text) => Descriptor::parse(&input, &text)?,
            None => Descriptor::default(),
        };
        // an embedded descriptor names its own file; further files belong to a split disk
        if descriptor.extents.len() > 1 {
            return Err(input.unsupported("sparse VMDK whose embedded descriptor names further extents"));
        }
        let format = if sparse.packed() { Format::StreamOptimized } else { Format::Vmdk };
        let size = sparse.size();
        Ok(Self { parts: vec![(0..size, Part::Sparse(sparse))], size, format, descriptor })
    }

    /// Opens a descriptor file; `sibling` opens the files that it names.
    pub fn open_descriptor(input: &Input, mut sibling: impl FnMut(&str) -> Result<Input>) -> Result<Self> {
        let text = input.read_vec(0, input.length().min(descriptor::BYTES), descriptor::BYTES, "descriptor")?;
        let descriptor = Descriptor::parse(input, &text)?;
        let mut parts = Vec::new();
        let mut size = 0u64;
        for (number, extent) in descriptor.extents.iter().enumerate() {
            let field = || format!("extent description {}", number + 1);
            let length = extent.sectors.checked_mul(512).filter(|length| *length <= i64::MAX as u64 / 2);
            let end = length.and_then(|length| size.checked_add(length)).filter(|end| *end <= i64::MAX as u64);
            let (Some(length), Some(end)) = (length, end) else {
                return Err(input.malformed(0, field(), format!("{} sectors are absurd", extent.sectors)));
            };
            let part = match extent.kind {
                descriptor::Kind::Zero => Part::Zero,
                descriptor::Kind::Flat => {
                    let file = sibling(&extent.file)?;
                    let offset = extent
                        .offset
                        .checked_mul(512)
                        .ok_or_else(|| input.malformed(0, field(), "its offset is absurd"))?;
                    file.check(offset, length, &format!("{} of {}", field(), input.name()))?;
                    Part::Flat { input: file, offset }
                }
                descriptor::Kind::Sparse => Part::Sparse(Sparse::open(sibling(&extent.file)?)?),
                descriptor::Kind::SeSparse => Part::SeSparse(SeSparse::open(sibling(&extent.file)?)?),
            };
            let have = match &part {
                Part::Sparse(sparse) => sparse.size(),
                Part::SeSparse(sparse) => sparse.size(),
                Part::Flat { .. } | Part::Zero => length,
            };
            if have < length {
                return Err(input.malformed(0, field(), format!("{:?} holds {have} bytes, not {length}", extent.file)));
            }
            parts.push((size..end, part));
            size = end;
        }
        if parts.is_empty() {
            return Err(input.malformed(0, "extent description", "there is none"));
        }
        Ok(Self { parts, size, format: Format::Vmdk, descriptor })
    }

    /// Returns the content ID that a child of this image names; none where there is no descriptor.
    pub fn identity(input: &Input) -> Result<Option<String>> {
        let mut magic = [0; 4];
        input.read(&mut magic, 0, "magic")?;
        let text = match &magic {
            b"KDMV" => Sparse::open(input.clone())?.descriptor()?,
            b"COWD" | b"\xbe\xba\xfe\xca" => None,
            _ => Some(input.read_vec(0, input.length().min(descriptor::BYTES), descriptor::BYTES, "descriptor")?),
        };
        Ok(text.map(|text| Descriptor::parse(input, &text)).transpose()?.and_then(|descriptor| descriptor.id))
    }

    /// Returns the descriptor.
    pub fn descriptor(&self) -> &Descriptor {
        &self.descriptor
    }

    /// Calls `visit` for each part that `range` touches, with the part of the range in it.
    fn each(&self, range: Range<u64>, mut visit: impl FnMut(&Part, u64, Range<u64>) -> Result<()>) -> Result<()> {
        let first = self.parts.partition_point(|(place, _)| place.end <= range.start);
        for (place, part) in self.parts.iter().skip(first).take_while(|(place, _)| place.start < range.end) {
            visit(part, place.start, range.start.max(place.start)..range.end.min(place.end))?;
        }
        Ok(())
    }
}

impl Image for Vmdk {
    fn format(&self) -> Format {
        self.format
    }

    fn size(&self) -> u64 {
        self.size
    }

    fn extents(&self, range: Range<u64>, extents: &mut Extents) -> Result<()> {
        self.each(range, |part, base, range| {
            match part {
                Part::Sparse(sparse) => sparse.extents(base, range, extents)?,
                Part::SeSparse(sparse) => sparse.extents(base, range, extents)?,
                Part::Flat { input, offset } => super::raw::extents_of(input, *offset, base, range, extents)?,
                Part::Zero => extents.push(range.start, range.end - range.start, Kind::Zero),
            }
            Ok(())
        })
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        let end = offset.saturating_add(buf.len() as u64);
        let mut rest = buf;
        self.each(offset..end, |part, base, range| {
            let length = (range.end - range.start) as usize;
            let (now, later) = std::mem::take(&mut rest).split_at_mut(length);
            rest = later;
            match part {
                Part::Sparse(sparse) => sparse.read_at(now, range.start - base),
                Part::SeSparse(sparse) => sparse.read_at(now, range.start - base),
                Part::Flat { input, offset } => input.read(now, offset + (range.start - base), "flat extent"),
                Part::Zero => {
                    now.fill(0);
                    Ok(())
                }
            }
        })
    }

    fn tables(&self) -> Result<Vec<Range<u64>>> {
        match self.parts.as_slice() {
            [(_, Part::Sparse(sparse))] => Ok(sparse.tables()),
            _ => Ok(Vec::new()),
        }
    }

    fn details(&self) -> Vec<(&'static str, String)> {
        let mut details = Vec::new();
        if !self.descriptor.create_type.is_empty() {
            details.push(("create type", self.descriptor.create_type.clone()));
        }
        details.push(("extents", self.parts.len().to_string()));
        if let Some((_, Part::Sparse(sparse))) = self.parts.first() {
            details.push(("grain size", sparse.grain().to_string()));
        }
        details.extend(self.descriptor.parent.clone().map(|parent| ("parent", parent.name)));
        details
    }
}
