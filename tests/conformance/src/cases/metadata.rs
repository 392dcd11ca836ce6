//! Metadata: names, labels and annotations; what the server owns and what may not change.

use serde_json::{Value, json};

use crate::case::{Chapter, case, config_map};

/// The chapter.
pub fn chapter() -> Chapter {
    let mut cases = names();
    cases.extend(labels());
    cases.extend(owned());
    Chapter { name: "metadata", cases }
}

fn with(metadata: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata})
}

fn names() -> Vec<crate::Test> {
    vec![
        case("a subdomain name may have dots, dashes and digits up to 253 letters", |c| async move {
            for name in ["a", "1a", "a.b-c.d", &"a".repeat(253)] {
                c.config_map(name, json!({})).await?;
            }
            let a = c.post(&c.core("configmaps"), &config_map(&"a".repeat(254), json!({}))).await?;
            a.invalid("metadata.name", "FieldValueInvalid")?
                .contains("/message", "must be no more than 253 characters")?;
            Ok(())
        }),
        case("names with capitals, blanks or dashes at an end are refused", |c| async move {
            for name in ["A", "a b", "-a", "a-", "a..b", "a_b", "ä"] {
                let a = c.post(&c.core("configmaps"), &config_map(name, json!({}))).await?;
                a.invalid("metadata.name", "FieldValueInvalid")?;
                a.contains(
                    "/message",
                    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters",
                )?;
            }
            Ok(())
        }),
        case("a service's name is a label that begins with a letter", |c| async move {
            for name in ["1a", "a.b", &"a".repeat(64)] {
                let body = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": {"ports": [{"port": 80}]}});
                c.post(&c.core("services"), &body).await?.invalid("metadata.name", "FieldValueInvalid")?;
            }
            Ok(())
        }),
        case("a namespace's name is a label", |c| async move {
            for name in ["a.b", &"a".repeat(64)] {
                let body = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
                let a = c.post("/api/v1/namespaces", &body).await?;
                a.invalid("metadata.name", "FieldValueInvalid")?;
            }
            Ok(())
        }),
        case("names of RBAC objects may have colons and capitals", |c| async move {
            let rbac = "rbac.authorization.k8s.io/v1";
            let body =
                json!({"apiVersion": rbac, "kind": "Role", "metadata": {"name": "system:Some:thing"}, "rules": []});
            c.make(&c.group(rbac, "roles"), &body).await?;
            let body = json!({"apiVersion": rbac, "kind": "Role", "metadata": {"name": "a/b"}, "rules": []});
            let a = c.post(&c.group(rbac, "roles"), &body).await?;
            a.invalid("metadata.name", "FieldValueInvalid")?.contains("/message", "may not contain '/'")?;
            Ok(())
        }),
        case("a generateName that is no prefix of a name is refused", |c| async move {
            let a = c.post(&c.core("configmaps"), &with(json!({"generateName": "Bad_"}))).await?;
            a.invalid("metadata.generateName", "FieldValueInvalid")?;
            Ok(())
        }),
        case("a name is taken before generateName", |c| async move {
            let a = c.post(&c.core("configmaps"), &with(json!({"name": "a", "generateName": "b-"}))).await?;
            a.status(201)?.is("/metadata/name", "a")?.is("/metadata/generateName", "b-")?;
            Ok(())
        }),
        case("a long generateName is cut so that the name fits", |c| async move {
            let stem = "a".repeat(100);
            let a = c.post(&c.core("configmaps"), &with(json!({"generateName": stem}))).await?;
            a.status(201)?.holds(a.text("/metadata/name").len() == 63, "58 letters of the stem and 5 more")?;
            Ok(())
        }),
    ]
}

