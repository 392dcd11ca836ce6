use std::sync::Arc;

use serde_json::{Value, json};

use super::*;

fn key(name: &str) -> Key {
    Key::new(&Arc::from("/configmaps"), "default", name)
}

fn object(name: &str, n: u64) -> Value {
    json!({"metadata": {"name": name, "namespace": "default", "uid": format!("uid-{name}")}, "data": {"n": n.to_string()}})
}

#[tokio::test]
async fn acknowledged_writes_survive_and_revisions_only_grow() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.db");
    let last = {
        let store = Store::open(&path, 100).unwrap();
        let a = store.create(key("a"), object("a", 1)).await.unwrap();
        let a = store.replace(key("a"), a.revision, object("a", 2)).await.unwrap();
        let b = store.create(key("b"), object("b", 1)).await.unwrap();
        let gone = store.delete(key("b"), b.revision, b.value()).await.unwrap();
        assert_eq!(store.replace(key("a"), 1, object("a", 9)).await.unwrap_err(), WriteError::Conflict);
        assert_eq!(store.create(key("a"), object("a", 9)).await.unwrap_err(), WriteError::Exists);
        assert_eq!(a.value()["metadata"]["resourceVersion"], "2");
        gone.revision
    };
    let store = Store::open(&path, 100).unwrap();
    assert_eq!(store.revision(), last);
    assert_eq!(store.get(&key("a")).unwrap().value()["data"]["n"], "2");
    assert!(store.get(&key("b")).is_none());
    let (events, _) = store.events_after("/configmaps", 1).unwrap();
    let kinds: Vec<EventKind> = events.iter().map(|e| e.kind).collect();
    assert_eq!(kinds, [EventKind::Modified, EventKind::Added, EventKind::Deleted]);
    let next = store.create(key("c"), object("c", 1)).await.unwrap();
    assert_eq!(next.revision, last + 1);
}

#[tokio::test]
async fn old_revisions_can_be_listed_until_compacted() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.db");
    let store = Store::open(&path, 20).unwrap();
    let mut a = store.create(key("a"), object("a", 0)).await.unwrap();
    let b = store.create(key("b"), object("b", 0)).await.unwrap();
    let then = b.revision;
    store.delete(key("b"), b.revision, b.value()).await.unwrap();
    a = store.replace(key("a"), a.revision, object("a", 1)).await.unwrap();
    let old: Vec<String> = store
        .list_at("/configmaps", None, then)
        .unwrap()
        .iter()
        .map(|o| format!("{}={}", o.key.name, o.value()["data"]["n"]))
        .collect();
    assert_eq!(old, ["a=\"0\"", "b=\"0\""]);
    for n in 2..100 {
        a = store.replace(key("a"), a.revision, object("a", n)).await.unwrap();
    }
    assert!(store.list_at("/configmaps", None, then).is_err());
    assert!(store.events_after("/configmaps", then).is_err());
    let now = store.revision();
    drop(store);
    let store = Store::open(&path, 20).unwrap();
    assert_eq!(store.revision(), now);
    assert!(store.events_after("/configmaps", then).is_err());
    assert_eq!(store.get(&key("a")).unwrap().value()["data"]["n"], "99");
    assert_eq!(store.events_after("/configmaps", now - 1).unwrap().0.len(), 1);
}

#[test]
fn all_histories_together_stay_within_their_budget_and_the_largest_gives_first() {
    const MIB: usize = 1 << 20;
    let mut state = State::new(1000);
    let mut revision = 0;
    let mut write = |state: &mut State, resource: &str, bytes: usize| {
        revision += 1;
        let key = Key::new(&Arc::from(resource), "default", "a");
        let mut value = object("a", revision);
        value["data"]["filler"] = "x".repeat(bytes).into();
        let event = state.apply(Arc::new(Object::encode(key, revision, value)), false);
        state.remember(event)
    };
    for _ in 0..20 {
        assert_eq!(write(&mut state, "/small", 1000), []);
    }
    let mut compacted = std::collections::BTreeSet::new();
    for _ in 0..60 {
        for resource in ["/a", "/b", "/c", "/d", "/e"] {
            compacted.extend(write(&mut state, resource, MIB / 10).into_iter().map(|(name, _)| name.to_string()));
        }
    }
    assert_eq!(compacted.into_iter().collect::<Vec<_>>(), ["/a", "/b", "/c", "/d", "/e"]);
    assert!(state.kept("/small", 1), "a small history is not given up for large ones");
    assert!(!state.kept("/a", 21));
    let kept: usize = ["/a", "/b", "/c", "/d", "/e", "/small"]
        .into_iter()
        .map(|resource| {
            let oldest = (1..=revision).find(|revision| state.kept(resource, *revision)).unwrap_or(revision);
            let events = state.events_after(resource, oldest).unwrap();
            events.iter().map(|event| event.object.json.len()).sum::<usize>()
        })
        .sum();
    assert!((8 * MIB..=16 * MIB).contains(&kept), "{kept}");
}

#[tokio::test]
async fn owners_are_indexed() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("store.db"), 100).unwrap();
    store.create(key("owner"), object("owner", 0)).await.unwrap();
    let mut child = object("child", 0);
    child["metadata"]["ownerReferences"] = json!([{"uid": "uid-owner"}]);
    let child = store.create(key("child"), child).await.unwrap();
    assert_eq!(store.dependents("uid-owner").len(), 1);
    assert!(store.by_uid("uid-owner").is_some());
    store.delete(key("child"), child.revision, child.value()).await.unwrap();
    assert!(store.dependents("uid-owner").is_empty());
}
