//! The port through which VMs get their concerns.

use serde_json::Value;

/// The validation rules, as the inventory uses them.
pub trait Rules: Send + Sync {
    /// Returns the version of a provider type's rules; 0 when it has none.
    fn version(&self, provider_type: &str) -> i64;

    /// Returns the concerns about a workload, each `{id,label,category,assessment}`.
    ///
    /// An error leaves the VM unvalidated; it is tried again when the VM changes
    /// and at the next [`crate::Inventory::revalidate`].
    fn concerns(&self, provider_type: &str, workload: &Value) -> Result<Vec<Value>, String>;
}
