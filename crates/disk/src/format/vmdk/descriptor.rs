//! The text descriptor of a VMDK.

use crate::error::Result;
use crate::source::Input;

/// The longest descriptor that is read; real ones have a few hundred bytes.
pub(super) const BYTES: u64 = 1 << 20;
/// The most extents: 62 TiB in pieces of 2 GiB are 31,744.
const EXTENTS: usize = 65_536;

/// How an extent stores its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Grains behind a directory: of hosted products, or ESX's COWD.
    Sparse,
    /// Grains behind two levels of tables: ESX's delta disks since VMFS 6.
    SeSparse,
    /// Bytes as they are.
    Flat,
    /// Nothing: zeros.
    Zero,
}

/// An extent line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExtentLine {
    /// Length in sectors of 512 bytes.
    pub sectors: u64,
    /// How it is stored.
    pub kind: Kind,
    /// File name; empty for [`Kind::Zero`].
    pub file: String,
    /// First sector in the file (flat extents).
    pub offset: u64,
}

/// What a delta disk says of its parent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parent {
    /// `parentFileNameHint`.
    pub name: String,
    /// `parentCID`, lower case: the content that the parent has to have.
    pub id: String,
}

/// What a descriptor says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Descriptor {
    /// `createType`.
    pub create_type: String,
    /// `CID`, lower case: changes with the disk's bytes.
    pub id: Option<String>,
    /// The extents in order.
    pub extents: Vec<ExtentLine>,
    /// The parent of a delta disk.
    pub parent: Option<Parent>,
}

impl Descriptor {
    /// Parses the text; padding of an embedded descriptor is cut off.
    pub fn parse(input: &Input, bytes: &[u8]) -> Result<Self> {
        let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
        let text = String::from_utf8_lossy(bytes.get(..end).unwrap_or_default());
        let mut descriptor = Self::default();
        let (mut parent_id, mut hint) = (None, None);
        for line in text.lines().map(str::trim).filter(|line| !line.starts_with('#')) {
            let access = line.split_whitespace().next().unwrap_or_default();
            if matches!(access, "RW" | "RDONLY" | "NOACCESS") {
                let extent = parse_extent(line)
                    .map_err(|reason| input.malformed(0, "extent description", format!("{reason} in {line:?}")))?;
                descriptor.extents.push(extent.map_err(|kind| input.unsupported(format!("VMDK extent type {kind}")))?);
                if descriptor.extents.len() > EXTENTS {
                    return Err(input.malformed(0, "extent description", "too many"));
                }
            } else if let Some((key, value)) = line.split_once('=') {
                let value = value.trim().trim_matches('"');
                match key.trim() {
                    "createType" => descriptor.create_type = value.to_owned(),
                    "CID" => descriptor.id = Some(value.to_ascii_lowercase()),
                    "encryption.keySafe" | "encryption.data" => return Err(input.unsupported("encrypted VMDK")),
                    "parentCID" => parent_id = Some(value.to_ascii_lowercase()),
                    "parentFileNameHint" => hint = Some(value.to_owned()),
                    _ => {}
                }
            }
        }
        if let Some(id) = parent_id.filter(|id| id != "ffffffff") {
            let missing = || input.malformed(0, "parentFileNameHint", "is missing in a delta disk");
            descriptor.parent = Some(Parent { name: hint.ok_or_else(missing)?, id });
        }
        Ok(descriptor)
    }
}

/// Parses `ACCESS SECTORS TYPE ["FILE" [OFFSET]]`; the inner error is a type that is not read.
fn parse_extent(line: &str) -> Result<Result<ExtentLine, String>, &'static str> {
    let (head, tail) = line.split_once('"').unwrap_or((line, ""));
    let mut words = head.split_whitespace().skip(1);
    let sectors = words.next().and_then(|word| word.parse().ok()).ok_or("no size")?;
    let kind = match words.next().ok_or("no type")?.to_ascii_uppercase().as_str() {
        "SPARSE" | "VMFSSPARSE" => Kind::Sparse,
        "SESPARSE" => Kind::SeSparse,
        "FLAT" | "VMFS" => Kind::Flat,
        "ZERO" => {
            return Ok(Ok(ExtentLine { sectors, kind: Kind::Zero, file: String::new(), offset: 0 }));
        }
        other => return Ok(Err(other.to_owned())),
    };
    let (file, rest) = tail.split_once('"').ok_or("no file name")?;
    let offset = match rest.split_whitespace().next() {
        Some(word) => word.parse().map_err(|_| "no number for the offset")?,
        None => 0,
    };
    Ok(Ok(ExtentLine { sectors, kind, file: file.to_owned(), offset }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extent_lines() {
        let line = |sectors, kind, file: &str, offset| ExtentLine { sectors, kind, file: file.into(), offset };
        let parsed = |text| parse_extent(text).expect("is well formed").expect("is known");
        assert_eq!(parsed(r#"RW 4192256 SPARSE "a b-s001.vmdk""#), line(4192256, Kind::Sparse, "a b-s001.vmdk", 0));
        assert_eq!(parsed(r#"RW 63 FLAT "d-flat.vmdk" 128"#), line(63, Kind::Flat, "d-flat.vmdk", 128));
        assert_eq!(parsed("RW 9 ZERO"), line(9, Kind::Zero, "", 0));
        assert_eq!(parsed(r#"RW 9 SESPARSE "x""#), line(9, Kind::SeSparse, "x", 0));
        assert_eq!(parse_extent(r#"RW 9 VMFSRDM "x""#), Ok(Err("VMFSRDM".into())));
        assert_eq!(parse_extent("RW nine FLAT"), Err("no size"));
        assert_eq!(parse_extent("RW 9 FLAT x"), Err("no file name"));
    }
}
