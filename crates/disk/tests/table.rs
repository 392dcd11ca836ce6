//! Every format and feature, over every kind of source, against qemu-img: the table that is printed
//! has no hole, or the test fails.
//!
//! ```text
//! row      an image: by qemu-img with its options, by random writes of qemu-io, by our own writers
//! oracle   qemu-img convert to raw, and the bytes that the maker meant (where both can be had)
//! columns  file: copied by the engine, with verification · member of an archive · gzip · HTTP · NBD
//! ```

#[path = "support/esx.rs"]
mod esx;
#[path = "support/hyperv.rs"]
mod hyperv;
#[path = "support/server.rs"]
mod server;
mod support;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use forklift_disk::open::Options;
use forklift_disk::remote::Access;
use forklift_disk::{Disk, Watch};
use hyperv::Sectors;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use server::{Behaviour, Http, Server};
use support::*;

/// No multiple of any block, grain or cluster.
const SIZE: u64 = 3 * MIB + 5 * 512;

/// An image and what it holds.
struct Row {
    name: String,
    /// The files; the first is the image, others are beside it.
    files: Vec<PathBuf>,
    wanted: Vec<u8>,
}

/// Makes images in one folder.
struct Maker {
    dir: tempfile::TempDir,
    raw: PathBuf,
    bytes: Vec<u8>,
    number: usize,
}

impl Maker {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let raw = dir.path().join("raw");
        let bytes = pattern(&raw, SIZE, 61);
        Self { dir, raw, bytes, number: 0 }
    }

    /// A folder of its own for each row, so that siblings cannot be mixed up.
    fn folder(&mut self) -> PathBuf {
        self.number += 1;
        let folder = self.dir.path().join(format!("row{}", self.number));
        std::fs::create_dir(&folder).expect("a folder");
        folder
    }

    /// qemu-img converts the pattern.
    fn converted(&mut self, name: &str, args: &[&str]) -> Row {
        let image = self.folder().join("image");
        run("qemu-img", &[&["convert", "-f", "raw"], args, &[text(&self.raw), text(&image)]].concat());
        // a fixed VHD begins as a raw disk does: nothing is guessed
        let format = args.iter().skip_while(|arg| **arg != "-O").nth(1).copied();
        self.row_as(name, &image, format)
    }

    /// The row of an image; qemu-img says what it holds.
    fn row(&self, name: &str, image: &Path) -> Row {
        self.row_as(name, image, None)
    }

    fn row_as(&self, name: &str, image: &Path, format: Option<&str>) -> Row {
        let raw = image.with_extension("oracle");
        let format: &[&str] = &format.map_or(vec![], |format| vec!["-f", format]);
        run("qemu-img", &[&["convert", "-U"], format, &["-O", "raw", text(image), text(&raw)]].concat());
        let wanted = std::fs::read(&raw).expect("reads");
        std::fs::remove_file(&raw).expect("removes");
        Row { name: name.into(), files: files(image), wanted }
    }

    /// The row of an extent of ESX: qemu-img 7.2 shows it twice, one after the other.
    fn row_of_esx(&self, name: &str, image: &Path) -> Row {
        let mut row = self.row_as(name, image, Some("vmdk"));
        row.wanted.truncate(SIZE as usize);
        row
    }

    /// The row of an image whose bytes its maker knows.
    fn known(&self, name: &str, image: &Path, wanted: Vec<u8>) -> Row {
        Row { name: name.into(), files: files(image), wanted }
    }
}

/// The image, then all others in its folder.
fn files(image: &Path) -> Vec<PathBuf> {
    let folder = image.parent().expect("a folder");
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(folder).expect("lists").map(|entry| entry.expect("an entry").path()).collect();
    files.retain(|path| path != image);
    files.sort();
    files.insert(0, image.to_owned());
    files
}

