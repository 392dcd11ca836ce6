//! Every function and operator with its types, in one table. A name may have several lines (overloads).
//!
//! `target.(arguments) result` is a member, `(arguments) result` a function; `A` and `B` stand for any one type.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use super::types::Type;

/// One overload.
pub struct Signature {
    /// Whether it is called on its first argument.
    pub member: bool,
    /// Types of the arguments, the target first.
    pub args: Vec<Type>,
    /// Type of the result.
    pub result: Type,
}

const TABLE: &[(&str, &str)] = &[
    // operators
    ("_==_", "(A, A) bool"),
    ("_!=_", "(A, A) bool"),
    ("!_", "(bool) bool"),
    ("-_", "(int) int; (double) double"),
    (
        "_+_",
        "(int, int) int; (uint, uint) uint; (double, double) double; (string, string) string; (bytes, bytes) bytes; (list(A), list(A)) list(A); (timestamp, duration) timestamp; (duration, timestamp) timestamp; (duration, duration) duration",
    ),
    (
        "_-_",
        "(int, int) int; (uint, uint) uint; (double, double) double; (timestamp, timestamp) duration; (timestamp, duration) timestamp; (duration, duration) duration",
    ),
    ("_*_", "(int, int) int; (uint, uint) uint; (double, double) double"),
    ("_/_", "(int, int) int; (uint, uint) uint; (double, double) double"),
    ("_%_", "(int, int) int; (uint, uint) uint"),
    ("_<_", ORDER),
    ("_<=_", ORDER),
    ("_>_", ORDER),
    ("_>=_", ORDER),
    ("@in", "(A, list(A)) bool; (A, map(A, B)) bool"),
    // standard library
    (
        "size",
        "(string) int; (bytes) int; (list(A)) int; (map(A, B)) int; string.() int; bytes.() int; list(A).() int; map(A, B).() int",
    ),
    ("startsWith", "string.(string) bool"),
    ("endsWith", "string.(string) bool"),
    ("contains", "string.(string) bool; net.CIDR.(string) bool; net.CIDR.(net.IP) bool"),
    ("matches", "string.(string) bool; (string, string) bool"),
    ("int", "(int) int; (uint) int; (double) int; (string) int; (timestamp) int; (duration) int"),
    ("uint", "(uint) uint; (int) uint; (double) uint; (string) uint"),
    ("double", "(double) double; (int) double; (uint) double; (string) double"),
    (
        "string",
        "(string) string; (bool) string; (int) string; (uint) string; (double) string; (bytes) string; (timestamp) string; (duration) string; (net.IP) string; (net.CIDR) string",
    ),
    ("bytes", "(bytes) bytes; (string) bytes"),
    ("bool", "(bool) bool; (string) bool"),
    ("timestamp", "(string) timestamp; (timestamp) timestamp; (int) timestamp"),
    ("duration", "(string) duration; (duration) duration; (int) duration"),
    ("type", "(A) type"),
    ("dyn", "(A) dyn"),
    ("getFullYear", MOMENT),
    ("getMonth", MOMENT),
    ("getDayOfYear", MOMENT),
    ("getDayOfMonth", MOMENT),
    ("getDate", MOMENT),
    ("getDayOfWeek", MOMENT),
    ("getHours", "timestamp.() int; timestamp.(string) int; duration.() int"),
    ("getMinutes", "timestamp.() int; timestamp.(string) int; duration.() int"),
    ("getSeconds", "timestamp.() int; timestamp.(string) int; duration.() int"),
    ("getMilliseconds", "timestamp.() int; timestamp.(string) int; duration.() int"),
    // strings extension, version 2
    ("charAt", "string.(int) string"),
    ("indexOf", "string.(string) int; string.(string, int) int; list(A).(A) int"),
    ("lastIndexOf", "string.(string) int; string.(string, int) int; list(A).(A) int"),
    ("lowerAscii", "string.() string"),
    ("upperAscii", "string.() string"),
    ("replace", "string.(string, string) string; string.(string, string, int) string"),
    ("split", "string.(string) list(string); string.(string, int) list(string)"),
    ("substring", "string.(int) string; string.(int, int) string"),
    ("trim", "string.() string"),
    ("join", "list(string).() string; list(string).(string) string"),
    ("format", "string.(list(dyn)) string"),
    ("strings.quote", "(string) string"),
    // Kubernetes' libraries
    ("find", "string.(string) string"),
    ("findAll", "string.(string) list(string); string.(string, int) list(string)"),
    (
        "isSorted",
        "list(int).() bool; list(uint).() bool; list(double).() bool; list(bool).() bool; list(duration).() bool; list(timestamp).() bool; list(string).() bool; list(bytes).() bool",
    ),
    ("sum", "list(int).() int; list(uint).() uint; list(double).() double; list(duration).() duration"),
    ("min", LEAST),
    ("max", LEAST),
    ("sets.contains", "(list(A), list(A)) bool"),
    ("sets.equivalent", "(list(A), list(A)) bool"),
    ("sets.intersects", "(list(A), list(A)) bool"),
    ("url", "(string) kubernetes.URL"),
    ("isURL", "(string) bool"),
    ("getScheme", "kubernetes.URL.() string"),
    ("getHost", "kubernetes.URL.() string"),
    ("getHostname", "kubernetes.URL.() string"),
    ("getPort", "kubernetes.URL.() string"),
    ("getEscapedPath", "kubernetes.URL.() string"),
    ("getQuery", "kubernetes.URL.() map(string, list(string))"),
    ("ip", "(string) net.IP; net.CIDR.() net.IP"),
    ("isIP", "(string) bool"),
    ("ip.isCanonical", "(string) bool"),
    ("family", "net.IP.() int"),
    ("isUnspecified", "net.IP.() bool"),
    ("isLoopback", "net.IP.() bool"),
    ("isLinkLocalMulticast", "net.IP.() bool"),
    ("isLinkLocalUnicast", "net.IP.() bool"),
    ("isGlobalUnicast", "net.IP.() bool"),
    ("cidr", "(string) net.CIDR"),
    ("isCIDR", "(string) bool"),
    ("containsIP", "net.CIDR.(string) bool; net.CIDR.(net.IP) bool"),
    ("containsCIDR", "net.CIDR.(string) bool; net.CIDR.(net.CIDR) bool"),
    ("prefixLength", "net.CIDR.() int"),
    ("masked", "net.CIDR.() net.CIDR"),
    ("quantity", "(string) kubernetes.Quantity"),
    ("isQuantity", "(string) bool"),
    ("sign", "kubernetes.Quantity.() int"),
    ("isGreaterThan", COMPARES),
    ("isLessThan", COMPARES),
    ("compareTo", "kubernetes.Quantity.(kubernetes.Quantity) int; kubernetes.Semver.(kubernetes.Semver) int"),
    ("asApproximateFloat", "kubernetes.Quantity.() double"),
    ("asInteger", "kubernetes.Quantity.() int"),
    ("isInteger", "kubernetes.Quantity.() bool"),
    (
        "add",
        "kubernetes.Quantity.(kubernetes.Quantity) kubernetes.Quantity; kubernetes.Quantity.(int) kubernetes.Quantity",
    ),
    (
        "sub",
        "kubernetes.Quantity.(kubernetes.Quantity) kubernetes.Quantity; kubernetes.Quantity.(int) kubernetes.Quantity",
    ),
    ("semver", "(string) kubernetes.Semver; (string, bool) kubernetes.Semver"),
    ("isSemver", "(string) bool; (string, bool) bool"),
    ("major", "kubernetes.Semver.() int"),
    ("minor", "kubernetes.Semver.() int"),
    ("patch", "kubernetes.Semver.() int"),
    ("format.named", "(string) optional(kubernetes.NamedFormat)"),
    ("validate", "kubernetes.NamedFormat.(string) optional(list(string))"),
    // optional values
    ("optional.of", "(A) optional(A)"),
    ("optional.ofNonZeroValue", "(A) optional(A)"),
    ("optional.none", "() optional(dyn)"),
    ("hasValue", "optional(A).() bool"),
    ("value", "optional(A).() A"),
    ("or", "optional(A).(optional(A)) optional(A)"),
    ("orValue", "optional(A).(A) A"),
    // the requester's rights
    ("group", "kubernetes.authorization.Authorizer.(string) kubernetes.authorization.GroupCheck"),
    ("path", "kubernetes.authorization.Authorizer.(string) kubernetes.authorization.PathCheck"),
    ("serviceAccount", "kubernetes.authorization.Authorizer.(string, string) kubernetes.authorization.Authorizer"),
    ("resource", "kubernetes.authorization.GroupCheck.(string) kubernetes.authorization.ResourceCheck"),
    ("subresource", "kubernetes.authorization.ResourceCheck.(string) kubernetes.authorization.ResourceCheck"),
    ("namespace", "kubernetes.authorization.ResourceCheck.(string) kubernetes.authorization.ResourceCheck"),
    ("name", "kubernetes.authorization.ResourceCheck.(string) kubernetes.authorization.ResourceCheck"),
    (
        "check",
        "kubernetes.authorization.ResourceCheck.(string) kubernetes.authorization.Decision; kubernetes.authorization.PathCheck.(string) kubernetes.authorization.Decision",
    ),
    ("allowed", "kubernetes.authorization.Decision.() bool"),
    ("reason", "kubernetes.authorization.Decision.() string"),
    ("errored", "kubernetes.authorization.Decision.() bool"),
    ("error", "kubernetes.authorization.Decision.() string"),
];

