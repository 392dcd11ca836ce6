//! Webhooks: where they are.

mod validate;

pub use validate::validate_client;
