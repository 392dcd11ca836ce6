//! A Windows registry for libguestfs to read: an empty hive, filled by hivexregedit (libwin-hivex-perl), as libguestfs'
//! own phony guests are made.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

/// Bytes of the header, and of the one bin behind it.
const PAGE: usize = 4096;
/// No such cell.
const NONE: u32 = u32::MAX;

/// Returns an empty hive: header, a root key, its security, free space.
/// Format: Maxim Suhanov, "Windows registry file format specification".
fn empty() -> Vec<u8> {
    let mut header = vec![0; PAGE];
    let mut put = |at: usize, value: u32| header[at..at + 4].copy_from_slice(&value.to_le_bytes());
    put(0, u32::from_le_bytes(*b"regf"));
    // sequence numbers, version 1.3, format, root cell, size of all bins, cluster
    for (at, value) in [(4, 1), (8, 1), (20, 1), (24, 3), (32, 1), (36, 0x20), (40, PAGE as u32), (44, 1)] {
        put(at, value);
    }
    let words = header[..508].chunks_exact(4).map(|word| u32::from_le_bytes(word.try_into().expect("four bytes")));
    let sum = words.fold(0, |sum, word| sum ^ word);
    header[508..512].copy_from_slice(&sum.to_le_bytes());

    let name = b"ROOT";
    let key_size = (4 + 76 + name.len()).next_multiple_of(8);
    let security_at = 0x20 + key_size;
    let mut key = Vec::new();
    key.extend(b"nk");
    key.extend(0x2cu16.to_le_bytes()); // root, never deleted, name in ASCII
    key.extend([0; 12]); // time, access
    // parent; subkeys, volatile ones, their lists; values, their list; security; class
    for word in [0x20, 0, 0, NONE, NONE, 0, NONE, security_at as u32, NONE, 0, 0, 0, 0, 0] {
        key.extend(word.to_le_bytes());
    }
    key.extend((name.len() as u16).to_le_bytes());
    key.extend(0u16.to_le_bytes());
    key.extend(name);

    let mut security = Vec::new();
    security.extend(b"sk\0\0");
    let descriptor = [1, 0, 0, 0x80].into_iter().chain([0; 16]).collect::<Vec<u8>>();
    for word in [security_at as u32, security_at as u32, 1, descriptor.len() as u32] {
        security.extend(word.to_le_bytes());
    }
    security.extend(descriptor);
    let security_size = (4 + security.len()).next_multiple_of(8);

    let mut bin = b"hbin".to_vec();
    bin.extend(0u32.to_le_bytes());
    bin.extend((PAGE as u32).to_le_bytes());
    bin.resize(0x20, 0);
    // cells in use have negative sizes
    for (size, cell) in [(key_size, key), (security_size, security)] {
        let end = bin.len() + size;
        bin.extend((-(size as i32)).to_le_bytes());
        bin.extend(cell);
        bin.resize(end, 0);
    }
    let free = (PAGE - bin.len()) as i32;
    bin.extend(free.to_le_bytes());
    bin.resize(PAGE, 0);
    [header, bin].concat()
}

/// Writes a hive (`SOFTWARE`, `SYSTEM`) with these keys: path below the hive, and its values as a .reg file has them.
pub fn write(file: &Path, hive: &str, keys: &[(&str, &str)]) {
    std::fs::write(file, empty()).expect("writes the hive");
    let prefix = format!("HKEY_LOCAL_MACHINE\\{hive}");
    let mut text = "Windows Registry Editor Version 5.00\n".to_owned();
    for (path, values) in keys {
        // a key can be made only below one that is there
        let parts: Vec<&str> = path.split('\\').collect();
        for end in 1..parts.len() {
            let _ = write!(text, "\n[{prefix}\\{}]\n", parts[..end].join("\\"));
        }
        let _ = write!(text, "\n[{prefix}\\{path}]\n{values}\n");
    }
    let reg = file.with_extension("reg");
    std::fs::write(&reg, text).expect("writes the keys");
    let done = Command::new("hivexregedit").arg("--merge").arg(file).args(["--prefix", &prefix]).arg(&reg).output();
    let done = done.expect("hivexregedit runs");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    std::fs::remove_file(reg).expect("removes the keys");
}
