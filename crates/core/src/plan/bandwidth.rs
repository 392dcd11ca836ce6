//! Bandwidth that importers share: one limit for all, one for each ESXi host, one for each datastore.
//!
//! ```text
//! all ══╦══ host A ══╦══ datastore 1 ── importer 1     every importer's rate rises until a limit above it is used up;
//!       ║            ╚══ datastore 2 ── importer 2     what one cannot use, the others get (max-min fairness)
//!       ╚══ host B ───── datastore 1 ── importer 3
//! ```
//!
//! The shares are worked out anew whenever an importer comes or goes, so that nobody has to be asked: an importer only
//! reads the file with its share.
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Limits that importers share, bytes a second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Limits {
    /// Of all importers.
    pub all: Option<u64>,
    /// Of the importers that read from one host.
    pub host: Option<u64>,
    /// Of the importers that read from one datastore.
    pub datastore: Option<u64>,
}

impl Limits {
    /// Returns whether nothing is limited.
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }
}

/// An importer that runs, or is about to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Transfer {
    /// UID of the provider.
    pub provider: String,
    /// Id of the host that the bytes come from; empty where there is none.
    pub host: String,
    /// Name of the datastore that they come from; empty where there is none.
    pub datastore: String,
    /// What this importer alone may read, bytes a second.
    pub own: Option<u64>,
    /// The limits that it shares with others.
    pub limits: Limits,
}

/// What shares one limit.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Group {
    All,
    Host(String, String),
    Datastore(String, String),
    One(usize),
}

/// A limit and who shares it.
#[derive(Debug)]
struct Shared {
    limit: u64,
    members: Vec<usize>,
}

/// Returns the share of each importer, bytes a second; none for those that nothing limits.
pub fn shares(transfers: &[Transfer]) -> Vec<Option<u64>> {
    let mut groups: BTreeMap<Group, Shared> = BTreeMap::new();
    for (index, transfer) in transfers.iter().enumerate() {
        let of = |kind: fn(String, String) -> Group, name: &String| {
            (!name.is_empty()).then(|| kind(transfer.provider.clone(), name.clone()))
        };
        let limits = [
            (Some(Group::All), transfer.limits.all),
            (of(Group::Host, &transfer.host), transfer.limits.host),
            (of(Group::Datastore, &transfer.datastore), transfer.limits.datastore),
            (Some(Group::One(index)), transfer.own),
        ];
        for (group, limit) in limits {
            let (Some(group), Some(limit)) = (group, limit) else { continue };
            let shared = groups.entry(group).or_insert(Shared { limit, members: Vec::new() });
            // the lower one, should two disagree
            shared.limit = shared.limit.min(limit);
            shared.members.push(index);
        }
    }
    let mut rates: Vec<Option<u64>> = vec![None; transfers.len()];
    loop {
        let rate = |index: &usize| rates.get(*index).copied().flatten();
        let level = |shared: &Shared| {
            let open = shared.members.iter().filter(|index| rate(index).is_none()).count() as u64;
            let used: u64 = shared.members.iter().filter_map(rate).sum();
            shared.limit.saturating_sub(used).checked_div(open)
        };
        // the limit that is used up first holds its importers; the others go on rising
        let Some((level, members)) = groups
            .values()
            .filter_map(|shared| Some((level(shared)?, &shared.members)))
            .min_by_key(|(level, _)| *level)
        else {
            return rates;
        };
        let open: Vec<usize> = members.iter().copied().filter(|index| rate(index).is_none()).collect();
        for index in open {
            if let Some(slot) = rates.get_mut(index) {
                // a limit below one byte for each is no reason to stop for ever
                *slot = Some(level.max(1));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn transfer(host: &str, datastore: &str, limits: Limits) -> Transfer {
        Transfer { provider: "p".into(), host: host.into(), datastore: datastore.into(), own: None, limits }
    }

    #[test]
    fn what_one_cannot_use_the_others_get() {
        let limits = Limits { all: Some(100), host: Some(60), datastore: None };
        let of = |transfers: &[Transfer]| shares(transfers);
        assert_eq!(of(&[transfer("a", "1", limits)]), [Some(60)], "one has its host's");
        assert_eq!(of(&[transfer("a", "1", limits), transfer("a", "2", limits)]), [Some(30), Some(30)]);
        let three = [transfer("a", "1", limits), transfer("a", "2", limits), transfer("b", "1", limits)];
        assert_eq!(of(&three), [Some(30), Some(30), Some(40)]);
        let mut slow = three.clone();
        slow[0].own = Some(10);
        assert_eq!(of(&slow), [Some(10), Some(45), Some(45)], "what its own limit leaves");
        assert_eq!(of(&[transfer("a", "1", Limits::default())]), [None]);
        assert_eq!(of(&[transfer("", "", Limits { host: Some(1), ..Limits::default() })]), [None], "no hosts");
        let stores = Limits { datastore: Some(50), ..Limits::default() };
        let two = [transfer("a", "1", stores), transfer("b", "1", stores), transfer("b", "2", stores)];
        assert_eq!(of(&two), [Some(25), Some(25), Some(50)], "hosts share a datastore");
    }

    #[test]
    fn no_limit_is_exceeded_and_none_is_left_unused() {
        let mut state = 7u64;
        let mut below = |n: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % n
        };
        for _ in 0..2000 {
            let mut limit = |most: u64| Some(below(most) + 100).filter(|limit| limit % 3 != 0);
            let limits = Limits { all: limit(10_000), host: limit(4_000), datastore: limit(4_000) };
            let count = below(12) as usize;
            let all: Vec<Transfer> = (0..count)
                .map(|_| {
                    let own = Some(below(900) + 20).filter(|own| own % 2 == 0);
                    Transfer { own, ..transfer(&below(3).to_string(), &below(3).to_string(), limits) }
                })
                .collect();
            let rates = shares(&all);
            let sum = |is: &dyn Fn(&Transfer) -> bool| -> u64 {
                all.iter().zip(&rates).filter(|(t, _)| is(t)).map(|(_, rate)| rate.unwrap_or(0)).sum()
            };
            for (transfer, rate) in all.iter().zip(&rates) {
                let held = [
                    (limits.all, sum(&|_| true)),
                    (limits.host, sum(&|t| t.host == transfer.host)),
                    (limits.datastore, sum(&|t| t.datastore == transfer.datastore)),
                    (transfer.own, rate.unwrap_or(0)),
                ];
                assert_eq!(rate.is_some(), held.iter().any(|(limit, _)| limit.is_some()));
                assert!(held.iter().all(|(limit, used)| limit.is_none_or(|limit| *used <= limit)), "{all:?} {rates:?}");
                // something holds it: less than a byte for each member is left there
                let full = |(limit, used): &(Option<u64>, u64)| limit.is_some_and(|limit| limit - used < count as u64);
                assert!(rate.is_none() || held.iter().any(full), "{all:?} {rates:?}");
            }
        }
    }
}
