//! Which privileges the session's user has, the definitions of custom attributes, and advanced options of hosts.

use super::{Arg, Client, Element, MoRef, VimError};

/// A custom attribute's definition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CustomField {
    /// Key, by which values name it.
    pub key: i64,
    /// Name.
    pub name: String,
    /// Type of objects that have it; empty for all.
    pub kind: String,
}

impl Client {
    /// Returns those of the privileges that the user lacks on an object. Privileges that the server does not know
    /// (older and newer versions) are not missing. Empty for servers without roles.
    pub async fn missing_privileges(&self, object: &MoRef, wanted: &[&str]) -> Result<Vec<String>, VimError> {
        let Some(manager) = &self.content().authorization_manager else { return Ok(Vec::new()) };
        let list = self.properties(manager, &["privilegeList"]).await?;
        let known: Vec<&str> = list
            .get("privilegeList")
            .into_iter()
            .flat_map(Element::items)
            .filter_map(|privilege| privilege.text("privId"))
            .collect();
        let asked: Vec<&str> = wanted.iter().copied().filter(|id| known.is_empty() || known.contains(id)).collect();
        if asked.is_empty() {
            return Ok(Vec::new());
        }
        let (session, user) = self.inner().user_session();
        let ids = || asked.iter().map(|id| Arg::text("privId", (*id).to_owned()));
        let args = [Arg::moref("entities", object), Arg::text("userName", user)].into_iter().chain(ids());
        let granted: Vec<bool> = match self.call("HasUserPrivilegeOnEntities", manager, &args.collect::<Vec<_>>()).await
        {
            // its answers have names
            Ok(answer) => {
                let answers: Vec<&Element> =
                    answer.all("returnval").flat_map(|one| one.all("privAvailability")).collect();
                let of = |id: &str| answers.iter().find(|one| one.text("privId") == Some(id))?.bool("isGranted");
                asked.iter().map(|id| of(id).unwrap_or(false)).collect()
            }
            Err(VimError::Fault(_)) => {
                let args = [Arg::moref("entity", object), Arg::text("sessionId", session)].into_iter().chain(ids());
                let answer = self.call("HasPrivilegeOnEntity", manager, &args.collect::<Vec<_>>()).await?;
                answer.all("returnval").map(|one| one.bool("").unwrap_or(false)).collect()
            }
            Err(error) => return Err(error),
        };
        if granted.len() != asked.len() {
            return Err(VimError::Malformed {
                what: format!("the answer about privileges on {object}"),
                reason: format!("{} answers to {} questions", granted.len(), asked.len()),
            });
        }
        Ok(asked.iter().zip(granted).filter(|(_, granted)| !granted).map(|(id, _)| (*id).to_owned()).collect())
    }

    /// Returns the value of an option of an `OptionManager`, as text; `None` where it has none of this name.
    pub async fn option(&self, manager: &MoRef, name: &str) -> Result<Option<String>, VimError> {
        match self.call("QueryOptions", manager, &[Arg::text("name", name.to_owned())]).await {
            Ok(answer) => {
                let mut found = answer.all("returnval");
                let option = found.find(|option| option.text("key") == Some(name));
                Ok(option.and_then(|option| option.text("value")).map(str::to_owned))
            }
            Err(error) if error.is_fault("InvalidName") => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Returns the custom attributes that are defined.
    pub async fn custom_fields(&self) -> Result<Vec<CustomField>, VimError> {
        let Some(manager) = &self.content().custom_fields_manager else { return Ok(Vec::new()) };
        let found = self.properties(manager, &["field"]).await?;
        let field = |field: &Element| {
            Some(CustomField {
                key: field.int("key")?,
                name: field.text("name")?.to_owned(),
                kind: field.text("managedObjectType").unwrap_or_default().to_owned(),
            })
        };
        Ok(found.get("field").into_iter().flat_map(Element::items).filter_map(field).collect())
    }
}
