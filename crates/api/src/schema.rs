//! Schemas of Kubernetes' own types, as they stand in our CRDs.

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

/// The schema of anything: an object whose fields are kept as they are.
pub fn any_object(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true })
}

/// The schema of a list of [`any_object`].
pub fn any_objects(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "array", "items": { "type": "object", "x-kubernetes-preserve-unknown-fields": true } })
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

/// The schema of a pod's affinity.
pub fn affinity(generator: &mut SchemaGenerator) -> Schema {
    any_object(generator)
}

/// The schema of a pod's volumes.
pub fn volumes(generator: &mut SchemaGenerator) -> Schema {
    any_objects(generator)
}

/// The schema of a container's volume mounts.
pub fn volume_mounts(generator: &mut SchemaGenerator) -> Schema {
    any_objects(generator)
}
