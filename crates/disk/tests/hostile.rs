//! Images that were made to harm: each gives an error that names file, offset and field. What a fuzz
//! target finds is kept here.

#[path = "support/esx.rs"]
mod esx;
#[path = "support/hyperv.rs"]
mod hyperv;
mod support;

use std::io::{self, Cursor, Read, Write};
use std::path::Path;

use forklift_disk::archive::Archive;
use forklift_disk::open::Options;
use forklift_disk::{Disk, Error};
use hyperv::Sectors;
use support::*;

const SIZE: u64 = 3 * MIB;

/// Opens an image and reads all of it; returns the error's text behind the file's name.
fn refused(path: &Path, options: &Options) -> String {
    let read = || -> Result<(), Error> {
        let disk = Disk::open(path, options)?;
        let mut buf = vec![0; 1 << 20];
        let mut at = 0;
        while at < disk.size() {
            let length = (disk.size() - at).min(1 << 20);
            let mut extents = forklift_disk::extents::Extents::default();
            disk.image().extents(at..at + length, &mut extents)?;
            disk.image().read_at(&mut buf[..length as usize], at)?;
            at += length;
        }
        Ok(())
    };
    let error = read().expect_err("is refused");
    let Error::Malformed(place) = &error else { panic!("{}: {}", error.code(), error.chain()) };
    assert!(["image", "top", "other"].iter().any(|name| place.path.contains(name)), "{error}");
    format!("{} at offset {}: {}", place.field, place.offset, place.reason)
}

/// One image and the places of it that are overwritten, with what is said then.
fn table(valid: &[u8], cases: &[(&[(usize, &[u8])], &str)], mend: impl Fn(&mut Vec<u8>)) {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let path = dir.path().join("image");
    for (changes, wanted) in cases {
        let mut bytes = valid.to_vec();
        for (at, part) in *changes {
            bytes[*at..at + part.len()].copy_from_slice(part);
        }
        mend(&mut bytes);
        std::fs::write(&path, bytes).expect("writes");
        let found = refused(&path, &Options::default());
        assert!(found.contains(wanted), "{found:?} instead of {wanted:?}");
    }
}

#[test]
fn qcow2_tables_that_overlap() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let (raw, image) = (dir.path().join("raw"), dir.path().join("image"));
    pattern(&raw, SIZE, 71);
    run("qemu-img", &["convert", "-f", "raw", "-O", "qcow2", "-o", "cluster_size=4k", text(&raw), text(&image)]);
    let valid = std::fs::read(&image).expect("reads");
    let number = |at: usize| u64::from_be_bytes(*valid[at..].first_chunk().expect("eight bytes"));
    let l1 = number(40) as usize;
    let l2 = (number(l1) & 0x00ff_ffff_ffff_fe00) as usize;
    let entry = (0..512).map(|index| l2 + index * 8).find(|at| number(*at) != 0).expect("an entry");
    let first = |value: u64| (1 << 63 | value).to_be_bytes();
    table(
        &valid,
        &[
            (&[(l1, &first(0x1000 * 9999))], "l2_table at offset"),
            (&[(l1 + 8, &valid[l1..l1 + 8])], "overlaps another L2 table"),
            (&[(l1, &first(l1 as u64))], "overlaps the L1 table"),
            (&[(l1, &first(512))], "l1 entry at offset"),
            (&[(entry, &first(l2 as u64))], "overlaps an L2 table"),
            (&[(entry, &first(l1 as u64))], "overlaps the L1 table"),
            (&[(entry, &first(1 << 40))], "do not fit: the file ends at"),
            (&[(entry, &first(0x1200))], "is not aligned"),
            (&[(40, &(l1 as u64 + 8).to_be_bytes())], "l1_table_offset at offset 40"),
            (&[(8, &100u64.to_be_bytes()), (16, &5000u32.to_be_bytes())], "backing_file_name at offset 100"),
            (&[(100, &7u32.to_be_bytes())], "header_length at offset 100"),
        ],
        |_| {},
    );
}

