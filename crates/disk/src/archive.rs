//! Members of a tar archive (an OVA is one), read in place: a member is a range of the archive.
//!
//! Headers are decoded by the tar crate; the walk is ours, because the archive may be a byte range
//! behind HTTP, and because what a header claims (a name of 10 GiB) must not be read into memory.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use tar::{EntryType, Header, PaxExtensions};

use crate::error::{Error, Result};
use crate::place::open_file;
use crate::source::{Input, Part, Source};

/// A member of an archive.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Member {
    /// Name in the archive, without a leading `./`.
    pub name: String,
    /// Offset of its first byte in the archive.
    pub offset: u64,
    /// Length in bytes.
    pub length: u64,
}

/// An open tar archive.
#[derive(Clone)]
pub struct Archive {
    source: Arc<dyn Source>,
    members: Arc<[Member]>,
}

/// The most members that are listed: an appliance has a handful.
const MEMBERS: usize = 100_000;
/// The longest record of names and attributes.
const RECORD: u64 = 1 << 20;
const BLOCK: u64 = 512;

impl Archive {
    /// Opens the archive at `path` and lists its members.
    pub fn open(path: &Path) -> Result<Self> {
        Self::over(Arc::new(open_file(path, false)?))
    }

    /// Lists the members of an archive whose bytes are `source`.
    pub fn over(source: Arc<dyn Source>) -> Result<Self> {
        let members = list(&Input::new(source.clone(), Arc::new(AtomicU64::new(0)))?)?;
        Ok(Self { source, members: members.into() })
    }

    /// Returns the members in the archive's order.
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// Returns a member's bytes.
    pub fn member(&self, name: &str) -> Result<Arc<dyn Source>> {
        let wanted = plain(name);
        let member = self
            .members
            .iter()
            .find(|member| member.name == wanted)
            .ok_or_else(|| Error::MemberNotFound { path: self.source.name().to_owned(), member: name.to_owned() })?;
        let shown = format!("{}({})", self.source.name(), member.name);
        Ok(Arc::new(Part::new(self.source.clone(), shown, member.offset, member.length)))
    }
}

fn plain(name: &str) -> &str {
    name.trim_start_matches("./")
}

/// What records before a header say of it.
#[derive(Default)]
struct Attributes {
    name: Option<String>,
    size: Option<u64>,
    sparse: bool,
}

fn list(input: &Input) -> Result<Vec<Member>> {
    let mut members = Vec::new();
    let mut attributes = Attributes::default();
    let mut at = 0;
    while at < input.length() {
        let mut block = [0; BLOCK as usize];
        input.read(&mut block, at, "tar header").map_err(|error| truncated(input, at, error))?;
        // two blocks of zeros end an archive; what follows them is padding
        if block.iter().all(|byte| *byte == 0) {
            break;
        }
        let header = Header::from_byte_slice(&block);
        check_sum(input, &block, at)?;
        let malformed = |error: std::io::Error| input.malformed(at, "tar header", error.to_string());
        let kind = header.entry_type();
        let size =
            attributes.size.filter(|_| kind.is_file()).map_or_else(|| header.entry_size(), Ok).map_err(malformed)?;
        let start = at + BLOCK;
        let name = match attributes.name.take() {
            Some(name) => name,
            None => String::from_utf8_lossy(&header.path_bytes()).into_owned(),
        };
        let end = start.checked_add(size).filter(|end| *end <= input.length()).ok_or_else(|| {
            let (name, have) = (short(&name), input.length());
            input.malformed(
                at,
                "tar header",
                format!("member {name:?} of {size} bytes ends beyond {have}: the archive is truncated"),
            )
        })?;
        match kind {
            EntryType::GNULongName => attributes.name = Some(long_name(input, start, size)?),
            EntryType::GNULongLink | EntryType::XGlobalHeader => {
                // a link's target and attributes of all members say nothing about bytes
            }
            EntryType::XHeader => read_pax(input, start, size, &mut attributes)?,
            _ if kind.is_gnu_sparse() || attributes.sparse => {
                return Err(
                    input.unsupported(format!("sparse member {:?}: its bytes do not lie in one piece", short(&name)))
                );
            }
            _ => {
                if kind.is_file() || kind.is_contiguous() {
                    members.push(Member { name: plain(&name).to_owned(), offset: start, length: size });
                }
                attributes = Attributes::default();
            }
        }
        if members.len() > MEMBERS {
            return Err(input.malformed(at, "tar header", format!("more than {MEMBERS} members")));
        }
        at = end.next_multiple_of(BLOCK);
    }
    if members.is_empty() && at == 0 {
        return Err(input.malformed(0, "tar header", "there is none"));
    }
    Ok(members)
}

