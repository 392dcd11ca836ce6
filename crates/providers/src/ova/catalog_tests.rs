use std::fmt::Write as _;
use std::path::Path;
use std::time::{Duration, SystemTime};

use expect_test::{Expect, expect};

use super::catalog::{Catalog, Snapshot};
use super::samples::{Sample, old, ova};

fn shown(snapshot: &Snapshot) -> String {
    let mut page = String::new();
    for a in &snapshot.appliances {
        writeln!(page, "{} {:?} {} {:?}", a.path, a.state, a.error, a.warnings).expect("a string");
    }
    for vm in &snapshot.vms {
        let id = if vm.uuid.contains('-') { &vm.uuid } else { &vm.uuid[..8] };
        writeln!(page, "vm {id} {} from {}", vm.name, vm.ovf_path.rsplit('/').next().unwrap_or_default())
            .expect("a string");
        for disk in &vm.disks {
            let source = disk.source.as_ref();
            let digest = source.and_then(|s| s.digest.as_ref()).map(|d| d.algorithm.as_str());
            writeln!(
                page,
                "  {} {} {:?} {:?}",
                disk.name,
                disk.capacity_bytes,
                source.map(|s| (&s.member, &s.format, s.size)),
                digest
            )
            .expect("a string");
        }
    }
    page
}

fn check(fill: impl FnOnce(&Path), expected: Expect) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    fill(folder.path());
    let mut catalog = Catalog::new(folder.path(), Duration::ZERO);
    expected.assert_eq(&shown(catalog.scan().expect("readable")));
}

fn write(path: &Path, bytes: &[u8]) {
    std::fs::create_dir_all(path.parent().expect("a folder")).expect("writable");
    std::fs::write(path, bytes).expect("writable");
    old(path);
}

