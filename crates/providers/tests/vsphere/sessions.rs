//! Sessions over time: kept alive, replaced when they are gone, ended when a process left them; and certificates that
//! are renewed meanwhile.

use std::time::Duration;

use forklift_providers::vsphere::examine::examine;
use forklift_providers::vsphere::vim::{Client, Endpoint, VimError};
use forklift_testkit::peers::vcenter::{Fault, Options, Vcenter};

use crate::source::provider;
use crate::{connect, counted, endpoint, start};

/// A server that forgets sessions after a second without a call.
fn forgetful() -> Option<Vcenter> {
    let more = vec!["-session-timeout=1s".to_owned()];
    Vcenter::start(Options { vms: 1, disk_size: 1 << 20, more, ..Options::default() })
}

#[tokio::test]
async fn a_session_that_is_kept_alive_is_not_forgotten() {
    let Some(vcenter) = forgetful() else { return };
    let client = connect(&vcenter).await;
    client.keep_alive_every(Duration::from_millis(100));
    // the server looks every second: it has done so several times by now
    let calls = counted(&vcenter, "it is asked for the time", |calls| calls.of("CurrentTime") >= 40).await;
    assert_eq!((calls.sessions(), calls.logins()), (1, 1));
    client.logout().await;
    let calls = vcenter.calls().expect("counters");
    assert_eq!(calls.sessions(), 0);
    drop(client);
}

#[tokio::test]
async fn a_session_that_was_forgotten_is_replaced_by_the_next_call() {
    let Some(vcenter) = forgetful() else { return };
    let client = connect(&vcenter).await;
    counted(&vcenter, "the session is forgotten", |calls| calls.sessions() == 0).await;
    let before = client.epoch();
    client.properties(&client.content().root_folder, &["name"]).await.expect("answered");
    assert!(client.epoch() > before, "logged in anew");
    assert_eq!(vcenter.calls().expect("counters").logins(), 2);
    // and where nobody calls, by what keeps it alive
    counted(&vcenter, "the session is forgotten", |calls| calls.sessions() == 0).await;
    client.keep_alive_every(Duration::from_millis(100));
    counted(&vcenter, "a new session", |calls| calls.logins() == 3 && calls.sessions() == 1).await;
    // credentials that were changed are not tried again and again
    vcenter.fault(&Fault::Password("another".into())).expect("changed");
    vcenter.fault(&Fault::ExpireSessions).expect("expired");
    counted(&vcenter, "the refusal", |calls| calls.invalid_logins() == 1).await;
    let refused = client.properties(&client.content().root_folder, &["name"]).await.expect_err("refused");
    assert!(matches!(refused, VimError::InvalidLogin(_)), "{refused}");
    assert_eq!(vcenter.calls().expect("counters").invalid_logins(), 1);
}

#[tokio::test]
async fn what_a_killed_process_left_is_ended_and_nothing_else() {
    let Some(vcenter) = start(&["web"]) else { return };
    vcenter.power("web", false).expect("off");
    let (left, client) = (connect(&vcenter).await, connect(&vcenter).await);
    let lease = left.export_vm(&crate::vm(&vcenter, "web")).await.expect("begins");
    lease.ready(Duration::from_secs(20)).await.expect("is ready");
    assert_eq!(vcenter.calls().expect("counters").leases(), 1);
    for nobody in ["", "52-none", client.session_key().as_str()] {
        assert_eq!(client.end_left_behind(nobody).await, Ok(false), "{nobody:?}");
    }
    assert_eq!(vcenter.calls().expect("counters").of("TerminateSession"), 0);
    let key = left.session_key();
    assert_eq!(client.end_left_behind(&key).await, Ok(true));
    // the VM is free at once
    counted(&vcenter, "the lease goes with its session", |calls| calls.leases() == 0 && calls.sessions() == 1).await;
    assert_eq!(client.end_left_behind(&key).await, Ok(false), "gone already");
    // without the privilege it is told, and nothing else fails
    let other = connect(&vcenter).await;
    vcenter.fault(&Fault::FailNext("TerminateSession".into(), "NoPermission".into())).expect("a rule");
    let denied = client.end_left_behind(&other.session_key()).await.expect_err("not allowed");
    assert!(denied.is_fault("NoPermission"), "{denied}");
}

#[tokio::test]
async fn a_renewed_certificate_is_taken_from_who_is_trusted_only() {
    let Some(vcenter) = start(&["web"]) else { return };
    let print = async |settings| examine(&provider(&vcenter, settings)).await.map(|found| found.fingerprint);
    assert_eq!(print(&[]).await, Ok(Some(vcenter.thumbprint().to_owned())));
    // a pin, and the authority
    let pinned = |thumbprint: &str| -> Endpoint {
        let mut endpoint = endpoint(&vcenter);
        endpoint.tls.thumbprint = Some(thumbprint.to_owned());
        endpoint
    };
    let held = connect(&vcenter).await;
    Client::connect(&pinned(vcenter.thumbprint())).await.expect("the pinned one").logout().await;
    let renewed = vcenter.renew_certificate().expect("renewed");
    assert_ne!(renewed, vcenter.thumbprint());
    vcenter.reset_calls().expect("counters");
    let refused = Client::connect(&pinned(vcenter.thumbprint())).await.expect_err("another one");
    assert!(
        matches!(&refused, VimError::Tls { hint, .. } if hint.contains("another one than the pinned")),
        "{refused}"
    );
    assert_eq!(vcenter.calls().expect("counters").of("Login"), 0, "no password is sent");
    Client::connect(&pinned(&renewed)).await.expect("the new one").logout().await;
    // whoever trusts the authority goes on, and what importers pin follows
    held.properties(&held.content().root_folder, &["name"]).await.expect("goes on");
    assert_eq!(print(&[]).await, Ok(Some(renewed)));
    // a server that is not trusted tells no fingerprint
    let mut stranger = provider(&vcenter, &[]);
    stranger.secret.insert("cacert".into(), Vec::new());
    assert!(examine(&stranger).await.is_err(), "nobody vouches for it");
}
