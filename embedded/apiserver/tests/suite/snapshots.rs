use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use apiserver::{Config, restore, snapshot};
use expect_test::expect;
use serde_json::{Value, json};

use crate::Fixture;

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

/// Set in the environment, the variable makes a test the process that takes a snapshot of this directory and is killed.
const CHILD: &str = "APISERVER_TEST_SNAPSHOT_OF";

fn map(name: &str, n: u64) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"n": n.to_string()}})
}

fn number(value: &Value) -> u64 {
    value["data"]["n"].as_str().unwrap().parse().unwrap()
}

fn revision(value: &Value) -> u64 {
    value["metadata"]["resourceVersion"].as_str().unwrap().parse().unwrap()
}

async fn started(dir: &Path) -> Fixture {
    let server = apiserver::start(Config::new(dir)).await.unwrap();
    let http = crate::http_client(&server);
    Fixture { server, http, dir: tempfile::tempdir().unwrap() }
}

fn refusal(result: anyhow::Result<apiserver::Snapshot>, dir: &Path) -> String {
    format!("{:#}", result.unwrap_err()).replace(dir.to_str().unwrap(), "DIR")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_of_a_running_server_is_one_moment_and_comes_back() {
    let f = Fixture::start().await;
    let a = f.post(MAPS, &map("a", 0)).await.1;
    f.post(MAPS, &map("b", 0)).await;
    f.post(MAPS, &map("gone", 0)).await;
    f.delete(&format!("{MAPS}/gone")).await;
    // a is always written before b
    let write = async {
        for n in 1.. {
            for name in ["a", "b"] {
                assert_eq!(f.put(&format!("{MAPS}/{name}"), &map(name, n)).await.0, 200);
            }
        }
    };
    let files: Vec<PathBuf> = (0..5).map(|n| f.dir.path().join(format!("snapshot-{n}"))).collect();
    let (dir, wanted) = (f.dir.path().to_path_buf(), files.clone());
    let take = tokio::task::spawn_blocking(move || {
        wanted.iter().map(|file| snapshot(&dir, file).unwrap()).collect::<Vec<_>>()
    });
    let taken = tokio::select! {
        () = write => unreachable!("writes until the snapshots are taken"),
        taken = take => taken.unwrap(),
    };
    let newest = revision(&f.get(&format!("{MAPS}/a")).await.1);
    for (file, taken) in files.iter().zip(&taken) {
        let target = f.dir.path().join(format!("{}-restored", file.display()));
        let restored = restore(file, &target).unwrap();
        assert!(restored.revision > newest, "{restored:?} is not above what clients saw");
        assert_eq!(restored.objects, taken.objects);
        let r = started(&target).await;
        let (_, list) = r.get(MAPS).await;
        let maps: Vec<_> = list["items"].as_array().unwrap().iter().filter(|m| m["data"]["n"].is_string()).collect();
        let names: Vec<_> = maps.iter().map(|m| m["metadata"]["name"].as_str().unwrap()).collect();
        assert_eq!(names, ["a", "b"]);
        let (first, second) = (number(maps[0]), number(maps[1]));
        assert!(first == second || first == second + 1, "no moment had a at {first} and b at {second}");
        assert!(revision(&list) >= restored.revision);
        // an object keeps its version, so that a client that has it can go on
        assert!(revision(maps[0]) <= taken.revision && revision(maps[0]) >= revision(&a));
        for old in [revision(&a), taken.revision, newest] {
            let (_, answer) = r.get(&format!("{MAPS}?watch=true&resourceVersion={old}&timeoutSeconds=1")).await;
            assert_eq!(answer["object"]["code"], 410, "a watch from {old}: {answer}");
            let (code, answer) = r.get(&format!("{MAPS}?resourceVersion={old}&resourceVersionMatch=Exact")).await;
            assert_eq!(code, 410, "{answer}");
        }
        let made = r.post(MAPS, &map("new", 1)).await.1;
        assert!(revision(&made) > restored.revision);
        let (_, root) = r.get(&format!("{MAPS}/kube-root-ca.crt")).await;
        assert_eq!(root["data"]["ca.crt"], r.server.ca_pem(), "the new authority's certificate");
        r.server.shutdown().await;
        let r = started(&target).await;
        assert!(revision(&r.get(MAPS).await.1) >= revision(&made), "a second start goes on");
        r.server.shutdown().await;
    }
    f.server.shutdown().await;
}

#[tokio::test]
async fn what_cannot_be_right_is_refused() {
    let f = Fixture::start().await;
    f.post(MAPS, &map("a", 1)).await;
    let dir = f.dir.path();
    let at = |name: &str| dir.join(name);
    snapshot(dir, &at("good")).unwrap();
    expect!["DIR/good exists already: choose another name"].assert_eq(&refusal(snapshot(dir, &at("good")), dir));
    expect!["there is no store in DIR/none: name the data directory of an API server"]
        .assert_eq(&refusal(snapshot(&at("none"), &at("new")), dir));
    let running = refusal(restore(&at("good"), dir), dir).replace(&std::process::id().to_string(), "N");
    expect!["another server (process N) is running on DIR: stop it, or choose another directory"].assert_eq(&running);
    let second = apiserver::start(Config::new(dir)).await.map(|_| ()).unwrap_err();
    assert!(second.to_string().starts_with("another server"), "{second:#}");
    restore(&at("good"), &at("full")).unwrap();
    expect![[r#"DIR/full has a store already: choose an empty directory, or move DIR/full/store.db and its companions away first"#]]
        .assert_eq(&refusal(restore(&at("good"), &at("full")), dir));
    std::fs::write(at("text"), "no snapshot at all").unwrap();
    expect!["cannot restore DIR/text: it is not a snapshot of a store, or damaged"]
        .assert_eq(&refusal(restore(&at("text"), &at("new")), dir));
    expect!["cannot restore DIR/absent: No such file or directory (os error 2)"]
        .assert_eq(&refusal(restore(&at("absent"), &at("new")), dir));
    let whole = std::fs::read(at("good")).unwrap();
    let found = whole
        .windows(9)
        .position(|w| w == b"\"n\":\"1\"}")
        .or_else(|| whole.windows(7).position(|w| w == b"\"n\":\"1\""));
    let mut flipped = whole.clone();
    flipped[found.unwrap() + 5] = b'2';
    std::fs::write(at("flipped"), flipped).unwrap();
    expect!["cannot restore DIR/flipped: it is damaged: its rows are not those that were written"]
        .assert_eq(&refusal(restore(&at("flipped"), &at("new")), dir));
    std::fs::write(at("short"), &whole[..whole.len() / 2]).unwrap();
    assert!(refusal(restore(&at("short"), &at("new")), dir).starts_with("cannot restore DIR/short: it is "));
    assert!(!at("new").join("store.db").exists());
    f.server.shutdown().await;
}

fn take_as_child(directory: &str) {
    println!("taking");
    for n in 0.. {
        snapshot(Path::new(directory), &Path::new(directory).join(format!("taken-{n}"))).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_that_is_killed_leaves_a_whole_file_or_none() {
    if let Ok(directory) = std::env::var(CHILD) {
        return take_as_child(&directory);
    }
    let f = Fixture::start().await;
    for n in 0..200 {
        let mut big = map(&format!("m{n}"), n);
        big["data"]["text"] = "x".repeat(2000).into();
        f.post(MAPS, &big).await;
    }
    let mut whole = 0;
    for round in 0..12 {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .args(["--exact", "snapshots::a_snapshot_that_is_killed_leaves_a_whole_file_or_none", "--nocapture"])
            .env(CHILD, f.dir.path());
        let mut child = command.stdout(Stdio::null()).spawn().unwrap();
        // the kill comes at another place of the work each time: after so many writes beside it
        let part_seen = Instant::now() + Duration::from_secs(20);
        let part = || {
            std::fs::read_dir(f.dir.path())
                .unwrap()
                .flatten()
                .any(|e| e.file_name().to_string_lossy().contains(".part"))
        };
        while !part() && Instant::now() < part_seen {
            tokio::task::yield_now().await;
        }
        for n in 0..round {
            assert_eq!(f.put(&format!("{MAPS}/m0"), &map("m0", n)).await.0, 200);
        }
        child.kill().unwrap();
        child.wait().unwrap();
        for entry in std::fs::read_dir(f.dir.path()).unwrap().flatten() {
            let name = entry.file_name().to_string_lossy().to_string();
            if name.starts_with("taken-") && !name.contains(".part") {
                let target = f.dir.path().join(format!("restored-{round}-{name}"));
                assert!(restore(&entry.path(), &target).unwrap().objects >= 200);
                std::fs::remove_file(entry.path()).unwrap();
                whole += 1;
            }
        }
    }
    // what the kills left is in nobody's way
    snapshot(f.dir.path(), &f.dir.path().join("taken-0")).unwrap();
    assert!(f.get(&format!("{MAPS}/m1")).await.0 == 200 && whole > 0, "{whole} snapshots were whole");
    f.server.shutdown().await;
}