fn truncated(input: &Input, at: u64, error: Error) -> Error {
    match error {
        Error::Malformed(_) => input.malformed(at, "tar header", "the archive is truncated"),
        other => other,
    }
}

/// Compares the header's sum of bytes, its own field counted as spaces.
fn check_sum(input: &Input, block: &[u8], at: u64) -> Result<()> {
    let sum = |bytes: Option<&[u8]>| bytes.unwrap_or_default().iter().map(|byte| u32::from(*byte)).sum::<u32>();
    let found = sum(block.get(..148)) + 8 * u32::from(b' ') + sum(block.get(156..));
    match Header::from_byte_slice(block).cksum() {
        Ok(stored) if stored == found => Ok(()),
        Ok(stored) => Err(input.malformed(at + 148, "tar checksum", format!("is {stored}, the bytes give {found}"))),
        Err(_) => Err(input.malformed(at + 148, "tar checksum", "is no number: this is no tar archive")),
    }
}

fn record(input: &Input, at: u64, size: u64) -> Result<Vec<u8>> {
    input.read_vec(at, size, RECORD, "tar record of attributes")
}

fn long_name(input: &Input, at: u64, size: u64) -> Result<String> {
    let bytes = record(input, at, size)?;
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    Ok(String::from_utf8_lossy(bytes.get(..end).unwrap_or_default()).into_owned())
}

fn read_pax(input: &Input, at: u64, size: u64, attributes: &mut Attributes) -> Result<()> {
    let bytes = record(input, at, size)?;
    for extension in PaxExtensions::new(&bytes) {
        let malformed = || input.malformed(at, "tar record of attributes", "is not well formed");
        let extension = extension.map_err(|_| malformed())?;
        let value = String::from_utf8_lossy(extension.value_bytes()).into_owned();
        match extension.key_bytes() {
            b"path" => attributes.name = Some(value),
            b"size" => attributes.size = Some(value.parse().map_err(|_| malformed())?),
            key if key.starts_with(b"GNU.sparse") => attributes.sparse = true,
            _ => {}
        }
    }
    Ok(())
}

/// A name for a message: hostile archives have long ones.
fn short(name: &str) -> String {
    name.chars().take(100).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archive(members: &[(&str, &[u8])]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (name, bytes) in members {
            let mut header = tar::Header::new_gnu();
            header.set_size(bytes.len() as u64);
            header.set_mode(0o644);
            builder.append_data(&mut header, name, *bytes).expect("appends");
        }
        builder.into_inner().expect("finishes")
    }

    #[test]
    fn members_are_read_in_place() {
        let long = format!("{}/disk.vmdk", "folder".repeat(30));
        let dir = tempfile::tempdir().expect("a temporary folder");
        let path = dir.path().join("a.ova");
        std::fs::write(&path, archive(&[("a.ovf", b"<xml>"), (&long, b"bytes of the disk")])).expect("writes");
        let archive = Archive::open(&path).expect("opens");
        assert_eq!(archive.members().len(), 2);
        let member = archive.member(&format!("./{long}")).expect("is there");
        let mut buf = [0; 8];
        member.read_at(&mut buf, 9).expect("reads");
        assert_eq!(&buf, b"the disk");
        assert!(member.read_at(&mut buf, 10).is_err(), "not beyond the member");
        let error = archive.member("b.vmdk").err().expect("is not there");
        assert_eq!(error.code(), "SourceUnreadable");
    }

    #[test]
    fn truncated_and_foreign_files_are_refused() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let path = dir.path().join("a.ova");
        let bytes = archive(&[("a.ovf", &[b'x'; 5000])]);
        std::fs::write(&path, &bytes[..3000]).expect("writes");
        let error = Archive::open(&path).err().expect("truncated");
        assert!(error.to_string().contains("truncated"), "{error}");
        std::fs::write(&path, [0x55; 4096]).expect("writes");
        assert_eq!(Archive::open(&path).err().expect("no archive").code(), "Malformed");
    }
}
