//! Access: RBAC's answers and words, reviews, tokens, impersonation, client certificates, anonymous requests.

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use crate::answer::Answer;
use crate::case::{Case, Chapter, case};

const RBAC: &str = "rbac.authorization.k8s.io/v1";
const AUTHN: &str = "/apis/authentication.k8s.io/v1";
const AUTHZ: &str = "/apis/authorization.k8s.io/v1";

/// A token of the service account, which is made first.
async fn account(c: &Case, name: &str) -> Result<String> {
    c.make(&c.core("serviceaccounts"), &json!({"metadata": {"name": name}})).await?;
    let request = c.post(&c.core(&format!("serviceaccounts/{name}/token")), &json!({"spec": {}})).await?;
    request.status(201)?;
    Ok(request.text("/status/token").to_string())
}

/// Gives the service account of the case's namespace a role with these rules.
async fn grant(c: &Case, account: &str, rules: Value) -> Result<()> {
    let name = format!("{account}-role");
    c.make(&c.group(RBAC, "roles"), &json!({"metadata": {"name": name}, "rules": rules})).await?;
    let binding = json!({
        "metadata": {"name": name},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name},
        "subjects": [{"kind": "ServiceAccount", "name": account, "namespace": c.ns()}],
    });
    c.make(&c.group(RBAC, "rolebindings"), &binding).await?;
    Ok(())
}

