//! The plan, resolved: references to providers, maps, hooks and storage classes become the values that core decides on.
use std::collections::BTreeMap;
use std::sync::Arc;

use forklift_api::conversion::ConversionPhase;
use forklift_api::map::DestinationNetworkType;
use forklift_api::plan::{MigrationType, PlanVM, TargetPowerState};
use forklift_api::step::{POST_HOOK, PRE_HOOK};
use forklift_api::{Migration, NetworkMap, Plan, Provider, ProviderType, Ref, Settings, StorageMap};
use forklift_core::build::ova_server::parse_url;
use forklift_core::machine::ResourceRef;
use forklift_core::plan::world::{
    HookSpec, NetworkDestination, NetworkPair, PlanOptions, ProviderFacts, StorageClassFacts, StoragePair, StoreFacts,
    TargetPower,
};
use forklift_core::plan::{MigrationKind, PlanFacts, PlanVm, world};
use forklift_core::source::Capabilities;
use k8s_openapi::api::core::v1::Namespace;
use kube::ResourceExt;
use kube::runtime::reflector::ObjectRef;

use super::{bandwidth, vddk};
use crate::caches::named;
use crate::context::Context;
use crate::hook::decoded_playbook;
use crate::ports::{Found, Thing};

/// The annotation that marks the default storage class.
const DEFAULT_CLASS: &str = "storageclass.kubernetes.io/is-default-class";
/// The label of namespaces with a primary user-defined network.
const PRIMARY_UDN: &str = "k8s.ovn.org/primary-user-defined-network";

/// The objects that a plan names, as far as they exist.
#[derive(Clone, Default)]
pub struct Named {
    /// Source provider.
    pub source: Option<Arc<Provider>>,
    /// Destination provider.
    pub destination: Option<Arc<Provider>>,
    /// Network map.
    pub network_map: Option<Arc<NetworkMap>>,
    /// Storage map.
    pub storage_map: Option<Arc<StorageMap>>,
}

impl Named {
    /// Looks them up.
    pub fn of(context: &Context, plan: &Plan) -> Self {
        let caches = &context.caches;
        Self {
            source: caches.provider(&plan.spec.provider.source),
            destination: caches.provider(&plan.spec.provider.destination),
            network_map: named(&caches.network_maps, &plan.spec.map.network),
            storage_map: named(&caches.storage_maps, &plan.spec.map.storage),
        }
    }
}

/// Resolves the plan, for one migration of it or (for validation) for none.
pub async fn resolve(context: &Context, plan: &Plan, named: &Named, migration: Option<&Migration>) -> PlanFacts {
    let spec = &plan.spec;
    let capabilities = named
        .source
        .as_ref()
        .and_then(|source| context.providers().capabilities(source.provider_type().ok()?))
        .unwrap_or(Capabilities { conversion: true, ..Capabilities::default() });
    let mut facts = PlanFacts {
        name: plan.name_any(),
        namespace: plan.namespace().unwrap_or_default(),
        uid: plan.uid().unwrap_or_default(),
        migration_name: migration.map(ResourceExt::name_any).unwrap_or_default(),
        migration_uid: migration.and_then(ResourceExt::uid).unwrap_or_default(),
        kind: kind(spec.migration_type()),
        resume_conversion: migration.is_some_and(|migration| migration.spec.resume_conversion),
        target_namespace: spec.target_namespace.clone(),
        source: capabilities,
        source_word: named.source.as_deref().map(source_word).unwrap_or_default(),
        provider: provider_facts(named.source.as_deref()),
        destination: provider_facts(named.destination.as_deref()),
        image: context.config.settings.importer_image.clone(),
        storage_classes: storage_classes(context),
        options: options(context, plan),
        store: named.source.as_deref().and_then(store),
        bandwidth: bandwidth::own(context, named.source.as_deref()),
        limits: bandwidth::limits(context, named.source.as_deref()),
        udn: has_udn(context, &spec.target_namespace),
        precopy_seconds: precopy_seconds(&context.config.settings),
        worker_retries: u32::try_from(context.config.settings.importer_retry.get()).unwrap_or(3),
        ..PlanFacts::default()
    };
    let image = named.source.as_deref().and_then(|source| vddk_image(context, source));
    facts.vddk_image = image.filter(|image| vddk::usable(context, &facts, image));
    if let Some(source) = named.source.as_deref().filter(|_| facts.vddk_image.is_some()) {
        (facts.vddk_config, facts.vddk_transports) = vddk::settings(source);
    }
    if let (Some(source), Some(map)) = (&named.source, &named.network_map) {
        for pair in &map.spec.map {
            let destination = match pair.destination.type_ {
                DestinationNetworkType::Pod => NetworkDestination::Pod,
                DestinationNetworkType::Ignored => NetworkDestination::Ignored,
                DestinationNetworkType::Multus => NetworkDestination::Multus {
                    namespace: pair.destination.namespace.clone(),
                    name: pair.destination.name.clone(),
                },
            };
            let source = resolved(context, source, Thing::Network, &pair.source.reference).await;
            facts.networks.push(NetworkPair { source, destination });
        }
    }
    if let (Some(source), Some(map)) = (&named.source, &named.storage_map) {
        for pair in &map.spec.map {
            let destination = &pair.destination;
            facts.storage.push(StoragePair {
                source: resolved(context, source, Thing::Storage, &pair.source).await,
                storage_class: destination.storage_class.clone(),
                access_mode: destination.access_mode.map(|mode| mode.to_string()),
                volume_mode: destination.volume_mode.map(|mode| mode.to_string()),
            });
        }
    }
    facts
}

