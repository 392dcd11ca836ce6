//! The definitions of our kinds, made from their types and put into the form that upstream's have.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSON, JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};
use kube::CustomResourceExt;

use crate::controller_config::ForkliftController;
use crate::populator::{OpenstackVolumePopulator, OvirtVolumePopulator, VSphereXcopyVolumePopulator};
use crate::server::{HyperVProviderServer, OVAProviderServer};
use crate::{Conversion, Hook, Host, Migration, NetworkMap, Plan, Provider, StorageMap};

/// Returns the definitions of all our kinds, in the order of their names.
pub fn crds() -> Vec<CustomResourceDefinition> {
    let mut crds = vec![
        Conversion::crd(),
        optional_spec(ForkliftController::crd()),
        optional_spec(Hook::crd()),
        Host::crd(),
        HyperVProviderServer::crd(),
        Migration::crd(),
        NetworkMap::crd(),
        without_status_subresource(OpenstackVolumePopulator::crd()),
        OVAProviderServer::crd(),
        without_status_subresource(OvirtVolumePopulator::crd()),
        Plan::crd(),
        Provider::crd(),
        StorageMap::crd(),
        without_status_subresource(VSphereXcopyVolumePopulator::crd()),
    ];
    crds.iter_mut().for_each(tidy);
    crds
}

/// Objects of these kinds say something without a spec: the server puts an empty one there.
///
/// Upstream lets it be left out of every kind. Where fields of the spec are required, an object without any is
/// refused here at once; it could not be read otherwise, and upstream's clients always write one.
fn optional_spec(mut crd: CustomResourceDefinition) -> CustomResourceDefinition {
    for root in roots(&mut crd) {
        root.required = None;
        if let Some(spec) = root.properties.get_or_insert_default().get_mut("spec") {
            spec.default = Some(JSON(serde_json::json!({})));
        }
    }
    crd
}

/// Populators write their status with the object itself.
fn without_status_subresource(mut crd: CustomResourceDefinition) -> CustomResourceDefinition {
    for version in &mut crd.spec.versions {
        version.subresources = None;
    }
    crd
}

fn roots(crd: &mut CustomResourceDefinition) -> impl Iterator<Item = &mut JSONSchemaProps> {
    crd.spec.versions.iter_mut().filter_map(|version| version.schema.as_mut()?.open_api_v3_schema.as_mut())
}

fn tidy(crd: &mut CustomResourceDefinition) {
    let names = &mut crd.spec.names;
    names.list_kind = Some(format!("{}List", names.kind));
    names.short_names = names.short_names.take().filter(|list| !list.is_empty());
    names.categories = names.categories.take().filter(|list| !list.is_empty());
    for version in &mut crd.spec.versions {
        version.additional_printer_columns =
            version.additional_printer_columns.take().filter(|columns| !columns.is_empty());
        version.selectable_fields = version.selectable_fields.take().filter(|fields| !fields.is_empty());
    }
    for root in roots(crd) {
        root.title = None;
        add_object_fields(root);
        forbid_null(root);
        restore_alternatives(root);
        unwrap_lines(root);
    }
}

/// Every object has these; upstream's definitions say so, and clients that read schemas expect it.
fn add_object_fields(root: &mut JSONSchemaProps) {
    let field = |type_: &str, description: Option<&str>| JSONSchemaProps {
        type_: Some(type_.to_owned()),
        description: description.map(str::to_owned),
        ..JSONSchemaProps::default()
    };
    let fields = root.properties.get_or_insert_default();
    fields.insert("apiVersion".to_owned(), field("string", Some("Group and version of the object's schema.")));
    fields.insert("kind".to_owned(), field("string", Some("Kind of the object.")));
    fields.insert("metadata".to_owned(), field("object", None));
}

/// Fields that may be left out must not be `null` instead: upstream's schemas do not allow it.
fn forbid_null(schema: &mut JSONSchemaProps) {
    schema.nullable = None;
    if let Some(values) = &mut schema.enum_ {
        values.retain(|value| !value.0.is_null());
    }
    each_child(schema, &mut forbid_null);
}

/// Numbers or texts have two alternatives, which get lost on the way to a structural schema.
fn restore_alternatives(schema: &mut JSONSchemaProps) {
    if schema.x_kubernetes_int_or_string == Some(true) {
        let alternative = |type_: &str| JSONSchemaProps { type_: Some(type_.to_owned()), ..JSONSchemaProps::default() };
        schema.any_of = Some(vec![alternative("integer"), alternative("string")]);
    }
    each_child(schema, &mut restore_alternatives);
}

/// Descriptions come from comments that are wrapped for reading; `kubectl explain` wraps by itself.
fn unwrap_lines(schema: &mut JSONSchemaProps) {
    if let Some(description) = &mut schema.description {
        *description = description.split("\n\n").map(|part| part.replace('\n', " ")).collect::<Vec<_>>().join("\n\n");
    }
    each_child(schema, &mut unwrap_lines);
}

fn each_child(schema: &mut JSONSchemaProps, visit: &mut dyn FnMut(&mut JSONSchemaProps)) {
    schema.properties.iter_mut().flat_map(|properties| properties.values_mut()).for_each(&mut *visit);
    match &mut schema.items {
        Some(JSONSchemaPropsOrArray::Schema(items)) => visit(items),
        Some(JSONSchemaPropsOrArray::Schemas(items)) => items.iter_mut().for_each(&mut *visit),
        None => {}
    }
    if let Some(JSONSchemaPropsOrBool::Schema(values)) = &mut schema.additional_properties {
        visit(values);
    }
}
