//! The bench peers of the inventory: a prepared vCenter, a govmomi client that loads it, a Go server of prepared JSON.

use std::io::{Read, Write};
use std::time::Duration;

use forklift_testkit::peers::inventory::{Govload, Jsonserve};
use forklift_testkit::peers::vcenter::Vcenter;
use forklift_testkit::wait_for;

#[test]
fn govmomi_loads_a_prepared_vcenter_and_follows_it() {
    let Some(vcenter) = Vcenter::prepared(500) else { return };
    let Some(client) = Govload::start(&vcenter) else { return };
    assert!(client.objects() > 500, "{} objects", client.objects());
    assert!(client.resident() > 1 << 20 && client.peak() >= client.resident());
    assert_eq!(vcenter.changes().expect("counters").0, 0);
    vcenter.change(200).expect("a rate");
    wait_for("changes are handed out", Duration::from_secs(30), || {
        let (made, delivered, _) = vcenter.changes().map_err(|error| error.to_string())?;
        (delivered >= 100).then_some(()).ok_or_else(|| format!("{delivered} of {made}"))
    });
    assert!(!vcenter.changed().expect("a map").as_object().expect("a map").is_empty());
}

#[test]
fn prepared_json_is_answered() {
    let list = std::env::temp_dir().join(format!("forklift-testkit-{}.json", std::process::id()));
    std::fs::write(&list, r#"[{"id":"vm-1","a":1},{"id":"vm-2"}]"#).expect("a file");
    let Some(server) = Jsonserve::start(&list) else { return };
    std::fs::remove_file(&list).expect("it was read");
    let get = |path: &str| {
        let mut stream = std::net::TcpStream::connect(server.address()).expect("it listens");
        stream.write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes()).expect("it reads");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("it answers");
        answer
    };
    assert!(get("/providers/vsphere/1/vms/vm-1").ends_with("\r\n\r\n{\"id\":\"vm-1\",\"a\":1}"));
    assert!(get("/providers/vsphere/1/vms?detail=4").ends_with("[{\"id\":\"vm-1\",\"a\":1},{\"id\":\"vm-2\"}]"));
    assert!(get("/providers/vsphere/1/vms/vm-3").starts_with("HTTP/1.0 404"));
}