/// Random writes, zeroes and discards by qemu-io, most of them not aligned to a cluster.
fn scribble(image: &Path, format: &str, size: u64, seed: u64, count: usize) {
    let mut random = StdRng::seed_from_u64(seed);
    let mut args = vec!["-f".to_owned(), format.to_owned(), "-d".into(), "unmap".into()];
    for _ in 0..count {
        let length = random.random_range(1..300u64) * 512;
        let offset = random.random_range(0..(size - length) / 512) * 512;
        let byte = random.random_range(1..255);
        args.push("-c".into());
        args.push(match random.random_range(0..8) {
            0..5 => format!("write -P {byte} {offset} {length}"),
            5 => format!("write -z {offset} {length}"),
            6 => format!("write -z -u {offset} {length}"),
            _ => format!("discard {} {}", offset / 65_536 * 65_536, 65_536.min(size - offset / 65_536 * 65_536)),
        });
    }
    // the last sector is written, whatever the size
    args.extend(["-c".into(), format!("write -P 9 {} 512", size - 512)]);
    args.push(text(image).into());
    run("qemu-io", &args.iter().map(String::as_str).collect::<Vec<_>>());
}

fn qcow2(maker: &mut Maker, rows: &mut Vec<Row>) {
    for (name, args) in [
        ("v2", &["-o", "compat=0.10"][..]),
        ("v3", &["-o", "compat=1.1"]),
        ("clusters of 512", &["-o", "cluster_size=512"]),
        ("clusters of 2 MiB, lazy refcounts", &["-o", "cluster_size=2M,lazy_refcounts=on"]),
        ("refcounts of 1 bit", &["-o", "refcount_bits=1"]),
        ("preallocation metadata", &["-o", "preallocation=metadata"]),
        ("preallocation full", &["-o", "preallocation=full"]),
        ("deflate", &["-c"]),
        ("deflate, clusters of 4 KiB", &["-c", "-o", "cluster_size=4k"]),
        ("zstd", &["-c", "-o", "compression_type=zstd"]),
        ("zstd, clusters of 2 MiB", &["-c", "-o", "compression_type=zstd,cluster_size=2M"]),
        ("subclusters", &["-o", "extended_l2=on,cluster_size=32k"]),
        ("subclusters, deflate", &["-c", "-o", "extended_l2=on,cluster_size=16k"]),
    ] {
        rows.push(maker.converted(&format!("qcow2 {name}"), &[&["-O", "qcow2"], args].concat()));
    }
    for (seed, name, options) in [
        (1, "v3", "cluster_size=4k"),
        (2, "v2", "compat=0.10,cluster_size=1k"),
        (3, "subclusters", "extended_l2=on,cluster_size=16k"),
    ] {
        let image = maker.folder().join("image");
        run("qemu-img", &["create", "-q", "-f", "qcow2", "-o", options, text(&image), &SIZE.to_string()]);
        scribble(&image, "qcow2", SIZE, seed, 60);
        rows.push(maker.row(&format!("qcow2 {name}, random writes, zeroes, discards"), &image));
    }
    for (name, base_size, size) in [("as long", SIZE, SIZE), ("longer", SIZE, SIZE - MIB), ("shorter", MIB + 512, SIZE)]
    {
        for (format, options) in [("qcow2", "cluster_size=4k"), ("raw", ""), ("vmdk", "subformat=monolithicSparse")] {
            let folder = maker.folder();
            let (base, top) = (folder.join("base"), folder.join("image"));
            let mut create = vec!["create", "-q", "-f", format];
            create.extend(if options.is_empty() { vec![] } else { vec!["-o", options] });
            let number = base_size.to_string();
            create.extend([text(&base), &number]);
            run("qemu-img", &create);
            scribble(&base, format, base_size, 4, 40);
            let over = ["create", "-q", "-f", "qcow2", "-o", "cluster_size=8k", "-b", "base", "-F", format, text(&top)];
            run("qemu-img", &[&over[..], &[&size.to_string()]].concat());
            scribble(&top, "qcow2", size, 5, 20);
            rows.push(maker.row(&format!("qcow2 over {format}, the base {name}"), &top));
        }
    }
    let image = maker.folder().join("image");
    run("qemu-img", &["create", "-q", "-f", "qcow2", text(&image), &SIZE.to_string()]);
    scribble(&image, "qcow2", SIZE, 6, 20);
    run("qemu-img", &["snapshot", "-c", "before", text(&image)]);
    scribble(&image, "qcow2", SIZE, 7, 20);
    rows.push(maker.row("qcow2 with an internal snapshot (active state)", &image));
}