/// Fills in id or name of a reference where the inventory knows it.
async fn resolved(context: &Context, provider: &Provider, kind: Thing, reference: &Ref) -> ResourceRef {
    let known = match context.providers().find(provider, kind, reference).await {
        Found::One(found) => found,
        Found::None | Found::Many | Found::NotLoaded => reference.clone(),
    };
    ResourceRef {
        id: known.id,
        name: known.name,
        kind: reference.type_.clone(),
        namespace: if known.namespace.is_empty() { reference.namespace.clone() } else { known.namespace },
    }
}

fn kind(type_: MigrationType) -> MigrationKind {
    match type_ {
        MigrationType::Cold => MigrationKind::Cold,
        MigrationType::Warm => MigrationKind::Warm,
        MigrationType::Live => MigrationKind::Live,
        MigrationType::Conversion => MigrationKind::Conversion,
    }
}

/// Returns the word that virt-v2v's driver knows the source by.
fn source_word(provider: &Provider) -> String {
    match provider.provider_type() {
        Ok(ProviderType::VSphere) => "vSphere".to_owned(),
        _ => provider.spec.type_.clone(),
    }
}

fn provider_facts(provider: Option<&Provider>) -> ProviderFacts {
    provider.map_or_else(ProviderFacts::default, |provider| ProviderFacts {
        name: provider.name_any(),
        namespace: provider.namespace().unwrap_or_default(),
        uid: provider.uid().unwrap_or_default(),
        secret_name: provider.spec.secret.name.clone().unwrap_or_default(),
        secret_namespace: provider.spec.secret.namespace.clone().unwrap_or_default(),
    })
}

/// Returns the image with VDDK: the provider's, else the controllers'; of sources that VDDK can read.
pub fn vddk_image(context: &Context, provider: &Provider) -> Option<String> {
    if !provider.is(ProviderType::VSphere) {
        return None;
    }
    let own = provider.setting(forklift_api::provider::setting::VDDK_INIT_IMAGE).map(str::trim).and_then(text);
    own.or_else(|| text(context.config.settings.vddk_image.trim()))
}

fn store(provider: &Provider) -> Option<StoreFacts> {
    if !provider.is(ProviderType::Ova) {
        return None;
    }
    parse_url(&provider.spec.url).ok()
}

fn storage_classes(context: &Context) -> Vec<StorageClassFacts> {
    let mut classes: Vec<_> = context
        .caches
        .storage_classes
        .state()
        .iter()
        .map(|class| StorageClassFacts {
            name: class.name_any(),
            default: class.annotations().get(DEFAULT_CLASS).is_some_and(|value| value == "true"),
            provisioner: class.provisioner.clone(),
            ..StorageClassFacts::default()
        })
        .collect();
    classes.sort_by(|a, b| a.name.cmp(&b.name));
    classes
}

