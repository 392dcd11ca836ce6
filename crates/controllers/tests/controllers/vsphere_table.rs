//! Every condition and reason of vSphere's providers and hosts is raised by a test that names it.
//!
//! The tests of this crate name what they raise as `raises::<Kind>(object, "Type", "Reason")`; those that need a vCenter
//! (simulated) name it the same way in `tests/e2e`.
use forklift_api::condition::vsphere;

const TESTS: &[&str] = &[include_str!("providers.rs"), include_str!("hosts.rs"), include_str!("plans.rs")];

fn named(kind: &str, type_: &str, reason: &str) -> bool {
    let pair = format!("\"{type_}\",\"{reason}\"");
    TESTS.iter().any(|text| {
        let text: String = text.chars().filter(|c| !c.is_whitespace()).collect();
        text.split(&format!("raises::<{kind}>(")).skip(1).any(|call| {
            let call = call.split_once(')').map_or(call, |(call, _)| call);
            call.contains(&pair)
        })
    })
}

#[test]
fn every_condition_of_a_vsphere_provider_and_its_hosts_has_a_test() {
    let mut missing = Vec::new();
    for (kind, table) in [("Provider", vsphere::PROVIDER), ("Host", vsphere::HOST)] {
        for (type_, reasons) in table {
            missing.extend(reasons.iter().filter(|r| !named(kind, type_, r)).map(|r| format!("{kind} {type_} {r:?}")));
        }
    }
    assert!(missing.is_empty(), "no test raises:\n{}", missing.join("\n"));
}
