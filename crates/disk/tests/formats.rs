//! Every format and feature that is read, against qemu-img as oracle.

mod support;

use std::fs::File;
use std::io::Write;
use std::path::Path;

use forklift_disk::digest::Algorithm;
use forklift_disk::open::{Options, References};
use forklift_disk::{Disk, Format, Watch};
use support::*;

/// 37 MiB and a bit: no multiple of a chunk, a grain or a cluster.
const SIZE: u64 = 37 * MIB + 3 * 512;

/// Converts a pattern with qemu-img and expects to read it back, by pieces and by a copy.
fn check(seed: u64, args: &[&str], format: Format) {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let raw = dir.path().join("raw");
    let mut bytes = pattern(&raw, SIZE, seed);
    let image = dir.path().join("image");
    let mut all = vec!["convert", "-f", "raw"];
    all.extend_from_slice(args);
    all.extend_from_slice(&[text(&raw), text(&image)]);
    run("qemu-img", &all);
    let disk = Disk::open(&image, &Options::default()).unwrap_or_else(|error| panic!("{args:?}: {error}"));
    assert_eq!(disk.format(), format, "{args:?}");
    // formats may round the size up
    bytes.resize(disk.size() as usize, 0);
    assert!(disk.size() - SIZE < 64 << 10, "{args:?}");
    assert_same(&read_all(&disk, 1_000_003), &bytes, &format!("{args:?} in odd pieces"));
    copy_and_compare(&job(&image, &dir.path().join("disk.img")), &bytes, &format!("{args:?} copied"));
}

#[test]
fn raw_with_holes() {
    check(1, &["-O", "raw"], Format::Raw);
}

#[test]
fn qcow2_plain() {
    check(2, &["-O", "qcow2", "-o", "compat=0.10"], Format::Qcow2);
    check(3, &["-O", "qcow2", "-o", "compat=1.1"], Format::Qcow2);
    check(4, &["-O", "qcow2", "-o", "cluster_size=512"], Format::Qcow2);
    check(5, &["-O", "qcow2", "-o", "cluster_size=2M,lazy_refcounts=on"], Format::Qcow2);
    check(6, &["-O", "qcow2", "-o", "preallocation=metadata"], Format::Qcow2);
}

#[test]
fn qcow2_with_subclusters() {
    check(7, &["-O", "qcow2", "-o", "extended_l2=on,cluster_size=128k"], Format::Qcow2);
    check(8, &["-O", "qcow2", "-c", "-o", "extended_l2=on,cluster_size=16k"], Format::Qcow2);
}

#[test]
fn qcow2_compressed() {
    check(9, &["-O", "qcow2", "-c"], Format::Qcow2);
    check(10, &["-O", "qcow2", "-c", "-o", "compression_type=zstd"], Format::Qcow2);
    check(11, &["-O", "qcow2", "-c", "-o", "compression_type=zstd,cluster_size=2M"], Format::Qcow2);
    check(12, &["-O", "qcow2", "-c", "-o", "cluster_size=4k"], Format::Qcow2);
}

#[test]
fn vmdk_in_one_file() {
    check(13, &["-O", "vmdk", "-o", "subformat=monolithicSparse"], Format::Vmdk);
    check(14, &["-O", "vmdk", "-o", "subformat=monolithicSparse,zeroed_grain=on"], Format::Vmdk);
    check(15, &["-O", "vmdk", "-o", "subformat=streamOptimized"], Format::StreamOptimized);
}

#[test]
fn vmdk_in_several_files() {
    check(16, &["-O", "vmdk", "-o", "subformat=monolithicFlat"], Format::Vmdk);
    check(17, &["-O", "vmdk", "-o", "subformat=twoGbMaxExtentSparse"], Format::Vmdk);
    check(18, &["-O", "vmdk", "-o", "subformat=twoGbMaxExtentFlat"], Format::Vmdk);
}

#[test]
fn vhd() {
    check(23, &["-O", "vpc", "-o", "subformat=dynamic,force_size=on"], Format::Vhd);
    check(24, &["-O", "vpc", "-o", "subformat=fixed,force_size=on"], Format::Vhd);
    check(25, &["-O", "vpc"], Format::Vhd);
}

#[test]
fn vhdx() {
    check(26, &["-O", "vhdx"], Format::Vhdx);
    check(27, &["-O", "vhdx", "-o", "subformat=fixed,block_size=2M"], Format::Vhdx);
    check(28, &["-O", "vhdx", "-o", "block_size=1M,block_state_zero=off"], Format::Vhdx);
}

