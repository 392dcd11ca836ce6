//! What a server says of itself before anybody logs in.

use super::{Element, MoRef, VimError};

/// Who the server is (`AboutInfo`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct About {
    /// `VMware vCenter Server`.
    pub name: String,
    /// Name, version and build.
    pub full_name: String,
    /// Product version, `8.0.3`.
    pub version: String,
    /// Build number.
    pub build: String,
    /// API version, `8.0.3.0`.
    pub api_version: String,
    /// `VirtualCenter` or `HostAgent`.
    pub api_type: String,
    /// UUID of a vCenter; empty for hosts.
    pub instance_uuid: String,
    /// `vpx`, `embeddedEsx`.
    pub product_line: String,
    /// `VMware VirtualCenter Server`, with the version of the licence.
    pub license_product: String,
}

impl About {
    /// Returns whether it is a vCenter and no host.
    pub fn is_vcenter(&self) -> bool {
        self.api_type == "VirtualCenter"
    }

    /// Returns whether the API is at least this version.
    pub fn is_at_least(&self, major: u32, minor: u32) -> bool {
        let mut parts = self.api_version.split('.').map(|part| part.parse::<u32>().unwrap_or(0));
        (parts.next().unwrap_or(0), parts.next().unwrap_or(0)) >= (major, minor)
    }

    pub(super) fn read(about: &Element) -> Self {
        let text = |name: &str| about.text(name).unwrap_or_default().trim().to_owned();
        Self {
            name: text("name"),
            full_name: text("fullName"),
            version: text("version"),
            build: text("build"),
            api_version: text("apiVersion"),
            api_type: text("apiType"),
            instance_uuid: text("instanceUuid"),
            product_line: text("productLineId"),
            license_product: text("licenseProductName"),
        }
    }
}

/// The managers of a server (`ServiceContent`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Content {
    /// The folder that everything is below.
    pub root_folder: MoRef,
    /// Reads properties.
    pub property_collector: MoRef,
    /// Makes lists of objects.
    pub view_manager: Option<MoRef>,
    /// Logs in and out.
    pub session_manager: MoRef,
    /// Roles and privileges.
    pub authorization_manager: Option<MoRef>,
    /// Finds by UUID, name, path.
    pub search_index: Option<MoRef>,
    /// Definitions of custom attributes.
    pub custom_fields_manager: Option<MoRef>,
    /// Tasks.
    pub task_manager: Option<MoRef>,
    /// Files on datastores.
    pub file_manager: Option<MoRef>,
    /// Virtual disks on datastores.
    pub virtual_disk_manager: Option<MoRef>,
    /// Events.
    pub event_manager: Option<MoRef>,
    /// Settings of the server.
    pub setting: Option<MoRef>,
}

impl Content {
    pub(super) fn read(content: &Element) -> Result<Self, VimError> {
        let needed = |name: &str| {
            content.moref(name).ok_or_else(|| VimError::Malformed {
                what: "the service content".to_owned(),
                reason: format!("it has no {name}"),
            })
        };
        Ok(Self {
            root_folder: needed("rootFolder")?,
            property_collector: needed("propertyCollector")?,
            view_manager: content.moref("viewManager"),
            session_manager: needed("sessionManager")?,
            authorization_manager: content.moref("authorizationManager"),
            search_index: content.moref("searchIndex"),
            custom_fields_manager: content.moref("customFieldsManager"),
            task_manager: content.moref("taskManager"),
            file_manager: content.moref("fileManager"),
            virtual_disk_manager: content.moref("virtualDiskManager"),
            event_manager: content.moref("eventManager"),
            setting: content.moref("setting"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_as_numbers() {
        let about = |api_version: &str| About { api_version: api_version.into(), ..About::default() };
        assert!(
            about("8.0.3.0").is_at_least(6, 7) && about("6.7").is_at_least(6, 7) && about("10.0").is_at_least(9, 0)
        );
        assert!(!about("6.5").is_at_least(6, 7) && !about("").is_at_least(6, 5));
    }
}