fn vmdk(maker: &mut Maker, rows: &mut Vec<Row>) {
    for (name, options) in [
        ("monolithicSparse", "subformat=monolithicSparse"),
        ("zeroed grains", "subformat=monolithicSparse,zeroed_grain=on"),
        ("version 6", "subformat=monolithicSparse,compat6=on"),
        ("streamOptimized", "subformat=streamOptimized"),
        ("monolithicFlat", "subformat=monolithicFlat"),
        ("twoGbMaxExtentSparse", "subformat=twoGbMaxExtentSparse"),
        ("twoGbMaxExtentFlat", "subformat=twoGbMaxExtentFlat"),
    ] {
        rows.push(maker.converted(&format!("vmdk {name}"), &["-O", "vmdk", "-o", options]));
    }
    for (level, padding) in [(0, 0), (1, 0), (9, 5)] {
        let image = maker.folder().join("image.vmdk");
        write_stream(&image, &maker.bytes, Stream { level, padding });
        let row =
            maker.known(&format!("vmdk stream, level {level}, {padding} sectors behind"), &image, maker.bytes.clone());
        rows.push(row);
    }
    // random writes; a delta over it, a delta over that
    let folder = maker.folder();
    let names = ["base.vmdk", "middle.vmdk", "top.vmdk"].map(|name| folder.join(name));
    run("qemu-img", &["create", "-q", "-f", "vmdk", "-o", "zeroed_grain=on", text(&names[0]), &SIZE.to_string()]);
    scribble(&names[0], "vmdk", SIZE, 8, 40);
    for (upper, lower) in [(1, 0), (2, 1)] {
        let base = names[lower].file_name().and_then(|name| name.to_str()).expect("a name");
        let options = ["create", "-q", "-f", "vmdk", "-o", "zeroed_grain=on", "-b", base, "-F", "vmdk"];
        run("qemu-img", &[&options[..], &[text(&names[upper])]].concat());
        scribble(&names[upper], "vmdk", SIZE, 9 + upper as u64, 15);
    }
    rows.push(maker.row("vmdk delta over a delta over a base", &names[2]));
    // several extents of one disk, one of them nothing
    let folder = maker.folder();
    let image = folder.join("image.vmdk");
    std::fs::write(folder.join("flat"), &maker.bytes).expect("writes");
    let lines = "RW 1000 FLAT \"flat\" 7\nRW 77 ZERO\nRW 2000 FLAT \"flat\" 2000\n";
    std::fs::write(
        &image,
        format!(
            "# Disk DescriptorFile\nversion=1\nCID=1\nparentCID=ffffffff\ncreateType=\"twoGbMaxExtentFlat\"\n{lines}"
        ),
    )
    .expect("writes");
    rows.push(maker.row_as("vmdk flat extents at offsets, and zeros", &image, Some("vmdk")));

    let stored = sectors(SIZE, 31, 90);
    let folder = maker.folder();
    let image = folder.join("image.vmdk");
    std::fs::write(folder.join("extent"), esx::cowd(SIZE, &stored)).expect("writes");
    std::fs::write(&image, esx::descriptor("VMFSSPARSE", "vmfsSparse", SIZE / 512, "extent", None)).expect("writes");
    rows.push(maker.row_of_esx("vmdk COWD", &image));

    let (zeroed, unmapped) = (100, 200);
    let mut stored = stored;
    stored.retain(|sector, _| ![zeroed, unmapped].contains(&(sector / 8)));
    let folder = maker.folder();
    let image = folder.join("image.vmdk");
    std::fs::write(folder.join("extent"), esx::sesparse(SIZE, &stored, zeroed, unmapped)).expect("writes");
    std::fs::write(&image, esx::descriptor("SESPARSE", "seSparse", SIZE / 512, "extent", None)).expect("writes");
    rows.push(maker.row_of_esx("vmdk seSparse", &image));
    // over a flat base: its grains hide the base's, zeroed ones too
    let folder = maker.folder();
    let image = folder.join("image.vmdk");
    std::fs::write(folder.join("flat"), &maker.bytes).expect("writes");
    std::fs::write(folder.join("base.vmdk"), esx::descriptor("FLAT", "monolithicFlat", SIZE / 512, "flat", None))
        .expect("writes");
    std::fs::write(folder.join("extent"), esx::sesparse(SIZE, &stored, zeroed, unmapped)).expect("writes");
    let parent = Some(("base.vmdk", "00c0ffee"));
    std::fs::write(&image, esx::descriptor("SESPARSE", "seSparse", SIZE / 512, "extent", parent)).expect("writes");
    rows.push(maker.row_of_esx("vmdk seSparse delta over a flat base", &image));
}

