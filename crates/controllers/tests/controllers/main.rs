//! The controllers against the embedded API server in this process, over real HTTP.
//!
//! The source ([`source`]) and the node ([`kubelet`]) are made up: nothing is copied or converted, only said to be.
mod certificate;
mod cluster;
mod conditions;
mod hosts;
mod kubelet;
mod plans;
mod providers;
mod rules;
mod source;
mod vddk;
mod vsphere_table;
mod webhooks;
