//! Ids that stay the same, whatever else changes.
//!
//! A VM's own UUID is its id. Where the exporter gives none, the id comes from
//! the appliance's path below the catalogue and the system's id: it survives a
//! restart, a repaired descriptor and a catalogue mounted elsewhere. Networks are
//! known by their name, so the same name in two appliances is one network; their
//! ids equal upstream's.

use sha2::{Digest, Sha256};

/// Returns the VM's own UUID, when its id is one.
pub fn own_uuid(id: &str) -> Option<String> {
    uuid::Uuid::parse_str(id).is_ok().then(|| id.to_owned())
}

/// Returns a VM's id made from its place.
pub fn vm(appliance: &str, system: &str) -> String {
    hash(&[b"vm", appliance.as_bytes(), system.as_bytes()])
}

/// Returns a disk's id.
pub fn disk(appliance: &str, disk: &str) -> String {
    hash(&[b"disk", appliance.as_bytes(), disk.as_bytes()])
}

/// Returns an appliance's id.
pub fn appliance(path: &str) -> String {
    hash(&[b"appliance", path.as_bytes()])
}

/// Returns a network's id: upstream hashes the name in Go's gob encoding.
pub fn network(name: &str) -> String {
    let mut value = vec![0x0c, 0x00];
    value.extend(gob_uint(name.len()));
    value.extend(name.as_bytes());
    let mut message = gob_uint(value.len());
    message.extend(value);
    shown(&Sha256::digest(&message))
}

/// gob writes small numbers as one byte, others as the negated count of bytes and the bytes.
fn gob_uint(number: usize) -> Vec<u8> {
    if number < 0x80 {
        return vec![u8::try_from(number).unwrap_or_default()];
    }
    let bytes: Vec<u8> = number.to_be_bytes().into_iter().skip_while(|b| *b == 0).collect();
    let mut out = vec![(!u8::try_from(bytes.len()).unwrap_or_default()).wrapping_add(1)];
    out.extend(bytes);
    out
}

fn hash(parts: &[&[u8]]) -> String {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update(u64::try_from(part.len()).unwrap_or_default().to_be_bytes());
        hasher.update(part);
    }
    shown(&hasher.finalize())
}

fn shown(digest: &[u8]) -> String {
    digest.iter().take(18).map(|b| format!("{b:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_have_upstreams_length_and_tell_things_apart() {
        let ids = [vm("a.ova", "x"), vm("a.ova", "y"), vm("b.ova", "x"), disk("a.ova", "x"), network("x")];
        for (i, id) in ids.iter().enumerate() {
            assert_eq!(id.len(), 36);
            assert!(!ids[..i].contains(id));
        }
    }

    #[test]
    fn networks_have_upstreams_ids() {
        // made with Go's encoding/gob and SHA-256
        assert_eq!(network("VM Network"), "ae1badc8c693926f492a01e2f357d6af321b");
        assert_eq!(network(&"n".repeat(300)), "bdd9569b8cd2443e1a03a20706baedfe1e72");
    }

    #[test]
    fn numbers_are_written_as_gob_writes_them() {
        assert_eq!(gob_uint(7), [7]);
        assert_eq!(gob_uint(0x80), [0xff, 0x80]);
        assert_eq!(gob_uint(300), [0xfe, 0x01, 0x2c]);
    }
}