#[test]
fn vmdk_tables_that_overlap_and_bombs() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let (raw, image) = (dir.path().join("raw"), dir.path().join("image"));
    // two tables of 32 MiB each
    pattern(&raw, 40 * MIB, 72);
    run("qemu-img", &["convert", "-f", "raw", "-O", "vmdk", text(&raw), text(&image)]);
    let valid = std::fs::read(&image).expect("reads");
    let directory = u64::from_le_bytes(*valid[56..].first_chunk().expect("eight bytes")) as usize * 512;
    let own = ((directory / 512) as u32).to_le_bytes();
    table(
        &valid,
        &[
            (&[(directory + 4, &valid[directory..directory + 4])], "overlaps another table"),
            (&[(directory, &own)], "overlaps the directory"),
            (&[(directory, &[0xff; 4])], "grain table at offset"),
        ],
        |_| {},
    );
    // a grain that inflates to a hundred times what it may
    let bytes = pattern(&raw, MIB, 73);
    let stream = write_stream(&image, &bytes, Stream { level: 0, padding: 0 });
    let valid = std::fs::read(stream).expect("reads");
    let mut packer = libdeflater::Compressor::new(libdeflater::CompressionLvl::best());
    let mut bomb = vec![0; 64 << 10];
    let length = packer.zlib_compress(&vec![0; 8 << 20], &mut bomb).expect("packs");
    let marker = 128 * 512;
    table(
        &valid,
        &[
            (
                &[(marker + 8, &(length as u32).to_le_bytes()), (marker + 12, &bomb[..length])],
                "at offset 65536: a buffer",
            ),
            (&[(marker + 8, &[0xff; 4])], "grain marker at offset 65544: size 4294967295 is out of range"),
            (&[(marker, &[9])], "is of sector"),
        ],
        |_| {},
    );
}

#[test]
fn chains_that_go_in_a_circle() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let at = |name: &str| dir.path().join(name);
    for (name, base) in [("top.qcow2", "other.qcow2"), ("other.qcow2", "top.qcow2")] {
        let create = ["create", "-q", "-u", "-f", "qcow2", "-b", base, "-F", "qcow2"];
        run("qemu-img", &[&create[..], &[text(&at(name)), "1M"]].concat());
    }
    let text = esx::descriptor("FLAT", "custom", 8, "flat", Some(("top.vmdk", "00c0ffee")));
    std::fs::write(at("top.vmdk"), text).expect("writes");
    std::fs::write(at("flat"), [0; 4096]).expect("writes");
    let none = Sectors::new();
    let itself =
        hyperv::Vhd { size: SIZE, block: 4096, sectors: &none, id: [1; 16], parent: Some(("top.vhd", [1; 16])) };
    std::fs::write(at("top.vhd"), hyperv::vhd(&itself)).expect("writes");
    let itself = hyperv::Vhdx {
        size: SIZE,
        block: MIB,
        sectors: &none,
        id: [1; 16],
        parent: Some(("top.vhdx", [1; 16])),
        log: false,
        logical: 512,
    };
    std::fs::write(at("top.vhdx"), hyperv::vhdx(&itself)).expect("writes");
    for name in ["top.qcow2", "top.vmdk", "top.vhd", "top.vhdx"] {
        let found = refused(&at(name), &Options::default());
        assert!(found.contains("goes in a circle"), "{name}: {found}");
    }
}

