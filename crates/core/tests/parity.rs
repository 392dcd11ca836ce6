//! Names that users and programs see are those of the API crate: phases, pipeline steps, descriptions.
use forklift_api::step;
use forklift_core::plan::Phase;
use forklift_core::plan::pipeline::StepName;

#[test]
fn every_phase_is_one_of_the_api() {
    for phase in Phase::ALL {
        let read: forklift_api::Phase =
            serde_json::from_value(phase.as_str().into()).unwrap_or_else(|e| panic!("{phase}: {e}"));
        assert!(
            !format!("{read:?}").starts_with("Other") && !format!("{read:?}").starts_with("Unknown"),
            "{phase}: {read:?}"
        );
        assert_eq!(read.to_string(), phase.as_str());
    }
}

#[test]
fn every_step_is_described_as_in_the_api() {
    use StepName::{
        ConvertOpenstackSnapshot, Cutover, DiskAllocation, DiskTransfer, DiskTransferV2v, ImageConversion, Initialize,
        PostHook, PreHook, PreflightInspection, VirtualMachineCreation, WaitForGuestReboots,
    };
    for name in [
        Initialize,
        PreHook,
        PreflightInspection,
        DiskTransfer,
        DiskAllocation,
        ImageConversion,
        DiskTransferV2v,
        ConvertOpenstackSnapshot,
        Cutover,
        VirtualMachineCreation,
        WaitForGuestReboots,
        PostHook,
    ] {
        assert_eq!(step::description(name.as_str()), Some(name.description()));
    }
}
