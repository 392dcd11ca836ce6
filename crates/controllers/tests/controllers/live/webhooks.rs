//! Credentials are tried at the vCenter before they are stored, and only when they are new.
use forklift_api::Provider;
use forklift_testkit::peers::vcenter::Fault;
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::json;

use super::{Live, named};
use crate::cluster::reference;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_new_credentials_are_tried() {
    let Some(live) = Live::start(named(&["web"])).await else { return };
    live.cluster.run_webhooks().await;
    let secrets = live.cluster.api::<Secret>();
    let secret = |password: &str| -> Secret {
        let labels = json!({"createdForResourceType": "providers", "createdForProviderType": "vsphere"});
        let data = json!({"url": live.vcenter.url(), "user": live.vcenter.user(), "password": password,
            "cacert": live.vcenter.ca()});
        serde_json::from_value(json!({"metadata": {"name": "vc", "labels": labels}, "stringData": data}))
            .expect("a secret")
    };
    let logins = || {
        let calls = live.vcenter.calls().expect("counters");
        (calls.logins(), calls.invalid_logins())
    };
    let refused = secrets.create(&PostParams::default(), &secret("wrong")).await;
    assert!(matches!(&refused, Err(kube::Error::Api(status)) if status.code == 403), "{refused:?}");
    assert_eq!(logins(), (0, 1));
    assert!(secrets.get_opt("vc").await.expect("an answer").is_none(), "it is not stored");
    secrets.create(&PostParams::default(), &secret(live.vcenter.password())).await.expect("is stored");
    assert_eq!(logins(), (1, 1));

    // as `create provider` goes on: the provider, then the secret's owner
    let mut provider = live.provider("src");
    provider.spec.secret = reference("vc");
    let made = live.cluster.create(provider).await;
    let owner =
        json!([{"apiVersion": "forklift.konveyor.io/v1beta1", "kind": "Provider", "name": "src", "uid": made.uid()}]);
    let owner = Patch::Merge(json!({"metadata": {"ownerReferences": owner}}));
    secrets.patch("vc", &PatchParams::default(), &owner).await.expect("is changed");
    live.raises::<Provider>("src", "Ready", "").await;
    assert_eq!(logins(), (3, 1), "the look, and the session of the inventory");

    // the password is changed at the source: the secret still gives up its owner, and takes none that is wrong
    live.vcenter.fault(&Fault::Password("new".into())).expect("a switch");
    let nobody = Patch::Merge(json!({"metadata": {"ownerReferences": null}}));
    secrets.patch("vc", &PatchParams::default(), &nobody).await.expect("is changed");
    assert_eq!(logins(), (3, 1));
    let typo = Patch::Merge(json!({"stringData": {"password": "nwe"}}));
    let refused = secrets.patch("vc", &PatchParams::default(), &typo).await;
    assert!(matches!(&refused, Err(kube::Error::Api(status)) if status.code == 403), "{refused:?}");
    assert_eq!(logins(), (3, 2));
    let new = Patch::Merge(json!({"stringData": {"password": "new"}}));
    secrets.patch("vc", &PatchParams::default(), &new).await.expect("is changed");
    live.cluster.eventually("a new session", || async { logins() == (6, 2) }).await;
    live.raises::<Provider>("src", "Ready", "").await;
}
