//! An OVA is a tar archive; it is never unpacked. The index tells where each
//! member lies, so that descriptor and manifest are read, and later the disks,
//! from inside the one file. ustar, GNU and pax headers are understood.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};

/// More members than any appliance has.
const MEMBERS: usize = 10_000;

/// A file in the archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its name as stored.
    pub name: String,
    /// Where its bytes begin.
    pub offset: u64,
    /// How many there are.
    pub size: u64,
}

/// Why an archive cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// Reading the file failed.
    #[error("the archive cannot be read: {0}")]
    Io(#[from] io::Error),
    /// The file is something else.
    #[error("the file is not a tar archive{0}")]
    NotTar(&'static str),
    /// The file ends inside a member.
    #[error("the archive ends inside {member}: {missing} bytes are missing")]
    Truncated {
        /// The member.
        member: String,
        /// How much is missing.
        missing: u64,
    },
    /// There is too much in it.
    #[error("the archive has more than {MEMBERS} members")]
    TooMany,
}

/// Lists an archive's files.
pub fn index(file: &File) -> Result<Vec<Member>, ArchiveError> {
    let length = file.metadata()?.len();
    check_magic(file)?;
    let mut members = Vec::new();
    let mut archive = tar::Archive::new(file);
    for entry in archive.entries_with_seek()? {
        let entry = entry.map_err(|error| broken(error, members.last(), length))?;
        if !(entry.header().entry_type().is_file() || entry.header().entry_type().is_contiguous()) {
            continue;
        }
        let member = Member {
            name: String::from_utf8_lossy(&entry.path_bytes()).into_owned(),
            offset: entry.raw_file_position(),
            size: entry.size(),
        };
        let end = member.offset.saturating_add(member.size);
        if end > length {
            return Err(ArchiveError::Truncated { member: member.name, missing: end - length });
        }
        members.push(member);
        if members.len() > MEMBERS {
            return Err(ArchiveError::TooMany);
        }
    }
    Ok(members)
}

fn check_magic(mut file: &File) -> Result<(), ArchiveError> {
    let mut start = [0; 4];
    file.seek(SeekFrom::Start(0))?;
    let read = file.read(&mut start)?;
    file.seek(SeekFrom::Start(0))?;
    match start.get(..read).unwrap_or_default() {
        [] => Err(ArchiveError::NotTar(": it is empty")),
        [0x1f, 0x8b, ..] => Err(ArchiveError::NotTar(": it is compressed with gzip, unpack it once")),
        [b'P', b'K', ..] => Err(ArchiveError::NotTar(": it is a zip file, unpack it once")),
        _ => Ok(()),
    }
}

fn broken(error: io::Error, last: Option<&Member>, length: u64) -> ArchiveError {
    let Some(last) = last else {
        return ArchiveError::NotTar("");
    };
    let next_header = last.offset.saturating_add(last.size).next_multiple_of(512);
    match (next_header + 512).checked_sub(length) {
        Some(missing) if missing > 0 => {
            ArchiveError::Truncated { member: format!("the header after {}", last.name), missing }
        }
        _ => ArchiveError::Io(error),
    }
}

/// Reads a member, which has to be smaller than the limit.
pub fn read(mut file: &File, member: &Member, limit: u64) -> io::Result<Vec<u8>> {
    if member.size > limit {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("{} has {} bytes, more than {limit}", member.name, member.size),
        ));
    }
    file.seek(SeekFrom::Start(member.offset))?;
    let mut bytes = Vec::new();
    file.take(member.size).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Finds a member by the name that a descriptor uses.
pub fn find<'a>(members: &'a [Member], name: &str) -> Option<&'a Member> {
    let bare = |n: &str| n.trim_start_matches("./").to_owned();
    let name = bare(name);
    members.iter().find(|m| bare(&m.name) == name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;
    use std::io::Write;

    fn archive(write: impl FnOnce(&mut tar::Builder<Vec<u8>>)) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        write(&mut builder);
        builder.into_inner().expect("memory does not fail")
    }

    fn append(builder: &mut tar::Builder<Vec<u8>>, mut header: tar::Header, name: &str, data: &[u8]) {
        header.set_size(data.len() as u64);
        header.set_mode(0o644);
        builder.append_data(&mut header, name, data).expect("memory does not fail");
    }

    fn listed(bytes: &[u8]) -> String {
        let mut file = tempfile::tempfile().expect("a temporary file");
        file.write_all(bytes).expect("writable");
        match index(&file) {
            Ok(members) => {
                let line = |m: &Member| {
                    let content = read(&file, m, 100).expect("indexed members can be read");
                    format!("{} {:?}\n", m.name, String::from_utf8_lossy(&content))
                };
                members.iter().map(line).collect()
            }
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn members_of_each_header_format() {
        let long = format!("{}/disk.vmdk", "d".repeat(150));
        let bytes = archive(|b| {
            append(b, tar::Header::new_ustar(), "app.ovf", b"descriptor");
            append(b, tar::Header::new_gnu(), &long, b"disk");
            b.append_pax_extensions([("path", "pax.mf".as_bytes())]).expect("memory");
            append(b, tar::Header::new_ustar(), "short", b"manifest");
        });
        let page = listed(&bytes);
        let lines: Vec<&str> = page.lines().collect();
        assert_eq!(lines[0], "app.ovf \"descriptor\"");
        assert_eq!(lines[1], format!("{long} \"disk\""));
        assert_eq!(lines[2], "pax.mf \"manifest\"");
    }

    #[test]
    fn a_size_in_base_256_is_understood() {
        // a header can name 9 GB although the file holds less: it has to be found out
        let mut header = tar::Header::new_gnu();
        header.set_path("big.vmdk").expect("a short name");
        header.set_size(9 << 30);
        header.set_cksum();
        expect!["the archive ends inside big.vmdk: 9663676416 bytes are missing"].assert_eq(&listed(header.as_bytes()));
    }

    #[test]
    fn other_files_are_refused_with_a_reason() {
        expect!["the file is not a tar archive: it is empty"].assert_eq(&listed(b""));
        expect!["the file is not a tar archive: it is compressed with gzip, unpack it once"]
            .assert_eq(&listed(b"\x1f\x8b\x08\x00"));
        expect!["the file is not a tar archive"].assert_eq(&listed(&[7; 2000]));
        let whole = archive(|b| append(b, tar::Header::new_ustar(), "a.ovf", &[b'x'; 2000]));
        expect!["the archive ends inside a.ovf: 1000 bytes are missing"].assert_eq(&listed(&whole[..1512]));
    }
}
