//! Which requests are recorded, and how much of them: the rules of an `audit.k8s.io/v1` Policy, the first that fits.

use serde::Deserialize;

use crate::auth::User;
use crate::request::Info;

/// How much of a request is recorded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
pub enum Level {
    /// Nothing.
    #[default]
    None,
    /// Who, what, when, with which outcome.
    Metadata,
    /// The same with the request's body. Answers are not recorded, so upstream's RequestResponse means this too.
    #[serde(alias = "RequestResponse")]
    Request,
}

impl Level {
    /// As the event has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "None",
            Self::Metadata => "Metadata",
            Self::Request => "Request",
        }
    }
}

/// Resources of one group.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct GroupResources {
    /// API group, empty for the core group.
    pub group: String,
    /// `pods`, `pods/log`, `pods/*`, `*/status`, `*`; empty for all.
    pub resources: Vec<String>,
    /// Names; empty for all.
    pub resource_names: Vec<String>,
}

/// One rule; every list that is not empty has to fit.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Rule {
    /// What is recorded of the requests that fit.
    pub level: Level,
    /// User names.
    pub users: Vec<String>,
    /// Groups of the user.
    pub user_groups: Vec<String>,
    /// Verbs.
    pub verbs: Vec<String>,
    /// Resources.
    pub resources: Vec<GroupResources>,
    /// Namespaces; empty text means objects without one.
    pub namespaces: Vec<String>,
    /// Paths of requests that are not about a resource; `*` at the end.
    #[serde(rename = "nonResourceURLs")]
    pub paths: Vec<String>,
    /// Stages that are not written.
    pub omit_stages: Vec<String>,
}

/// Rules in order; what fits none is not recorded.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Policy {
    /// The rules.
    pub rules: Vec<Rule>,
    /// Stages that are never written.
    pub omit_stages: Vec<String>,
}

impl Policy {
    /// Reads an `audit.k8s.io/v1` Policy, YAML or JSON.
    pub fn parse(text: &str) -> anyhow::Result<Self> {
        serde_saphyr::from_str(text).map_err(|error| anyhow::anyhow!("cannot read the audit policy: {error}"))
    }

    /// Metadata of every change but the events and leases that controllers write all the time.
    pub fn changes() -> Self {
        let groups = |list: &[(&str, &str)]| -> Vec<GroupResources> {
            list.iter()
                .map(|(group, resource)| GroupResources {
                    group: (*group).into(),
                    resources: vec![(*resource).into()],
                    resource_names: Vec::new(),
                })
                .collect()
        };
        let busy = Rule {
            resources: groups(&[("", "events"), ("events.k8s.io", "events"), ("coordination.k8s.io", "leases")]),
            ..Rule::default()
        };
        let questions = Rule {
            resources: groups(&[("authorization.k8s.io", "*"), ("authentication.k8s.io", "*")]),
            ..Rule::default()
        };
        let verbs = ["create", "update", "patch", "delete", "deletecollection"].map(String::from).to_vec();
        let changes = Rule { level: Level::Metadata, verbs, ..Rule::default() };
        Self { rules: vec![busy, questions, changes], omit_stages: vec!["ResponseStarted".into()] }
    }

    /// What is recorded of the request, and which stages of it are not.
    pub fn level(&self, info: &Info, user: &User) -> (Level, &[String]) {
        self.rules.iter().find(|r| r.fits(info, user)).map_or((Level::None, &[]), |r| (r.level, &r.omit_stages))
    }
}

impl Rule {
    fn fits(&self, info: &Info, user: &User) -> bool {
        let has = |list: &[String], text: &str| list.is_empty() || list.iter().any(|l| l == text);
        if !has(&self.users, &user.name)
            || !has(&self.verbs, info.verb)
            || !(self.user_groups.is_empty() || self.user_groups.iter().any(|g| user.groups.contains(g)))
        {
            return false;
        }
        let of_resource = !self.resources.is_empty() || !self.namespaces.is_empty();
        match &info.target {
            Some(target) => {
                (of_resource || self.paths.is_empty())
                    && has(&self.namespaces, &target.namespace)
                    && (self.resources.is_empty() || self.resources.iter().any(|r| r.fits(target)))
            }
            None => {
                !of_resource
                    && (self.paths.is_empty()
                        || self.paths.iter().any(|p| {
                            p == "*" || *p == info.path || p.strip_suffix('*').is_some_and(|b| info.path.starts_with(b))
                        }))
            }
        }
    }
}

impl GroupResources {
    fn fits(&self, target: &crate::request::Target) -> bool {
        if self.group != target.group || !(self.resource_names.is_empty() || self.resource_names.contains(&target.name))
        {
            return false;
        }
        self.resources.is_empty()
            || self.resources.iter().any(|wanted| match wanted.split_once('/') {
                None => wanted == "*" || *wanted == target.plural && target.subresource.is_empty(),
                Some((resource, subresource)) => {
                    (resource == "*" || resource == target.plural)
                        && (subresource == "*" || subresource == target.subresource)
                }
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: &str = "
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- level: None
  users: [system:kube-proxy]
  verbs: [watch]
- level: Metadata
  resources: [{group: '', resources: [secrets, pods/log]}]
- level: RequestResponse
  namespaces: [prod]
- level: None
  nonResourceURLs: ['/healthz*']
- level: Metadata
";

    #[test]
    fn the_first_rule_that_fits_decides() {
        let policy = Policy::parse(POLICY).unwrap();
        let level = |method: http::Method, path: &str, user: &str| {
            let user = User { name: user.into(), ..User::default() };
            policy.level(&Info::of(&method, &path.parse().unwrap()), &user).0
        };
        let get = http::Method::GET;
        assert_eq!(level(get.clone(), "/api/v1/services?watch=1", "system:kube-proxy"), Level::None);
        assert_eq!(level(get.clone(), "/api/v1/services", "system:kube-proxy"), Level::Metadata);
        assert_eq!(level(http::Method::POST, "/api/v1/namespaces/prod/secrets", "u"), Level::Metadata);
        assert_eq!(level(get.clone(), "/api/v1/namespaces/prod/pods/p/log", "u"), Level::Metadata);
        assert_eq!(level(http::Method::POST, "/api/v1/namespaces/prod/pods", "u"), Level::Request);
        assert_eq!(level(get.clone(), "/healthz/ping", "u"), Level::None);
        assert_eq!(level(get, "/version", "u"), Level::Metadata);
    }

    #[test]
    fn by_default_changes_are_recorded_and_reads_are_not() {
        let policy = Policy::changes();
        let level = |method: http::Method, path: &str| {
            policy.level(&Info::of(&method, &path.parse().unwrap()), &User::default()).0
        };
        assert_eq!(level(http::Method::POST, "/api/v1/namespaces/a/secrets"), Level::Metadata);
        assert_eq!(level(http::Method::DELETE, "/apis/x.io/v1/things"), Level::Metadata);
        assert_eq!(level(http::Method::GET, "/api/v1/pods"), Level::None);
        assert_eq!(level(http::Method::POST, "/api/v1/namespaces/a/events"), Level::None);
        assert_eq!(level(http::Method::PUT, "/apis/coordination.k8s.io/v1/namespaces/a/leases/l"), Level::None);
    }
}