/// Sends until the server has taken notice of new rules, which kube-apiserver does a moment later.
async fn once(c: &Case, token: &str, method: &str, path: &str, body: Option<&Value>, status: u16) -> Result<Answer> {
    let deadline = std::time::Instant::now() + crate::case::PATIENCE;
    loop {
        let request = c.request(method, path).token(Some(token));
        let answer = match body {
            Some(body) => request.json(body).send().await?,
            None => request.send().await?,
        };
        if answer.status == status {
            return Ok(answer);
        }
        if std::time::Instant::now() > deadline {
            return answer.fail(format_args!("status {status} expected in the end, got {}", answer.status));
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}

fn rule(resources: &[&str], verbs: &[&str]) -> Value {
    json!({"apiGroups": [""], "resources": resources, "verbs": verbs})
}

async fn review_token(c: &Case, spec: Value) -> Result<Answer> {
    let review = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": spec});
    let answer = c.post(&format!("{AUTHN}/tokenreviews"), &review).await?;
    answer.status(201)?;
    Ok(answer)
}

async fn who(c: &Case, headers: &[(&str, &str)]) -> Result<Answer> {
    let review = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"});
    let mut request = c.request("POST", &format!("{AUTHN}/selfsubjectreviews")).json(&review);
    for (name, value) in headers {
        request = request.header(name, value);
    }
    request.send().await
}

async fn may(c: &Case, token: &str, attributes: Value) -> Result<Answer> {
    let review = json!({
        "apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview", "spec": {"resourceAttributes": attributes},
    });
    let request = c.request("POST", &format!("{AUTHZ}/selfsubjectaccessreviews")).token(Some(token)).json(&review);
    let answer = request.send().await?;
    answer.status(201)?;
    Ok(answer)
}

/// The chapter.
pub fn chapter() -> Chapter {
    let mut cases = rbac();
    cases.extend(reviews());
    cases.extend(tokens());
    cases.extend(others());
    Chapter { name: "access", cases }
}

fn rbac() -> Vec<crate::case::Test> {
    vec![
        case("a wrong token answers 401", |c| async move {
            let a = c.request("GET", "/api/v1/namespaces").token(Some("no-such-token")).send().await?;
            a.failed(401, "Unauthorized")?.says("Unauthorized")?;
            Ok(())
        }),
        case("what no rule allows answers 403 with who, what and where", |c| async move {
            let token = account(&c, "a").await?;
            let a = c.request("GET", &c.core("pods")).token(Some(&token)).send().await?;
            a.failed(403, "Forbidden")?
                .says(&format!(
                    "pods is forbidden: User \"system:serviceaccount:{0}:a\" cannot list resource \"pods\" in API group \"\" in the namespace \"{0}\"",
                    c.ns()
                ))?
                .is("/details", json!({"kind": "pods"}))?;
            Ok(())
        }),
        case("a refusal about one object names it", |c| async move {
            let token = account(&c, "a").await?;
            let a = c.request("GET", &c.group("apps/v1", "deployments/web")).token(Some(&token)).send().await?;
            a.failed(403, "Forbidden")?
                .says(&format!(
                    "deployments.apps \"web\" is forbidden: User \"system:serviceaccount:{0}:a\" cannot get resource \"deployments\" in API group \"apps\" in the namespace \"{0}\"",
                    c.ns()
                ))?
                .is("/details", json!({"name": "web", "group": "apps", "kind": "deployments"}))?;
            Ok(())
        }),
        case("a refusal outside of namespaces says so", |c| async move {
            let token = account(&c, "a").await?;
            let a = c.request("GET", "/api/v1/nodes").token(Some(&token)).send().await?;
            a.failed(403, "Forbidden")?.contains("/message", "at the cluster scope")?;
            Ok(())
        }),
        case("a refusal of a path names it", |c| async move {
            let token = account(&c, "a").await?;
            let a = c.request("GET", "/metrics").token(Some(&token)).send().await?;
            let user = format!("system:serviceaccount:{}:a", c.ns());
            a.failed(403, "Forbidden")?.says(&format!("forbidden: User \"{user}\" cannot get path \"/metrics\""))?;
            Ok(())
        }),
        case("access is decided before it is known whether the object is there", |c| async move {
            let token = account(&c, "a").await?;
            let a = c.request("DELETE", &c.core("secrets/none")).token(Some(&token)).send().await?;
            a.failed(403, "Forbidden")?;
            Ok(())
        }),
        case("a role allows its verbs on its resources in its namespace", |c| async move {
            let token = account(&c, "a").await?;
            grant(&c, "a", json!([rule(&["configmaps"], &["list"])])).await?;
            once(&c, &token, "GET", &c.core("configmaps"), None, 200).await?;
            let get = c.request("GET", &c.core("configmaps/none")).token(Some(&token)).send().await?;
            get.failed(403, "Forbidden")?;
            let elsewhere =
                c.request("GET", "/api/v1/namespaces/default/configmaps").token(Some(&token)).send().await?;
            elsewhere.failed(403, "Forbidden")?;
            Ok(())
        }),
        case("resourceNames allow these objects only", |c| async move {
            let token = account(&c, "a").await?;
            let mut only = rule(&["configmaps"], &["get", "list", "delete"]);
            only["resourceNames"] = json!(["mine"]);
            grant(&c, "a", json!([only])).await?;
            once(&c, &token, "GET", &c.core("configmaps/mine"), None, 404).await?;
            for path in ["configmaps/other", "configmaps"] {
                c.request("GET", &c.core(path)).token(Some(&token)).send().await?.failed(403, "Forbidden")?;
            }
            Ok(())
        }),
        case("resourceNames allow a list that selects the name", |c| async move {
            let token = account(&c, "a").await?;
            let mut only = rule(&["configmaps"], &["list"]);
            only["resourceNames"] = json!(["mine"]);
            grant(&c, "a", json!([only])).await?;
            let path = c.core("configmaps?fieldSelector=metadata.name%3Dmine");
            once(&c, &token, "GET", &path, None, 200).await?;
            let other = c.core("configmaps?fieldSelector=metadata.name%3Dother");
            c.request("GET", &other).token(Some(&token)).send().await?.failed(403, "Forbidden")?;
            Ok(())
        }),
        case("a subresource needs a rule of its own", |c| async move {
            let token = account(&c, "a").await?;
            grant(&c, "a", json!([rule(&["pods"], &["get", "update"])])).await?;
            once(&c, &token, "GET", &c.core("pods/none"), None, 404).await?;
            let log = c.request("GET", &c.core("pods/none/log")).token(Some(&token)).send().await?;
            log.failed(403, "Forbidden")?.contains("/message", "cannot get resource \"pods/log\"")?;
            Ok(())
        }),
        case("watch and list are verbs apart", |c| async move {
            let token = account(&c, "a").await?;
            grant(&c, "a", json!([rule(&["configmaps"], &["list"])])).await?;
            once(&c, &token, "GET", &c.core("configmaps"), None, 200).await?;
            let watch = c.request("GET", &c.core("configmaps?watch=1")).token(Some(&token)).send().await?;
            watch.failed(403, "Forbidden")?.contains("/message", "cannot watch resource")?;
            Ok(())
        }),
        case("a binding to a role that is not there is named in the refusal", |c| async move {
            let token = account(&c, "a").await?;
            let binding = json!({
                "metadata": {"name": "b"},
                "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "missing"},
                "subjects": [{"kind": "ServiceAccount", "name": "a", "namespace": c.ns()}],
            });
            c.make(&c.group(RBAC, "rolebindings"), &binding).await?;
            let deadline = std::time::Instant::now() + crate::case::PATIENCE;
            loop {
                let a = c.request("GET", &c.core("pods")).token(Some(&token)).send().await?;
                a.failed(403, "Forbidden")?;
                if a.text("/message").ends_with(": RBAC: role.rbac.authorization.k8s.io \"missing\" not found") {
                    return Ok(());
                }
                if std::time::Instant::now() > deadline {
                    return a.fail("the missing role is not named");
                }
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            }
        }),
        case("an aggregated cluster role has the rules of those it selects", |c| async move {
            let token = account(&c, "a").await?;
            let (gathers, part) = (c.name("gathers"), c.name("part"));
            let label = c.name("aggregate");
            let selector = json!({"matchLabels": {"to": label}});
            c.make(
                &format!("/apis/{RBAC}/clusterroles"),
                &json!({"metadata": {"name": part, "labels": {"to": label}}, "rules": [rule(&["configmaps"], &["list"])]}),
            )
            .await?;
            c.make(
                &format!("/apis/{RBAC}/clusterroles"),
                &json!({"metadata": {"name": gathers}, "aggregationRule": {"clusterRoleSelectors": [selector]}, "rules": []}),
            )
            .await?;
            let binding = json!({
                "metadata": {"name": "b"},
                "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": gathers},
                "subjects": [{"kind": "ServiceAccount", "name": "a", "namespace": c.ns()}],
            });
            c.make(&c.group(RBAC, "rolebindings"), &binding).await?;
            once(&c, &token, "GET", &c.core("configmaps"), None, 200).await?;
            c.delete(&format!("/apis/{RBAC}/clusterroles/{gathers}")).await?;
            c.delete(&format!("/apis/{RBAC}/clusterroles/{part}")).await?;
            Ok(())
        }),
        case("view reads and does not see secrets", |c| async move {
            let token = account(&c, "a").await?;
            let binding = json!({
                "metadata": {"name": "b"},
                "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"},
                "subjects": [{"kind": "ServiceAccount", "name": "a", "namespace": c.ns()}],
            });
            c.make(&c.group(RBAC, "rolebindings"), &binding).await?;
            once(&c, &token, "GET", &c.core("pods"), None, 200).await?;
            c.request("GET", &c.core("secrets")).token(Some(&token)).send().await?.failed(403, "Forbidden")?;
            let body = json!({"metadata": {"name": "x"}});
            let write = c.request("POST", &c.core("configmaps")).token(Some(&token)).json(&body).send().await?;
            write.failed(403, "Forbidden")?;
            Ok(())
        }),
    ]
}