/// Random sectors, runs and single ones, never the same twice; the last sector is one of them.
fn sectors(size: u64, seed: u64, runs: usize) -> Sectors {
    let mut random = StdRng::seed_from_u64(seed);
    let count = size / 512;
    let mut sectors = Sectors::new();
    for _ in 0..runs {
        let start = random.random_range(0..count);
        for sector in start..(start + random.random_range(1..20)).min(count) {
            let mut content = [0; 512];
            random.fill(&mut content[..]);
            sectors.insert(sector, content);
        }
    }
    sectors.insert(count - 1, [0x5a; 512]);
    sectors
}

/// Lays sectors over bytes.
fn lay(bytes: &mut [u8], sectors: &Sectors) {
    for (sector, content) in sectors {
        let at = *sector as usize * 512;
        bytes[at..at + 512].copy_from_slice(content);
    }
}

fn vhd(maker: &mut Maker, rows: &mut Vec<Row>) {
    for (name, options) in [
        ("fixed", "subformat=fixed,force_size=on"),
        ("dynamic", "subformat=dynamic,force_size=on"),
        ("dynamic, size by geometry", "subformat=dynamic"),
    ] {
        rows.push(maker.converted(&format!("vhd {name}"), &["-O", "vpc", "-o", options]));
    }
    let image = maker.folder().join("image");
    run("qemu-img", &["create", "-q", "-f", "vpc", "-o", "force_size=on", text(&image), &SIZE.to_string()]);
    scribble(&image, "vpc", SIZE, 12, 40);
    rows.push(maker.row("vhd dynamic, random writes", &image));
    // a chain of three by our writer: qemu-img reads no differencing disks
    for block in [512u64, 4096, 2 << 20] {
        let folder = maker.folder();
        let mut wanted = vec![0; SIZE as usize];
        let mut parent: Option<(String, [u8; 16])> = None;
        for (level, name) in ["base.vhd", "middle.vhd", "top.vhd"].into_iter().enumerate() {
            let stored = sectors(SIZE, 40 + level as u64 + block, 60);
            lay(&mut wanted, &stored);
            let id = [level as u8 + 1; 16];
            let above = parent.as_ref().map(|(path, id)| (path.as_str(), *id));
            let disk = hyperv::Vhd { size: SIZE, block, sectors: &stored, id, parent: above };
            std::fs::write(folder.join(name), hyperv::vhd(&disk)).expect("writes");
            if level == 0 {
                rows.push(maker.known(
                    &format!("vhd sector bits, blocks of {block}"),
                    &folder.join(name),
                    wanted.clone(),
                ));
            }
            parent = Some((format!("C:\\disks\\{name}"), id));
        }
        rows.push(maker.known(&format!("vhd chain of three, blocks of {block}"), &folder.join("top.vhd"), wanted));
    }
}