fn labels() -> Vec<crate::Test> {
    vec![
        case("label keys and values follow their rules", |c| async move {
            let good = json!({"name": "a", "labels": {"a": "", "example.com/x_y.z": "A-b_c.1", "k": "v".repeat(63)}});
            c.make(&c.core("configmaps"), &with(good)).await?;
            for labels in [
                json!({"-a": "x"}),
                json!({"Example.com/a": "x"}),
                json!({"a/b/c": "x"}),
                json!({"": "x"}),
                json!({"a": "-x"}),
                json!({"a": "x y"}),
                json!({"a": "v".repeat(64)}),
                json!({"k".repeat(64): "x"}),
            ] {
                let a = c.post(&c.core("configmaps"), &with(json!({"name": "b", "labels": labels}))).await?;
                a.invalid("metadata.labels", "FieldValueInvalid")?;
            }
            Ok(())
        }),
        case("a label whose value is no string answers 400", |c| async move {
            let a = c.post(&c.core("configmaps"), &with(json!({"name": "a", "labels": {"a": 1}}))).await?;
            a.failed(400, "BadRequest")?
                .contains("/message", "ConfigMap in version \"v1\" cannot be handled as a ConfigMap: ")?;
            Ok(())
        }),
        case("annotation keys follow the rules of label keys, their values none", |c| async move {
            let good = json!({"name": "a", "annotations": {"example.com/Any": "any text\nwith ünïcode {}"}});
            c.make(&c.core("configmaps"), &with(good)).await?;
            let a = c.post(&c.core("configmaps"), &with(json!({"name": "b", "annotations": {"a b": "x"}}))).await?;
            a.invalid("metadata.annotations", "FieldValueInvalid")?;
            Ok(())
        }),
        case("annotations of more than 256 KiB are refused", |c| async move {
            let big = json!({"name": "a", "annotations": {"a": "x".repeat(262_145)}});
            let a = c.post(&c.core("configmaps"), &with(big)).await?;
            a.failed(422, "Invalid")?.cause("metadata.annotations", "FieldValueTooLong")?;
            Ok(())
        }),
        case("finalizers need qualified names", |c| async move {
            c.make(&c.core("configmaps"), &with(json!({"name": "a", "finalizers": ["example.com/x"]}))).await?;
            c.merge(&c.core("configmaps/a"), &json!({"metadata": {"finalizers": null}})).await?.status(200)?;
            let a = c.post(&c.core("configmaps"), &with(json!({"name": "b", "finalizers": ["not a name"]}))).await?;
            a.failed(422, "Invalid")?;
            Ok(())
        }),
        case("a finalizer of a single word is refused for built-in kinds", |c| async move {
            let a = c.post(&c.core("configmaps"), &with(json!({"name": "b", "finalizers": ["word"]}))).await?;
            a.failed(422, "Invalid")?
                .contains("/message", "name is neither a standard finalizer name nor is it fully qualified")?;
            Ok(())
        }),
        case("owner references need version, kind, name and uid", |c| async move {
            let owner = json!({"apiVersion": "v1", "kind": "ConfigMap", "name": "o", "uid": "u"});
            for field in ["apiVersion", "kind", "name", "uid"] {
                let mut less = owner.clone();
                less[field] = "".into();
                let a = c.post(&c.core("configmaps"), &with(json!({"name": "a", "ownerReferences": [less]}))).await?;
                a.invalid(&format!("metadata.ownerReferences.{field}"), "FieldValueInvalid")?;
            }
            Ok(())
        }),
        case("only one owner may be the controller", |c| async move {
            let owner =
                |uid: &str| json!({"apiVersion": "v1", "kind": "Pod", "name": uid, "uid": uid, "controller": true});
            let body = with(json!({"name": "a", "ownerReferences": [owner("a"), owner("b")]}));
            let a = c.post(&c.core("configmaps"), &body).await?;
            a.invalid("metadata.ownerReferences", "FieldValueInvalid")?;
            a.contains("/message", "Only one reference can have Controller set to true")?;
            Ok(())
        }),
    ]
}

