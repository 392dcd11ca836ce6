//! Jobs and cron jobs: defaults, the selector that the server makes, what may change.

use serde_json::{Value, json};

use crate::case::{Case, Chapter, case};

/// The chapter.
pub fn chapter() -> Chapter {
    Chapter {
        name: "jobs",
        cases: vec![
            case("a job gets its counts, back-off limit and selector", |c| async move {
                let a = c.post(&path(&c), &job("a", json!({}))).await?;
                a.status(201)?.is("/spec/completions", 1)?.is("/spec/parallelism", 1)?.is("/spec/backoffLimit", 6)?;
                a.is("/spec/completionMode", "NonIndexed")?
                    .is("/spec/suspend", false)?
                    .is("/spec/podReplacementPolicy", "TerminatingOrFailed")?;
                a.is(
                    "/spec/selector",
                    json!({"matchLabels": {"batch.kubernetes.io/controller-uid": a.at("/metadata/uid")}}),
                )?;
                a.is("/metadata/generation", 1)?.lacks("/status/active")?;
                Ok(())
            }),
            case("a job's template gets the labels that tie pods to the job", |c| async move {
                let a = c.post(&path(&c), &job("a", json!({}))).await?;
                let uid = a.at("/metadata/uid").clone();
                a.is("/spec/template/metadata/labels", json!({
                    "batch.kubernetes.io/controller-uid": uid, "batch.kubernetes.io/job-name": "a", "controller-uid": uid, "job-name": "a",
                }))?;
                Ok(())
            }),
            case("with a parallelism alone completions stay open", |c| async move {
                let a = c.post(&path(&c), &job("a", json!({"parallelism": 3}))).await?;
                a.status(201)?.is("/spec/parallelism", 3)?.lacks("/spec/completions")?;
                Ok(())
            }),
            case("restartPolicy Always answers 422", |c| async move {
                let mut body = job("a", json!({}));
                body["spec"]["template"]["spec"]["restartPolicy"] = "Always".into();
                let a = c.post(&path(&c), &body).await?;
                a.invalid("spec.template.spec.restartPolicy", "FieldValueRequired")?;
                a.contains("/message", "valid values: \"OnFailure\", \"Never\"")?;
                Ok(())
            }),
            case("negative numbers answer 422", |c| async move {
                for field in
                    ["completions", "parallelism", "backoffLimit", "activeDeadlineSeconds", "ttlSecondsAfterFinished"]
                {
                    let a = c.post(&path(&c), &job("a", json!({field: -1}))).await?;
                    a.invalid(&format!("spec.{field}"), "FieldValueInvalid")?;
                    a.contains("/message", "must be greater than or equal to 0")?;
                }
                Ok(())
            }),
            case("a selector of one's own needs manualSelector", |c| async move {
                let a = c.post(&path(&c), &job("a", json!({"selector": {"matchLabels": {"a": "b"}}}))).await?;
                a.failed(422, "Invalid")?;
                let mut body = job("b", json!({"selector": {"matchLabels": {"a": "b"}}, "manualSelector": true}));
                body["spec"]["template"]["metadata"] = json!({"labels": {"a": "b"}});
                let a = c.post(&path(&c), &body).await?;
                a.status(201)?.is("/spec/selector", json!({"matchLabels": {"a": "b"}}))?;
                a.is("/spec/template/metadata/labels", json!({"a": "b"}))?;
                Ok(())
            }),
            case("template, selector and completions cannot be changed", |c| async move {
                c.make(&path(&c), &job("a", json!({}))).await?;
                let one = format!("{}/a", path(&c));
                let patch = json!({"spec": {"template": {"spec": {"terminationGracePeriodSeconds": 5}}}});
                let a = c.merge(&one, &patch).await?;
                a.invalid("spec.template", "FieldValueInvalid")?.contains("/message", "field is immutable")?;
                let a = c.merge(&one, &json!({"spec": {"selector": {"matchLabels": {"x": "y"}}}})).await?;
                a.invalid("spec.selector", "FieldValueInvalid")?;
                c.merge(&one, &json!({"spec": {"completions": 5}}))
                    .await?
                    .invalid("spec.completions", "FieldValueInvalid")?;
                Ok(())
            }),
            case("parallelism, deadline and suspension can be changed", |c| async move {
                c.make(&path(&c), &job("a", json!({}))).await?;
                let patch = json!({"spec": {"parallelism": 4, "activeDeadlineSeconds": 60, "suspend": true}});
                let a = c.merge(&format!("{}/a", path(&c)), &patch).await?;
                a.status(200)?
                    .is("/spec/parallelism", 4)?
                    .is("/spec/activeDeadlineSeconds", 60)?
                    .is("/metadata/generation", 2)?;
                Ok(())
            }),
            case("a status is written by its own path", |c| async move {
                c.make(&path(&c), &job("a", json!({}))).await?;
                let status = json!({"status": {"startTime": "2026-01-01T00:00:00Z", "active": 1}});
                let a = c.merge(&format!("{}/a/status", path(&c)), &status).await?;
                a.status(200)?.is("/status/active", 1)?;
                let a = c.get(&format!("{}?fieldSelector=status.successful%3D0", path(&c))).await?;
                a.lists(&["a"])?;
                Ok(())
            }),
            case("a deletion without a policy orphans a job's pods with a warning", |c| async move {
                c.make(&path(&c), &job("a", json!({}))).await?;
                let a = c.delete(&format!("{}/a", path(&c))).await?;
                a.status(200)?.header_starts("warning", "299 - \"child pods are preserved by default when jobs are deleted; set propagationPolicy=Background to remove them or set propagationPolicy=Orphan to suppress this warning\"")?;
                Ok(())
            }),
            case("a cron job gets its defaults", |c| async move {
                let a = c.post(&c.group("batch/v1", "cronjobs"), &cron_job("a", "*/5 * * * *")).await?;
                a.status(201)?.is("/spec/concurrencyPolicy", "Allow")?.is("/spec/suspend", false)?;
                a.is("/spec/successfulJobsHistoryLimit", 3)?.is("/spec/failedJobsHistoryLimit", 1)?;
                Ok(())
            }),
            case("a cron job's schedule is checked", |c| async move {
                let a = c.post(&c.group("batch/v1", "cronjobs"), &cron_job("a", "whenever")).await?;
                a.invalid("spec.schedule", "FieldValueInvalid")?;
                let a = c.post(&c.group("batch/v1", "cronjobs"), &cron_job("a", "")).await?;
                a.invalid("spec.schedule", "FieldValueRequired")?;
                Ok(())
            }),
        ],
    }
}

fn path(c: &Case) -> String {
    c.group("batch/v1", "jobs")
}

fn job(name: &str, more: Value) -> Value {
    let mut spec =
        json!({"template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "m", "image": "i"}]}}});
    for (field, value) in more.as_object().into_iter().flatten() {
        spec[field] = value.clone();
    }
    json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name}, "spec": spec})
}

fn cron_job(name: &str, schedule: &str) -> Value {
    json!({"apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": name},
        "spec": {"schedule": schedule, "jobTemplate": {"spec": job("x", json!({}))["spec"]}}})
}
