//! What has to be known of guests and of their hosts.
use forklift_api::Plan;
use forklift_core::machine::HostState;
use serde_json::json;

use super::{Live, items, named};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn guests_without_tools_and_hosts_that_rest() {
    let Some(live) = Live::ready(named(&["bare", "fine"])).await else { return };
    live.map(&["fine"]).await;
    live.vcenter.guest("bare", false, false, false).expect("a change");
    live.count_anew();
    live.plan("bare", &["bare"], |_| {}).await;
    let found = live.raises::<Plan>("bare", "GuestToolsIssue", "NotValid").await;
    assert!(items(&found)[0].ends_with("they are not installed"), "{found}");
    live.refuses("bare").await;
    live.plan("fine", &["fine"], |_| {}).await;
    live.accepts("fine", "GuestToolsIssue").await;

    let host = live.machine("fine").await.host;
    for (change, back, why) in [
        (
            json!({"summary.runtime.inMaintenanceMode": true}),
            json!({"summary.runtime.inMaintenanceMode": false}),
            "maintenance",
        ),
        (
            json!({"runtime.connectionState": "notResponding"}),
            json!({"runtime.connectionState": "connected"}),
            "not connected",
        ),
    ] {
        live.vcenter.set("HostSystem", &host, &change).expect("a change");
        live.knows("fine", |machine| machine.traits.host_state != HostState::Ready).await;
        let found = live.raises::<Plan>("fine", "HostNotReady", "InMaintenanceMode").await;
        assert!(items(&found)[0].contains(why), "{found}");
        live.vcenter.set("HostSystem", &host, &back).expect("a change");
        live.knows("fine", |machine| machine.traits.host_state == HostState::Ready).await;
        live.accepts("fine", "HostNotReady").await;
    }

    live.plan("silent", &["bare"], |spec| spec.preserve_static_ips = true).await;
    let found = live.raises::<Plan>("silent", "VMMissingGuestIPs", "MissingGuestInformation").await;
    assert!(items(&found)[0].ends_with("the guest tools are not installed"), "{found}");
    // switched off by its owner: nobody needs the tools then
    live.vcenter.power("bare", false).expect("a change");
    live.accepts("bare", "GuestToolsIssue").await;
}
