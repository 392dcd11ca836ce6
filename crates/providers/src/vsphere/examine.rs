//! Can this vCenter or ESXi host be used, and is the account allowed to do what migrations do?
//!
//! ```text
//! settings, secret ─► log in ─► vCenter or ESXi, as the setting says ─► privileges (vCenter) ─► thumbprint ─► log out
//! ```
//! Missing privileges are a warning: whoever migrates powered-off VMs without snapshots does without some of them.
use std::fmt::Write as _;
use std::time::Duration;

use async_trait::async_trait;
use forklift_api::condition::{reasons, types};
use forklift_api::provider::{secret_key, setting};
use forklift_api::settings::{BytesPerSecond, parse_bool};
use forklift_api::{Category, Condition, Provider, vddk};
use forklift_inventory::Record;
use serde_json::Value;

use super::source::duration;
use super::vim::{self, Client, VimError};
use crate::{ConnectError, Endpoint, Examination, HostEndpoint, HostError, HostFacts, Hosts};

/// How long a look holds; privileges are looked at again after that.
const HOLDS: Duration = Duration::from_secs(600);
/// How long the server may take to show its certificate.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// What an account needs on a vCenter's root folder, with propagation: what for, and the ids of the privileges.
pub const PRIVILEGES: &[(&str, &[&str])] = &[
    ("Snapshots", &["VirtualMachine.State.CreateSnapshot", "VirtualMachine.State.RemoveSnapshot"]),
    ("Power", &["VirtualMachine.Interact.PowerOn", "VirtualMachine.Interact.PowerOff"]),
    (
        "Disks and their changes",
        &[
            "VirtualMachine.Provisioning.DiskRandomRead",
            "VirtualMachine.Provisioning.GetVmFiles",
            "VirtualMachine.Config.ChangeTracking",
        ],
    ),
    ("Files on datastores", &["Datastore.Browse", "Datastore.FileManagement"]),
    // not in upstream's list: there VDDK reads all disks
    ("Disks on vSAN and vVols without VDDK", &["VApp.Export"]),
];

/// Returns what is wrong with a provider's settings and secret.
pub fn check(endpoint: &Endpoint) -> Vec<Condition> {
    let mut found: Vec<Condition> = check_settings(&endpoint.provider).into_iter().collect();
    found.extend(check_secret(endpoint));
    if found.is_empty()
        && let Err(error) = vim::Endpoint::from_secret(&endpoint.provider.spec.url, &endpoint.secret)
    {
        found.push(
            Condition::new(types::URL_NOT_VALID, Category::Critical, format!("{error}.")).reason(reasons::MALFORMED),
        );
    }
    found
}

fn check_settings(provider: &Provider) -> Option<Condition> {
    let one_of = |key: &str, values: &[&str]| {
        let value = provider.setting(key).filter(|value| !values.contains(value))?;
        Some(format!("{key}: {value:?} is none of {}", values.join(", ")))
    };
    let endpoint = one_of(setting::SDK_ENDPOINT, &[setting::VCENTER, setting::ESXI]);
    let critical = endpoint.is_some();
    let rate = |key: &str| {
        let value = provider.setting(key).filter(|value| BytesPerSecond::parse(value).is_none())?;
        Some(format!("{key}: {value:?} is not a number of bytes a second, e.g. 104857600 or 100Mi"))
    };
    let items: Vec<String> = [
        endpoint,
        one_of(setting::ESXI_CLONE_METHOD, &[setting::CLONE_VIB, setting::CLONE_SSH]),
        one_of(
            setting::USE_VDDK_AIO_OPTIMIZATION,
            &["true", "false", "True", "False", "TRUE", "FALSE", "1", "0", "t", "f"],
        ),
        one_of(setting::TRANSFER_METHOD, &["nfc", "ranges", "vddk"]),
        vddk::config(provider).err(),
        vddk::Transports::of(provider).err(),
        provider
            .setting(setting::HARD_POWER_OFF_AFTER)
            .and_then(|value| duration(value).err())
            .map(|reason| format!("{}: {reason}", setting::HARD_POWER_OFF_AFTER)),
        rate(setting::BANDWIDTH_LIMIT),
        rate(setting::HOST_BANDWIDTH_LIMIT),
        rate(setting::DATASTORE_BANDWIDTH_LIMIT),
    ]
    .into_iter()
    .flatten()
    .collect();
    if items.is_empty() {
        return None;
    }
    let (category, message) = if critical {
        (Category::Critical, "A setting of the provider is not valid.")
    } else {
        (Category::Warn, "A setting of the provider is not valid and does not count.")
    };
    Some(Condition::new(types::SETTINGS_NOT_VALID, category, message).reason(reasons::NOT_VALID).items(items))
}