fn reviews() -> Vec<crate::case::Test> {
    vec![
        case("SelfSubjectAccessReview tells what one may", |c| async move {
            let token = account(&c, "a").await?;
            grant(&c, "a", json!([rule(&["configmaps"], &["list"])])).await?;
            once(&c, &token, "GET", &c.core("configmaps"), None, 200).await?;
            let yes = may(&c, &token, json!({"verb": "list", "resource": "configmaps", "namespace": c.ns()})).await?;
            yes.is("/status/allowed", true)?.is(
                "/status/reason",
                format!(
                    "RBAC: allowed by RoleBinding \"a-role/{0}\" of Role \"a-role\" to ServiceAccount \"a/{0}\"",
                    c.ns()
                ),
            )?;
            let no = may(&c, &token, json!({"verb": "get", "resource": "configmaps", "namespace": c.ns()})).await?;
            no.is("/status/allowed", false)?.lacks("/status/reason")?;
            Ok(())
        }),
        case("an administrator may everything", |c| async move {
            let token = c.server().token().to_string();
            let a = may(&c, &token, json!({"verb": "*", "group": "*", "resource": "*"})).await?;
            a.is("/status/allowed", true)?.is("/kind", "SelfSubjectAccessReview")?;
            Ok(())
        }),
        case("SubjectAccessReview answers for another", |c| async move {
            let review = |user: &str, groups: Value| {
                json!({
                    "apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview",
                    "spec": {"user": user, "groups": groups, "resourceAttributes": {"verb": "get", "resource": "nodes"}},
                })
            };
            let path = format!("{AUTHZ}/subjectaccessreviews");
            let no = c.post(&path, &review("nobody", json!([]))).await?;
            no.status(201)?.is("/status/allowed", false)?;
            let yes = c.post(&path, &review("nobody", json!(["system:masters"]))).await?;
            yes.status(201)?.is("/status/allowed", true)?;
            Ok(())
        }),
        case("SubjectAccessReview answers about paths", |c| async move {
            let review = json!({
                "apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview",
                "spec": {"groups": ["system:unauthenticated"], "nonResourceAttributes": {"verb": "get", "path": "/version"}},
            });
            let a = c.post(&format!("{AUTHZ}/subjectaccessreviews"), &review).await?;
            a.status(201)?.is("/status/allowed", true)?;
            Ok(())
        }),
        case("SubjectAccessReview without a subject answers 422", |c| async move {
            let review = json!({
                "apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview",
                "spec": {"resourceAttributes": {"verb": "get", "resource": "nodes"}},
            });
            let a = c.post(&format!("{AUTHZ}/subjectaccessreviews"), &review).await?;
            a.failed(422, "Invalid")?;
            Ok(())
        }),
        case("LocalSubjectAccessReview looks in its namespace", |c| async move {
            let token = account(&c, "a").await?;
            grant(&c, "a", json!([rule(&["configmaps"], &["list"])])).await?;
            once(&c, &token, "GET", &c.core("configmaps"), None, 200).await?;
            let review = json!({
                "apiVersion": "authorization.k8s.io/v1", "kind": "LocalSubjectAccessReview", "metadata": {"namespace": c.ns()},
                "spec": {
                    "user": format!("system:serviceaccount:{}:a", c.ns()),
                    "resourceAttributes": {"verb": "list", "resource": "configmaps", "namespace": c.ns()},
                },
            });
            let a = c.post(&c.group("authorization.k8s.io/v1", "localsubjectaccessreviews"), &review).await?;
            a.status(201)?.is("/status/allowed", true)?;
            Ok(())
        }),
        case("SelfSubjectRulesReview lists one's rules", |c| async move {
            let token = account(&c, "a").await?;
            grant(&c, "a", json!([rule(&["configmaps"], &["list", "watch"])])).await?;
            once(&c, &token, "GET", &c.core("configmaps"), None, 200).await?;
            let review = json!({
                "apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectRulesReview", "spec": {"namespace": c.ns()},
            });
            let request = c.request("POST", &format!("{AUTHZ}/selfsubjectrulesreviews")).token(Some(&token));
            let a = request.json(&review).send().await?;
            a.status(201)?.is("/status/incomplete", false)?;
            let rules = a.at("/status/resourceRules").as_array().cloned().unwrap_or_default();
            let mine =
                rules.iter().any(|r| r["resources"] == json!(["configmaps"]) && r["verbs"] == json!(["list", "watch"]));
            a.holds(mine, "the role's rule expected")?;
            let paths = a.at("/status/nonResourceRules").as_array().cloned().unwrap_or_default();
            let discovery =
                paths.iter().any(|r| r["nonResourceURLs"].as_array().is_some_and(|u| u.contains(&json!("/apis/*"))));
            a.holds(discovery, "the rule of system:discovery expected")?;
            Ok(())
        }),
        case("SelfSubjectReview tells who one is", |c| async move {
            let token = account(&c, "a").await?;
            let review = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"});
            let request = c.request("POST", &format!("{AUTHN}/selfsubjectreviews")).token(Some(&token)).json(&review);
            let a = request.send().await?;
            a.status(201)?
                .is("/status/userInfo/username", format!("system:serviceaccount:{}:a", c.ns()))?
                .has("/status/userInfo/uid")?;
            let groups = a.at("/status/userInfo/groups").clone();
            let wanted = [
                "system:serviceaccounts".to_string(),
                format!("system:serviceaccounts:{}", c.ns()),
                "system:authenticated".into(),
            ];
            crate::answer::same("groups", &groups, &json!(wanted))?;
            Ok(())
        }),
        case("reviews are made, not read", |c| async move {
            let a = c.get(&format!("{AUTHZ}/selfsubjectaccessreviews")).await?;
            a.failed(405, "MethodNotAllowed")?;
            Ok(())
        }),
    ]
}