#[test]
fn vmdk_split_at_two_gigabytes() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let image = dir.path().join("split.vmdk");
    run("qemu-img", &["create", "-f", "vmdk", "-o", "subformat=twoGbMaxExtentSparse", text(&image), "5G"]);
    let around = "write -P 0x5a 2146435072 2M";
    run("qemu-io", &["-f", "vmdk", "-c", around, "-c", "write -P 0x11 4G 64k", text(&image)]);
    let disk = Disk::open(&image, &Options::default()).expect("opens");
    assert_eq!(disk.size(), 5 << 30);
    assert_eq!(disk.data_bytes(0..disk.size()).expect("maps"), (2 << 20) + (64 << 10));
    let mut bytes = vec![0; 3 << 20];
    disk.image().read_at(&mut bytes, 2_146_435_072 - (512 << 10)).expect("reads across the border");
    let mut wanted = vec![0; 3 << 20];
    wanted[512 << 10..(512 << 10) + (2 << 20)].fill(0x5a);
    assert_same(&bytes, &wanted, "across extents");
}

#[test]
fn streams_as_vmware_writes_them() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let bytes = pattern(&dir.path().join("raw"), SIZE, 19);
    for (level, padding) in [(0, 0), (1, 0), (9, 5)] {
        let image = write_stream(&dir.path().join(format!("s{level}.vmdk")), &bytes, Stream { level, padding });
        if padding == 0 {
            // qemu-img agrees that this is such a disk
            run("qemu-img", &["compare", "-f", "vmdk", "-F", "raw", text(&image), text(&dir.path().join("raw"))]);
        }
        let disk = Disk::open(&image, &Options::default()).expect("opens");
        assert_eq!(disk.format(), Format::StreamOptimized);
        assert_same(&read_all(&disk, 777_777), &bytes, "stream in odd pieces");
        let target = dir.path().join(format!("disk{level}.img"));
        copy_and_compare(&job(&image, &target), &bytes, "stream copied");
    }
}

#[test]
fn overlays_show_their_base() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let raw = dir.path().join("raw");
    let bytes = pattern(&raw, 8 * MIB, 20);
    for format in ["qcow2", "vmdk"] {
        let (base, top) = (dir.path().join(format!("base.{format}")), dir.path().join(format!("top.{format}")));
        run("qemu-img", &["convert", "-f", "raw", "-O", format, text(&raw), text(&base)]);
        // the base's name is relative, as exports have it
        let name = format!("base.{format}");
        let mut create = vec!["create", "-f", format, "-b", &name, "-F", format, text(&top)];
        // a qcow2 overlay may be larger than its base
        if format == "qcow2" {
            create.push("9M");
        }
        run("qemu-img", &create);
        run("qemu-io", &["-f", format, "-c", "write -P 0x77 1000000 300000", "-c", "write -z 3M 256k", text(&top)]);
        let mut wanted = bytes.clone();
        wanted[1_000_000..1_300_000].fill(0x77);
        wanted[3 << 20..(3 << 20) + (256 << 10)].fill(0);
        let disk = Disk::open(&top, &Options::default()).expect("opens");
        wanted.resize(disk.size() as usize, 0);
        assert_same(&read_all(&disk, 99_991), &wanted, format);
        copy_and_compare(&job(&top, &dir.path().join(format!("{format}.img"))), &wanted, format);
    }
}

#[test]
fn members_of_an_archive_are_read_in_place() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let bytes = pattern(&dir.path().join("raw"), SIZE, 21);
    write_stream(&dir.path().join("disk.vmdk"), &bytes, Stream { level: 1, padding: 0 });
    let flat = ["convert", "-f", "raw", "-O", "vmdk", "-o", "subformat=monolithicFlat"];
    run("qemu-img", &[&flat[..], &[text(&dir.path().join("raw")), text(&dir.path().join("flat.vmdk"))]].concat());
    let ova = dir.path().join("a.ova");
    let args = ["-C", text(dir.path()), "--format=ustar", "-cf", text(&ova)];
    run("tar", &[&args[..], &["raw", "disk.vmdk", "flat.vmdk", "flat-flat.vmdk"]].concat());
    let sum = run("sha256sum", &[text(&dir.path().join("disk.vmdk"))]);
    let sum = sum.split(' ').next().expect("a digest").to_uppercase();
    for member in ["raw", "disk.vmdk", "flat.vmdk"] {
        let mut job = job(&ova, &dir.path().join(format!("{member}.img")));
        job.open.member = Some(member.into());
        if member == "disk.vmdk" {
            job.digest = Some((Algorithm::Sha256, sum.clone()));
        }
        copy_and_compare(&job, &bytes, member);
    }
    let mut job = job(&ova, &dir.path().join("none.img"));
    job.open.member = Some("missing.vmdk".into());
    assert_eq!(job.run(&Watch::new()).expect_err("is not there").code(), "SourceUnreadable");
    job.open.member = Some("disk.vmdk".into());
    job.digest = Some((Algorithm::Sha1, "00".repeat(20)));
    let error = job.run(&Watch::new()).expect_err("the digest differs");
    assert_eq!((error.code(), error.retryable()), ("DigestMismatch", false), "{error}");
}