fn has_udn(context: &Context, namespace: &str) -> bool {
    let namespace = context.caches.namespaces.get(&ObjectRef::<Namespace>::new(namespace));
    namespace.is_some_and(|namespace| namespace.labels().contains_key(PRIMARY_UDN))
}

fn options(context: &Context, plan: &Plan) -> PlanOptions {
    let (spec, settings) = (&plan.spec, &context.config.settings);
    let json = |affinity: &Option<k8s_openapi::api::core::v1::Affinity>| {
        affinity.as_ref().and_then(|affinity| serde_json::to_value(affinity).ok())
    };
    PlanOptions {
        skip_guest_conversion: spec.skip_guest_conversion,
        compatibility_mode: spec.use_compatibility_mode,
        preserve_static_ips: spec.preserve_static_ips,
        delete_conversion: spec.delete_guest_conversion_pod,
        delete_vm_on_failure: spec.delete_vm_on_fail_migration,
        preflight_inspection: spec.run_preflight_inspection,
        migrate_shared_disks: spec.migrate_shared_disks,
        rdm_as_lun: spec.rdm_as_lun,
        target_power_state: power(spec.target_power_state).unwrap_or_default(),
        pvc_name_template: text(&spec.pvc_name_template).or_else(|| text(&settings.pvc_name_template)),
        pvc_name_exact: spec.pvc_name_template_use_generate_name == Some(false),
        tag_mapping: spec.tag_mapping.clone(),
        scsi_reservation: spec.scsi_reservation,
        volume_name_template: text(&spec.volume_name_template),
        network_name_template: text(&spec.network_name_template),
        // clusters that are not OpenShift are taken for new ones
        static_udn_addresses: settings.feature_static_udn_ip_addresses && openshift_since_4_20(settings) != Some(false),
        udn_macs: openshift_since_4_20(settings) == Some(true),
        vmware_serial: settings.feature_vmware_system_serial_number && openshift_since_4_20(settings) == Some(true),
        service_account: text(&spec.service_account).or_else(|| text(&settings.migration_service_account)),
        target_labels: spec.target_labels.clone(),
        target_node_selector: spec.target_node_selector.clone(),
        target_affinity: json(&spec.target_affinity),
        convertor_labels: spec.convertor_labels.clone(),
        convertor_node_selector: spec.convertor_node_selector.clone(),
        convertor_affinity: json(&spec.convertor_affinity),
        conversion_temp_storage_class: text(&spec.conversion_temp_storage_class),
        conversion_temp_storage_size: text(&spec.conversion_temp_storage_size),
        nested_virtualization: spec.enable_nested_virtualization,
        xfs_compatibility: spec.xfs_compatibility,
        install_legacy_drivers: spec.install_legacy_drivers,
        customization_scripts: spec.customization_scripts.as_ref().and_then(|reference| reference.name.clone()),
        customization_namespace: spec
            .customization_scripts
            .as_ref()
            .and_then(|reference| reference.namespace.clone())
            .unwrap_or_default(),
        request_kvm: !settings.virt_v2v_dont_request_kvm,
        wait_for_guest_reboots: settings.feature_windows_wait_for_reboot,
        reboot_seconds: u32::try_from(settings.windows_reboot_timeout.get()).unwrap_or(u32::MAX),
    }
}

/// Whether the cluster is OpenShift 4.20 or later, whose KubeVirt takes serial numbers with spaces, and MAC addresses on
/// user-defined networks; `None` where it is not OpenShift, or of a version that cannot be read.
fn openshift_since_4_20(settings: &Settings) -> Option<bool> {
    let mut parts = settings.openshift_version.trim().split(['.', '-']).map(str::parse::<u32>);
    let (Some(Ok(major)), Some(Ok(minor))) = (parts.next(), parts.next()) else { return None };
    Some((major, minor) >= (4, 20))
}

