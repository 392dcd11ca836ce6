//! The garbage collector: dependents whose owners are all gone are deleted; an owner that is deleted in the foreground
//! waits for its dependents; an owner that orphans them is taken out of their references first.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::Value;

use crate::error::ApiResult;
use crate::handlers::{self, Deletion, Propagation, pipeline};
use crate::meta;
use crate::request::Context;
use crate::server::Server;
use crate::storage::{Event, EventKind, Key, Object};

/// Runs until the server stops.
pub async fn run(server: Arc<Server>) {
    let mut events = server.store.listen();
    let mut todo: BTreeSet<Key> = server.store.owned().iter().map(|o| o.key.clone()).collect();
    for resource in server.store.counts().keys() {
        todo.extend(server.store.list(resource, None).0.iter().filter(|o| o.deleting).map(|o| o.key.clone()));
    }
    loop {
        for key in std::mem::take(&mut todo) {
            if let Some(object) = server.store.get(&key)
                && let Err(error) = look_at(&server, &object).await
                && error.reason != "NotFound"
            {
                tracing::warn!(%error, resource = &*key.resource, name = key.name, "garbage collection failed for this object");
            }
        }
        tokio::select! {
            event = events.recv() => match event {
                Some(event) => note(&server, &event, &mut todo),
                None => return,
            },
            () = server.stop.cancelled() => return,
        }
        while let Ok(event) = events.try_recv() {
            note(&server, &event, &mut todo);
        }
    }
}

/// Which objects an event makes worth a look.
fn note(server: &Server, event: &Event, todo: &mut BTreeSet<Key>) {
    let object = &event.object;
    if event.kind == EventKind::Deleted {
        todo.extend(server.store.dependents(&object.uid).iter().map(|d| d.key.clone()));
        // an owner in the foreground may have waited for this one
        todo.extend(
            object
                .owners
                .iter()
                .filter_map(|uid| server.store.by_uid(uid))
                .filter(|o| o.deleting)
                .map(|o| o.key.clone()),
        );
    } else if object.deleting || !object.owners.is_empty() {
        todo.insert(object.key.clone());
        let before = event.previous.as_ref().map(|p| p.owners.clone()).unwrap_or_default();
        todo.extend(
            before.iter().filter_map(|uid| server.store.by_uid(uid)).filter(|o| o.deleting).map(|o| o.key.clone()),
        );
    }
}

fn context(server: &Server, object: &Object) -> Option<Context> {
    let resource = server.registry.stored(&object.key.resource)?;
    Some(Context::internal(resource, &object.key.namespace, &object.key.name))
}

async fn look_at(server: &Arc<Server>, object: &Arc<Object>) -> ApiResult<()> {
    if object.deleting {
        let finalizers = meta::finalizers(&object.value());
        if finalizers.iter().any(|f| f == "orphan") {
            return orphan(server, object).await;
        }
        if finalizers.iter().any(|f| f == "foregroundDeletion") {
            return foreground(server, object).await;
        }
    }
    if object.owners.is_empty() || object.deleting {
        return Ok(());
    }
    let value = object.value();
    let references = value.pointer("/metadata/ownerReferences").and_then(Value::as_array).cloned().unwrap_or_default();
    let (mut solid, mut dangling) = (Vec::new(), Vec::new());
    for reference in references {
        if is_gone(server, object, &reference) { dangling.push(reference) } else { solid.push(reference) }
    }
    let Some(context) = context(server, object) else { return Ok(()) };
    if solid.is_empty() {
        let deletion = Deletion {
            uid: Some(object.uid.clone()),
            propagation: Some(Propagation::Background),
            ..Deletion::default()
        };
        handlers::delete_object(server, &context, &deletion).await?;
    } else if !dangling.is_empty() {
        drop_references(server, object, &dangling).await?;
    }
    Ok(())
}