fn check_secret(endpoint: &Endpoint) -> Option<Condition> {
    let wrong =
        |message: &str| Condition::new(types::SECRET_NOT_VALID, Category::Critical, message).reason(reasons::DATA_ERR);
    let given = |key: &str| endpoint.secret.get(key).is_some_and(|value| !value.trim_ascii().is_empty());
    let told = endpoint.secret_text(secret_key::INSECURE).filter(|told| !told.is_empty()).unwrap_or("false");
    let Some(insecure) = parse_bool(told) else {
        let message = format!("`{}` of the secret is {told:?}, expected true or false.", secret_key::INSECURE);
        return Some(wrong(&message));
    };
    let mut missing: Vec<&str> =
        [secret_key::USER, secret_key::PASSWORD].into_iter().filter(|key| !given(key)).collect();
    let trusted = given(secret_key::CA) || given(secret_key::CA_CERT) || given("thumbprint");
    if !insecure && !trusted && !endpoint.provider.spec.url.trim().starts_with("http://") {
        missing.push(secret_key::CA);
    }
    if missing.is_empty() {
        return None;
    }
    Some(
        wrong("The provider's secret lacks required data.")
            .items(missing)
            .suggestion("`ca.crt` may be left out when `insecureSkipVerify` is true."),
    )
}

/// Logs in, looks around, and logs out.
pub async fn examine(endpoint: &Endpoint) -> Result<Examination, ConnectError> {
    let client = connect(endpoint).await?;
    let result = look(&client).await;
    client.logout().await;
    result
}

/// Logs in to a provider's server; it has to be what the setting says.
pub async fn connect(endpoint: &Endpoint) -> Result<Client, ConnectError> {
    let parameters = vim::Endpoint::from_secret(&endpoint.provider.spec.url, &endpoint.secret).map_err(refusal)?;
    let client = Client::connect(&parameters).await.map_err(refusal)?;
    if let Some(mismatch) = mismatch(&endpoint.provider, client.about().is_vcenter()) {
        client.logout().await;
        return Err(ConnectError::Failed(mismatch));
    }
    Ok(client)
}

fn mismatch(provider: &Provider, is_vcenter: bool) -> Option<String> {
    let wanted = provider.setting(setting::SDK_ENDPOINT).unwrap_or(setting::VCENTER);
    let found = if is_vcenter { setting::VCENTER } else { setting::ESXI };
    (wanted != found).then(|| {
        let what = if is_vcenter { "a vCenter" } else { "an ESXi host" };
        format!(
            "{} is {what}, but the setting {} is {wanted}: set it to {found}, or correct the URL",
            provider.spec.url,
            setting::SDK_ENDPOINT
        )
    })
}

async fn look(client: &Client) -> Result<Examination, ConnectError> {
    let mut found = Examination { holds: HOLDS, ..Examination::default() };
    if client.about().is_vcenter() {
        match missing_privileges(client).await {
            Ok(missing) => found.conditions.extend(insufficient(&missing)),
            // an account that may not even ask is told nothing worse than that
            Err(error) => tracing::warn!(host = client.endpoint().host(), %error, "privileges cannot be looked up"),
        }
    }
    // a loopback address may do without TLS
    if client.endpoint().url.scheme() == "https" {
        // importers pin it: it is that of a server that the secret's own rules trust, and not of whoever answers
        let parameters = client.endpoint();
        let leaf = vim::trusted_certificate(&parameters.url, &parameters.tls, HANDSHAKE).await.map_err(refusal)?;
        found.fingerprint = Some(vim::thumbprints(&leaf).sha1);
    }
    Ok(found)
}

/// Sorts a client's error into what the caller does about it.
pub fn refusal(error: VimError) -> ConnectError {
    let refused = matches!(error, VimError::InvalidLogin(_)) || error.is_fault("PasswordExpired");
    if refused { ConnectError::Auth(error.to_string()) } else { ConnectError::Failed(error.to_string()) }
}

/// Returns the privileges that the account lacks on the root folder, of those that this vCenter knows.
async fn missing_privileges(client: &Client) -> Result<Vec<&'static str>, VimError> {
    let wanted: Vec<&'static str> = PRIVILEGES.iter().flat_map(|(_, ids)| ids.iter().copied()).collect();
    let missing = client.missing_privileges(&client.content().root_folder, &wanted).await?;
    Ok(wanted.into_iter().filter(|id| missing.iter().any(|missing| missing == id)).collect())
}

