//! A decoded XML element: lenient and bounded.
//!
//! vCenter's answers differ from 6.5 to 9 and the simulator leaves fields out, so nothing here knows a schema:
//! unknown types and missing fields are simply there or not. Names lose their prefixes, `xsi:type` is kept apart, and
//! names are shared between the elements of a document.

use std::collections::HashSet;
use std::sync::Arc;

use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};

use super::MoRef;

/// A name, shared by all elements of a document that have it.
pub type Name = Arc<str>;

/// An XML element with its children.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Element {
    /// Name without prefix.
    pub name: Name,
    /// Value of `xsi:type` without prefix (`VirtualDisk`, `string`, `ArrayOfVirtualDevice` …).
    pub xsi_type: Option<Name>,
    /// The other attributes, names without prefixes. `type` of a reference is one.
    pub attrs: Vec<(Name, String)>,
    /// Text, entities resolved; empty where there are children.
    pub text: String,
    /// Child elements in their order.
    pub children: Vec<Element>,
}

/// How much a document may hold before it is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Elements within elements.
    pub depth: usize,
    /// Elements in all.
    pub elements: usize,
}

impl Default for Bounds {
    /// Snapshot trees are the deepest thing (32 levels); a page of the property collector has some 700,000 elements.
    fn default() -> Self {
        Self { depth: 256, elements: 4_000_000 }
    }
}

/// Why a document cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// It is not well-formed XML.
    #[error("not well-formed XML at byte {at}: {reason}")]
    Syntax {
        /// Where.
        at: u64,
        /// What is wrong.
        reason: String,
    },
    /// It is larger than what is read.
    #[error("more than {limit} {what}")]
    Bounds {
        /// Levels or elements.
        what: &'static str,
        /// How many there may be.
        limit: usize,
    },
    /// There is no element.
    #[error("no XML element in it")]
    Empty,
}

impl Element {
    /// Reads a document; `Err` for anything that is not well-formed or is too large.
    pub fn parse(xml: &str, bounds: Bounds) -> Result<Self, ParseError> {
        let mut reader = Reader::from_str(xml);
        let mut names = Names::default();
        let mut open: Vec<Element> = Vec::new();
        let mut count = 0;
        loop {
            let at = reader.buffer_position();
            let syntax = |reason: &dyn std::fmt::Display| ParseError::Syntax { at, reason: reason.to_string() };
            match reader.read_event().map_err(|e| syntax(&e))? {
                Event::Start(start) => {
                    count += 1;
                    bounds.permit(open.len(), count)?;
                    open.push(names.element(&start).map_err(|e| syntax(&e))?);
                }
                Event::Empty(start) => {
                    count += 1;
                    bounds.permit(open.len(), count)?;
                    let element = names.element(&start).map_err(|e| syntax(&e))?;
                    match open.last_mut() {
                        Some(parent) => parent.adopt(element),
                        None => return Ok(element),
                    }
                }
                Event::End(_) => {
                    let Some(element) = open.pop() else { return Err(syntax(&"an end without a start")) };
                    match open.last_mut() {
                        Some(parent) => parent.adopt(element),
                        None => return Ok(element),
                    }
                }
                Event::Text(text) => {
                    if let Some(element) = open.last_mut().filter(|e| e.children.is_empty()) {
                        element.text.push_str(&text.xml10_content());
                    }
                }
                Event::CData(text) => {
                    if let Some(element) = open.last_mut().filter(|e| e.children.is_empty()) {
                        element.text.push_str(&text.xml10_content());
                    }
                }
                Event::GeneralRef(reference) => {
                    let Some(element) = open.last_mut().filter(|e| e.children.is_empty()) else { continue };
                    match reference.resolve_char_ref().map_err(|e| syntax(&e))? {
                        Some(c) => element.text.push(c),
                        None => match quick_xml::escape::resolve_xml_entity(&reference) {
                            Some(text) => element.text.push_str(text),
                            None => return Err(syntax(&format!("unknown entity &{};", &*reference))),
                        },
                    }
                }
                // entities could be declared there, to be expanded without end
                Event::DocType(_) => return Err(syntax(&"a document type declaration")),
                Event::Comment(_) | Event::Decl(_) | Event::PI(_) => {}
                Event::Eof if open.is_empty() => return Err(ParseError::Empty),
                Event::Eof => return Err(syntax(&"the document ends within an element")),
            }
        }
    }

    fn adopt(&mut self, child: Element) {
        if self.children.is_empty() {
            // white space before the first child
            self.text = String::new();
        }
        self.children.push(child);
    }

