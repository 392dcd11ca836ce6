//! Damaged, truncated and hostile images: an error that names file, offset and field, or bytes; no
//! panic, no end of memory, no endless work.

mod support;

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use forklift_disk::extents::Extents;
use forklift_disk::open::Options;
use forklift_disk::{Disk, Error};
use proptest::prelude::*;
use support::*;

/// Valid images to damage, made once.
fn corpus() -> &'static [(String, Vec<u8>)] {
    static CORPUS: OnceLock<Vec<(String, Vec<u8>)>> = OnceLock::new();
    CORPUS.get_or_init(|| {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let raw = dir.path().join("raw");
        let bytes = pattern(&raw, 3 * MIB, 70);
        let mut corpus = Vec::new();
        for (number, options) in [
            ["-O", "qcow2", "-o", "compat=1.1"],
            ["-O", "qcow2", "-o", "compat=0.10,cluster_size=4k"],
            ["-O", "qcow2", "-o", "extended_l2=on,cluster_size=16k"],
            ["-c", "-Oqcow2", "-o", "compression_type=zstd"],
            ["-c", "-Oqcow2", "-o", "cluster_size=4k"],
            ["-O", "vmdk", "-o", "subformat=monolithicSparse"],
            ["-O", "vmdk", "-o", "subformat=streamOptimized"],
        ]
        .iter()
        .enumerate()
        {
            let image = dir.path().join(format!("image{number}"));
            run("qemu-img", &[&["convert", "-f", "raw"], &options[..], &[text(&raw), text(&image)]].concat());
            corpus.push((format!("{options:?}"), std::fs::read(&image).expect("reads")));
        }
        let stream = write_stream(&dir.path().join("stream"), &bytes, Stream { level: 1, padding: 0 });
        corpus.push(("stream".into(), std::fs::read(stream).expect("reads")));
        corpus
    })
}

/// Opens and reads what there is, as far as a copy of a small disk would.
fn read(path: &Path) -> Result<(), Error> {
    let disk = Disk::open(path, &Options::default())?;
    let mut buf = vec![0; 1 << 20];
    let end = disk.size().saturating_sub(2 * MIB);
    let mut result = Ok(());
    for at in [0, MIB, 2 * MIB, 3 * MIB, end, end + MIB] {
        let length = disk.size().saturating_sub(at).min(MIB) as usize;
        let mut extents = Extents::default();
        let range = at.min(disk.size())..at.min(disk.size()) + length as u64;
        let read = disk
            .image()
            .extents(range.clone(), &mut extents)
            .and_then(|()| disk.image().read_at(&mut buf[..length], range.start));
        if read.is_ok() {
            let covered: u64 = extents.as_slice().iter().map(|extent| extent.length).sum();
            assert_eq!(covered, length as u64, "extents cover the range");
        }
        result = result.and(read);
    }
    result
}

fn write(bytes: &[u8]) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let path = dir.path().join("image");
    std::fs::write(&path, bytes).expect("writes");
    (dir, path)
}

#[test]
fn the_corpus_is_valid() {
    for (name, bytes) in corpus() {
        let (_dir, path) = write(bytes);
        read(&path).unwrap_or_else(|error| panic!("{name}: {error}"));
    }
}

#[test]
fn truncated_images_are_never_read_to_the_end() {
    for (name, bytes) in corpus() {
        let trailing = bytes.iter().rev().take_while(|byte| **byte == 0).count();
        for cut in [512, 4096, bytes.len() / 2, bytes.len() - trailing - 600] {
            let (_dir, path) = write(&bytes[..cut]);
            let error = read(&path).expect_err(&format!("{name} cut to {cut}"));
            let Error::Malformed(place) = &error else { panic!("{name} cut to {cut}: {error}") };
            assert!(place.path.ends_with("image") && !place.field.is_empty(), "{error}");
        }
    }
}

#[test]
fn hostile_headers_are_named() {
    let at = |index: usize, changes: &[(usize, &[u8])]| {
        let mut bytes = corpus()[index].1.clone();
        for (offset, change) in changes {
            bytes[*offset..offset + change.len()].copy_from_slice(change);
        }
        let (_dir, path) = write(&bytes);
        let error = read(&path).expect_err("is refused");
        assert_eq!(error.code(), "Malformed", "{error}");
        error.to_string().rsplit_once("/image: ").map(|(_, text)| text.to_owned()).expect("names the file")
    };
    let max = &[0xff; 8][..];
    assert_eq!(at(0, &[(24, max)]), "size at offset 24: 18446744073709551615 is absurd");
    assert_eq!(at(0, &[(20, &[0, 0, 0, 63])]), "cluster_bits at offset 20: 63 is not within 9 to 21");
    assert_eq!(at(0, &[(36, &[0; 4])]), "l1_size at offset 36: 0 entries do not cover the disk, which needs 1");
    assert_eq!(at(0, &[(36, &[0xff; 4])]), "l1_size at offset 36: 4294967295 entries are too many");
    assert!(at(0, &[(40, &[0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0])]).starts_with("l1_table at offset"));
    assert!(at(5, &[(12, max)]).starts_with("capacity at offset 12"));
    assert!(at(5, &[(20, &[3])]).starts_with("grainSize at offset 20"));
    assert!(at(5, &[(44, &[0; 4])]).starts_with("numGTEsPerGT at offset 44"));
    assert!(at(5, &[(56, &[0; 8])]).starts_with("gdOffset at offset 56"));
    // a tebibyte of disk in a small file: the directory does not fit
    assert!(at(5, &[(12, &[0, 0, 0, 0, 0x10, 0])]).contains("grain directory"));
    // the header says that there is a footer
    assert!(at(6, &[(56, max)]).contains("footer"));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, failure_persistence: None, ..ProptestConfig::default() })]

    /// Any bytes anywhere in the first clusters: headers and tables are there.
    #[test]
    fn damaged_images_give_errors_or_bytes(
        index in 0usize..8,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0u8..4), 1..12),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let mut bytes = corpus()[index].1.clone();
        let length = bytes.len();
        for (place, value, region) in changes {
            // the header, the first tables, the end, anywhere
            let at = match region {
                0 => place.index(112),
                1 => place.index(length.min(300_000)),
                2 => length - 1 - place.index(length.min(4096)),
                _ => place.index(length),
            };
            bytes[at] = value;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(length) + 1);
        }
        let (_dir, path) = write(&bytes);
        if let Err(error) = read(&path) {
            prop_assert!(
                matches!(error.code(), "Malformed" | "UnsupportedFormat" | "SourceUnreadable"),
                "{error}"
            );
            prop_assert!(!error.chain().is_empty() && !error.hint().is_empty());
        }
    }

    /// Headers of nothing but noise behind a magic.
    #[test]
    fn noise_gives_errors_or_bytes(magic in 0usize..4, noise in prop::collection::vec(any::<u8>(), 0..3000)) {
        let magics: [&[u8]; 4] = [b"QFI\xfb\0\0\0\x03", b"KDMV\x01\0\0\0", b"# Disk DescriptorFile\n", b""];
        let (_dir, path) = write(&[magics[magic], &noise[..]].concat());
        if let Err(error) = read(&path) {
            prop_assert!(!error.chain().is_empty());
        }
    }
}