/// Returns the condition that lists missing privileges.
pub fn insufficient(missing: &[&str]) -> Option<Condition> {
    if missing.is_empty() {
        return None;
    }
    let mut suggestion = String::from(
        "Give the account a role with these privileges on the vCenter's root folder, propagated to its children:\n",
    );
    for (what, ids) in PRIVILEGES {
        let lacking: Vec<&str> = ids.iter().copied().filter(|id| missing.contains(id)).collect();
        if !lacking.is_empty() {
            let _ = writeln!(suggestion, "{what}: {}", lacking.join(", "));
        }
    }
    let message = format!("The account lacks {} privilege(s) that migrations need.", missing.len());
    Some(
        Condition::new(types::INSUFFICIENT_PRIVILEGES, Category::Warn, message)
            .reason(reasons::PRIVILEGES_NOT_GRANTED)
            .suggestion(suggestion)
            .items(missing.iter().copied()),
    )
}

/// ESXi hosts that are reached directly.
pub struct Esxi;

#[async_trait]
impl Hosts for Esxi {
    fn collection(&self) -> &'static str {
        "hosts"
    }

    fn facts(&self, record: &Record) -> HostFacts {
        let known = record.pick(&["inMaintenance", "status", "thumbprint"]);
        let text = |key: &str| known.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        HostFacts {
            id: record.id.to_string(),
            name: record.name.to_string(),
            in_maintenance: known.get("inMaintenance").and_then(Value::as_bool).unwrap_or(false),
            status: text("status"),
            thumbprint: text("thumbprint"),
        }
    }

    async fn test(&self, host: &HostEndpoint) -> Result<(), HostError> {
        let parameters = host_parameters(host).map_err(|error| HostError::Failed(error.to_string()))?;
        let client = Client::connect(&parameters).await.map_err(|error| match error {
            VimError::Tls { .. } => HostError::Certificate(error.to_string()),
            VimError::InvalidLogin(_) => HostError::Auth(error.to_string()),
            _ => HostError::Failed(error.to_string()),
        })?;
        let vcenter = client.about().is_vcenter();
        client.logout().await;
        if vcenter {
            return Err(HostError::Failed(format!("{} is a vCenter, not an ESXi host", host.url)));
        }
        Ok(())
    }
}

