//! The controllers against the embedded API server in this process, over real HTTP.
//!
//! The source ([`source`]) and the node ([`kubelet`]) are made up: nothing is copied or converted, only said to be.
//! Below [`live`] the source is a simulated vCenter, and what providers, hosts and plans say of it is listed in [`table`].
mod certificate;
mod cluster;
mod conditions;
mod hosts;
mod inspections;
mod kubelet;
mod live;
mod plans;
mod providers;
mod rules;
mod source;
mod systems;
mod table;
mod vddk;
mod webhooks;