fn tokens() -> Vec<crate::case::Test> {
    vec![
        case("TokenReview knows a service account's token", |c| async move {
            let token = account(&c, "a").await?;
            let a = review_token(&c, json!({"token": token})).await?;
            a.is("/status/authenticated", true)?
                .is("/status/user/username", format!("system:serviceaccount:{}:a", c.ns()))?
                .has("/status/audiences/0")?;
            Ok(())
        }),
        case("TokenReview of a foreign token is not authenticated", |c| async move {
            let a = review_token(&c, json!({"token": "no-such-token"})).await?;
            a.holds(*a.at("/status/authenticated") != json!(true), "not authenticated expected")?
                .has("/status/error")?;
            Ok(())
        }),
        case("TokenReview takes a token for its audience only", |c| async move {
            c.make(&c.core("serviceaccounts"), &json!({"metadata": {"name": "a"}})).await?;
            let request = json!({"spec": {"audiences": ["vault"], "expirationSeconds": 600}});
            let made = c.post(&c.core("serviceaccounts/a/token"), &request).await?;
            made.status(201)?.is("/spec/audiences", json!(["vault"]))?.is("/kind", "TokenRequest")?;
            let token = made.text("/status/token");
            let vault = review_token(&c, json!({"token": token, "audiences": ["vault", "other"]})).await?;
            vault.is("/status/authenticated", true)?.is("/status/audiences", json!(["vault"]))?;
            let other = review_token(&c, json!({"token": token, "audiences": ["other"]})).await?;
            other.holds(*other.at("/status/authenticated") != json!(true), "not authenticated expected")?;
            // nor is it good for the API server itself
            c.request("GET", "/api").token(Some(token)).send().await?.failed(401, "Unauthorized")?;
            Ok(())
        }),
        case("a token tells when it expires", |c| async move {
            c.make(&c.core("serviceaccounts"), &json!({"metadata": {"name": "a"}})).await?;
            let request = json!({"spec": {"expirationSeconds": 1200}});
            let a = c.post(&c.core("serviceaccounts/a/token"), &request).await?;
            a.status(201)?.is("/spec/expirationSeconds", 1200)?.has("/status/expirationTimestamp")?;
            Ok(())
        }),
        case("a token for less than ten minutes answers 422", |c| async move {
            c.make(&c.core("serviceaccounts"), &json!({"metadata": {"name": "a"}})).await?;
            let request = json!({"spec": {"expirationSeconds": 60}});
            let a = c.post(&c.core("serviceaccounts/a/token"), &request).await?;
            a.invalid("spec.expirationSeconds", "FieldValueInvalid")?;
            Ok(())
        }),
        case("a token of an account that is not there answers 404", |c| async move {
            let a = c.post(&c.core("serviceaccounts/none/token"), &json!({"spec": {}})).await?;
            a.failed(404, "NotFound")?.says("serviceaccounts \"none\" not found")?;
            Ok(())
        }),
        case("a token ends with its service account", |c| async move {
            let token = account(&c, "a").await?;
            c.request("GET", "/api").token(Some(&token)).send().await?.status(200)?;
            c.delete(&c.core("serviceaccounts/a")).await?.status(200)?;
            once(&c, &token, "GET", "/api", None, 401).await?;
            Ok(())
        }),
        case("a token bound to a secret ends with it and names it", |c| async move {
            c.make(&c.core("serviceaccounts"), &json!({"metadata": {"name": "a"}})).await?;
            c.make(&c.core("secrets"), &json!({"metadata": {"name": "s"}})).await?;
            let bound = json!({"kind": "Secret", "apiVersion": "v1", "name": "s"});
            let made = c.post(&c.core("serviceaccounts/a/token"), &json!({"spec": {"boundObjectRef": bound}})).await?;
            made.status(201)?;
            let token = made.text("/status/token").to_string();
            c.request("GET", "/api").token(Some(&token)).send().await?.status(200)?;
            c.delete(&c.core("secrets/s")).await?.status(200)?;
            once(&c, &token, "GET", "/api", None, 401).await?;
            Ok(())
        }),
        case("a token bound to a pod carries the pod", |c| async move {
            c.make(&c.core("serviceaccounts"), &json!({"metadata": {"name": "a"}})).await?;
            let mut pod = crate::case::pod("p");
            pod["spec"]["serviceAccountName"] = json!("a");
            let pod = c.make(&c.core("pods"), &pod).await?;
            let bound = json!({"kind": "Pod", "apiVersion": "v1", "name": "p", "uid": pod["metadata"]["uid"]});
            let made = c.post(&c.core("serviceaccounts/a/token"), &json!({"spec": {"boundObjectRef": bound}})).await?;
            made.status(201)?;
            let a = review_token(&c, json!({"token": made.text("/status/token")})).await?;
            a.is("/status/user/extra/authentication.kubernetes.io~1pod-name", json!(["p"]))?;
            a.is("/status/user/extra/authentication.kubernetes.io~1pod-uid", json!([pod["metadata"]["uid"]]))?;
            Ok(())
        }),
    ]
}

