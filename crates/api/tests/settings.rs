//! Settings are read from the environment, and agree with the ForkliftController.

use std::collections::BTreeMap;

use expect_test::expect;
use forklift_api::settings::Arguments;
use forklift_api::{ForkliftController, Settings, crds};

fn read(variables: &[(&str, &str)]) -> Result<Settings, String> {
    let variables: BTreeMap<&str, &str> = variables.iter().copied().collect();
    Settings::read(|name| variables.get(name).map(|&value| value.to_owned())).map_err(|error| error.to_string())
}

#[test]
fn unset_and_empty_variables_leave_the_default() {
    assert_eq!(read(&[]), Ok(Settings::default()));
    assert_eq!(read(&[("MAX_VM_INFLIGHT", "")]), Ok(Settings::default()));
    assert_eq!(Settings::default().max_vm_inflight.get(), 20);
    assert!(Settings::default().feature_copy_offload);
}

#[test]
fn values_are_read_by_their_kind() {
    let settings = read(&[
        ("MAX_VM_INFLIGHT", "5"),
        ("FEATURE_COPY_OFFLOAD", "False"),
        ("VIRT_V2V_EXTRA_ARGS", r#"["--mac", "a b"]"#),
        ("VIRT_V2V_INSPECTOR_EXTRA_ARGS", "-v  -x"),
    ])
    .expect("settings");
    assert_eq!(settings.max_vm_inflight.get(), 5);
    assert!(!settings.feature_copy_offload);
    assert_eq!(settings.virt_v2v_extra_args, Arguments(vec!["--mac".to_owned(), "a b".to_owned()]));
    assert_eq!(settings.virt_v2v_inspector_extra_args, Arguments(vec!["-v".to_owned(), "-x".to_owned()]));
    assert_eq!(
        settings.to_env().iter().map(|(name, _)| *name).collect::<Vec<_>>(),
        ["MAX_VM_INFLIGHT", "FEATURE_COPY_OFFLOAD", "VIRT_V2V_EXTRA_ARGS", "VIRT_V2V_INSPECTOR_EXTRA_ARGS"]
    );
    let env = settings.to_env();
    let again = Settings::read(|name| env.iter().find(|(known, _)| *known == name).map(|(_, value)| value.clone()));
    assert_eq!(again, Ok(settings));
}

#[test]
fn a_wrong_value_is_named() {
    let fault = |name, value| read(&[(name, value)]).expect_err("a fault");
    expect![[r#"MAX_VM_INFLIGHT="0" is not a whole number, 1 or more"#]].assert_eq(&fault("MAX_VM_INFLIGHT", "0"));
    expect![[r#"FEATURE_COPY_OFFLOAD="yes" is not true or false"#]].assert_eq(&fault("FEATURE_COPY_OFFLOAD", "yes"));
    expect![[r#"FILESYSTEM_OVERHEAD="-1" is not a whole number, 0 or more"#]]
        .assert_eq(&fault("FILESYSTEM_OVERHEAD", "-1"));
}

#[test]
fn defaults_are_those_of_the_forklift_controller() {
    let crd = crds().into_iter().find(|crd| crd.spec.names.kind == "ForkliftController").expect("the kind");
    let schema = serde_json::to_value(&crd.spec.versions[0].schema).expect("serialises");
    let fields = &schema["openAPIV3Schema"]["properties"]["spec"]["properties"];
    let mut differing = Vec::new();
    for setting in Settings::describe().iter().filter(|setting| setting.key != "-") {
        let field = &fields[setting.key];
        assert!(!field.is_null(), "{} is no key of the ForkliftController", setting.key);
        match &field["default"] {
            serde_json::Value::Null => {}
            serde_json::Value::String(text) if *text == setting.default => {}
            other if other.to_string() == setting.default => {}
            other => differing.push(format!("{} {} {other}", setting.key, setting.default)),
        }
    }
    assert!(differing.is_empty(), "{differing:?}");
}

#[test]
fn what_a_controller_object_says_can_be_listed() {
    let object: ForkliftController = serde_saphyr::from_str(
        "{apiVersion: forklift.konveyor.io/v1beta1, kind: ForkliftController, metadata: {name: f},
          spec: {controller_max_vm_inflight: 5, feature_ui_plugin: 'false'}}",
    )
    .expect("an object");
    let said: Vec<String> = object.spec.values().iter().map(|(key, value)| format!("{key}={value}")).collect();
    assert_eq!(said, ["controller_max_vm_inflight=5", "feature_ui_plugin=false"]);
}
