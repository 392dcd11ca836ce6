//! The providers of `forklift_providers`, behind the port that the reconcilers ask.
use std::collections::BTreeMap;
use std::sync::Arc;

use forklift_api::{Condition, Provider, ProviderType, Ref};
use forklift_core::source::{Capabilities, InspectionSnapshots, Source, SourceError};
use forklift_providers::Registry;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use tokio_util::sync::CancellationToken;

use crate::ports::{
    Changed, ConnectError, Endpoint, Examination, Found, FoundHost, HostEndpoint, HostError, Providers, Thing,
};

impl Providers for Registry {
    fn capabilities(&self, type_: ProviderType) -> Option<Capabilities> {
        Registry::capabilities(self, type_)
    }

    fn check(&self, endpoint: &Endpoint) -> Vec<Condition> {
        Registry::check(self, endpoint)
    }

    fn examine<'a>(&'a self, endpoint: &'a Endpoint) -> BoxFuture<'a, Result<Examination, ConnectError>> {
        Box::pin(Registry::examine(self, endpoint))
    }

    fn has_hosts(&self, type_: ProviderType) -> bool {
        Registry::has_hosts(self, type_)
    }

    fn host<'a>(&'a self, provider: &'a Provider, reference: &'a Ref) -> BoxFuture<'a, FoundHost> {
        Box::pin(Registry::host(self, provider, reference))
    }

    fn test_host<'a>(&'a self, provider: &'a Provider, host: &'a HostEndpoint) -> BoxFuture<'a, Result<(), HostError>> {
        Box::pin(Registry::test_host(self, provider, host))
    }

    fn set_direct(&self, provider_uid: &str, host: &str, endpoint: Option<HostEndpoint>) {
        Registry::set_direct(self, provider_uid, host, endpoint);
    }

    fn collect(&self, endpoint: Endpoint, cancel: CancellationToken) -> BoxFuture<'static, Result<(), ConnectError>> {
        let registry = self.clone();
        Box::pin(async move { Registry::collect(&registry, endpoint, cancel).await })
    }

    fn loaded(&self, provider: &Provider) -> bool {
        Registry::loaded(self, provider)
    }

    fn changes(&self, provider: &Provider) -> Option<BoxStream<'static, Changed>> {
        Registry::changes(self, provider)
    }

    fn fresh<'a>(&'a self, provider: &'a Provider, ids: &'a [String]) -> BoxFuture<'a, Result<(), String>> {
        Box::pin(Registry::fresh(self, provider, ids))
    }

    fn refresh(&self, provider: &Provider) {
        Registry::refresh(self, provider);
    }

    fn failure(&self, provider: &Provider) -> Option<String> {
        Registry::failure(self, provider)
    }

    fn forget(&self, provider: &Provider) {
        Registry::forget(self, provider);
    }

    fn source(&self, provider: &Provider) -> Result<Arc<dyn Source>, SourceError> {
        Registry::source(self, provider)
    }

    fn find<'a>(&'a self, provider: &'a Provider, thing: Thing, reference: &'a Ref) -> BoxFuture<'a, Found> {
        Box::pin(async move {
            match Registry::find(self, provider, thing, reference).await {
                forklift_providers::Found::One(found, _) => Found::One(found),
                forklift_providers::Found::None => Found::None,
                forklift_providers::Found::Many => Found::Many,
                forklift_providers::Found::NotLoaded => Found::NotLoaded,
            }
        })
    }

    fn inspection<'a>(
        &'a self,
        connection: &'a BTreeMap<String, Vec<u8>>,
    ) -> BoxFuture<'a, Result<Arc<dyn InspectionSnapshots>, SourceError>> {
        Box::pin(Registry::inspection(self, connection))
    }

    fn workload(&self, provider: &Provider, id: &str) -> Option<serde_json::Value> {
        Registry::workload(self, provider, id)
    }
}