fn vhdx(maker: &mut Maker, rows: &mut Vec<Row>) {
    for (name, options) in [
        ("dynamic", "block_size=1M"),
        ("dynamic, blocks of 32 MiB", "block_size=32M"),
        ("fixed", "subformat=fixed,block_size=2M"),
        ("no zero blocks", "block_state_zero=off,block_size=1M"),
    ] {
        rows.push(maker.converted(&format!("vhdx {name}"), &["-O", "vhdx", "-o", options]));
    }
    let image = maker.folder().join("image");
    run("qemu-img", &["create", "-q", "-f", "vhdx", "-o", "block_size=1M", text(&image), "20M"]);
    scribble(&image, "vhdx", 20 << 20, 13, 40);
    rows.push(maker.row("vhdx dynamic, random writes", &image));
    let stored = sectors(SIZE, 50, 60);
    let size = (SIZE / 4096 * 4096) as usize;
    let image = maker.folder().join("image");
    let inner: Sectors =
        stored.iter().filter(|(at, _)| **at < size as u64 / 512).map(|(at, bytes)| (*at, *bytes)).collect();
    write(&image, None, false, 4096, [5; 16], &inner);
    // qemu-img reads sectors of 512 bytes only
    let mut meant = vec![0; size];
    lay(&mut meant, &inner);
    rows.push(maker.known("vhdx sectors of 4,096 bytes", &image, meant.clone()));
    // a log that has to be replayed: qemu-img replays it in a copy
    let folder = maker.folder();
    let (image, copy) = (folder.join("image"), folder.join("copy"));
    write(&image, None, true, 512, [6; 16], &inner);
    std::fs::copy(&image, &copy).expect("copies");
    run("qemu-img", &["check", "-q", "-f", "vhdx", "-r", "all", text(&copy)]);
    let replayed = maker.row("vhdx with a log to replay", &copy);
    std::fs::remove_file(&copy).expect("removes");
    assert_same(&replayed.wanted, &meant, "qemu-img's replay and the writer's intent");
    rows.push(Row { files: files(&image), ..replayed });
    let folder = maker.folder();
    let mut wanted = vec![0; size];
    let mut parent: Option<(String, [u8; 16])> = None;
    for (level, name) in ["base.vhdx", "middle.vhdx", "top.vhdx"].into_iter().enumerate() {
        let mut stored = sectors(size as u64, 70 + level as u64, 60);
        if level == 1 {
            // a whole block, which needs no bitmap
            (2048..4096).for_each(|sector| drop(stored.insert(sector, [0x33; 512])));
        }
        lay(&mut wanted, &stored);
        let id = [level as u8 + 1; 16];
        let above = parent.as_ref().map(|(path, id)| (path.as_str(), *id));
        write(&folder.join(name), above, level == 2, 512, id, &stored);
        parent = Some((format!("..\\disks\\{name}"), id));
    }
    rows.push(maker.known("vhdx chain of three, the top with a log", &folder.join("top.vhdx"), wanted));
}

/// Writes a VHDX of whole sectors of 4,096 bytes.
fn write(path: &Path, parent: Option<(&str, [u8; 16])>, log: bool, logical: u32, id: [u8; 16], sectors: &Sectors) {
    let disk = hyperv::Vhdx { size: SIZE / 4096 * 4096, block: MIB, sectors, id, parent, log, logical };
    std::fs::write(path, hyperv::vhdx(&disk)).expect("writes");
}

fn raw(maker: &mut Maker, rows: &mut Vec<Row>) {
    rows.push(maker.converted("raw sparse", &["-O", "raw"]));
    let image = maker.folder().join("image");
    let mut odd = maker.bytes[..1_000_001].to_vec();
    std::fs::write(&image, &odd).expect("writes");
    odd.resize(odd.len().next_multiple_of(512), 0);
    rows.push(maker.known("raw with an end at no sector", &image, odd));
}

/// Reads a disk whole and says what differs.
fn compare(path: &Path, options: &Options, wanted: &[u8]) -> Result<(), String> {
    let disk = Disk::open(path, options).map_err(|error| error.chain())?;
    if disk.size() < wanted.len() as u64 {
        return Err(format!("{} bytes, not {}", disk.size(), wanted.len()));
    }
    // a sequential source is read in order by pieces, as a copy does
    let mut bytes = vec![0xa5; disk.size() as usize];
    for (number, part) in bytes.chunks_mut(300_001).enumerate() {
        disk.image().read_at(part, number as u64 * 300_001).map_err(|error| error.chain())?;
    }
    let mut wanted = wanted.to_vec();
    wanted.resize(bytes.len(), 0);
    match bytes.iter().zip(&wanted).position(|(a, b)| a != b) {
        Some(at) => Err(format!("byte {at} differs")),
        None => Ok(()),
    }
}

/// Copies with the engine, verifies, compares.
fn copied(row: &Row, target: &Path) -> Result<(), String> {
    job(&row.files[0], target).run(&Watch::new()).map_err(|error| error.chain())?;
    let result =
        compare(target, &Options { format: Some(forklift_disk::Format::Raw), ..Options::default() }, &row.wanted);
    std::fs::remove_file(target).map_err(|error| error.to_string())?;
    result
}

fn packed(row: &Row, folder: &Path) -> Result<(), String> {
    let output = std::process::Command::new("gzip").args(["-1", "-c"]).arg(&row.files[0]).output().expect("gzip runs");
    let path = folder.join("image.gz");
    std::fs::write(&path, output.stdout).expect("writes");
    let result = compare(&path, &Options { gzip: true, ..Options::default() }, &row.wanted);
    std::fs::remove_file(&path).expect("removes");
    result
}

