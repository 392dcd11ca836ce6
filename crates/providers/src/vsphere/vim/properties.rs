//! Reading properties: of one object, of many, in pages.

use std::collections::BTreeMap;

use super::{Arg, Client, Element, Fault, MoRef, VimError};

/// How many objects are asked for at a time: some ten megabytes of VMs.
const PAGE: i64 = 500;

/// Properties of an object by their paths.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Props {
    values: BTreeMap<String, Element>,
    /// Paths that could not be read, and why.
    pub missing: Vec<(String, Fault)>,
}

impl Props {
    /// Returns a property; `None` where it is unset or could not be read.
    pub fn get(&self, path: &str) -> Option<&Element> {
        self.values.get(path)
    }

    /// Returns a property's text.
    pub fn text(&self, path: &str) -> Option<&str> {
        self.get(path)?.text("")
    }

    /// Returns a whole number.
    pub fn int(&self, path: &str) -> Option<i64> {
        self.get(path)?.int("")
    }

    /// Returns a truth value.
    pub fn bool(&self, path: &str) -> Option<bool> {
        self.get(path)?.bool("")
    }

    /// Returns a reference.
    pub fn moref(&self, path: &str) -> Option<MoRef> {
        self.get(path)?.moref("")
    }

    /// Returns a list of references.
    pub fn morefs(&self, path: &str) -> Vec<MoRef> {
        self.get(path).map(|value| value.morefs("")).unwrap_or_default()
    }

    /// Returns all that are set.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Element)> {
        self.values.iter().map(|(path, value)| (path.as_str(), value))
    }
}

/// What is read of which objects.
#[derive(Clone, Debug, PartialEq)]
pub struct FilterSpec {
    properties: Vec<Arg>,
    objects: Vec<Arg>,
}

/// An object with what was read of it.
#[derive(Clone, Debug, PartialEq)]
pub struct ObjectContent {
    /// The object.
    pub object: MoRef,
    /// Its properties.
    pub props: Props,
}

impl FilterSpec {
    /// Returns a filter for paths of a type.
    pub fn of(kind: &str, paths: &[&str]) -> Self {
        Self { properties: vec![property_spec(kind, paths)], objects: Vec::new() }
    }

    /// Adds paths of another type.
    #[must_use]
    pub fn and(mut self, kind: &str, paths: &[&str]) -> Self {
        self.properties.push(property_spec(kind, paths));
        self
    }

    /// Adds an object.
    #[must_use]
    pub fn object(mut self, object: &MoRef) -> Self {
        self.objects.push(Arg::object("objectSet", [Arg::moref("obj", object), Arg::bool("skip", false)]));
        self
    }

    /// Adds everything that is reached from an object by these selections ([`selections`](super::watch) shows one).
    #[must_use]
    pub fn reached_from(mut self, object: &MoRef, skip: bool, selections: Vec<Arg>) -> Self {
        let fields = [Arg::moref("obj", object), Arg::bool("skip", skip)];
        self.objects.push(Arg::object("objectSet", fields.into_iter().chain(selections)));
        self
    }

    /// Adds the items of a list view.
    #[must_use]
    pub fn view(self, view: &MoRef) -> Self {
        let items = Arg::object(
            "selectSet",
            [
                Arg::text("name", "items"),
                Arg::text("type", view.kind.clone()),
                Arg::text("path", "view"),
                Arg::bool("skip", false),
            ],
        );
        self.reached_from(view, true, vec![items.typed("TraversalSpec")])
    }

    pub(super) fn into_arg(self, name: &'static str) -> Arg {
        Arg::object(name, self.properties.into_iter().chain(self.objects))
    }
}

/// `PropertySpec`; no path at all means that only the object's coming and going is of interest.
fn property_spec(kind: &str, paths: &[&str]) -> Arg {
    let head = [Arg::text("type", kind.to_owned()), Arg::bool("all", false)];
    Arg::object("propSet", head.into_iter().chain(paths.iter().map(|path| Arg::text("pathSet", (*path).to_owned()))))
}

impl Client {
    /// Reads properties of one object. Paths that cannot be read are in [`Props::missing`]; an object that is gone is
    /// the fault `ManagedObjectNotFound`.
    pub async fn properties(&self, object: &MoRef, paths: &[&str]) -> Result<Props, VimError> {
        let found = self.retrieve(FilterSpec::of(&object.kind, paths).object(object)).await?;
        Ok(found.into_iter().find(|content| content.object == *object).map(|content| content.props).unwrap_or_default())
    }

    /// Reads properties of many objects, page by page.
    pub async fn retrieve(&self, filter: FilterSpec) -> Result<Vec<ObjectContent>, VimError> {
        let collector = &self.content().property_collector;
        let options = Arg::object("options", [Arg::int("maxObjects", PAGE)]);
        let mut answer = self.call("RetrievePropertiesEx", collector, &[filter.into_arg("specSet"), options]).await?;
        let mut found = Vec::new();
        loop {
            let Some(mut page) = answer.take("returnval") else { return Ok(found) };
            let token = page.text("token").filter(|token| !token.is_empty()).map(str::to_owned);
            found.extend(page.take_all("objects").filter_map(content));
            let Some(token) = token else { return Ok(found) };
            let args = [Arg::text("token", token)];
            answer = self.call("ContinueRetrievePropertiesEx", collector, &args).await?;
        }
    }
}

fn content(mut object: Element) -> Option<ObjectContent> {
    let mut props = Props::default();
    for property in object.children.iter_mut().filter(|child| &*child.name == "propSet") {
        if let (Some(value), Some(name)) = (property.take("val"), property.take("name")) {
            props.values.insert(name.text, value);
        }
    }
    props.missing = object
        .all("missingSet")
        .filter_map(|missing| Some((missing.text("path")?.to_owned(), Fault::localized(missing.get("fault")?))))
        .collect();
    Some(ObjectContent { object: object.moref("obj")?, props })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_with_what_is_missing() {
        let xml = r#"<objects xmlns:x="u"><obj type="VirtualMachine">vm-1</obj>
            <propSet><name>name</name><val x:type="xsd:string">web</val></propSet>
            <propSet><name>network</name><val x:type="ArrayOfManagedObjectReference">
              <ManagedObjectReference type="Network">network-7</ManagedObjectReference></val></propSet>
            <missingSet><path>config</path><fault><fault x:type="NoPermission"/><localizedMessage/></fault></missingSet>
          </objects>"#;
        let found = content(Element::parse(xml, Default::default()).expect("well-formed")).expect("an object");
        assert_eq!(found.object, MoRef::vm("vm-1"));
        assert_eq!(found.props.text("name"), Some("web"));
        assert_eq!(found.props.morefs("network"), [MoRef::new("Network", "network-7")]);
        let missing: Vec<_> =
            found.props.missing.iter().map(|(path, fault)| (path.as_str(), fault.kind.as_str())).collect();
        assert_eq!(missing, [("config", "NoPermission")]);
    }
}
