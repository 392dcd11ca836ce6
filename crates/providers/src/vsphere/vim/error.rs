//! What goes wrong: faults of the server as types, and everything before one.

use super::Element;

/// A fault that the server answered, or that ended a task.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Fault {
    /// Type of the fault: `NotAuthenticated`, `InvalidPowerState`, `ManagedObjectNotFound` …; `RuntimeFault` where
    /// the server names none.
    pub kind: String,
    /// What the server says.
    pub message: String,
    /// The fault's own fields.
    pub detail: Element,
}

/// Why a call did not succeed.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum VimError {
    /// The server answered with a fault.
    #[error("vSphere answered {}: {}", .0.kind, .0.message)]
    Fault(Fault),
    /// User name or password are wrong. Never tried again with the same ones: accounts get locked.
    #[error("vSphere refused the credentials: {}", .0.message)]
    InvalidLogin(Fault),
    /// There is no connection that can be trusted.
    #[error("no TLS connection to {host}: {reason}; {hint}")]
    Tls {
        /// Host and port.
        host: String,
        /// What TLS says.
        reason: String,
        /// What to do.
        hint: String,
    },
    /// Nobody answered.
    #[error("cannot reach {host}: {reason}")]
    Unreachable {
        /// Host and port.
        host: String,
        /// Why.
        reason: String,
    },
    /// Somebody answered, but not the API.
    #[error("{url} answered HTTP {status}{}{message}", if .message.is_empty() { "" } else { ": " })]
    Http {
        /// Status code.
        status: u16,
        /// The address.
        url: String,
        /// The answer's beginning.
        message: String,
    },
    /// The answer cannot be understood.
    #[error("{what} cannot be understood: {reason}")]
    Malformed {
        /// Which answer.
        what: String,
        /// Why.
        reason: String,
    },
    /// The connection parameters are not usable.
    #[error("{0}")]
    Parameters(String),
}

impl VimError {
    /// Returns whether the server answered a fault of this type.
    pub fn is_fault(&self, kind: &str) -> bool {
        self.fault().is_some_and(|fault| fault.kind == kind)
    }

    /// Returns the fault, where it is one.
    pub fn fault(&self) -> Option<&Fault> {
        match self {
            Self::Fault(fault) | Self::InvalidLogin(fault) => Some(fault),
            Self::Tls { .. }
            | Self::Unreachable { .. }
            | Self::Http { .. }
            | Self::Malformed { .. }
            | Self::Parameters(_) => None,
        }
    }

    /// Returns whether the same call may succeed later without anybody doing something.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable { .. } => true,
            Self::Http { status, .. } => matches!(status, 429 | 500 | 502 | 503 | 504),
            Self::Fault(fault) => {
                matches!(fault.kind.as_str(), "HostNotConnected" | "HostCommunication" | "TaskInProgress" | "Timedout")
            }
            Self::InvalidLogin(_) | Self::Tls { .. } | Self::Malformed { .. } | Self::Parameters(_) => false,
        }
    }
}

impl Fault {
    /// Reads a SOAP fault: `faultstring`, and in `detail` one element named after the fault.
    pub(super) fn soap(fault: &Element) -> Self {
        let detail = fault.get("detail").and_then(|detail| detail.items().next()).cloned().unwrap_or_default();
        let named = detail.xsi_type.as_deref().unwrap_or(detail.name.strip_suffix("Fault").unwrap_or(&detail.name));
        Self {
            kind: if named.is_empty() { "RuntimeFault".to_owned() } else { named.to_owned() },
            message: fault.text("faultstring").unwrap_or_default().trim().to_owned(),
            detail,
        }
    }

    /// Reads a `LocalizedMethodFault`, as tasks and `missingSet` have it.
    pub(super) fn localized(fault: &Element) -> Self {
        let detail = fault.get("fault").cloned().unwrap_or_default();
        let kind = detail.xsi_type.as_deref().unwrap_or("MethodFault").to_owned();
        let said = fault.text("localizedMessage").or(detail.text("faultMessage.message")).unwrap_or_default().trim();
        // ESXi leaves the message out
        let message = if said.is_empty() { kind.clone() } else { said.to_owned() };
        Self { kind, message, detail }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(xml: &str) -> Element {
        Element::parse(xml, Default::default()).expect("well-formed")
    }

    #[test]
    fn the_type_of_a_soap_fault() {
        let fault = |detail: &str| {
            Fault::soap(&parse(&format!(
                "<Fault><faultcode>ServerFaultCode</faultcode><faultstring>no.</faultstring><detail>{detail}</detail></Fault>"
            )))
        };
        for (detail, kind) in [
            (r#"<NotAuthenticatedFault xmlns="urn:vim25" xmlns:x="u" x:type="NotAuthenticated"/>"#, "NotAuthenticated"),
            ("<InvalidLoginFault/>", "InvalidLogin"),
            (
                r#"<Fault xmlns:x="u" x:type="ManagedObjectNotFound"><obj type="Task">task-1</obj></Fault>"#,
                "ManagedObjectNotFound",
            ),
            ("", "RuntimeFault"),
        ] {
            assert_eq!((fault(detail).kind.as_str(), fault(detail).message.as_str()), (kind, "no."));
        }
    }

    #[test]
    fn a_fault_of_a_task() {
        let xml = r#"<error><fault xmlns:x="u" x:type="ToolsUnavailable"/><localizedMessage>no tools</localizedMessage></error>"#;
        let fault = Fault::localized(&parse(xml));
        assert_eq!((fault.kind.as_str(), fault.message.as_str()), ("ToolsUnavailable", "no tools"));
        let silent = Fault::localized(&parse(r#"<error><fault xmlns:x="u" x:type="GenericVmConfigFault"/></error>"#));
        assert_eq!(silent.message, "GenericVmConfigFault");
    }

    #[test]
    fn messages_say_what_failed_on_what() {
        let http = VimError::Http { status: 404, url: "https://vc/sdk".into(), message: String::new() };
        assert_eq!(http.to_string(), "https://vc/sdk answered HTTP 404");
        assert!(!http.is_transient());
    }
}