/// Returns how a host is connected to: by the authority in its secret; else, unless the secret says that its certificate
/// does not matter, it must show the one that the inventory knows.
pub fn host_parameters(host: &HostEndpoint) -> Result<vim::Endpoint, VimError> {
    let mut parameters = vim::Endpoint::from_secret(&host.url, &host.secret)?;
    let tls = &mut parameters.tls;
    if !tls.insecure && tls.ca_pem.is_none() && tls.thumbprint.is_none() && !host.thumbprint.is_empty() {
        tls.thumbprint = Some(host.thumbprint.clone());
    }
    Ok(parameters)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use super::*;
    use expect_test::{Expect, expect};
    use forklift_api::provider::ProviderSpec;

    fn secret_of(pairs: &[(&str, &str)]) -> BTreeMap<String, Vec<u8>> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), value.as_bytes().to_vec())).collect()
    }

    fn endpoint(settings: &[(&str, &str)], secret: &[(&str, &str)]) -> Endpoint {
        let settings = settings.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let url = "https://vc.example/sdk".to_owned();
        let spec = ProviderSpec { type_: "vsphere".into(), url, settings, ..ProviderSpec::default() };
        Endpoint {
            provider: Arc::new(Provider::new("vc", spec)),
            secret: secret_of(secret),
            server: None,
            hosts: Default::default(),
        }
    }

    fn finds(settings: &[(&str, &str)], secret: &[(&str, &str)], expected: Expect) {
        let lines: Vec<String> = check(&endpoint(settings, secret))
            .into_iter()
            .map(|c| format!("{} {} {} {:?}: {}", c.category, c.type_, c.reason, c.items, c.message))
            .collect();
        expected.assert_eq(&lines.join("\n"));
    }

    const GOOD: &[(&str, &str)] = &[("user", "u"), ("password", "p"), ("insecureSkipVerify", "true")];

    #[test]
    fn settings() {
        finds(&[], GOOD, expect![[""]]);
        finds(&[("sdkEndpoint", "esxi"), ("esxiCloneMethod", "ssh"), ("bandwidthLimit", "10")], GOOD, expect![[""]]);
        finds(
            &[("bandwidthLimit", "10Mi"), ("hostBandwidthLimit", "1Gi"), ("datastoreBandwidthLimit", "0")],
            GOOD,
            expect![[""]],
        );
        finds(
            &[("sdkEndpoint", "vcentre"), ("useVddkAioOptimization", "maybe")],
            GOOD,
            expect![[
                r#"Critical SettingsNotValid NotValid ["sdkEndpoint: \"vcentre\" is none of vcenter, esxi", "useVddkAioOptimization: \"maybe\" is none of true, false, True, False, TRUE, FALSE, 1, 0, t, f"]: A setting of the provider is not valid."#
            ]],
        );
        finds(
            &[("vddkConfig", "a=1\nlevel four"), ("vddkTransports", "san:pigeon")],
            GOOD,
            expect![[
                r#"Warn SettingsNotValid NotValid ["vddkConfig: line 2, \"level four\", is not `key=value`", "vddkTransports: \"pigeon\" is none of nbdssl, nbd, san, hotadd"]: A setting of the provider is not valid and does not count."#
            ]],
        );
        finds(
            &[("bandwidthLimit", "fast"), ("hostBandwidthLimit", "10 MB/s"), ("datastoreBandwidthLimit", "-1")],
            GOOD,
            expect![[
                r#"Warn SettingsNotValid NotValid ["bandwidthLimit: \"fast\" is not a number of bytes a second, e.g. 104857600 or 100Mi", "hostBandwidthLimit: \"10 MB/s\" is not a number of bytes a second, e.g. 104857600 or 100Mi", "datastoreBandwidthLimit: \"-1\" is not a number of bytes a second, e.g. 104857600 or 100Mi"]: A setting of the provider is not valid and does not count."#
            ]],
        );
    }

    #[test]
    fn secrets() {
        finds(
            &[],
            &[],
            expect![[
                r#"Critical SecretNotValid DataErr ["user", "password", "ca.crt"]: The provider's secret lacks required data."#
            ]],
        );
        finds(&[], &[("user", "u"), ("password", "p"), ("cacert", "PEM")], expect![[""]]);
        finds(
            &[],
            &[("user", "u"), ("password", "p"), ("insecureSkipVerify", "yes")],
            expect![[
                r#"Critical SecretNotValid DataErr []: `insecureSkipVerify` of the secret is "yes", expected true or false."#
            ]],
        );
    }

    #[test]
    fn an_address_that_gives_the_password_away_is_refused() {
        let mut endpoint = endpoint(&[], GOOD);
        Arc::make_mut(&mut endpoint.provider).spec.url = "http://vc.example/sdk".into();
        let found = check(&endpoint);
        assert_eq!(
            found.iter().map(|c| (c.type_.as_str(), c.reason.as_str())).collect::<Vec<_>>(),
            [("UrlNotValid", "Malformed")]
        );
    }

    #[test]
    fn the_setting_and_the_server_have_to_agree() {
        let esxi = endpoint(&[("sdkEndpoint", "esxi")], GOOD).provider;
        assert_eq!(mismatch(&esxi, false), None);
        assert_eq!(mismatch(&endpoint(&[], GOOD).provider, true), None);
        let expected = expect![
            "https://vc.example/sdk is a vCenter, but the setting sdkEndpoint is esxi: set it to vcenter, or correct the URL"
        ];
        expected.assert_eq(&mismatch(&esxi, true).unwrap_or_default());
        assert!(mismatch(&endpoint(&[], GOOD).provider, false).is_some_and(|text| text.contains("is an ESXi host")));
    }

    #[test]
    fn missing_privileges_are_listed_by_what_they_are_for() {
        assert!(insufficient(&[]).is_none());
        let condition = insufficient(&["Datastore.Browse"]).unwrap_or_else(|| panic!("something is missing"));
        assert_eq!(
            (condition.reason.as_str(), condition.items.as_slice()),
            ("PrivilegesNotGranted", &["Datastore.Browse".to_owned()][..])
        );
        expect![[r"
            Give the account a role with these privileges on the vCenter's root folder, propagated to its children:
            Files on datastores: Datastore.Browse
        "]]
        .assert_eq(&condition.suggestion);
    }

    #[test]
    fn a_host_is_recognised_by_what_the_inventory_knows() {
        let host = |secret: &[(&str, &str)]| {
            let secret = secret_of(&[secret, &[("user", "root"), ("password", "p")]].concat());
            let host = HostEndpoint {
                id: "host-1".into(),
                url: "https://10.0.0.7/sdk".into(),
                secret,
                thumbprint: "AA".into(),
                secret_name: "esxi".into(),
            };
            host_parameters(&host).map(|parameters| parameters.tls.thumbprint)
        };
        assert_eq!(host(&[]), Ok(Some("AA".to_owned())));
        assert_eq!(host(&[("ca.crt", "PEM")]), Ok(None));
        assert_eq!(host(&[("insecureSkipVerify", "true")]), Ok(None));
    }
}