fn member(row: &Row, folder: &Path) -> Result<(), String> {
    let archive = folder.join("image.ova");
    let parent = row.files[0].parent().expect("a folder");
    let name = |path: &PathBuf| path.file_name().and_then(|name| name.to_str()).expect("a name").to_owned();
    let names: Vec<String> = row.files.iter().map(name).collect();
    let mut args = vec!["-C", text(parent), "-cf", text(&archive)];
    args.extend(names.iter().map(String::as_str));
    run("tar", &args);
    let result = compare(&archive, &Options { member: Some(names[0].clone()), ..Options::default() }, &row.wanted);
    std::fs::remove_file(&archive).expect("removes");
    result
}

fn over_http(row: &Row, http: &Http) -> Result<(), String> {
    for file in &row.files {
        let name = file.file_name().and_then(|name| name.to_str()).expect("a name");
        http.put(name, std::fs::read(file).expect("reads"));
    }
    let name = row.files[0].file_name().and_then(|name| name.to_str()).expect("a name");
    compare(&http.url(name), &Options { access: Access::default(), ..Options::default() }, &row.wanted)
}

fn over_nbd(row: &Row, folder: &Path) -> Result<(), String> {
    let server = Server::nbdkit(folder, &["-r", "file", text(&row.files[0])]);
    compare(&server.uri(""), &Options::default(), &row.wanted)
}

/// Whether the image needs files beside it, which a stream or an export has not.
fn alone(row: &Row) -> bool {
    row.files.len() == 1
}

#[test]
fn every_format_and_feature_over_every_source() {
    let mut maker = Maker::new();
    let mut rows = Vec::new();
    for part in [raw, qcow2, vmdk, vhd, vhdx] {
        part(&mut maker, &mut rows);
    }
    let http = Http::start(Behaviour::default());
    let folder = maker.dir.path().to_owned();
    let mut table = format!("{:56} {:6} {:6} {:6} {:6} {:6}\n", "image", "file", "member", "gzip", "http", "nbd");
    let mut holes = Vec::new();
    for row in &rows {
        let _ = write!(table, "{:56}", row.name);
        let mut cell = |column: &str, result: Option<Result<(), String>>| {
            let text = match &result {
                None => "-",
                Some(Ok(())) => "ok",
                Some(Err(_)) => "HOLE",
            };
            let _ = write!(table, " {text:6}");
            if let Some(Err(why)) = result {
                holes.push(format!("{}, {column}: {why}", row.name));
            }
        };
        cell("file", Some(copied(row, &folder.join("target"))));
        cell("member", Some(member(row, &folder)));
        cell("gzip", alone(row).then(|| packed(row, &folder)));
        cell("http", Some(over_http(row, &http)));
        cell("nbd", alone(row).then(|| over_nbd(row, &folder)));
        table.push('\n');
    }
    println!("{table}({} images; - : the image needs files beside it, which there are none of)", rows.len());
    assert!(holes.is_empty(), "{}", holes.join("\n"));
}

