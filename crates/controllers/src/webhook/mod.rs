//! Admission webhooks: what the API server asks before it stores a provider, a secret, a plan or a migration.
//!
//! | path | asked about | does |
//! |---|---|---|
//! | `/provider-mutate` | providers | fills in `sdkEndpoint`, adds the finalizer of types with a server |
//! | `/provider-validate` | providers | refuses an `sdkEndpoint` that there is not; may the user read the secret of another namespace? |
//! | `/secret-mutate` | secrets labelled for providers or hosts | fills in `insecureSkipVerify`, an ESXi host's credentials, oVirt's authority |
//! | `/secret-validate` | the same | tries the credentials; refuses those that the source refuses |
//! | `/plan-mutate` | plans | fills in the transfer network |
//! | `/plan-validate` | plans | may the user use both providers, make VMs, read VMs? |
//! | `/migration-validate` | migrations | the same for the plan's providers |
//!
//! As upstream, the API server refuses the write when nobody answers (`failurePolicy: Fail`); what cannot be tested passes,
//! and the conditions of the object say so later. A dry run tests nothing.
mod access;
mod plan;
mod provider;
mod register;
mod review;
mod secret;

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response as HttpResponse};
use axum::routing::post;
use futures::future::BoxFuture;
use kube::Client;
use serde_json::Value;

use crate::ports::Providers;

pub use register::{Reach, register};
pub use review::{Answer, Request};

/// Longest review that is read, bytes: two objects of the size that an API server takes, and what is around them.
const LONGEST: usize = 8 << 20;

/// What the webhooks look things up with.
#[derive(Clone)]
pub struct Webhooks {
    /// The API server.
    pub client: Client,
    /// The providers, for tests of credentials.
    pub providers: Arc<dyn Providers>,
}

/// Whether a webhook changes objects or judges them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Changes objects.
    Mutating,
    /// Judges objects.
    Validating,
}

type Handler = for<'a> fn(&'a Webhooks, &'a Request) -> BoxFuture<'a, Answer>;

/// A webhook.
pub struct Webhook {
    /// Path of its address.
    pub path: &'static str,
    /// When it is asked.
    pub stage: Stage,
    /// API group of the objects.
    pub group: &'static str,
    /// API version of the objects.
    pub version: &'static str,
    /// Resource of the objects, in plural.
    pub resource: &'static str,
    /// Label that objects must have to be asked about.
    pub label: Option<&'static str>,
    answer: Handler,
}

/// Every webhook.
pub const WEBHOOKS: &[Webhook] = &[
    ours("/provider-mutate", Stage::Mutating, "providers", |_, request| Box::pin(async { provider::mutate(request) })),
    ours("/provider-validate", Stage::Validating, "providers", |hooks, request| {
        Box::pin(provider::validate(hooks, request))
    }),
    ours("/plan-mutate", Stage::Mutating, "plans", |hooks, request| Box::pin(plan::mutate(hooks, request))),
    ours("/plan-validate", Stage::Validating, "plans", |hooks, request| Box::pin(plan::validate(hooks, request))),
    ours("/migration-validate", Stage::Validating, "migrations", |hooks, request| {
        Box::pin(plan::validate_migration(hooks, request))
    }),
    secrets("/secret-mutate", Stage::Mutating, |hooks, request| Box::pin(secret::mutate(hooks, request))),
    secrets("/secret-validate", Stage::Validating, |hooks, request| Box::pin(secret::validate(hooks, request))),
];

const fn ours(path: &'static str, stage: Stage, resource: &'static str, answer: Handler) -> Webhook {
    let (group, version) = (forklift_api::GROUP, forklift_api::VERSION);
    Webhook { path, stage, group, version, resource, label: None, answer }
}

const fn secrets(path: &'static str, stage: Stage, answer: Handler) -> Webhook {
    let label = Some(forklift_api::labels::CREATED_FOR_RESOURCE_TYPE);
    Webhook { path, stage, group: "", version: "v1", resource: "secrets", label, answer }
}

/// Returns the routes. TLS and the address are the caller's business.
pub fn router(hooks: Webhooks) -> Router {
    let mut routes = Router::new();
    for webhook in WEBHOOKS {
        let answer = webhook.answer;
        let handler = move |State(hooks): State<Webhooks>, body: axum::body::Bytes| serve(hooks, body, answer);
        routes = routes.route(webhook.path, post(handler));
    }
    routes.layer(axum::extract::DefaultBodyLimit::max(LONGEST)).with_state(hooks)
}

async fn serve(hooks: Webhooks, body: axum::body::Bytes, answer: Handler) -> HttpResponse {
    let request =
        match serde_json::from_slice::<Value>(&body).map_err(|error| error.to_string()).and_then(Request::read) {
            Ok(request) => request,
            Err(error) => return (StatusCode::BAD_REQUEST, format!("not an AdmissionReview: {error}")).into_response(),
        };
    let given = answer(&hooks, &request).await;
    if let Answer::Deny { message, .. } = &given {
        tracing::info!(kind = request.kind, name = request.name, namespace = request.namespace, message, "refused");
    }
    axum::Json(given.review(&request)).into_response()
}