#[test]
fn vhd_fields() {
    let sectors: Sectors = [0, 9, 40, 5000].map(|sector| (sector, [7; 512])).into();
    let valid = hyperv::vhd(&hyperv::Vhd { size: SIZE, block: 4096, sectors: &sectors, id: [1; 16], parent: None });
    let end = valid.len();
    let sum = |bytes: &[u8]| (!bytes.iter().map(|byte| u32::from(*byte)).sum::<u32>()).to_be_bytes();
    let mend = |bytes: &mut Vec<u8>| {
        for (from, to, at) in [(0, 512, 64), (512, 1536, 36), (end - 512, end, 64)] {
            bytes[from + at..from + at + 4].fill(0);
            let sum = sum(&bytes[from..to]);
            bytes[from + at..from + at + 4].copy_from_slice(&sum);
        }
    };
    let entry = |index: usize| 1536 + index * 4;
    table(
        &valid,
        &[
            (&[(48, &[0xff; 8]), (end - 512 + 48, &[0xff; 8])], "current size at offset 48"),
            (&[(16, &[0xff; 8])], "dynamic header at offset 18446744073709551615"),
            (&[(512, b"cxsparsf")], "dynamic header at offset 512"),
            (&[(528, &[0xff; 8])], "block allocation table at offset"),
            (&[(540, &[0, 0, 0, 9])], "max table entries at offset 540: 9 do not cover the disk"),
            (&[(544, &[0, 0, 0, 3])], "block size at offset 544"),
            (&[(544, &[0x80, 0, 0, 0])], "block size at offset 544"),
            (&[(entry(0), &valid[entry(1)..entry(1) + 4])], "overlaps block"),
            (&[(entry(0), &[0, 0, 0, 3])], "overlaps the tables"),
            (&[(entry(0), &[0x7f, 0, 0, 0])], "is beyond the file"),
        ],
        mend,
    );
    table(&valid, &[(&[(600, &[1])], "header checksum at offset 548")], |_| {});
    table(&valid, &[(&[(100, &[1]), (end - 400, &[1])], "footer checksum at offset 64")], |_| {});
    let found = |bytes: &[u8]| {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let path = dir.path().join("image");
        std::fs::write(&path, bytes).expect("writes");
        refused(&path, &Options::default())
    };
    assert!(found(&valid[..1000]).contains("dynamic header"), "truncated");
    assert!(
        found(&valid[..end - 5000]).contains("do not fit") || found(&valid[..end - 5000]).contains("beyond"),
        "truncated"
    );
    // a fixed disk that is shorter than it says
    let mut fixed = vec![0; 4096];
    fixed.extend_from_slice(&valid[end - 512..]);
    fixed[4096 + 60..4096 + 64].copy_from_slice(&2u32.to_be_bytes());
    fixed[4096 + 64..4096 + 68].fill(0);
    let total = sum(&fixed[4096..]);
    fixed[4096 + 64..4096 + 68].copy_from_slice(&total);
    assert!(found(&fixed).contains("current size at offset 4144"), "{}", found(&fixed));
}

#[test]
fn vhdx_fields() {
    let sectors: Sectors = [0, 9, 2050, 5000].map(|sector| (sector, [7; 512])).into();
    let disk = |parent, log| {
        let disk = hyperv::Vhdx { size: SIZE, block: MIB, sectors: &sectors, id: [1; 16], parent, log, logical: 512 };
        hyperv::vhdx(&disk)
    };
    const K: usize = 1 << 10;
    const M: usize = 1 << 20;
    let mend = |bytes: &mut Vec<u8>| {
        for at in [64 * K, 128 * K] {
            hyperv::seal(&mut bytes[at..at + 4096]);
        }
        for at in [192 * K, 256 * K] {
            hyperv::seal(&mut bytes[at..at + 64 * K]);
        }
    };
    let both = |offset: usize| [192 * K + offset, 256 * K + offset];
    let items = 2 * M + 32;
    let [table_a, table_b] = both(16 + 16);
    table(
        &disk(None, false),
        &[
            (&[(64 * K, b"x"), (128 * K, b"x")], "header at offset 65536"),
            (&[(192 * K, b"x"), (256 * K, b"x")], "region table at offset 196608"),
            (&[(table_a, &(2u64 << 20).to_le_bytes()), (table_b, &[0; 8])], "overlaps another"),
            (&[(table_a, &[0xff; 8])], "bytes at 18446744073709551615 are absurd"),
            (&[(192 * K + 8, &[0xff; 4])], "region table entry count at offset 196616"),
            (&[(192 * K + 8, &[1, 0, 0, 0])], "the block table or the metadata is missing"),
            (&[(2 * M, b"x")], "metadata table at offset 2097152"),
            (&[(2 * M + 10, &[0xff; 2])], "metadata entry count"),
            (&[(items + 16, &[0xff; 4])], "metadata entry at offset 2097200"),
            (&[(2 * M + 64 * K, &[3])], "block size at offset 2162688"),
            (&[(2 * M + 64 * K + 8, &[0xff; 8])], "virtual disk size at offset 2162696"),
            // a terabyte needs a longer table
            (&[(2 * M + 64 * K + 8, &(1u64 << 40).to_le_bytes())], "do not cover the disk, which needs 8390648"),
            (&[(3 * M, &[5])], "block state 5"),
            (&[(3 * M, &[7])], "block state 7"),
            (&[(3 * M, &[6, 0, 0, 0, 0])], "overlaps the tables"),
            (&[(3 * M, &[6, 0, 0, 0, 0xff])], "is beyond the file"),
        ],
        mend,
    );
    let parent = Some(("..\\image", [9; 16]));
    let locator = 2 * M + 64 * K + 8 + 8 + 16 + 8 + 8;
    table(
        &disk(parent, false),
        &[(&[(locator + 20, &[0xff; 4])], "parent locator at offset"), (&[(locator + 18, &[0, 0])], "names no file")],
        mend,
    );
    table(
        &disk(None, true),
        &[
            (&[(64 * K + 68, &[0xff; 4]), (128 * K + 68, &[0xff; 4])], "log offset at offset"),
            (&[(64 * K + 68, &[0, 1, 0, 0]), (128 * K + 68, &[0, 1, 0, 0])], "log length at offset 1048576"),
        ],
        mend,
    );
}