    /// Returns the element at a path of names, `config.hardware.numCPU`: the first of each name; itself for `""`.
    pub fn get(&self, path: &str) -> Option<&Element> {
        if path.is_empty() {
            return Some(self);
        }
        path.split('.').try_fold(self, |element, name| element.all(name).next())
    }

    /// Returns the children of a name.
    pub fn all<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a Element> {
        self.children.iter().filter(move |child| &*child.name == name)
    }

    /// Returns the children, whatever their names: the items of an `ArrayOf…` value.
    pub fn items(&self) -> impl Iterator<Item = &Element> {
        self.children.iter()
    }

    /// Returns the text at a path.
    pub fn text(&self, path: &str) -> Option<&str> {
        self.get(path).map(|element| element.text.as_str())
    }

    /// Returns the whole number at a path.
    pub fn int(&self, path: &str) -> Option<i64> {
        self.text(path)?.trim().parse().ok()
    }

    /// Returns the truth value at a path (`true`, `false`, `1`, `0`).
    pub fn bool(&self, path: &str) -> Option<bool> {
        match self.text(path)?.trim() {
            "true" | "1" => Some(true),
            "false" | "0" => Some(false),
            _ => None,
        }
    }

    /// Returns the reference at a path: an element whose attribute `type` names the kind.
    pub fn moref(&self, path: &str) -> Option<MoRef> {
        let element = self.get(path)?;
        let kind = element.attr("type")?;
        (!element.text.is_empty()).then(|| MoRef::new(kind, &element.text))
    }

    /// Returns the references among the items at a path (`ArrayOfManagedObjectReference`).
    pub fn morefs(&self, path: &str) -> Vec<MoRef> {
        self.get(path).into_iter().flat_map(Element::items).filter_map(|item| item.moref("")).collect()
    }

    /// Takes the first child of a name out, for answers whose values are kept: a copy of a large one is a second tree.
    pub fn take(&mut self, name: &str) -> Option<Element> {
        self.children.iter_mut().find(|child| &*child.name == name).map(std::mem::take)
    }

    /// Takes all children of a name out.
    pub fn take_all(&mut self, name: &str) -> impl Iterator<Item = Element> {
        std::mem::take(&mut self.children).into_iter().filter(move |child| &*child.name == name)
    }

    /// Returns an attribute's value.
    pub fn attr(&self, name: &str) -> Option<&str> {
        self.attrs.iter().find(|(key, _)| &**key == name).map(|(_, value)| value.as_str())
    }

    /// Returns whether `xsi:type` is this one.
    pub fn is_a(&self, type_name: &str) -> bool {
        self.xsi_type.as_deref() == Some(type_name)
    }
}

impl Bounds {
    fn permit(&self, depth: usize, elements: usize) -> Result<(), ParseError> {
        if depth >= self.depth {
            return Err(ParseError::Bounds { what: "levels", limit: self.depth });
        }
        if elements > self.elements {
            return Err(ParseError::Bounds { what: "elements", limit: self.elements });
        }
        Ok(())
    }
}

/// The names of a document. There are some hundred of them, and a hundred thousand elements.
#[derive(Default)]
struct Names(HashSet<Name>);

impl Names {
    fn shared(&mut self, name: &str) -> Name {
        if let Some(known) = self.0.get(name) {
            return known.clone();
        }
        let new: Name = name.into();
        // names that somebody makes up by the million are not kept twice
        if self.0.len() < 10_000 {
            self.0.insert(new.clone());
        }
        new
    }

