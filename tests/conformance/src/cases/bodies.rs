//! Bodies: what is taken and sent in which form, how large it may be, and how broken ones are told.

use std::io::Read as _;

use serde_json::{Value, json};

use crate::case::{Chapter, case, config_map};

fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let mut out = vec![number << 3 | 2, u8::try_from(bytes.len()).unwrap_or(0)];
    out.extend_from_slice(bytes);
    out
}

/// A config map in protobuf: `k8s.io/apimachinery`'s envelope `runtime.Unknown` around `core.v1.ConfigMap`.
fn config_map_in_protobuf(name: &str) -> Vec<u8> {
    let metadata = field(1, name.as_bytes());
    let pair = [field(1, b"k"), field(2, b"v")].concat();
    let object = [field(1, &metadata), field(2, &pair)].concat();
    let kind = [field(1, b"v1"), field(2, b"ConfigMap")].concat();
    [b"k8s\0".to_vec(), field(1, &kind), field(2, &object)].concat()
}

const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";

/// The chapter.
pub fn chapter() -> Chapter {
    Chapter {
        name: "bodies",
        cases: vec![
            case("YAML is taken", |c| async move {
                let yaml = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: in-yaml\ndata:\n  k: v\n";
                let a = c.request("POST", &c.core("configmaps")).body("application/yaml", yaml).send().await?;
                a.status(201)?.is("/data/k", "v")?;
                Ok(())
            }),
            case("protobuf is taken for a built-in kind", |c| async move {
                let request = c.request("POST", &c.core("configmaps")).header("accept", "application/json");
                let a = request.body(PROTOBUF, config_map_in_protobuf("p")).send().await?;
                a.status(201)?.is("/metadata/name", "p")?.is("/data/k", "v")?;
                Ok(())
            }),
            case("who prefers protobuf and also takes JSON gets one of both", |c| async move {
                c.config_map("a", json!({})).await?;
                let accept = format!("{PROTOBUF},application/json");
                let a = c.get_as(&c.core("configmaps/a"), &accept).await?;
                a.status(200)?;
                let kind = a.header("content-type");
                a.holds(kind == PROTOBUF || kind == "application/json", "protobuf or JSON expected")?;
                Ok(())
            }),
            case("a form that nobody has answers 406", |c| async move {
                let a = c.get_as(&c.core("configmaps"), "image/png").await?;
                a.failed(406, "NotAcceptable")?;
                Ok(())
            }),
            case("a body of an unknown type answers 415", |c| async move {
                let request = c.request("POST", &c.core("configmaps"));
                let a = request.body("text/csv", "a,b").send().await?;
                a.failed(415, "UnsupportedMediaType")?
                    .contains("/message", "the body of the request was in an unknown format")?;
                Ok(())
            }),
            case("a patch of an unknown type answers 415", |c| async move {
                c.config_map("a", json!({})).await?;
                let a = c.request("PATCH", &c.core("configmaps/a")).body("application/json", "{}").send().await?;
                a.failed(415, "UnsupportedMediaType")?;
                Ok(())
            }),
            case("JSON with a charset is taken", |c| async move {
                let body = config_map("a", json!({"k": "ä"})).to_string();
                let request = c.request("POST", &c.core("configmaps"));
                let a = request.body("application/json; charset=utf-8", body).send().await?;
                a.status(201)?.is("/data/k", "ä")?;
                Ok(())
            }),
            case("JSON that is broken answers 400", |c| async move {
                let a =
                    c.request("POST", &c.core("configmaps")).body("application/json", "{\"metadata\": ").send().await?;
                a.failed(400, "BadRequest")?;
                Ok(())
            }),
            case("an empty body answers 400", |c| async move {
                let a = c.request("POST", &c.core("configmaps")).body("application/json", "").send().await?;
                a.failed(400, "BadRequest")?;
                Ok(())
            }),
            case("a list instead of an object answers 400", |c| async move {
                let a = c.request("POST", &c.core("configmaps")).body("application/json", "[]").send().await?;
                a.failed(400, "BadRequest")?;
                Ok(())
            }),
            case("text for a number answers 400", |c| async move {
                let body = json!({"metadata": {"name": "s"}, "spec": {"ports": [{"port": "eighty"}]}});
                let a = c.post(&c.core("services"), &body).await?;
                a.failed(400, "BadRequest")?
                    .contains("/message", "Service in version \"v1\" cannot be handled as a Service")?;
                Ok(())
            }),
            case("another kind answers 400", |c| async move {
                let body = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}});
                let a = c.post(&c.core("configmaps"), &body).await?;
                a.failed(400, "BadRequest")?;
                Ok(())
            }),
            case("another version answers 400", |c| async move {
                let body = json!({"apiVersion": "v2", "kind": "ConfigMap", "metadata": {"name": "s"}});
                let a = c.post(&c.core("configmaps"), &body).await?;
                a.failed(400, "BadRequest")?;
                Ok(())
            }),
            case("a body over 3 MiB answers 413", |c| async move {
                let body = config_map("a", json!({"k": "x".repeat(3 << 20)}));
                let a = c.post(&c.core("configmaps"), &body).await?;
                a.failed(413, "RequestEntityTooLarge")?.says("Request entity too large: limit is 3145728")?;
                Ok(())
            }),
            case("a large answer comes in gzip to who takes it", |c| async move {
                c.config_map("big", json!({"k": "x".repeat(300_000)})).await?;
                let request = c.request("GET", &c.core("configmaps/big")).header("accept-encoding", "gzip");
                let a = request.send().await?;
                a.status(200)?.header_starts("content-encoding", "gzip")?.header_starts("vary", "Accept-Encoding")?;
                let mut text = String::new();
                flate2::read::GzDecoder::new(&a.bytes[..]).read_to_string(&mut text)?;
                let object: Value = serde_json::from_str(&text)?;
                a.holds(object["data"]["k"].as_str().is_some_and(|k| k.len() == 300_000), "the object expected")?;
                Ok(())
            }),
            case("a large list comes in gzip too", |c| async move {
                for name in ["a", "b", "c"] {
                    c.config_map(name, json!({"k": "x".repeat(150_000)})).await?;
                }
                let request = c.request("GET", &c.core("configmaps")).header("accept-encoding", "gzip");
                request.send().await?.status(200)?.header_starts("content-encoding", "gzip")?;
                Ok(())
            }),
            case("a small answer is not compressed", |c| async move {
                c.config_map("a", json!({})).await?;
                let a = c.request("GET", &c.core("configmaps/a")).header("accept-encoding", "gzip").send().await?;
                a.status(200)?.holds(a.header("content-encoding").is_empty(), "no compression expected")?;
                Ok(())
            }),
            case("answers are JSON without asking, and not to be kept", |c| async move {
                let a = c.get(&c.core("configmaps")).await?;
                a.status(200)?.header_starts("content-type", "application/json")?;
                a.header_starts("cache-control", "no-cache, private")?
                    .holds(!a.header("audit-id").is_empty(), "an Audit-Id expected")?;
                Ok(())
            }),
            case("the client's Audit-ID is kept", |c| async move {
                let request = c.request("GET", &c.core("configmaps")).header("audit-id", "mine-1");
                let a = request.send().await?;
                a.holds(a.header("audit-id") == "mine-1", "the client's own expected")?;
                Ok(())
            }),
        ],
    }
}
