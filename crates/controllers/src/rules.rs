//! The validation rules, behind the port of the inventory.

use forklift_inventory::Rules;
use forklift_validation::Validator;
use serde_json::Value;

/// Rules that give the inventory's VMs their concerns.
pub struct Concerns(pub Validator);

impl Rules for Concerns {
    fn version(&self, provider_type: &str) -> i64 {
        self.0.rules_version(provider_type)
    }

    fn concerns(&self, provider_type: &str, workload: &Value) -> Result<Vec<Value>, String> {
        let concerns = self.0.concerns(provider_type, workload).map_err(|error| error.to_string())?;
        concerns.into_iter().map(|concern| serde_json::to_value(concern).map_err(|error| error.to_string())).collect()
    }
}
