//! Schemas of Kubernetes' own types, as they stand in our CRDs.
//!
//! They are written here because the types come from a crate that is built without schemas, and because CRDs need
//! more than a JSON schema says: which lists and maps are replaced as a whole.

mod core;

pub use core::{affinity, merged_affinity, volume_mounts, volumes};

use schemars::{Schema, SchemaGenerator, json_schema};

/// The schema of a point in time.
pub fn date_time(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "format": "date-time" })
}

/// The schema of a core/v1 ObjectReference.
pub fn object_reference(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "x-kubernetes-map-type": "atomic",
        "properties": {
            "apiVersion": { "type": "string", "description": "API version of the object." },
            "fieldPath": { "type": "string", "description": "Path of the part of the object that is meant." },
            "kind": { "type": "string", "description": "Kind of the object." },
            "name": { "type": "string", "description": "Name of the object." },
            "namespace": { "type": "string", "description": "Namespace of the object." },
            "resourceVersion": { "type": "string", "description": "Version of the object that is meant." },
            "uid": { "type": "string", "description": "UID of the object." }
        }
    })
}

/// The schema of a whole number without a stated width, as Go's `int` gives.
pub fn integer(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "integer" })
}

/// The schema of a text, where a type would say more than upstream does.
pub fn string(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string" })
}

/// The schema of a provider's name that cannot be changed once it is set.
pub fn immutable_provider(generator: &mut SchemaGenerator) -> Schema {
    let mut schema = object_reference(generator);
    schema.insert(
        "x-kubernetes-validations".to_owned(),
        serde_json::json!([{
            "message": "spec.provider is immutable",
            "rule": "oldSelf == null || oldSelf.name == '' || self == oldSelf"
        }]),
    );
    schema
}

/// The schema of an object whose fields are kept as they are.
pub fn any_object(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true })
}