fn text(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

fn power(state: Option<TargetPowerState>) -> Option<TargetPower> {
    state.map(|state| match state {
        TargetPowerState::On => TargetPower::On,
        TargetPowerState::Off => TargetPower::Off,
        TargetPowerState::Auto => TargetPower::Auto,
    })
}

/// Resolves one VM of the plan. The reference's id and name are what the inventory says.
pub async fn resolve_vm(context: &Context, plan: &Plan, source: Option<&Provider>, vm: &PlanVM) -> PlanVm {
    let reference = match source {
        Some(source) => match context.providers().find(source, Thing::Vm, &vm.reference).await {
            Found::One(found) => found,
            Found::None | Found::Many | Found::NotLoaded => vm.reference.clone(),
        },
        None => vm.reference.clone(),
    };
    let workload = source
        .filter(|_| !vm.hooks.is_empty())
        .and_then(|source| context.providers().workload(source, &reference.id))
        .map(|workload| yaml(&workload))
        .unwrap_or_default();
    PlanVm {
        id: reference.id,
        name: reference.name,
        target_name: text(&vm.target_name),
        pre_hook: hook(context, plan, vm, PRE_HOOK, &workload),
        post_hook: hook(context, plan, vm, POST_HOOK, &workload),
        root_disk: text(&vm.root_disk),
        luks_secret: vm.luks.name.as_deref().and_then(text),
        nbde_clevis: vm.nbde_clevis,
        instance_type: text(&vm.instance_type),
        pvc_name_template: text(&vm.pvc_name_template),
        volume_name_template: text(&vm.volume_name_template),
        network_name_template: text(&vm.network_name_template),
        target_power_state: power(vm.target_power_state),
        delete_vm_on_failure: vm.delete_vm_on_fail_migration,
        nested_virtualization: vm.enable_nested_virtualization,
        migrate_shared_disks: vm.migrate_shared_disks,
        rdm_as_lun: vm.rdm_as_lun,
        scsi_reservation: vm.scsi_reservation,
    }
}

fn hook(context: &Context, plan: &Plan, vm: &PlanVM, step: &str, workload: &str) -> Option<HookSpec> {
    let hook = named(&context.caches.hooks, &vm.hook(step)?.hook)?;
    Some(HookSpec {
        name: hook.name_any(),
        uid: hook.uid().unwrap_or_default(),
        image: hook.spec.image.trim().to_owned(),
        playbook: decoded_playbook(&hook.spec.playbook).unwrap_or_default(),
        service_account: text(&hook.spec.service_account),
        deadline: hook.spec.deadline,
        aap: hook.spec.aap.is_some(),
        workload: workload.to_owned(),
        plan: serde_json::to_value(&plan.spec).map(|spec| yaml(&spec)).unwrap_or_default(),
    })
}

/// Writes a value as YAML. JSON is YAML: playbooks read both, and no value can be misread.
fn yaml(value: &serde_json::Value) -> String {
    serde_json::to_string_pretty(value).unwrap_or_default()
}

/// Returns core's word for a conversion's phase.
pub fn conversion_phase(phase: Option<ConversionPhase>) -> world::ConversionPhase {
    match phase {
        None | Some(ConversionPhase::Pending) => world::ConversionPhase::Pending,
        Some(ConversionPhase::Running) => world::ConversionPhase::Running,
        Some(ConversionPhase::Succeeded) => world::ConversionPhase::Succeeded,
        Some(ConversionPhase::Failed) => world::ConversionPhase::Failed,
        Some(ConversionPhase::Canceled) => world::ConversionPhase::Canceled,
    }
}

/// The facts of a plan's VMs, by the id in the source.
pub type PlanVms = BTreeMap<String, PlanVm>;

/// The time between the rounds of a warm migration.
fn precopy_seconds(settings: &Settings) -> u32 {
    let seconds = match settings.precopy_interval_seconds {
        0 => settings.precopy_interval.get().saturating_mul(60),
        seconds => seconds,
    };
    u32::try_from(seconds).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_openshift() {
        let version = |text: &str| {
            let settings = Settings::read(|name| (name == "OPENSHIFT_VERSION").then(|| text.to_owned()));
            openshift_since_4_20(&settings.expect("settings"))
        };
        for (text, since) in
            [("4.20.0-ec.1", Some(true)), ("4.21.3", Some(true)), ("5.0", Some(true)), ("4.9.1", Some(false))]
        {
            assert_eq!(version(text), since, "{text}");
        }
        assert_eq!((version(""), version("x.20")), (None, None));
    }
}