fn owned() -> Vec<crate::Test> {
    vec![
        case("what a client sends in the server's fields is not kept", |c| async move {
            let body = with(json!({
                "name": "a", "uid": "mine", "creationTimestamp": "2001-01-01T00:00:00Z", "generation": 7,
                "selfLink": "/x", "deletionTimestamp": "2001-01-01T00:00:00Z", "deletionGracePeriodSeconds": 3,
            }));
            let a = c.post(&c.core("configmaps"), &body).await?;
            a.status(201)?.holds(a.at("/metadata/uid") != "mine", "a uid of the server")?;
            a.holds(a.at("/metadata/creationTimestamp") != "2001-01-01T00:00:00Z", "a time of the server")?;
            a.lacks("/metadata/deletionTimestamp")?.lacks("/metadata/deletionGracePeriodSeconds")?;
            Ok(())
        }),
        case("a resource version on create is refused", |c| async move {
            let a = c.post(&c.core("configmaps"), &with(json!({"name": "a", "resourceVersion": "1"}))).await?;
            // kube-apiserver makes it 500, for want of a better error in its storage layer
            a.holds(a.status == 400 || a.status == 500, "a refusal")?;
            a.says("resourceVersion should not be set on objects to be created")?;
            Ok(())
        }),
        case("an update with another uid answers 409", |c| async move {
            c.config_map("a", json!({})).await?;
            let body = with(json!({"name": "a", "uid": "00000000-0000-0000-0000-000000000000"}));
            let a = c.put(&c.core("configmaps/a"), &body).await?;
            a.failed(409, "Conflict")?.contains(
                "/message",
                "Precondition failed: UID in precondition: 00000000-0000-0000-0000-000000000000, UID in object meta: ",
            )?;
            Ok(())
        }),
        case("an update leaves creation time and generation as they are", |c| async move {
            let made = c.config_map("a", json!({})).await?;
            let mut next = made.clone();
            next["metadata"]["creationTimestamp"] = "2001-01-01T00:00:00Z".into();
            next["metadata"]["generation"] = 9.into();
            let a = c.put(&c.core("configmaps/a"), &next).await?;
            a.status(200)?.is("/metadata/creationTimestamp", made["metadata"]["creationTimestamp"].clone())?;
            Ok(())
        }),
        case("an update that sets a deletion time answers 422", |c| async move {
            let mut next = c.config_map("a", json!({})).await?;
            next["metadata"]["deletionTimestamp"] = "2001-01-01T00:00:00Z".into();
            let a = c.put(&c.core("configmaps/a"), &next).await?;
            a.invalid("metadata.deletionTimestamp", "FieldValueInvalid")?.contains("/message", "field is immutable")?;
            Ok(())
        }),
        case("every write is noted in managedFields under the client's name", |c| async move {
            let path = format!("{}?fieldManager=tester", c.core("configmaps"));
            let a = c.post(&path, &config_map("a", json!({"k": "v"}))).await?;
            a.status(201)?.is("/metadata/managedFields/0/manager", "tester")?;
            a.is("/metadata/managedFields/0/operation", "Update")?.is("/metadata/managedFields/0/apiVersion", "v1")?;
            a.is("/metadata/managedFields/0/fieldsType", "FieldsV1")?;
            a.is("/metadata/managedFields/0/fieldsV1", json!({"f:data": {".": {}, "f:k": {}}}))?;
            Ok(())
        }),
        case("without fieldManager the first part of the user agent is the manager", |c| async move {
            let body = config_map("a", json!({"k": "v"}));
            let a = c
                .request("POST", &c.core("configmaps"))
                .header("user-agent", "my-tool/1.2 (linux)")
                .json(&body)
                .send()
                .await?;
            a.status(201)?.is("/metadata/managedFields/0/manager", "my-tool")?;
            Ok(())
        }),
        case("an empty list of managed fields resets them", |c| async move {
            c.config_map("a", json!({"k": "v"})).await?;
            let a = c.merge(&c.core("configmaps/a"), &json!({"metadata": {"managedFields": [{}]}})).await?;
            a.status(200)?.lacks("/metadata/managedFields")?;
            Ok(())
        }),
        case("generation counts changes of the spec and not of labels or status", |c| async move {
            let body = json!({
                "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "a"},
                "spec": {"replicas": 1, "selector": {"matchLabels": {"app": "a"}}, "template": {
                    "metadata": {"labels": {"app": "a"}}, "spec": {"containers": [{"name": "m", "image": "i"}]}}},
            });
            let path = c.group("apps/v1", "deployments/a");
            let made = c.post(&c.group("apps/v1", "deployments"), &body).await?;
            made.status(201)?.is("/metadata/generation", 1)?;
            c.merge(&path, &json!({"metadata": {"labels": {"a": "b"}}})).await?.is("/metadata/generation", 1)?;
            c.merge(&path, &json!({"spec": {"replicas": 2}})).await?.is("/metadata/generation", 2)?;
            c.merge(&path, &json!({"spec": {"replicas": 2}})).await?.is("/metadata/generation", 2)?;
            let status = c.merge(&format!("{path}/status"), &json!({"status": {"observedGeneration": 2}})).await?;
            status.status(200)?.is("/metadata/generation", 2)?;
            Ok(())
        }),
    ]
}
