//! The checker finds what is planted into a good history, and nothing in the good one.

use super::checker::{Violation, check};
use super::history::{Action, Event, History, Item, Kind, Operation, Outcome, Seen, Time, Tokens, Watch};

const MAPS: &str = "configmaps";

fn tokens(main: &str) -> Tokens {
    Tokens { main: main.into(), status: String::new() }
}

fn operation(name: &str, action: Action, token: &str, times: (Time, Time), outcome: Outcome) -> Operation {
    let (invoked, returned) = times;
    Operation { resource: MAPS, name: name.into(), action, token: token.into(), invoked, returned, outcome }
}

fn event(kind: Kind, revision: u64, name: &str, token: &str) -> Event {
    Event { kind, revision, name: name.into(), uid: format!("uid-{name}"), tokens: tokens(token) }
}

/// Two objects: `a` is made, changed, read, deleted; `b` is made by a write whose answer is lost. Two watchers.
fn good() -> History {
    let events = [
        event(Kind::Added, 11, "a", "t1"),
        event(Kind::Modified, 12, "a", "t2"),
        event(Kind::Added, 13, "b", "t3"),
        event(Kind::Deleted, 14, "a", "t2"),
    ];
    let watch = || {
        let mut seen = vec![Seen::Listed { revision: 10, items: Vec::new() }];
        seen.extend(events.iter().map(|e| Seen::Event(e.clone(), 100 * e.revision)));
        seen.push(Seen::Bookmark(14));
        Watch { resource: MAPS, seen }
    };
    let item = Item { name: "a".into(), revision: 12, tokens: tokens("t2") };
    History {
        operations: vec![
            operation("a", Action::Create, "t1", (1000, 1100), Outcome::Written { revision: 11 }),
            operation("a", Action::Get, "", (1110, 1120), Outcome::Found { revision: 11, tokens: tokens("t1") }),
            operation("a", Action::Update { expected: 11 }, "t2", (1150, 1200), Outcome::Written { revision: 12 }),
            operation("", Action::List, "", (1210, 1220), Outcome::Listed { revision: 12, items: vec![item] }),
            operation("b", Action::Create, "t3", (1250, 1300), Outcome::Unknown),
            operation("a", Action::Update { expected: 11 }, "t4", (1310, 1320), Outcome::Refused),
            operation("a", Action::Delete, "", (1350, 1400), Outcome::Deleted { uid: "uid-a".into() }),
            operation("a", Action::Get, "", (1450, 1460), Outcome::Absent),
        ],
        watches: vec![watch(), watch()],
    }
}

fn events(history: &mut History, watcher: usize) -> &mut Vec<Seen> {
    &mut history.watches[watcher].seen
}

/// The kinds of violations that a change to the good history makes.
fn found(plant: impl Fn(&mut History)) -> Vec<String> {
    let mut history = good();
    plant(&mut history);
    let mut kinds: Vec<String> =
        check(&history).0.iter().map(|v| format!("{v:?}").split('(').next().unwrap().to_string()).collect();
    kinds.dedup();
    kinds
}

#[test]
fn a_good_history_is_good() {
    let (violations, counts) = check(&good());
    assert!(violations.is_empty(), "{violations:?}");
    assert_eq!((counts.acknowledged, counts.unknown, counts.unknown_made, counts.reads), (3, 1, 1, 3));
}

#[test]
fn a_lost_acknowledged_write_is_found() {
    // the update was acknowledged, and no watcher ever saw it
    let lost = found(|h| {
        for watcher in 0..2 {
            events(h, watcher).remove(2);
        }
    });
    assert!(lost.contains(&"LostWrite".to_string()), "{lost:?}");
    let undeleted = found(|h| {
        for watcher in 0..2 {
            events(h, watcher).remove(4);
        }
    });
    assert!(undeleted.contains(&"LostWrite".to_string()), "{undeleted:?}");
}

#[test]
fn a_reused_revision_is_found() {
    // after a restart the store gives 12 again, to another object
    let two = found(|h| {
        h.operations.push(operation("c", Action::Create, "t9", (1500, 1510), Outcome::Written { revision: 12 }));
    });
    assert!(two.contains(&"RevisionReused".to_string()), "{two:?}");
    let watchers = found(|h| {
        if let Seen::Event(event, _) = &mut events(h, 1)[3] {
            event.name = "c".into();
        }
    });
    assert!(watchers.contains(&"RevisionReused".to_string()), "{watchers:?}");
}

