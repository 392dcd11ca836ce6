//! What has to be known of the guest and its host before a VM is shut down.
use forklift_api::condition::{reasons, types};
use forklift_api::{Category, Condition};

use super::{Check, Facts, finding};
use crate::machine::{HostState, PowerState, Tools};

/// The check.
pub const CHECK: Check = Check { conditions: &[types::GUEST_TOOLS_ISSUE, types::HOST_NOT_READY], run };

fn run(facts: &Facts<'_>) -> Vec<Condition> {
    let tools = facts.items(|_, machine| {
        if machine.power == PowerState::Off {
            return None;
        }
        match machine.traits.tools {
            Tools::NotApplicable | Tools::Running => None,
            Tools::NotRunning => Some("they do not run".to_owned()),
            Tools::NotInstalled => Some("they are not installed".to_owned()),
            Tools::Unknown => Some("their state is not known".to_owned()),
        }
    });
    let hosts = facts.items(|_, machine| match machine.traits.host_state {
        HostState::Ready => None,
        HostState::Maintenance => Some("its host is in maintenance mode".to_owned()),
        HostState::Disconnected => Some("its host is not connected".to_owned()),
    });
    [
        finding(tools, || {
            Condition::new(
                types::GUEST_TOOLS_ISSUE,
                Category::Critical,
                "The guest tools of VMs that run are needed to shut them down and to know their addresses.",
            )
            .reason(reasons::NOT_VALID)
            .suggestion("Install and start VMware Tools in the guests, or shut the VMs down yourself.")
        }),
        finding(hosts, || {
            Condition::new(types::HOST_NOT_READY, Category::Warn, "The hosts of some VMs are not ready.")
                .reason(reasons::IN_MAINTENANCE_MODE)
                .suggestion("Bring the hosts back, or move the VMs to other hosts.")
        }),
    ]
    .into_iter()
    .flatten()
    .collect()
}
