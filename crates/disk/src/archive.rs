//! Members of a tar archive (an OVA is one), read in place: a member is a range of the archive.

use std::fs::File;
use std::io::{self, BufReader};
use std::path::Path;
use std::sync::Arc;

use crate::error::{Error, Malformed, Result};
use crate::source::FileRange;

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
#[derive(Debug, Clone)]
pub struct Archive {
    file: Arc<File>,
    path: String,
    members: Arc<[Member]>,
}

/// The most members that are listed: an appliance has a handful.
const MEMBERS: usize = 100_000;

impl Archive {
    /// Opens an archive and lists its members.
    pub fn open(path: &Path) -> Result<Self> {
        let shown = path.display().to_string();
        let unreadable = |error| Error::Source { path: shown.clone(), offset: 0, source: error };
        let file = Arc::new(File::open(path).map_err(unreadable)?);
        let size = file.metadata().map_err(unreadable)?.len();
        let members = list(&file, &shown, size)?;
        Ok(Self { file, path: shown, members: members.into() })
    }

    /// Returns the members in the archive's order.
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// Returns a member's bytes.
    pub fn member(&self, name: &str) -> Result<FileRange> {
        let wanted = plain(name);
        let member = self
            .members
            .iter()
            .find(|member| member.name == wanted)
            .ok_or_else(|| Error::MemberNotFound { path: self.path.clone(), member: name.to_owned() })?;
        let shown = format!("{}({})", self.path, member.name);
        FileRange::part(self.file.clone(), shown.clone(), member.offset, member.length)
            .map_err(|source| Error::Source { path: shown, offset: member.offset, source })
    }
}

fn plain(name: &str) -> &str {
    name.trim_start_matches("./")
}

fn list(file: &Arc<File>, path: &str, size: u64) -> Result<Vec<Member>> {
    let malformed = |offset: u64, reason: String| {
        Error::Malformed(Malformed { path: path.to_owned(), offset, field: "tar header".into(), reason })
    };
    let mut archive = tar::Archive::new(BufReader::new(&**file));
    let mut members = Vec::new();
    let mut end = 0;
    let entries = archive.entries_with_seek().map_err(|error| malformed(0, error.to_string()))?;
    for entry in entries {
        let entry = entry.map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => malformed(end, format!("the archive is truncated: {error}")),
            _ => malformed(end, error.to_string()),
        })?;
        let (offset, length) = (entry.raw_file_position(), entry.size());
        end = offset.saturating_add(length);
        if end > size {
            let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
            return Err(malformed(
                entry.raw_header_position(),
                format!("member {name:?} ends at {end}, the archive at {size}: it is truncated"),
            ));
        }
        let kind = entry.header().entry_type();
        if kind.is_gnu_sparse() {
            return Err(Error::Unsupported {
                path: path.to_owned(),
                what: "GNU sparse member: its bytes do not lie in one piece".into(),
            });
        }
        if kind.is_file() || kind.is_contiguous() {
            let name = plain(&String::from_utf8_lossy(&entry.path_bytes())).to_owned();
            members.push(Member { name, offset, length });
        }
        if members.len() > MEMBERS {
            return Err(malformed(end, format!("more than {MEMBERS} members")));
        }
    }
    Ok(members)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::Source;

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
        let error = archive.member("b.vmdk").expect_err("is not there");
        assert_eq!(error.code(), "SourceUnreadable");
    }

    #[test]
    fn truncated_and_foreign_files_are_refused() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let path = dir.path().join("a.ova");
        let bytes = archive(&[("a.ovf", &[b'x'; 5000])]);
        std::fs::write(&path, &bytes[..3000]).expect("writes");
        let error = Archive::open(&path).expect_err("truncated");
        assert!(error.to_string().contains("truncated"), "{error}");
        std::fs::write(&path, [0x55; 4096]).expect("writes");
        assert_eq!(Archive::open(&path).expect_err("no archive").code(), "Malformed");
    }
}