fn others() -> Vec<crate::case::Test> {
    vec![
        case("an administrator acts as another user in groups", |c| async move {
            let a =
                who(&c, &[("impersonate-user", "bob"), ("impersonate-group", "devs"), ("impersonate-group", "ops")])
                    .await?;
            a.status(201)?.is(
                "/status/userInfo",
                json!({"username": "bob", "groups": ["devs", "ops", "system:authenticated"]}),
            )?;
            Ok(())
        }),
        case("impersonation carries extra fields and a UID", |c| async move {
            let headers = [
                ("impersonate-user", "bob"),
                ("impersonate-uid", "u-1"),
                ("impersonate-extra-acme.com%2Fproject", "p1"),
            ];
            let a = who(&c, &headers).await?;
            a.status(201)?
                .is("/status/userInfo/uid", "u-1")?
                .is("/status/userInfo/extra/acme.com~1project", json!(["p1"]))?;
            Ok(())
        }),
        case("an impersonated service account is in its groups", |c| async move {
            let user = format!("system:serviceaccount:{}:robot", c.ns());
            let a = who(&c, &[("impersonate-user", &user)]).await?;
            let namespaced = format!("system:serviceaccounts:{}", c.ns());
            a.status(201)?
                .is("/status/userInfo/groups", json!(["system:serviceaccounts", namespaced, "system:authenticated"]))?;
            Ok(())
        }),
        case("an impersonated user has only its own rights", |c| async move {
            let a = c.request("GET", &c.core("pods")).header("impersonate-user", "bob").send().await?;
            a.failed(403, "Forbidden")?.contains("/message", "User \"bob\" cannot list resource \"pods\"")?;
            Ok(())
        }),
        case("impersonation needs the verb impersonate", |c| async move {
            let token = account(&c, "a").await?;
            let request = c.request("GET", &c.core("pods")).token(Some(&token));
            let a = request.header("impersonate-user", "bob").send().await?;
            a.failed(403, "Forbidden")?
                .says(&format!(
                    "users \"bob\" is forbidden: User \"system:serviceaccount:{}:a\" cannot impersonate resource \"users\" in API group \"\" at the cluster scope",
                    c.ns()
                ))?
                .is("/details", json!({"name": "bob", "kind": "users"}))?;
            Ok(())
        }),
        case("groups without a user cannot be impersonated", |c| async move {
            let a = c.request("GET", &c.core("pods")).header("impersonate-group", "devs").send().await?;
            a.status(500)?;
            Ok(())
        }),
        case("a client certificate names the user and the group", |c| async move {
            let (certificate, key) = c.server().client_certificate("zoe", "devs")?;
            let http = c.server().client_with(&certificate, &key)?;
            let url = format!("{}{AUTHN}/selfsubjectreviews", c.server().url());
            let review = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}).to_string();
            let response = http.post(url).header("content-type", "application/json").body(review).send().await?;
            anyhow::ensure!(response.status() == 201, "201 expected, got {}", response.status());
            let json: Value = serde_json::from_slice(&response.bytes().await?)?;
            let user = json.pointer("/status/userInfo").context("no user")?;
            crate::answer::same("name", &user["username"], &json!("zoe"))?;
            crate::answer::same("groups", &user["groups"], &json!(["devs", "system:authenticated"]))
        }),
        case("a client certificate goes before a token", |c| async move {
            let (certificate, key) = c.server().client_certificate("zoe", "devs")?;
            let http = c.server().client_with(&certificate, &key)?;
            let url = format!("{}{}", c.server().url(), c.core("pods"));
            let response = http.get(url).bearer_auth(c.server().token()).send().await?;
            anyhow::ensure!(response.status() == 403, "403 expected, got {}", response.status());
            let text = response.text().await?;
            anyhow::ensure!(text.contains("User \\\"zoe\\\" cannot list"), "zoe expected in {text}");
            Ok(())
        }),
        case("who shows nothing is anonymous and may little", |c| async move {
            let a = c.request("GET", &c.core("pods")).token(None).send().await?;
            a.failed(403, "Forbidden")?
                .contains("/message", "User \"system:anonymous\" cannot list resource \"pods\"")?;
            for path in ["/version", "/healthz", "/livez", "/readyz"] {
                c.request("GET", path).token(None).send().await?.status(200)?;
            }
            for path in ["/api", "/apis", "/openapi/v3", "/metrics"] {
                c.request("GET", path).token(None).send().await?.status(403)?;
            }
            Ok(())
        }),
        case("who is known may discover", |c| async move {
            let token = account(&c, "a").await?;
            for path in ["/api", "/api/v1", "/apis", "/apis/apps/v1", "/openapi/v3", "/openapi/v2", "/version"] {
                c.request("GET", path).token(Some(&token)).send().await?.status(200)?;
            }
            Ok(())
        }),
    ]
}