const ORDER: &str = "(bool, bool) bool; (int, int) bool; (uint, uint) bool; (double, double) bool; (int, uint) bool; (int, double) bool; (uint, int) bool; (uint, double) bool; (double, int) bool; (double, uint) bool; (string, string) bool; (bytes, bytes) bool; (timestamp, timestamp) bool; (duration, duration) bool";
const MOMENT: &str = "timestamp.() int; timestamp.(string) int";
const LEAST: &str = "list(int).() int; list(uint).() uint; list(double).() double; list(bool).() bool; list(duration).() duration; list(timestamp).() timestamp; list(string).() string; list(bytes).() bytes";
const COMPARES: &str = "kubernetes.Quantity.(kubernetes.Quantity) bool; kubernetes.Semver.(kubernetes.Semver) bool";

/// Named formats, each a function without arguments in `format.`.
pub const FORMATS: &[&str] = &[
    "dns1123Label",
    "dns1123Subdomain",
    "dns1035Label",
    "qualifiedName",
    "dns1123LabelPrefix",
    "dns1123SubdomainPrefix",
    "dns1035LabelPrefix",
    "labelValue",
    "uri",
    "uuid",
    "byte",
    "date",
    "datetime",
];

/// Names of types, which are values in CEL.
pub const TYPE_NAMES: &[&str] = &[
    "bool",
    "int",
    "uint",
    "double",
    "string",
    "bytes",
    "list",
    "map",
    "null_type",
    "type",
    "optional_type",
    "google.protobuf.Timestamp",
    "google.protobuf.Duration",
    "net.IP",
    "net.CIDR",
    "kubernetes.Quantity",
    "kubernetes.URL",
];