#[test]
fn gzip_streams_are_read_in_order() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let raw = dir.path().join("raw");
    let bytes = pattern(&raw, SIZE, 22);
    write_stream(&dir.path().join("stream"), &bytes, Stream { level: 1, padding: 0 });
    run("qemu-img", &["convert", "-f", "raw", "-O", "qcow2", text(&raw), text(&dir.path().join("qcow2"))]);
    for name in ["raw", "stream", "qcow2"] {
        let packed = dir.path().join(format!("{name}.gz"));
        let output = std::process::Command::new("gzip").args(["-1", "-c", text(&dir.path().join(name))]).output();
        File::create(&packed).and_then(|mut file| file.write_all(&output.expect("packs").stdout)).expect("writes");
        let mut job = job(&packed, &dir.path().join(format!("{name}.img")));
        assert_eq!(job.run(&Watch::new()).expect_err("nobody said gzip").code(), "UnsupportedFormat");
        job.open.gzip = true;
        copy_and_compare(&job, &bytes, name);
    }
}

#[test]
fn only_files_beside_the_image_are_opened() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let (inner, outer) = (dir.path().join("inner"), dir.path().join("secret"));
    std::fs::create_dir(&inner).expect("a folder");
    std::fs::write(&outer, [0x55; 65_536]).expect("a secret");
    let make = |name: &str, base: &str| {
        let top = inner.join(name);
        run("qemu-img", &["create", "-f", "qcow2", "-u", "-b", base, "-F", "raw", text(&top), "64k"]);
        top
    };
    for (name, base) in [("absolute", text(&outer)), ("above", "../secret")] {
        let top = make(name, base);
        let error = Disk::open(&top, &Options::default()).err().expect("is refused");
        assert_eq!(error.code(), "UnsupportedFormat", "{error}");
        let trusted = Options { references: References::Anywhere, ..Options::default() };
        let disk = Disk::open(&top, &trusted).expect("opens when it is trusted");
        assert_same(&read_all(&disk, 65_536), &[0x55; 65_536], name);
    }
    std::os::unix::fs::symlink(&outer, inner.join("link")).expect("a link");
    let error = Disk::open(&make("linked", "link"), &Options::default()).err().expect("is refused");
    assert_eq!(error.code(), "SourceUnreadable", "{error}");
    let error = Disk::open(&make("itself", "itself"), &Options::default()).err();
    assert!(error.is_none(), "a raw base is not looked into, so that it cannot be a circle");
}

#[test]
fn what_is_not_read_is_named() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let make = |name: &str, args: &[&str]| {
        let path = dir.path().join(name);
        run("qemu-img", &[&["create", "-q"], args, &[text(&path), "1M"]].concat());
        path
    };
    let refused = |path: &Path| Disk::open(path, &Options::default()).err().expect("is refused").to_string();
    let data = format!("data_file={}", text(&dir.path().join("data")));
    for (name, args, word) in [
        ("vdi", &["-f", "vdi"][..], "VDI"),
        ("qed", &["-f", "qed"], "QED"),
        ("external", &["-f", "qcow2", "-o", &data], "external data file"),
    ] {
        let message = refused(&make(name, args));
        assert!(message.contains(word), "{name}: {message}");
    }
    let qcow2 = make("plain", &["-f", "qcow2"]);
    let said = Options { format: Some(Format::Vmdk), ..Options::default() };
    let message = Disk::open(&qcow2, &said).err().expect("is no VMDK").to_string();
    assert!(message.contains("not vmdk"), "{message}");
}
