//! vSphere: vCenter and ESXi.

pub mod vim;
