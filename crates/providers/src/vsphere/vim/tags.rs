//! Tags, which only the REST API has: a session of its own, questions for many objects at once.
//!
//! Servers up to 8 have `/rest` (answers within `value`), later ones only `/api`; the first that answers is taken.
//! Which tags an object has is asked for thousands of objects in one request; what a tag is called is asked once per
//! tag and kept, as there is no request for many.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use futures::{StreamExt, TryStreamExt, stream};
use reqwest::{Method, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};

use super::client::{refusal, unreachable};
use super::{Client, MoRef, VimError};

/// Objects or tags in one request.
const BATCH: usize = 2000;
/// Requests at a time.
const CONCURRENT: usize = 8;
/// How long a tag's name is believed.
const KEPT: Duration = Duration::from_secs(3600);
const LIMIT: Duration = Duration::from_secs(120);

/// A tag.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Tag {
    /// Id, `urn:vmomi:InventoryServiceTag:…`.
    pub id: String,
    /// Name.
    pub name: String,
    /// Description.
    pub description: String,
    /// Id of its category.
    pub category_id: String,
    /// Who uses it, as the service says.
    pub used_by: Vec<String>,
    /// Name of its category; filled in by [`Tags`].
    #[serde(skip)]
    pub category: String,
}

/// Reads tags in a session of its own, which ends with [`Tags::close`] or after some minutes.
pub struct Tags {
    client: Client,
    dialect: Dialect,
    token: String,
    known: BTreeMap<String, (Instant, Tag)>,
    categories: BTreeMap<String, String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Dialect {
    Rest,
    Api,
}

#[derive(Deserialize)]
struct Attached {
    object_id: Object,
    #[serde(default)]
    tag_ids: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct Objects {
    tag_id: String,
    #[serde(default)]
    object_ids: Option<Vec<Object>>,
}

#[derive(Deserialize)]
struct Object {
    id: String,
    #[serde(rename = "type")]
    kind: String,
}

impl Tags {
    /// Opens a session with the client's credentials; `None` where there is no REST API (hosts).
    pub async fn open(client: &Client) -> Result<Option<Tags>, VimError> {
        if !client.about().is_vcenter() {
            return Ok(None);
        }
        for dialect in [Dialect::Rest, Dialect::Api] {
            let mut tags = Tags {
                client: client.clone(),
                dialect,
                token: String::new(),
                known: BTreeMap::new(),
                categories: BTreeMap::new(),
            };
            match tags.login().await {
                Ok(()) => return Ok(Some(tags)),
                Err(VimError::Http { status: 404 | 405 | 410 | 501, .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    /// Returns the tags of all objects that have some.
    pub async fn all(&mut self) -> Result<BTreeMap<MoRef, Vec<Tag>>, VimError> {
        let ids: Vec<String> = self.get("tagging/tag").await?;
        let mut found: BTreeMap<MoRef, Vec<String>> = BTreeMap::new();
        for batch in ids.chunks(BATCH) {
            let body = json!({ "tag_ids": batch });
            let path = "tagging/tag-association";
            let objects: Vec<Objects> = self.post(path, "list-attached-objects-on-tags", body).await?;
            for on in objects {
                for object in on.object_ids.unwrap_or_default() {
                    found.entry(MoRef::new(object.kind, object.id)).or_default().push(on.tag_id.clone());
                }
            }
        }
        self.named(found).await
    }

    /// Returns the tags of these objects, those without tags left out.
    pub async fn of(&mut self, objects: &[MoRef]) -> Result<BTreeMap<MoRef, Vec<Tag>>, VimError> {
        let mut found: BTreeMap<MoRef, Vec<String>> = BTreeMap::new();
        for batch in objects.chunks(BATCH) {
            let ids: Vec<Value> = batch.iter().map(|o| json!({"id": o.value, "type": o.kind})).collect();
            let path = "tagging/tag-association";
            let body = json!({ "object_ids": ids });
            let attached: Vec<Attached> = self.post(path, "list-attached-tags-on-objects", body).await?;
            for on in attached {
                let tags = on.tag_ids.unwrap_or_default();
                if !tags.is_empty() {
                    found.entry(MoRef::new(on.object_id.kind, on.object_id.id)).or_default().extend(tags);
                }
            }
        }
        self.named(found).await
    }

    /// Ends the session.
    pub async fn close(self) {
        let path = match self.dialect {
            Dialect::Rest => "/rest/com/vmware/cis/session",
            Dialect::Api => "/api/session",
        };
        if let Err(error) = self.send::<Value>(Method::DELETE, path, None).await {
            tracing::debug!(%error, "the REST session was not ended");
        }
    }

    async fn named(&mut self, found: BTreeMap<MoRef, Vec<String>>) -> Result<BTreeMap<MoRef, Vec<Tag>>, VimError> {
        let now = Instant::now();
        self.known.retain(|_, (since, _)| now.duration_since(*since) < KEPT);
        let mut wanted: Vec<String> =
            found.values().flatten().filter(|id| !self.known.contains_key(*id)).cloned().collect();
        wanted.sort();
        wanted.dedup();
        let tags = self.details::<Tag>("tagging/tag", wanted).await?;
        let mut categories: Vec<String> = tags.iter().map(|tag| tag.category_id.clone()).collect();
        categories.retain(|id| !self.categories.contains_key(id));
        categories.sort();
        categories.dedup();
        // a category has the same fields
        for category in self.details::<Tag>("tagging/category", categories).await? {
            self.categories.insert(category.id, category.name);
        }
        for mut tag in tags {
            tag.category = self.categories.get(&tag.category_id).cloned().unwrap_or_default();
            self.known.insert(tag.id.clone(), (now, tag));
        }
        let named = found.into_iter().map(|(object, mut ids)| {
            ids.sort();
            ids.dedup();
            (object, ids.iter().filter_map(|id| self.known.get(id).map(|(_, tag)| tag.clone())).collect())
        });
        Ok(named.collect())
    }

    /// Reads what some ids stand for; those that are gone meanwhile are left out.
    async fn details<T: serde::de::DeserializeOwned>(&self, kind: &str, ids: Vec<String>) -> Result<Vec<T>, VimError> {
        let one = |id: String| async move {
            let id = percent_encode(&id);
            let path = match self.dialect {
                Dialect::Rest => format!("/rest/com/vmware/cis/{kind}/id:{id}"),
                Dialect::Api => format!("/api/cis/{kind}/{id}"),
            };
            match self.send::<T>(Method::GET, &path, None).await {
                Ok(found) => Ok(Some(found)),
                Err(VimError::Http { status: 404, .. }) => Ok(None),
                Err(error) => Err(error),
            }
        };
        stream::iter(ids)
            .map(one)
            .buffer_unordered(CONCURRENT)
            .try_filter_map(|found| async { Ok(found) })
            .try_collect()
            .await
    }

    async fn login(&mut self) -> Result<(), VimError> {
        let path = match self.dialect {
            Dialect::Rest => "/rest/com/vmware/cis/session",
            Dialect::Api => "/api/session",
        };
        let endpoint = self.client.endpoint();
        let mut url = endpoint.url.clone();
        url.set_path(path);
        let request = self.client.http().post(url.clone()).timeout(LIMIT);
        let request = request.basic_auth(&endpoint.user, Some(endpoint.password.expose()));
        let answer = request.send().await.map_err(|e| unreachable(&e, &url))?;
        let status = answer.status();
        let body = answer.bytes().await.map_err(|e| unreachable(&e, &url))?;
        if !status.is_success() {
            return Err(refusal(status, &url, &body));
        }
        match unwrapped(&body) {
            Some(Value::String(token)) => {
                self.token = token;
                Ok(())
            }
            _ => Err(VimError::Malformed {
                what: format!("the answer of {url}"),
                reason: "it has no session".to_owned(),
            }),
        }
    }

    async fn get<T: serde::de::DeserializeOwned>(&mut self, path: &str) -> Result<T, VimError> {
        let path = match self.dialect {
            Dialect::Rest => format!("/rest/com/vmware/cis/{path}"),
            Dialect::Api => format!("/api/cis/{path}"),
        };
        self.send_again(Method::GET, &path, None).await
    }

    async fn post<T: serde::de::DeserializeOwned>(
        &mut self,
        path: &str,
        action: &str,
        body: Value,
    ) -> Result<T, VimError> {
        let path = match self.dialect {
            Dialect::Rest => format!("/rest/com/vmware/cis/{path}?~action={action}"),
            Dialect::Api => format!("/api/cis/{path}?action={action}"),
        };
        self.send_again(Method::POST, &path, Some(body)).await
    }

    /// Sends; once more with a new session when the old one is gone.
    async fn send_again<T: serde::de::DeserializeOwned>(
        &mut self,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> Result<T, VimError> {
        match self.send(method.clone(), path, body.clone()).await {
            Err(VimError::Http { status: 401, .. }) => {
                self.login().await?;
                self.send(method, path, body).await
            }
            answer => answer,
        }
    }

    async fn send<T: serde::de::DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> Result<T, VimError> {
        let server = &self.client.endpoint().url;
        let url =
            server.join(path).map_err(|e| VimError::Parameters(format!("{path} is no address at {server}: {e}")))?;
        let mut request = self.client.http().request(method, url.clone()).timeout(LIMIT);
        request = request.header("vmware-api-session-id", &self.token);
        if let Some(body) = &body {
            request = request.json(body);
        }
        let answer = request.send().await.map_err(|e| unreachable(&e, &url))?;
        let status = answer.status();
        let body = answer.bytes().await.map_err(|e| unreachable(&e, &url))?;
        if !status.is_success() {
            return Err(refusal(status, &url, &body));
        }
        let malformed = |reason: &dyn std::fmt::Display| VimError::Malformed {
            what: format!("the answer of {url}"),
            reason: reason.to_string(),
        };
        let value = if status == StatusCode::NO_CONTENT { Some(Value::Null) } else { unwrapped(&body) };
        // an empty list is null with some versions
        let value = match value {
            Some(Value::Null) | None if body.len() < 32 => json!([]),
            Some(value) => value,
            None => return Err(malformed(&"it is no JSON")),
        };
        serde_json::from_value(value).map_err(|e| malformed(&e))
    }
}

/// Reads an answer; `/rest` wraps it into `value`.
fn unwrapped(body: &[u8]) -> Option<Value> {
    match serde_json::from_slice(body).ok()? {
        Value::Object(mut object) if object.len() == 1 && object.contains_key("value") => object.remove("value"),
        value => Some(value),
    }
}

fn percent_encode(id: &str) -> String {
    id.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b':' => char::from(byte).to_string(),
            other => format!("%{other:02X}"),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_with_and_without_the_wrapper() {
        assert_eq!(unwrapped(br#"{"value": ["a"]}"#), Some(json!(["a"])));
        assert_eq!(unwrapped(br#"["a"]"#), Some(json!(["a"])));
        assert_eq!(unwrapped(br#"{"id": "a", "value": "b"}"#), Some(json!({"id": "a", "value": "b"})));
        assert_eq!(unwrapped(b"<html>"), None);
        assert_eq!(percent_encode("urn:vmomi:Tag:1/2?"), "urn:vmomi:Tag:1%2F2%3F");
    }
}