static SIGNATURES: LazyLock<HashMap<String, Vec<Signature>>> = LazyLock::new(|| {
    let mut all: HashMap<String, Vec<Signature>> = HashMap::new();
    for (name, overloads) in TABLE {
        let overloads = overloads.split(';').map(|text| read_signature(text.trim())).collect();
        all.insert((*name).to_string(), overloads);
    }
    for name in FORMATS {
        let format = Signature { member: false, args: Vec::new(), result: Type::Opaque("kubernetes.NamedFormat") };
        all.insert(format!("format.{name}"), vec![format]);
    }
    all
});

/// The overloads of a function; None when there is no such function.
pub fn of(name: &str) -> Option<&'static [Signature]> {
    SIGNATURES.get(name).map(Vec::as_slice)
}

fn read_signature(text: &'static str) -> Signature {
    let mut reader = Reader { rest: text };
    let target = (!reader.rest.starts_with('(')).then(|| reader.kind());
    let mut args: Vec<Type> = target.iter().cloned().collect();
    reader.skip(".");
    reader.skip("(");
    while !reader.skip(")") {
        args.push(reader.kind());
        reader.skip(",");
    }
    Signature { member: target.is_some(), args, result: reader.kind() }
}

/// Reads the table above; what it cannot read becomes `dyn`, which the test of the table would show.
struct Reader {
    rest: &'static str,
}

impl Reader {
    fn skip(&mut self, mark: &str) -> bool {
        self.rest = self.rest.trim_start();
        match self.rest.strip_prefix(mark) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn kind(&mut self) -> Type {
        self.rest = self.rest.trim_start();
        let mut end = self.rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '.').unwrap_or(self.rest.len());
        // the dot before the parenthesis of a member is not part of the name
        if self.rest[..end].ends_with('.') {
            end -= 1;
        }
        let (name, rest) = self.rest.split_at(end);
        self.rest = rest;
        match name {
            "list" | "optional" => {
                self.skip("(");
                let of = Arc::new(self.kind());
                self.skip(")");
                if name == "list" { Type::List(of) } else { Type::Optional(of) }
            }
            "map" => {
                self.skip("(");
                let key = Arc::new(self.kind());
                self.skip(",");
                let value = Arc::new(self.kind());
                self.skip(")");
                Type::Map(key, value)
            }
            "bool" => Type::Bool,
            "int" => Type::Int,
            "uint" => Type::Uint,
            "double" => Type::Double,
            "string" => Type::String,
            "bytes" => Type::Bytes,
            "timestamp" => Type::Timestamp,
            "duration" => Type::Duration,
            "type" => Type::Type,
            "A" => Type::Param('A'),
            "B" => Type::Param('B'),
            _ if name.contains('.') => Type::Opaque(name),
            _ => Type::Dyn,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_read_as_written() {
        let show = |name: &str| {
            let one = |s: &Signature| {
                let args: Vec<String> = s.args.iter().map(Type::to_string).collect();
                format!("{}({}) {}", if s.member { "." } else { "" }, args.join(", "), s.result)
            };
            of(name).unwrap().iter().map(one).collect::<Vec<_>>().join("; ")
        };
        assert_eq!(show("@in"), "(A, list(A)) bool; (A, map(A, B)) bool");
        assert_eq!(show("charAt"), ".(string, int) string");
        assert_eq!(show("getQuery"), ".(kubernetes.URL) map(string, list(string))");
        assert_eq!(show("ip"), "(string) net.IP; .(net.CIDR) net.IP");
        assert_eq!(show("optional.none"), "() optional_type(dyn)");
    }
}
