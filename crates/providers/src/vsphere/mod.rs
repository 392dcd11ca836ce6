//! vSphere: vCenter and ESXi.

pub mod examine;
pub mod vim;
