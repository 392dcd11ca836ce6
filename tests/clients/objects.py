"""A program with Python's kubernetes package: typed, custom and dynamic clients, a watch. Prints what it saw."""

import sys

from kubernetes import client, config, dynamic, utils, watch
from kubernetes.client.exceptions import ApiException

config.load_kube_config()
core = client.CoreV1Api()
NAMESPACE = "python"


def refused(what, call):
    try:
        call()
    except ApiException as error:
        print(f"{what}: {error.status} {error.reason} {error.body}")
    else:
        sys.exit(f"{what}: not refused")


core.create_namespace({"metadata": {"name": NAMESPACE}})
made = core.create_namespaced_config_map(
    NAMESPACE, client.V1ConfigMap(metadata=client.V1ObjectMeta(name="settings", labels={"app": "demo"}), data={"a": "1"})
)
print("created", made.metadata.name, made.data, made.immutable)
refused("twice", lambda: core.create_namespaced_config_map(NAMESPACE, {"metadata": {"name": "settings"}}))
refused("missing", lambda: core.read_namespaced_config_map("nothing", NAMESPACE))
refused("bad name", lambda: core.create_namespaced_config_map(NAMESPACE, {"metadata": {"name": "Bad_Name"}}))

made.data = {"a": "2"}
print("replaced", core.replace_namespaced_config_map("settings", NAMESPACE, made).data)
refused("stale", lambda: core.replace_namespaced_config_map("settings", NAMESPACE, made))
print("patched", core.patch_namespaced_config_map("settings", NAMESPACE, {"data": {"b": "3"}}).data)

listed = core.list_namespaced_config_map(NAMESPACE, label_selector="app=demo")
print("listed", [item.metadata.name for item in listed.items])
core.patch_namespaced_config_map("settings", NAMESPACE, {"metadata": {"labels": {"app": None}}})
for event in watch.Watch().stream(
    core.list_namespaced_config_map, NAMESPACE, label_selector="app=demo",
    resource_version=listed.metadata.resource_version, timeout_seconds=20,
):
    print("watched", event["type"], event["object"].metadata.name)
    break

pod = {
    "metadata": {"name": "idle"},
    "spec": {"containers": [{"name": "main", "image": "none", "ports": [{"containerPort": 80}], "resources": {"limits": {"memory": "64Mi"}}}]},
}
made = core.create_namespaced_pod(NAMESPACE, pod)
print("pod", made.status.phase, made.status.qos_class, made.spec.restart_policy, made.spec.dns_policy)
print("pod", made.spec.containers[0].ports[0].protocol, made.spec.containers[0].resources)
refused("bad pod", lambda: core.create_namespaced_pod(NAMESPACE, {"metadata": {"name": "bad"}, "spec": {"containers": []}}))
core.delete_namespaced_pod("idle", NAMESPACE, grace_period_seconds=0)

extensions = client.ApiextensionsV1Api()
extensions.create_custom_resource_definition({
    "metadata": {"name": "cups.example.test"},
    "spec": {
        "group": "example.test", "scope": "Namespaced", "names": {"plural": "cups", "singular": "cup", "kind": "Cup"},
        "versions": [{"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": {
            "type": "object", "properties": {"spec": {"type": "object", "required": ["size"], "properties": {
                "size": {"type": "integer", "minimum": 1}, "colour": {"type": "string", "default": "white"}}}}}}}],
    },
})
for event in watch.Watch().stream(extensions.list_custom_resource_definition, timeout_seconds=20):
    conditions = (event["object"].status.conditions or []) if event["object"].status else []
    if event["object"].metadata.name == "cups.example.test" and any(
        c.type == "Established" and c.status == "True" for c in conditions
    ):
        print("established", sorted((c.type, c.status, c.reason) for c in conditions))
        break
custom = client.CustomObjectsApi()
cup = {"apiVersion": "example.test/v1", "kind": "Cup", "metadata": {"name": "mine"}, "spec": {"size": 2}}
print("custom", sorted(custom.create_namespaced_custom_object("example.test", "v1", NAMESPACE, "cups", cup)["spec"].items()))
cup["spec"] = {"size": 0}
refused("too small", lambda: custom.replace_namespaced_custom_object(
    "example.test", "v1", NAMESPACE, "cups", "mine", cup | {"metadata": {"name": "mine", "resourceVersion": "1"}}))

cups = dynamic.DynamicClient(client.ApiClient()).resources.get(api_version="example.test/v1", kind="Cup")
print("dynamic", cups.name, cups.namespaced, sorted(cups.verbs))
print("dynamic", [(item.metadata.name, item.spec.colour) for item in cups.get(namespace=NAMESPACE).items])

utils.create_from_dict(client.ApiClient(), {
    "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "namespace": NAMESPACE},
    "spec": {"replicas": 2, "selector": {"matchLabels": {"app": "web"}}, "template": {
        "metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "web", "image": "none"}]}}}})
apps = client.AppsV1Api()
apps.patch_namespaced_deployment_scale("web", NAMESPACE, {"spec": {"replicas": 5}})
scale = apps.read_namespaced_deployment_scale("web", NAMESPACE)
print("scale", scale.spec.replicas, scale.status.selector)

review = client.AuthorizationV1Api().create_self_subject_access_review(
    {"spec": {"resourceAttributes": {"verb": "delete", "resource": "nodes"}}})
print("may delete nodes:", review.status.allowed)
print("groups", [group.name for group in client.ApisApi().get_api_versions().groups if "." not in group.name])
extensions.delete_custom_resource_definition("cups.example.test")
core.delete_namespace(NAMESPACE)