/// Whether the owner that the reference names does not exist (any more).
fn is_gone(server: &Server, dependent: &Object, reference: &Value) -> bool {
    let text = |field: &str| meta::text(reference, &format!("/{field}"));
    if let Some(owner) = server.store.by_uid(text("uid")) {
        // an owner in another namespace does not count
        return !owner.key.namespace.is_empty() && owner.key.namespace != dependent.key.namespace;
    }
    // of a kind that is not served nothing can be said
    let group = text("apiVersion").split_once('/').map_or("", |(group, _)| group);
    server.registry.knows_kind(group, text("kind"))
}

async fn drop_references(server: &Arc<Server>, object: &Object, gone: &[Value]) -> ApiResult<()> {
    let Some(context) = context(server, object) else { return Ok(()) };
    let uids: Vec<&str> = gone.iter().map(|r| meta::text(r, "/uid")).collect();
    pipeline::change(server, &context, |old| {
        let mut value = old.clone();
        if let Some(Value::Array(list)) = value.pointer_mut("/metadata/ownerReferences") {
            list.retain(|r| !uids.contains(&meta::text(r, "/uid")));
        }
        Ok(pipeline::Change { value, applied: false })
    })
    .await
    .map(|_| ())
}

async fn remove_finalizer(server: &Arc<Server>, object: &Object, name: &str) -> ApiResult<()> {
    let Some(context) = context(server, object) else { return Ok(()) };
    pipeline::change(server, &context, |old| {
        let mut value = old.clone();
        meta::set_finalizers(&mut value, meta::finalizers(old).into_iter().filter(|f| f != name).collect());
        Ok(pipeline::Change { value, applied: false })
    })
    .await
    .map(|_| ())
}

async fn orphan(server: &Arc<Server>, owner: &Arc<Object>) -> ApiResult<()> {
    let reference = serde_json::json!({"uid": owner.uid});
    for dependent in server.store.dependents(&owner.uid) {
        match drop_references(server, &dependent, std::slice::from_ref(&reference)).await {
            Err(error) if error.reason != "NotFound" => return Err(error),
            _ => {}
        }
    }
    remove_finalizer(server, owner, "orphan").await
}

async fn foreground(server: &Arc<Server>, owner: &Arc<Object>) -> ApiResult<()> {
    let mut blocked = false;
    for dependent in server.store.dependents(&owner.uid) {
        let value = dependent.value();
        let references =
            value.pointer("/metadata/ownerReferences").and_then(Value::as_array).cloned().unwrap_or_default();
        let blocks = |r: &Value| {
            meta::text(r, "/uid") == owner.uid && r.get("blockOwnerDeletion").and_then(Value::as_bool) == Some(true)
        };
        let others = references.iter().any(|r| meta::text(r, "/uid") != owner.uid && !is_gone(server, &dependent, r));
        if others {
            drop_references(server, &dependent, &[serde_json::json!({"uid": owner.uid})]).await?;
            continue;
        }
        blocked |= references.iter().any(blocks);
        if !dependent.deleting
            && let Some(context) = context(server, &dependent)
        {
            let deletion = Deletion {
                uid: Some(dependent.uid.clone()),
                propagation: Some(Propagation::Foreground),
                ..Deletion::default()
            };
            match handlers::delete_object(server, &context, &deletion).await {
                Err(error) if error.reason != "NotFound" => return Err(error),
                _ => {}
            }
        }
    }
    // what was deleted at once does not block any more
    blocked &= server.store.dependents(&owner.uid).iter().any(|d| {
        let value = d.value();
        let references =
            value.pointer("/metadata/ownerReferences").and_then(Value::as_array).cloned().unwrap_or_default();
        references.iter().any(|r| {
            meta::text(r, "/uid") == owner.uid && r.get("blockOwnerDeletion").and_then(Value::as_bool) == Some(true)
        })
    });
    if blocked { Ok(()) } else { remove_finalizer(server, owner, "foregroundDeletion").await }
}
