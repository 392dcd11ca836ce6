//! May this user do that? The API server decides (SubjectAccessReview).
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};
use kube::api::PostParams;
use kube::{Api, Client};

use super::review::{Answer, Request};

/// An action on a resource; an empty name stands for any.
#[derive(Clone, Copy, Debug)]
pub struct Action<'a> {
    /// `get`, `create` …
    pub verb: &'a str,
    /// API group.
    pub group: &'a str,
    /// Resource, in plural.
    pub resource: &'a str,
    /// Namespace.
    pub namespace: &'a str,
    /// Name.
    pub name: &'a str,
}

/// Asks whether the user of a request may do something; refuses the request otherwise.
pub async fn permit(client: &Client, request: &Request, action: Action<'_>) -> Result<(), Answer> {
    let user = &request.user_info;
    let given = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
    let review = SubjectAccessReview {
        spec: SubjectAccessReviewSpec {
            user: given(&user.username),
            uid: given(&user.uid),
            groups: Some(user.groups.clone()),
            extra: Some(user.extra.clone()),
            resource_attributes: Some(ResourceAttributes {
                group: given(action.group),
                resource: given(action.resource),
                verb: given(action.verb),
                namespace: given(action.namespace),
                name: given(action.name),
                ..ResourceAttributes::default()
            }),
            ..SubjectAccessReviewSpec::default()
        },
        ..SubjectAccessReview::default()
    };
    let review = Api::<SubjectAccessReview>::all(client.clone())
        .create(&PostParams::default(), &review)
        .await
        .map_err(|error| Answer::bad(format!("the user's rights cannot be looked up: {error}")))?;
    let status = review.status.unwrap_or_default();
    if status.allowed {
        return Ok(());
    }
    let resource = match action.name {
        "" => action.resource.to_owned(),
        name => format!("{}/{name}", action.resource),
    };
    Err(Answer::bad(format!(
        "Action is forbidden: User {:?} cannot {} resource {resource:?} in API group {:?} in the namespace {:?}: {}",
        user.username,
        action.verb,
        action.group,
        action.namespace,
        status.reason.unwrap_or_default()
    )))
}