/// What is not read says why, by name; nothing of it is taken for a raw disk.
#[test]
fn what_is_refused_says_why() {
    let maker = Maker::new();
    let at = |name: &str| maker.dir.path().join(name);
    let create = |name: &str, args: &[&str]| {
        run("qemu-img", &[&["create", "-q"], args, &[text(&at(name)), "3M"]].concat());
        at(name)
    };
    let patched = |name: &str, from: &Path, at_byte: usize, bytes: &[u8]| {
        let mut content = std::fs::read(from).expect("reads");
        content[at_byte..at_byte + bytes.len()].copy_from_slice(bytes);
        std::fs::write(at(name), content).expect("writes");
        at(name)
    };
    let written = |name: &str, content: &[u8]| {
        std::fs::write(at(name), content).expect("writes");
        at(name)
    };
    let secret = ["--object", "secret,id=s,data=abc"];
    let luks = ["-o", "encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10"];
    let data = format!("data_file={}", text(&at("data")));
    let plain = create("plain.qcow2", &["-f", "qcow2"]);
    let none = Sectors::new();
    let vhdx =
        |log| hyperv::Vhdx { size: 3 << 20, block: MIB, sectors: &none, id: [1; 16], parent: None, log, logical: 512 };
    let dirty = written("dirty.vhdx", &hyperv::vhdx(&vhdx(true)));
    let parent = ("base.vhd", [7; 16]);
    let orphan = hyperv::Vhd { size: 3 << 20, block: 4096, sectors: &none, id: [2; 16], parent: Some(parent) };
    let other = hyperv::Vhd { size: 3 << 20, block: 4096, sectors: &none, id: [3; 16], parent: None };
    written("base.vhd", &hyperv::vhd(&other));
    let base = written("base.vmdk", esx::descriptor("ZERO", "custom", 6144, "", None).replace(" \"\"", "").as_bytes());
    let delta = esx::descriptor("ZERO", "custom", 6144, "", Some(("base.vmdk", "12345678"))).replace(" \"\"", "");
    assert!(Disk::open(&base, &Options::default()).is_ok());
    for (image, words) in [
        (create("external", &["-f", "qcow2", "-o", &data]), "external data file"),
        (create("luks.qcow2", &[&["-f", "qcow2"], &secret[..], &luks].concat()), "encrypted"),
        (patched("corrupt", &plain, 79, &[2]), "marked corrupt"),
        (patched("unknown", &plain, 76, &[1]), "unknown features"),
        (create("v1", &["-f", "qcow"]), "qcow version 1"),
        (create("vdi", &["-f", "vdi"]), "VDI"),
        (create("qed", &["-f", "qed"]), "QED"),
        (create("parallels", &["-f", "parallels"]), "Parallels"),
        (
            create("luks", &["-f", "luks", "--object", "secret,id=s,data=abc", "-o", "key-secret=s,iter-time=10"]),
            "LUKS",
        ),
        (patched("torn.vhdx", &dirty, (2 << 20) - 4096 + 100, &[0xff; 8]), "dirty log"),
        (written("orphan.vhd", &hyperv::vhd(&orphan)), "is another disk"),
        (written("delta.vmdk", delta.as_bytes()), "is another disk"),
        (written("rdm.vmdk", esx::descriptor("VMFSRDM", "vmfsRawDeviceMap", 6144, "x", None).as_bytes()), "VMFSRDM"),
        (written("locked.vmdk", b"# Disk DescriptorFile\nversion=1\nencryption.keySafe=\"x\"\n"), "encrypted VMDK"),
    ] {
        let error =
            Disk::open(&image, &Options::default()).err().unwrap_or_else(|| panic!("{} is read", image.display()));
        assert!(error.to_string().contains(words), "{}: {error}", image.display());
        assert!(matches!(error.code(), "UnsupportedFormat" | "Malformed"), "{error}");
    }
}

/// The sample appliance, as a real tool chain packed it.
#[test]
fn the_sample_appliance() {
    let home = std::env::var_os("HOME").map(PathBuf::from).unwrap_or_default();
    let made = home.join(".cache/forklift/guest/webserver01.ova");
    let ova = std::env::var_os("FORKLIFT_GUEST_OVA").map(PathBuf::from).unwrap_or(made);
    if !ova.exists() {
        assert!(std::env::var_os("REQUIRE_PEERS").is_none(), "{} is not there: ./x guest", ova.display());
        println!("skipped: {} is not there", ova.display());
        return;
    }
    let dir = tempfile::tempdir().expect("a temporary folder");
    run("tar", &["-C", text(dir.path()), "-xf", text(&ova)]);
    let mut disks = 0;
    for entry in std::fs::read_dir(dir.path()).expect("lists").map(|entry| entry.expect("an entry").path()) {
        if entry.extension().is_none_or(|extension| extension != "vmdk") {
            continue;
        }
        disks += 1;
        let target = dir.path().join("disk.img");
        let mut job = job(&ova, &target);
        job.open.member = Some(entry.file_name().and_then(|name| name.to_str()).expect("a name").into());
        job.run(&Watch::new()).unwrap_or_else(|error| panic!("{}", error.chain()));
        run("qemu-img", &["compare", "-f", "raw", "-F", "vmdk", text(&target), text(&entry)]);
        std::fs::remove_file(&target).expect("removes");
        std::fs::remove_file(format!("{}.manifest.json", target.display())).expect("removes");
    }
    assert!(disks > 0, "{} has no disk", ova.display());
}
