//! What a provider keeps of a thing, and how its JSON comes out of that.
//!
//! A record holds one representation: the provider's own type. JSON is made from
//! it when it is asked for, straight into the answer: whole, or only the keys of
//! a detail level, or only those that a query looks at.
//!
//! ```text
//! Native (one method: show) ─► Resource (any type behind one door)
//!    show ─► Sink ─► text of a level │ a Value │ some keys as Values
//! ```

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde::ser::SerializeMap;
use serde::{Deserialize, Serialize, Serializer};
use serde_json::{Map, Value};

use crate::project::{Picked, Projection};
use crate::{Field, Verdict};

/// A provider's own type of a thing.
///
/// Equality decides whether a collector's draft says anything new. The type's
/// own `Serialize` is the format of the snapshot on disk; what users see is [`Native::show`].
pub trait Native: PartialEq + Serialize + Send + Sync + 'static {
    /// Puts the full resource into the sink, once: a value that serialises to an
    /// object with upstream's keys in upstream's order. Keys of lower detail
    /// levels are among them ([`crate::KindSpec`] names those).
    fn show(&self, shown: &Shown<'_>, sink: &mut Sink<'_>);
}

/// Any [`Native`], behind one door.
pub trait Resource: Any + Send + Sync {
    /// Puts the full resource into the sink.
    fn show(&self, shown: &Shown<'_>, sink: &mut Sink<'_>);
    /// Returns whether the other says the same.
    fn same(&self, other: &dyn Resource) -> bool;
    /// Returns the text for the snapshot on disk; `None` when it cannot be written.
    fn save(&self) -> Option<String>;
}

impl<T: Native> Resource for T {
    fn show(&self, shown: &Shown<'_>, sink: &mut Sink<'_>) {
        Native::show(self, shown, sink);
    }

    fn same(&self, other: &dyn Resource) -> bool {
        (other as &dyn Any).downcast_ref::<T>() == Some(self)
    }

    fn save(&self) -> Option<String> {
        serde_json::to_string(self).ok()
    }
}

/// Reads a resource back from its text in a snapshot; for [`crate::KindSpec::restore`].
pub fn restore<T: Native + DeserializeOwned>(text: &str) -> Option<Arc<dyn Resource>> {
    let native: T = serde_json::from_str(text).ok()?;
    Some(Arc::new(native))
}

/// What the store knows of a record, for the keys that the resource does not hold itself.
#[derive(Clone, Copy, Debug)]
pub struct Shown<'a> {
    /// The id.
    pub id: &'a str,
    /// The name.
    pub name: &'a str,
    /// The path.
    pub path: &'a str,
    /// The revision.
    pub revision: u64,
    /// The link to itself; serialises to text.
    pub self_link: SelfLink<'a>,
    /// What validation found.
    pub verdict: &'a Verdict,
}

/// A resource's `selfLink`, `providers/<type>/<uid>/<collection>/<id>`.
#[derive(Clone, Copy, Debug)]
pub struct SelfLink<'a> {
    pub(crate) provider_type: &'a str,
    pub(crate) uid: &'a str,
    pub(crate) kind: &'a str,
    pub(crate) id: &'a str,
}

impl fmt::Display for SelfLink<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "providers/{}/{}/{}/{}", self.provider_type, self.uid, self.kind, self.id)
    }
}

impl Serialize for SelfLink<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Where a resource's JSON goes.
pub struct Sink<'a>(Mode<'a>);

enum Mode<'a> {
    Text(&'a mut Vec<u8>),
    Level(&'a [Field], &'a mut Vec<u8>),
    Pick(&'a [&'a str], &'a mut Map<String, Value>),
}

impl<'a> Sink<'a> {
    /// Takes the whole resource as text.
    pub fn text(out: &'a mut Vec<u8>) -> Self {
        Self(Mode::Text(out))
    }

    /// Takes some keys as text, in the order of the fields.
    pub fn level(fields: &'a [Field], out: &'a mut Vec<u8>) -> Self {
        Self(Mode::Level(fields, out))
    }

    /// Takes some keys as values; keys that the resource lacks stay absent.
    pub fn pick(keys: &'a [&'a str], out: &'a mut Map<String, Value>) -> Self {
        Self(Mode::Pick(keys, out))
    }

    /// Takes the resource. What cannot be serialised (maps with keys that are no
    /// text) comes out as `null`, with a log line.
    pub fn put<T: Serialize + ?Sized>(&mut self, value: &T) {
        let result = match &mut self.0 {
            Mode::Text(out) => {
                let begin = out.len();
                serde_json::to_writer(&mut **out, value).inspect_err(|_| {
                    out.truncate(begin);
                    out.extend_from_slice(b"null");
                })
            }
            Mode::Level(fields, out) => {
                let mut picked = Picked::Texts(Vec::with_capacity(fields.len()), Vec::with_capacity(256));
                let position = |key: &str| fields.iter().position(|field| field.source() == Some(key));
                let done = value.serialize(Projection { position: &position, picked: &mut picked });
                picked.write(fields, out);
                done
            }
            Mode::Pick(keys, out) => {
                let position = |key: &str| keys.iter().position(|wanted| *wanted == key);
                value.serialize(Projection { position: &position, picked: &mut Picked::Values(out) })
            }
        };
        if let Err(error) = result {
            tracing::error!(%error, "a resource cannot be shown as JSON");
        }
    }
}

/// A resource that is JSON already: for providers whose own objects are shown.
///
/// Where it has the keys `revision`, `revisionValidated`, `policyVersion` or
/// `concerns`, the store's values take their place.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Json(pub Value);

impl Native for Json {
    fn show(&self, shown: &Shown<'_>, sink: &mut Sink<'_>) {
        match &self.0 {
            Value::Object(object) => sink.put(&Stamped { object, shown }),
            other => sink.put(other),
        }
    }
}

struct Stamped<'a> {
    object: &'a Map<String, Value>,
    shown: &'a Shown<'a>,
}

impl Serialize for Stamped<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.object.len()))?;
        let verdict = self.shown.verdict;
        for (key, value) in self.object {
            match key.as_str() {
                "revision" => map.serialize_entry(key, &self.shown.revision)?,
                "revisionValidated" => map.serialize_entry(key, &verdict.revision)?,
                "policyVersion" => map.serialize_entry(key, &verdict.policy_version)?,
                "concerns" => map.serialize_entry(key, &verdict.concerns)?,
                _ => map.serialize_entry(key, value)?,
            }
        }
        map.end()
    }
}