#[test]
fn appliances_are_found_to_upstreams_depths() {
    check(
        |root| {
            let sample = Sample::default();
            write(&root.join("a.OVA"), &ova(&sample));
            write(&root.join("one/b.ova"), &ova(&sample));
            write(&root.join("one/two/deep.ova"), &ova(&sample));
            write(&root.join("one/two/c.ovf"), sample.descriptor().as_bytes());
            write(&root.join("one/two/disk1.vmdk"), &sample.disk);
            write(&root.join("one/two/three/deep.ovf"), sample.descriptor().as_bytes());
            write(&root.join("notes.txt"), b"x");
            std::fs::create_dir(root.join("folder.ova")).expect("writable");
        },
        expect![[r#"
            a.OVA Ready  []
            one/b.ova Ready  ["web has the UUID of web in a.OVA"]
            one/two/c.ovf Ready  ["web has the UUID of web in a.OVA"]
            vm 5d4a7c2e-9a31-4cbb-8c9d-0e1f2a3b4c5d web from a.OVA
              disk1.vmdk 1073741824 Some((Some("disk1.vmdk"), Some("vmdk"), 600)) Some("SHA256")
            vm dc2f3258 web from b.ova
              disk1.vmdk 1073741824 Some((Some("disk1.vmdk"), Some("vmdk"), 600)) Some("SHA256")
            vm bc9b970b web from c.ovf
              disk1.vmdk 1073741824 Some((None, Some("vmdk"), 600)) None
        "#]],
    );
}

#[test]
fn what_cannot_be_used_is_listed_with_the_reason() {
    check(
        |root| {
            let sample = Sample::default();
            let whole = ova(&sample);
            write(&root.join("cut.ova"), &whole[..whole.len() / 2]);
            write(&root.join("empty.ova"), b"");
            write(&root.join("nodisk.ova"), &ova(&Sample { leave_out: Some("disk1.vmdk"), ..Sample::default() }));
            write(&root.join("nodescriptor.ova"), &ova(&Sample { leave_out: Some("vm.ovf"), ..Sample::default() }));
            write(
                &root.join("changed.ova"),
                &ova(&Sample { descriptor_suffix: "<!-- changed -->", ..Sample::default() }),
            );
            write(&root.join("outside.ova"), &ova(&Sample { href: "../../etc/passwd", ..Sample::default() }));
            write(&root.join("short.ova"), &ova(&Sample { declared_size: 1 << 40, ..Sample::default() }));
            write(&root.join("lone/x.ovf"), sample.descriptor().as_bytes());
            write(&root.join("good.ova"), &whole);
        },
        expect![[r#"
            changed.ova Broken the descriptor does not have the digest that the manifest names []
            cut.ova Broken the archive ends inside the header after vm.ovf: 256 bytes are missing []
            empty.ova Broken the file is not a tar archive: it is empty []
            good.ova Ready  []
            lone/x.ovf Broken disk1.vmdk, a disk of the appliance, is missing []
            nodescriptor.ova Broken the archive holds no .ovf descriptor []
            nodisk.ova Broken disk1.vmdk, a disk of the appliance, is missing []
            outside.ova Broken "../../etc/passwd" is outside the appliance []
            short.ova Broken disk1.vmdk has 600 bytes, the descriptor says 1099511627776 []
            vm 5d4a7c2e-9a31-4cbb-8c9d-0e1f2a3b4c5d web from good.ova
              disk1.vmdk 1073741824 Some((Some("disk1.vmdk"), Some("vmdk"), 600)) Some("SHA256")
        "#]],
    );
}

#[cfg(unix)]
#[test]
fn a_link_out_of_the_catalogue_is_refused() {
    let secret = tempfile::NamedTempFile::new().expect("a temporary file");
    check(
        |root| {
            let sample = Sample { declared_size: 0, ..Sample::default() };
            write(&root.join("x/x.ovf"), sample.descriptor().as_bytes());
            std::os::unix::fs::symlink(secret.path(), root.join("x/disk1.vmdk")).expect("writable");
        },
        expect![[r#"
            x/x.ovf Broken "disk1.vmdk" is outside the appliance []
        "#]],
    );
}

#[test]
fn a_file_that_is_being_copied_waits_until_it_is_whole() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("a.ova");
    let whole = ova(&Sample::default());
    let mut catalog = Catalog::new(folder.path(), Duration::ZERO);
    assert_eq!(catalog.scan().expect("readable").generation, 0);

    std::fs::write(&path, &whole[..whole.len() / 2]).expect("writable");
    let first = catalog.scan().expect("readable").clone();
    expect![[r#"
        a.ova Copying  []
    "#]]
    .assert_eq(&shown(&first));

    std::fs::write(&path, &whole).expect("writable");
    let second = catalog.scan().expect("readable").clone();
    assert_eq!((second.vms.len(), second.generation), (1, first.generation + 1));
    assert_eq!(catalog.scan().expect("readable"), &second, "nothing changed");

    std::fs::remove_file(&path).expect("writable");
    let third = catalog.scan().expect("readable").clone();
    assert_eq!((third.vms.len(), third.generation), (0, second.generation + 1));
}

#[test]
fn a_young_file_settles_first() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("a.ova");
    std::fs::write(&path, ova(&Sample::default())).expect("writable");
    let mut catalog = Catalog::new(folder.path(), Duration::from_secs(3600));
    assert_eq!(catalog.scan().expect("readable").vms, []);
    let past = SystemTime::now() - Duration::from_secs(7200);
    std::fs::File::options().append(true).open(&path).and_then(|f| f.set_modified(past)).expect("writable");
    assert_eq!(catalog.scan().expect("readable").vms.len(), 1);
}

#[test]
fn ids_do_not_depend_on_where_the_catalogue_is_mounted() {
    let ids = || {
        let folder = tempfile::tempdir().expect("a temporary folder");
        write(&folder.path().join("a.ova"), &ova(&Sample { id: "no-uuid", ..Sample::default() }));
        let mut catalog = Catalog::new(folder.path(), Duration::ZERO);
        let snapshot = catalog.scan().expect("readable").clone();
        (snapshot.vms[0].uuid.clone(), snapshot.disks()[0].id.clone(), snapshot.networks()[0].id.clone())
    };
    assert_eq!(ids(), ids());
}

#[test]
fn a_missing_catalogue_is_an_error() {
    let mut catalog = Catalog::new(Path::new("/nowhere/at/all"), Duration::ZERO);
    assert!(catalog.scan().is_err());
}