    fn element(&mut self, start: &BytesStart<'_>) -> Result<Element, quick_xml::Error> {
        let mut element = Element { name: self.shared(start.local_name().as_ref()), ..Element::default() };
        let mut attributes = start.attributes();
        attributes.with_checks(false);
        for attribute in attributes {
            let attribute = attribute?;
            let (prefix, local) = match attribute.key.as_ref().split_once(':') {
                Some((prefix, local)) => (prefix, local),
                None => ("", attribute.key.as_ref()),
            };
            if prefix == "xmlns" || (prefix.is_empty() && local == "xmlns") {
                continue;
            }
            let value = attribute.normalized_value(quick_xml::XmlVersion::Implicit1_0)?;
            if local == "type" && !prefix.is_empty() {
                element.xsi_type = Some(self.shared(value.rsplit(':').next().unwrap_or_default()));
            } else {
                element.attrs.push((self.shared(local), value.into_owned()));
            }
        }
        Ok(element)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(xml: &str) -> Element {
        Element::parse(xml, Bounds::default()).expect("well-formed")
    }

    const DEVICE: &str = r#"<?xml version="1.0" encoding="UTF-8"?>
<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance">
 <val xmlns="urn:vim25" xsi:type="vim25:ArrayOfVirtualDevice">
  <VirtualDevice XMLSchema-instance:type="VirtualDisk" xmlns:XMLSchema-instance="http://www.w3.org/2001/XMLSchema-instance">
   <key>2000</key><shared>0</shared>
   <backing><fileName>[ds &amp; more] web/web&#46;vmdk</fileName><datastore type="Datastore">datastore-1</datastore></backing>
  </VirtualDevice>
  <VirtualDevice><key> 2001 </key><label><![CDATA[a <b>]]></label></VirtualDevice>
 </val>
</s:Envelope>"#;

    #[test]
    fn a_device_is_read_by_paths() {
        let envelope = parse(DEVICE);
        let devices = envelope.get("val").expect("the value");
        assert!(devices.is_a("ArrayOfVirtualDevice") && devices.text.is_empty() && devices.items().count() == 2);
        let disk = devices.items().next().expect("the disk");
        assert!(disk.is_a("VirtualDisk") && !disk.is_a("VirtualCdrom"));
        assert_eq!((disk.int("key"), disk.bool("shared"), disk.bool("key")), (Some(2000), Some(false), None));
        assert_eq!(disk.text("backing.fileName"), Some("[ds & more] web/web.vmdk"));
        assert_eq!(disk.moref("backing.datastore"), Some(MoRef::new("Datastore", "datastore-1")));
        assert_eq!((disk.get("backing.none"), disk.moref("key")), (None, None));
        let other = devices.all("VirtualDevice").nth(1).expect("the other");
        assert_eq!((other.int("key"), other.text("label")), (Some(2001), Some("a <b>")));
    }

    #[test]
    fn children_are_taken_out() {
        let mut found = parse("<a><b>1</b><c/><b>2</b></a>");
        assert_eq!(found.take("b").map(|b| b.text), Some("1".to_owned()));
        assert_eq!(found.take("d"), None);
        assert_eq!(found.take_all("b").map(|b| b.text).collect::<Vec<_>>(), ["2"]);
    }

    #[test]
    fn names_are_shared() {
        let found = parse("<a><b/><b/></a>");
        assert!(Arc::ptr_eq(&found.children[0].name, &found.children[1].name));
    }

    #[test]
    fn what_is_broken_or_too_much_is_refused() {
        for (xml, reason) in [
            ("", "no XML element"),
            ("text", "no XML element"),
            ("<a><b></a>", "not well-formed"),
            ("<a", "not well-formed"),
            ("<a>", "ends within an element"),
            ("</a>", "not well-formed"),
            ("<a>&lol;</a>", "unknown entity &lol;"),
            ("<!DOCTYPE a [<!ENTITY lol \"lol\">]><a>&lol;</a>", "a document type declaration"),
            ("<a b=\"&lol;\"/>", "not well-formed"),
        ] {
            let error = Element::parse(xml, Bounds::default()).expect_err(xml).to_string();
            assert!(error.contains(reason), "{xml}: {error}");
        }
        let small = Bounds { depth: 3, elements: 5 };
        assert!(Element::parse("<a><b><c/></b><d/><d/></a>", small).is_ok());
        let deep = Element::parse("<a><b><c><d/></c></b></a>", small);
        assert_eq!(deep, Err(ParseError::Bounds { what: "levels", limit: 3 }));
        let many = Element::parse("<a><b/><b/><b/><b/><b/></a>", small);
        assert_eq!(many, Err(ParseError::Bounds { what: "elements", limit: 5 }));
        let bomb = "<a>".repeat(1_000_000);
        assert_eq!(Element::parse(&bomb, Bounds::default()), Err(ParseError::Bounds { what: "levels", limit: 256 }));
    }

    proptest! {
        #[test]
        fn nothing_makes_it_panic(xml in "(<[a-c:/!?\\[ =\"'-]{0,6}>?|&[#x0-9a-z]{0,4};?|[ a-c]|\\PC){0,40}") {
            let _ = Element::parse(&xml, Bounds { depth: 8, elements: 50 });
        }

        #[test]
        fn a_damaged_answer_makes_no_panic(at in 0..DEVICE.len(), with in "\\PC{0,3}", cut in any::<bool>()) {
            let head: String = DEVICE.chars().take(at).collect();
            let tail: String = DEVICE.chars().skip(at + 1).filter(|_| !cut).collect();
            if let Ok(element) = Element::parse(&format!("{head}{with}{tail}"), Bounds::default()) {
                // and what is read of it neither
                let _ = (element.get("val.VirtualDevice.key"), element.moref("val"), element.int("val"));
            }
        }
    }
}
