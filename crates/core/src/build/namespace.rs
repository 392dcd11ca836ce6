//! The target namespace.
use serde_json::json;

use crate::plan::effect::TargetObject;

/// Builds the target namespace. It is not ours alone: it carries no labels and is never deleted.
pub fn namespace(name: &str) -> TargetObject {
    TargetObject::new(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}))
}