#[test]
fn archives() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let path = dir.path().join("image.ova");
    let entry = |kind: u8, size: &[u8], data: &[u8]| {
        let mut header = tar::Header::new_gnu();
        header.set_path("a.vmdk").expect("a name");
        header.set_size(data.len() as u64);
        header.set_entry_type(tar::EntryType::new(kind));
        if !size.is_empty() {
            header.as_old_mut().size[..size.len()].copy_from_slice(size);
        }
        header.set_cksum();
        let mut out = header.as_bytes().to_vec();
        out.extend_from_slice(data);
        out.resize(out.len().next_multiple_of(512), 0);
        out
    };
    let zeros = vec![b'x'; 2 << 20];
    for (name, bytes, wanted) in [
        (
            "a name of two megabytes",
            [entry(b'L', b"", &zeros), entry(b'0', b"", b"x")].concat(),
            "tar record of attributes",
        ),
        ("a size beyond the end", entry(b'0', b"77777777777", b"x"), "the archive is truncated"),
        (
            "a size of 64 bits",
            entry(b'0', &[0x80, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff], b"x"),
            "tar header",
        ),
        ("a size that is no number", entry(b'0', b"9x", b"x"), "tar header"),
        (
            "attributes that are torn",
            [entry(b'x', b"", b"99 size=1"), entry(b'0', b"", b"x")].concat(),
            "tar record of attributes",
        ),
        (
            "a size by attribute",
            [entry(b'x', b"", b"28 size=9999999999999999999\n"), entry(b'0', b"", b"x")].concat(),
            "tar",
        ),
        (
            "another checksum",
            {
                let mut bytes = entry(b'0', b"", b"x");
                bytes[3] = b'z';
                bytes
            },
            "tar checksum at offset 148",
        ),
        ("half a header", entry(b'0', b"", b"x")[..300].to_vec(), "the archive is truncated"),
    ] {
        std::fs::write(&path, bytes).expect("writes");
        let error = Archive::open(&path).err().unwrap_or_else(|| panic!("{name} is read"));
        assert!(matches!(&error, Error::Malformed(place) if place.path.ends_with("image.ova")), "{name}: {error}");
        assert!(error.to_string().contains(wanted), "{name}: {error}");
    }
    // names that lead out are only names: members are looked up, nothing is unpacked
    std::fs::write(dir.path().join("secret"), "x").expect("writes");
    let evil = "# Disk DescriptorFile\nversion=1\nparentCID=ffffffff\nRW 8 FLAT \"../secret\" 0\n";
    std::fs::write(&path, entry(b'0', b"", evil.as_bytes())).expect("writes");
    let error =
        Disk::open(&path, &Options { member: Some("a.vmdk".into()), ..Options::default() }).err().expect("refused");
    assert!(matches!(error, Error::MemberNotFound { .. }), "{error}");
}

#[test]
fn streams_that_end_or_lie() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let (raw, path) = (dir.path().join("raw"), dir.path().join("image.gz"));
    pattern(&raw, SIZE, 74);
    let packed = std::process::Command::new("gzip").args(["-c", text(&raw)]).output().expect("gzip runs").stdout;
    let options = Options { gzip: true, ..Options::default() };
    for (name, bytes) in [
        ("cut off", packed[..packed.len() / 2].to_vec()),
        ("another checksum", {
            let mut bytes = packed.clone();
            let at = bytes.len() - 8;
            bytes[at] ^= 1;
            bytes
        }),
        ("no gzip", vec![0x55; 5000]),
    ] {
        std::fs::write(&path, bytes).expect("writes");
        let error = Disk::open(&path, &options).err().unwrap_or_else(|| panic!("{name} is read"));
        assert!(!error.chain().is_empty() && error.chain().contains("image.gz"), "{name}: {}", error.chain());
    }
    // a gigabyte of zeros in a megabyte: read by pieces, in the memory of a window
    let zeros =
        std::process::Command::new("sh").args(["-c", "head -c 1G /dev/zero | gzip -1"]).output().expect("gzip runs");
    std::fs::write(&path, zeros.stdout).expect("writes");
    let disk = Disk::open(&path, &options).expect("opens");
    assert_eq!(disk.size(), 1 << 30);
}

