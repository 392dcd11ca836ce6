//! Events in their two groups, and leases.

use serde_json::{Value, json};

use crate::case::{Case, Chapter, case};

/// The chapter.
pub fn chapter() -> Chapter {
    Chapter {
        name: "events",
        cases: vec![
            case("an event of the core group is seen in the other group", |c| async move {
                c.make(&c.core("events"), &core_event(&c, "a")).await?;
                let a = c.get(&c.group("events.k8s.io/v1", "events/a")).await?;
                a.status(200)?
                    .is("/apiVersion", "events.k8s.io/v1")?
                    .is("/note", "all well")?
                    .is("/regarding/name", "p")?;
                a.is("/deprecatedCount", 2)?.is("/deprecatedSource/component", "me")?.lacks("/message")?;
                Ok(())
            }),
            case("an event of the new group is seen in the core group", |c| async move {
                c.make(&c.group("events.k8s.io/v1", "events"), &new_event(&c, "a")).await?;
                let a = c.get(&c.core("events/a")).await?;
                a.status(200)?.is("/apiVersion", "v1")?.is("/message", "all well")?.is("/involvedObject/name", "p")?;
                a.is("/reportingComponent", "x.io/me")?.is("/reportingInstance", "me-1")?.is("/action", "Making")?;
                Ok(())
            }),
            case("events of the new group need time, reporter, action and reason", |c| async move {
                for field in ["eventTime", "reportingController", "reportingInstance", "action", "reason"] {
                    let mut body = new_event(&c, "a");
                    body.as_object_mut().map(|b| b.remove(field));
                    let a = c.post(&c.group("events.k8s.io/v1", "events"), &body).await?;
                    a.invalid(field, "FieldValueRequired").or_else(|_| a.invalid(field, "FieldValueInvalid"))?;
                }
                Ok(())
            }),
            case("an event's namespace is that of its object", |c| async move {
                let mut body = core_event(&c, "a");
                body["involvedObject"]["namespace"] = "other".into();
                let a = c.post(&c.core("events"), &body).await?;
                a.invalid("involvedObject.namespace", "FieldValueInvalid")?;
                Ok(())
            }),
            case("events are selected by their object, reason and type", |c| async move {
                c.make(&c.core("events"), &core_event(&c, "a")).await?;
                let mut other = core_event(&c, "b");
                other["involvedObject"]["name"] = "q".into();
                other["type"] = "Warning".into();
                c.make(&c.core("events"), &other).await?;
                for (selector, wanted) in [
                    ("involvedObject.name%3Dp", "a"),
                    ("involvedObject.kind%3DPod,involvedObject.name%3Dq", "b"),
                    ("type%3DWarning", "b"),
                    ("type%21%3DWarning,reason%3DMade", "a"),
                    ("source%3Dme,involvedObject.name%3Dp", "a"),
                ] {
                    c.get(&c.core(&format!("events?fieldSelector={selector}"))).await?.lists(&[wanted])?;
                }
                Ok(())
            }),
            case("an event may be patched, as recorders do for repetitions", |c| async move {
                c.make(&c.core("events"), &core_event(&c, "a")).await?;
                let a = c
                    .patch(&c.core("events/a"), "strategic-merge-patch+json", &json!({"count": 3, "message": "again"}))
                    .await?;
                a.status(200)?.is("/count", 3)?.is("/message", "again")?;
                Ok(())
            }),
            case("a watch of events shows both groups' writes", |c| async move {
                let mut w = c.watch(&c.core("events?resourceVersion=0")).await?;
                c.make(&c.core("events"), &core_event(&c, "a")).await?;
                c.make(&c.group("events.k8s.io/v1", "events"), &new_event(&c, "b")).await?;
                w.expect(&["ADDED a", "ADDED b"]).await?;
                Ok(())
            }),
            case("a lease keeps times to the microsecond", |c| async move {
                let path = c.group("coordination.k8s.io/v1", "leases");
                let spec = json!({"holderIdentity": "me", "leaseDurationSeconds": 15, "acquireTime": "2026-01-02T03:04:05.123456Z", "renewTime": "2026-01-02T03:04:05.000000Z", "leaseTransitions": 0});
                let a = c.post(&path, &json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "a"}, "spec": spec})).await?;
                a.status(201)?.is("/spec", spec)?;
                Ok(())
            }),
            case("a lease is renewed by an update from its version, others lose", |c| async move {
                let path = c.group("coordination.k8s.io/v1", "leases");
                let body = json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "a"}, "spec": {"holderIdentity": "one"}});
                let made = c.make(&path, &body).await?;
                let mut mine = made.clone();
                mine["spec"]["renewTime"] = "2026-01-02T03:04:05.000000Z".into();
                c.put(&format!("{path}/a"), &mine).await?.status(200)?;
                let mut theirs = made;
                theirs["spec"]["holderIdentity"] = "two".into();
                c.put(&format!("{path}/a"), &theirs).await?.failed(409, "Conflict")?;
                Ok(())
            }),
            case("a lease's duration is positive", |c| async move {
                let path = c.group("coordination.k8s.io/v1", "leases");
                let body = json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "a"}, "spec": {"leaseDurationSeconds": 0}});
                let a = c.post(&path, &body).await?;
                a.invalid("spec.leaseDurationSeconds", "FieldValueInvalid")?
                    .contains("/message", "must be greater than 0")?;
                Ok(())
            }),
        ],
    }
}

fn core_event(c: &Case, name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Event", "metadata": {"name": name, "namespace": c.ns()}, "type": "Normal", "reason": "Made", "message": "all well",
        "involvedObject": {"apiVersion": "v1", "kind": "Pod", "name": "p", "namespace": c.ns()}, "count": 2, "source": {"component": "me"},
        "firstTimestamp": "2026-01-01T00:00:00Z", "lastTimestamp": "2026-01-01T00:00:00Z"})
}

fn new_event(c: &Case, name: &str) -> Value {
    json!({"apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": {"name": name, "namespace": c.ns()}, "type": "Normal", "reason": "Made", "note": "all well",
        "regarding": {"apiVersion": "v1", "kind": "Pod", "name": "p", "namespace": c.ns()}, "eventTime": "2026-01-01T00:00:00.000000Z",
        "reportingController": "x.io/me", "reportingInstance": "me-1", "action": "Making"})
}