#[test]
fn a_watch_gap_is_found() {
    assert_eq!(found(|h| drop(events(h, 1).remove(2))), ["WatchGap"]);
    // a bookmark past an event that was not sent
    let passed = found(|h| {
        events(h, 1).truncate(4);
        events(h, 1).push(Seen::Bookmark(14));
    });
    assert_eq!(passed, ["WatchGap"]);
}

#[test]
fn a_watch_event_out_of_order_is_found() {
    let swapped = found(|h| events(h, 1).swap(2, 3));
    assert!(swapped.contains(&"WatchOrder".to_string()), "{swapped:?}");
}

#[test]
fn a_duplicated_event_is_found() {
    let twice = found(|h| {
        let again = events(h, 1)[2].clone();
        events(h, 1).insert(3, again);
    });
    assert_eq!(twice, ["DuplicateEvent"]);
}

#[test]
fn a_stale_read_is_found() {
    // 12 was acknowledged before the read began
    let old = Outcome::Found { revision: 11, tokens: tokens("t1") };
    let stale = found(|h| h.operations.push(operation("a", Action::Get, "", (1230, 1240), old.clone())));
    assert_eq!(stale, ["StaleRead"]);
    let gone = found(|h| h.operations.push(operation("a", Action::Get, "", (1230, 1240), Outcome::Absent)));
    // it is gone at 14, by a deletion that began after this read had ended
    assert_eq!(gone, ["StaleRead"]);
    let list =
        Outcome::Listed { revision: 11, items: vec![Item { name: "a".into(), revision: 11, tokens: tokens("t1") }] };
    let stale = found(|h| h.operations.push(operation("", Action::List, "", (1230, 1240), list.clone())));
    assert_eq!(stale, ["StaleRead"]);
}

#[test]
fn a_read_of_what_was_never_stored_is_found() {
    let dirty = Outcome::Found { revision: 12, tokens: tokens("t8") };
    let phantom = found(|h| h.operations.push(operation("a", Action::Get, "", (1230, 1240), dirty.clone())));
    assert_eq!(phantom, ["Phantom"]);
    let partial = Outcome::Listed { revision: 13, items: Vec::new() };
    let list = found(|h| h.operations.push(operation("", Action::List, "", (1330, 1340), partial.clone())));
    assert_eq!(list, ["Phantom"]);
}

#[test]
fn a_write_against_its_condition_is_found() {
    let cas = found(|h| h.operations[2].action = Action::Update { expected: 10 });
    assert_eq!(cas, ["BrokenCondition"]);
    let twice = found(|h| h.operations[2].action = Action::Create);
    assert_eq!(twice, ["BrokenCondition"]);
}

#[test]
fn a_refused_write_that_was_made_is_found() {
    assert_eq!(found(|h| h.operations[4].outcome = Outcome::Refused), ["UnwantedWrite"]);
}

#[test]
fn an_event_of_the_wrong_kind_is_found() {
    let wrong = found(|h| {
        for watcher in 0..2 {
            if let Seen::Event(event, _) = &mut events(h, watcher)[2] {
                event.kind = Kind::Added;
            }
        }
    });
    assert_eq!(wrong, ["WrongKind"]);
}

#[test]
fn a_history_that_nobody_watched_is_not_called_good() {
    let unseen = found(|h| {
        h.operations.push(operation("c", Action::Create, "t9", (1500, 1510), Outcome::Written { revision: 20 }));
    });
    assert_eq!(unseen, ["NotCovered"]);
    let hole = found(|h| {
        for watcher in 0..2 {
            let seen = events(h, watcher);
            seen.insert(3, Seen::Gone);
            seen.insert(4, Seen::Listed { revision: 13, items: Vec::new() });
            seen.remove(5);
        }
    });
    assert!(hole.contains(&"NotCovered".to_string()), "{hole:?}");
}

#[test]
fn watchers_may_list_again_after_410() {
    let history = {
        let mut history = good();
        let items = vec![
            Item { name: "a".into(), revision: 12, tokens: tokens("t2") },
            Item { name: "b".into(), revision: 13, tokens: tokens("t3") },
        ];
        let seen = events(&mut history, 1);
        seen.splice(2..4, [Seen::Gone, Seen::Listed { revision: 13, items }]);
        history
    };
    assert_eq!(check(&history).0, [] as [Violation; 0]);
}