/// A server whose output is given.
struct Said(Cursor<Vec<u8>>);

impl Read for Said {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.0.read(buf)
    }
}

impl Write for Said {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn nbd_servers_that_lie() {
    let option = |option: u32, kind: u32, data: &[u8]| {
        [
            &0x0003_e889_0455_65a9u64.to_be_bytes()[..],
            &[option, kind, data.len() as u32].map(u32::to_be_bytes).concat(),
            data,
        ]
        .concat()
    };
    let export = |size: u64| option(7, 3, &[&[0, 0][..], &size.to_be_bytes(), &0x0d6du16.to_be_bytes()].concat());
    let greeting = b"NBDMAGICIHAVEOPT\0\x03".to_vec();
    let structured = [option(8, 1, &[]), option(10, 4, b"\0\0\0\x01base:allocation"), option(10, 1, &[])].concat();
    // an export of 100 bytes: one request for all of it
    let open = [greeting.clone(), structured.clone(), export(100), option(7, 1, &[])].concat();
    let chunk = |flags: u16, kind: u16, cookie: u64, payload: &[u8]| {
        let head =
            [0x668e_33efu32.to_be_bytes().to_vec(), flags.to_be_bytes().to_vec(), kind.to_be_bytes().to_vec()].concat();
        [&head[..], &cookie.to_be_bytes(), &(payload.len() as u32).to_be_bytes(), payload].concat()
    };
    let data = |at: u64, length: usize| [&at.to_be_bytes()[..], &vec![7; length]].concat();
    let hole = |at: u64, length: u32| [&at.to_be_bytes()[..], &length.to_be_bytes()].concat();
    let reply = |parts: &[Vec<u8>]| [open.clone(), parts.concat()].concat();
    for (said, wanted) in [
        (b"GET / HTTP/1.1 what?".to_vec(), "it is no NBD server"),
        (greeting[..10].to_vec(), "ended the connection"),
        ([&b"NBDMAGIC"[..], &0x0000_4202_8186_1253u64.to_be_bytes(), &[0; 200]].concat(), "oldstyle"),
        (b"NBDMAGICIHAVEOPT\0\0".to_vec(), "fixed newstyle"),
        ([greeting.clone(), option(9, 1, &[])].concat(), "is of another one"),
        ([greeting.clone(), structured.clone(), option(7, 1, &[])].concat(), "did not tell the export's size"),
        ([greeting.clone(), structured.clone(), export(u64::MAX), option(7, 1, &[])].concat(), "is absurd"),
        ([greeting.clone(), structured.clone(), option(7, (1 << 31) + 6, b"no")].concat(), "has no such export"),
        ([greeting.clone(), option(8, (1 << 31) + 5, &[])].concat(), "wants TLS first"),
        ([&greeting[..], &option(8, 1, &[])[..16], &[0xff; 4]].concat(), "too many"),
        (reply(&[chunk(1, 1, 9, &data(0, 100))]), "the cookie of no request"),
        (reply(&[chunk(1, 1, 1, &data(1, 100))]), "outside of what was asked for"),
        (reply(&[chunk(1, 1, 1, &data(0, 99))]), "ends before all bytes came"),
        (reply(&[chunk(0, 1, 1, &data(0, 60)), chunk(1, 1, 1, &data(20, 40))]), "overlap"),
        (reply(&[chunk(0, 2, 1, &hole(50, u32::MAX))]), "outside of what was asked for"),
        (reply(&[chunk(0, 2, 1, &hole(u64::MAX, 4))]), "absurd"),
        (reply(&[chunk(1, 0, 1, &[])]), "ends before all bytes came"),
        (reply(&[chunk(0, 0, 1, &[]).repeat(10_000)]), "does not end"),
        (reply(&[chunk(0, 77, 1, &[])]), "a chunk of type 77"),
        (reply(&[vec![0x67, 0x44, 0x66, 0x98, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]]), "another magic"),
    ] {
        let error = forklift_disk::nbd::hostile(Said(Cursor::new(said))).expect_err(wanted);
        assert!(error.to_string().contains(wanted), "{error} instead of {wanted}");
    }
}
