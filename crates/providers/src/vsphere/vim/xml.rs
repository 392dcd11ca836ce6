//! Arguments of a call, and the SOAP envelope around them. Everything that goes into it is escaped.

use std::borrow::Cow;
use std::fmt;

use super::{MoRef, Secret};

type Text = Cow<'static, str>;

/// An argument, or a field of one. vCenter wants fields in the order of the schema.
#[derive(Clone, Debug, PartialEq)]
pub struct Arg {
    name: Text,
    /// `xsi:type`, where the declared type is a base or `anyType`.
    xsi_type: Option<Text>,
    /// The attribute `type` of a reference.
    kind: Option<Text>,
    body: Body,
}

#[derive(Clone, PartialEq)]
enum Body {
    Text(Text),
    Secret(Secret),
    Fields(Vec<Arg>),
}

impl Arg {
    /// Returns a text, enumeration value or time.
    pub fn text(name: impl Into<Text>, value: impl Into<Text>) -> Self {
        Self::new(name, Body::Text(value.into()))
    }

    /// Returns a whole number.
    pub fn int(name: impl Into<Text>, value: i64) -> Self {
        Self::text(name, value.to_string())
    }

    /// Returns a truth value.
    pub fn bool(name: impl Into<Text>, value: bool) -> Self {
        Self::text(name, if value { "true" } else { "false" })
    }

    /// Returns a text that no log shows.
    pub fn secret(name: impl Into<Text>, value: &Secret) -> Self {
        Self::new(name, Body::Secret(value.clone()))
    }

    /// Returns a reference.
    pub fn moref(name: impl Into<Text>, value: &MoRef) -> Self {
        Self { kind: Some(value.kind.clone().into()), ..Self::text(name, value.value.clone()) }
    }

    /// Returns a structure.
    pub fn object(name: impl Into<Text>, fields: impl IntoIterator<Item = Arg>) -> Self {
        Self::new(name, Body::Fields(fields.into_iter().collect()))
    }

    /// Names the type, for structures whose declared type is a base (`TraversalSpec` in a `SelectionSpec`).
    #[must_use]
    pub fn typed(self, xsi_type: impl Into<Text>) -> Self {
        Self { xsi_type: Some(xsi_type.into()), ..self }
    }

    fn new(name: impl Into<Text>, body: Body) -> Self {
        Self { name: name.into(), xsi_type: None, kind: None, body }
    }

    fn write(&self, out: &mut String) {
        out.push('<');
        out.push_str(&self.name);
        for (attribute, value) in [(" xsi:type=\"", &self.xsi_type), (" type=\"", &self.kind)] {
            if let Some(value) = value {
                out.push_str(attribute);
                escape(value, out);
                out.push('"');
            }
        }
        out.push('>');
        match &self.body {
            Body::Text(text) => escape(text, out),
            Body::Secret(secret) => escape(secret.expose(), out),
            Body::Fields(fields) => fields.iter().for_each(|field| field.write(out)),
        }
        out.push_str("</");
        out.push_str(&self.name);
        out.push('>');
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Body::Text(text) => text.fmt(f),
            Body::Secret(secret) => secret.fmt(f),
            Body::Fields(fields) => fields.fmt(f),
        }
    }
}

/// Returns the envelope of a call.
pub fn envelope(method: &str, this: &MoRef, args: &[Arg]) -> String {
    let mut out = String::with_capacity(1024);
    out.push_str(concat!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>",
        "<soapenv:Envelope xmlns:soapenv=\"http://schemas.xmlsoap.org/soap/envelope/\"",
        " xmlns:xsd=\"http://www.w3.org/2001/XMLSchema\"",
        " xmlns:xsi=\"http://www.w3.org/2001/XMLSchema-instance\"><soapenv:Body><",
    ));
    out.push_str(method);
    out.push_str(" xmlns=\"urn:vim25\">");
    Arg::moref("_this", this).write(&mut out);
    args.iter().for_each(|arg| arg.write(&mut out));
    out.push_str("</");
    out.push_str(method);
    out.push_str("></soapenv:Body></soapenv:Envelope>");
    out
}

/// Writes a text so that a reader gets it back, in an element or an attribute.
fn escape(text: &str, out: &mut String) {
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&apos;"),
            // readers turn a bare one into a line feed or a blank
            '\r' => out.push_str("&#13;"),
            '\n' => out.push_str("&#10;"),
            '\t' => out.push_str("&#9;"),
            // XML 1.0 has no way to write them
            '\0'..='\u{1f}' | '\u{fffe}' | '\u{ffff}' => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vsphere::vim::Element;
    use expect_test::expect;
    use proptest::prelude::*;

    #[test]
    fn an_envelope_with_every_kind_of_argument() {
        let args = [
            Arg::text("name", "a<b & \"c\""),
            Arg::bool("memory", false),
            Arg::int("maxObjects", 100),
            Arg::moref("snapshot", &MoRef::new("VirtualMachineSnapshot", "snapshot-1")),
            Arg::object("spec", [Arg::text("val", "x").typed("xsd:string")]).typed("TraversalSpec"),
        ];
        let text = envelope("Method", &MoRef::vm("vm-1"), &args);
        let (_, body) = text.split_once("<soapenv:Body>").expect("a body");
        expect![[r#"<Method xmlns="urn:vim25"><_this type="VirtualMachine">vm-1</_this><name>a&lt;b &amp; &quot;c&quot;</name><memory>false</memory><maxObjects>100</maxObjects><snapshot type="VirtualMachineSnapshot">snapshot-1</snapshot><spec xsi:type="TraversalSpec"><val xsi:type="xsd:string">x</val></spec></Method></soapenv:Body></soapenv:Envelope>"#]]
        .assert_eq(body);
    }

    #[test]
    fn a_password_is_sent_and_not_shown() {
        let arg = Arg::secret("password", &Secret::new("hun&ter2"));
        assert!(!format!("{arg:?}").contains("ter2"));
        let text = envelope("Login", &MoRef::vm("x"), &[arg]);
        assert!(text.contains("<password>hun&amp;ter2</password>"), "{text}");
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(text in "\\PC*[\r\n\t<&\"']*\\PC*") {
            let envelope = envelope("Method", &MoRef::new(text.as_str(), "id"), &[Arg::text("name", text.clone())]);
            let read = Element::parse(&envelope, Default::default()).expect("well-formed");
            let call = read.get("Body.Method").expect("the call");
            prop_assert_eq!(call.text("name"), Some(text.as_str()));
            prop_assert_eq!(call.get("_this").and_then(|e| e.attr("type")), Some(text.as_str()));
        }
    }
}
