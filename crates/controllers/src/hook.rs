//! Hook: is it clear what is to be run, and can it be run?
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use forklift_api::condition::{reasons, types};
use forklift_api::hook::HookSpec;
use forklift_api::{Category, Condition, Hook};
use kube::runtime::controller::Action;

use crate::context::Context;
use crate::shell::status::{Pass, ReconcileError};

/// Looks at a hook.
pub async fn reconcile(hook: Arc<Hook>, context: Arc<Context>) -> Result<Action, ReconcileError> {
    let mut pass = Pass::begin(&context.client, hook.as_ref(), jiff::Timestamp::now());
    check(&hook.spec).into_iter().for_each(|condition| pass.set(condition));
    if !pass.conditions().has_blocker() {
        pass.set(Condition::new(types::READY, Category::Required, "The hook is ready."));
    }
    pass.finish(Ok(Action::await_change())).await
}

/// Returns what is wrong with a hook.
pub fn check(spec: &HookSpec) -> Vec<Condition> {
    let (image, playbook) = (spec.image.trim(), spec.playbook.trim());
    let execute = |message: &str| {
        vec![Condition::new(types::INVALID_HOOK_EXECUTE, Category::Critical, message).reason(reasons::NOT_VALID)]
    };
    if let Some(aap) = &spec.aap {
        if !image.is_empty() || !playbook.is_empty() {
            return execute(
                "A hook runs either locally (image, playbook) or by Ansible Automation Platform (aap), not both.",
            );
        }
        if aap.job_template_id <= 0 {
            return execute("spec.aap.jobTemplateId must be a positive number.");
        }
        return Vec::new();
    }
    if image.is_empty() {
        return execute("A hook needs spec.image, or spec.aap.");
    }
    let mut conditions = Vec::new();
    if !image_reference(image) {
        conditions.push(
            Condition::new(types::INVALID_IMAGE, Category::Critical, format!("The image name {image:?} is not valid."))
                .reason(reasons::NOT_VALID),
        );
    }
    if !playbook.is_empty() && decoded_playbook(playbook).is_none() {
        conditions.push(
            Condition::new(types::INVALID_PLAYBOOK, Category::Critical, "spec.playbook is not base64 of a text.")
                .reason(reasons::DATA_ERROR)
                .suggestion("Encode the playbook: base64 -w0 playbook.yml"),
        );
    }
    conditions
}

/// Returns the text of a playbook.
pub fn decoded_playbook(playbook: &str) -> Option<String> {
    let packed: String = playbook.split_whitespace().collect();
    String::from_utf8(STANDARD.decode(packed).ok()?).ok()
}

/// Whether a text can be an image reference: `[registry/]path[:tag][@digest]`.
pub fn image_reference(image: &str) -> bool {
    let (name, digest) = image.split_once('@').map_or((image, None), |(name, digest)| (name, Some(digest)));
    let digest_fits = digest.is_none_or(|digest| {
        digest.split_once(':').is_some_and(|(kind, hex)| {
            !kind.is_empty() && hex.len() >= 32 && hex.chars().all(|c| c.is_ascii_hexdigit())
        })
    });
    let (path, tag) = match name.rsplit_once(':') {
        Some((path, tag)) if !tag.contains('/') => (path, Some(tag)),
        _ => (name, None),
    };
    let tag_fits = tag.is_none_or(|tag| {
        !tag.is_empty() && tag.len() <= 128 && tag.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c))
    });
    let path_fits = !path.is_empty()
        && path.split('/').enumerate().all(|(index, part)| {
            let port = if index == 0 { ":" } else { "" };
            !part.is_empty() && part.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c) || port.contains(c))
        });
    digest_fits && tag_fits && path_fits
}

#[cfg(test)]
mod tests {
    use super::*;
    use forklift_api::hook::AapConfig;

    fn types_of(spec: &HookSpec) -> Vec<String> {
        check(spec).into_iter().map(|condition| condition.type_).collect()
    }

    #[test]
    fn a_hook_says_one_way_to_run() {
        let local = HookSpec { image: "quay.io/kubev2v/hook-runner:latest".into(), ..HookSpec::default() };
        assert!(types_of(&local).is_empty());
        let aap =
            HookSpec { aap: Some(AapConfig { job_template_id: 7, ..AapConfig::default() }), ..HookSpec::default() };
        assert!(types_of(&aap).is_empty());
        assert_eq!(types_of(&HookSpec { aap: aap.aap.clone(), ..local.clone() }), ["InvalidHookExecute"]);
        assert_eq!(types_of(&HookSpec::default()), ["InvalidHookExecute"]);
        assert_eq!(types_of(&HookSpec { playbook: "not base64!".into(), ..local }), ["InvalidPlaybook"]);
    }

    #[test]
    fn image_references() {
        for good in
            ["busybox", "quay.io/a/b:v1.2", "localhost:5000/x", "r.io/a@sha256:0123456789abcdef0123456789abcdef"]
        {
            assert!(image_reference(good), "{good}");
        }
        for bad in ["", "a b", "a//b", "a:", "a@sha256", "a/b:5000/c:"] {
            assert!(!image_reference(bad), "{bad}");
        }
    }
}
