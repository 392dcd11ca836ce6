//! Services: addresses, ports, types, what may change.

use serde_json::{Value, json};

use crate::case::{Chapter, case};

/// The chapter.
pub fn chapter() -> Chapter {
    Chapter {
        name: "services",
        cases: vec![
            case("a service gets an address, families and defaults", |c| async move {
                let a = c.post(&c.core("services"), &service("a", json!({"ports": [{"port": 80}]}))).await?;
                a.status(201)?.has("/spec/clusterIP")?.is("/spec/clusterIPs/0", a.at("/spec/clusterIP").clone())?;
                a.is("/spec/type", "ClusterIP")?
                    .is("/spec/sessionAffinity", "None")?
                    .is("/spec/internalTrafficPolicy", "Cluster")?;
                a.is("/spec/ipFamilies", json!(["IPv4"]))?.is("/spec/ipFamilyPolicy", "SingleStack")?;
                a.is("/spec/ports/0", json!({"protocol": "TCP", "port": 80, "targetPort": 80}))?;
                a.is("/status", json!({"loadBalancer": {}}))?;
                Ok(())
            }),
            case("a headless service has no address", |c| async move {
                let a = c.post(&c.core("services"), &service("a", json!({"clusterIP": "None"}))).await?;
                a.status(201)?.is("/spec/clusterIP", "None")?.is("/spec/clusterIPs", json!(["None"]))?;
                Ok(())
            }),
            case("two services have different addresses", |c| async move {
                let one = c.make(&c.core("services"), &service("a", json!({"ports": [{"port": 80}]}))).await?;
                let two = c.make(&c.core("services"), &service("b", json!({"ports": [{"port": 80}]}))).await?;
                anyhow::ensure!(one["spec"]["clusterIP"] != two["spec"]["clusterIP"], "different addresses expected");
                Ok(())
            }),
            case("an address that is taken answers 422", |c| async move {
                let one = c.make(&c.core("services"), &service("a", json!({"ports": [{"port": 80}]}))).await?;
                let spec = json!({"clusterIP": one["spec"]["clusterIP"], "ports": [{"port": 80}]});
                let a = c.post(&c.core("services"), &service("b", spec)).await?;
                a.invalid("spec.clusterIPs", "FieldValueInvalid")?
                    .contains("/message", "provided IP is already allocated")?;
                Ok(())
            }),
            case("an address cannot be changed", |c| async move {
                c.make(&c.core("services"), &service("a", json!({"ports": [{"port": 80}]}))).await?;
                let a = c
                    .merge(
                        &c.core("services/a"),
                        &json!({"spec": {"clusterIP": "10.96.200.200", "clusterIPs": ["10.96.200.200"]}}),
                    )
                    .await?;
                a.failed(422, "Invalid")?.contains("/message", "may not change once set")?;
                Ok(())
            }),
            case("an update without the address keeps it", |c| async move {
                let made = c.make(&c.core("services"), &service("a", json!({"ports": [{"port": 80}]}))).await?;
                let mut next = service("a", json!({"ports": [{"port": 81}]}));
                next["metadata"]["resourceVersion"] = made["metadata"]["resourceVersion"].clone();
                let a = c.put(&c.core("services/a"), &next).await?;
                a.status(200)?
                    .is("/spec/clusterIP", made["spec"]["clusterIP"].clone())?
                    .is("/spec/ports/0/port", 81)?;
                Ok(())
            }),
            case("a service needs ports unless it is headless or external", |c| async move {
                c.post(&c.core("services"), &service("a", json!({})))
                    .await?
                    .invalid("spec.ports", "FieldValueRequired")?;
                let external = json!({"type": "ExternalName", "externalName": "example.com"});
                let a = c.post(&c.core("services"), &service("b", external)).await?;
                a.status(201)?.lacks("/spec/clusterIP")?;
                Ok(())
            }),
            case("ports are numbers from 1 to 65535", |c| async move {
                for port in [0, -1, 65536] {
                    let a = c.post(&c.core("services"), &service("a", json!({"ports": [{"port": port}]}))).await?;
                    a.invalid("spec.ports[0].port", "FieldValueInvalid")?;
                    a.contains("/message", "must be between 1 and 65535, inclusive")?;
                }
                Ok(())
            }),
            case("several ports need names", |c| async move {
                let a =
                    c.post(&c.core("services"), &service("a", json!({"ports": [{"port": 1}, {"port": 2}]}))).await?;
                a.invalid("spec.ports[0].name", "FieldValueRequired")?
                    .invalid("spec.ports[1].name", "FieldValueRequired")?;
                Ok(())
            }),
            case("port names are unique", |c| async move {
                let ports = json!([{"port": 1, "name": "a"}, {"port": 2, "name": "a"}]);
                let a = c.post(&c.core("services"), &service("a", json!({"ports": ports}))).await?;
                a.invalid("spec.ports[1].name", "FieldValueDuplicate")?;
                Ok(())
            }),
            case("an unknown type or protocol answers 422", |c| async move {
                let a = c
                    .post(&c.core("services"), &service("a", json!({"type": "Nonsense", "ports": [{"port": 1}]})))
                    .await?;
                a.invalid("spec.type", "FieldValueNotSupported")?;
                let a = c
                    .post(&c.core("services"), &service("a", json!({"ports": [{"port": 1, "protocol": "XYZ"}]})))
                    .await?;
                a.invalid("spec.ports[0].protocol", "FieldValueNotSupported")?;
                Ok(())
            }),
            case("a node port service gets a port of every node", |c| async move {
                let a = c
                    .post(&c.core("services"), &service("a", json!({"type": "NodePort", "ports": [{"port": 80}]})))
                    .await?;
                let port = a.status(201)?.at("/spec/ports/0/nodePort").as_u64().unwrap_or(0);
                a.holds((30000..=32767).contains(&port), "a port between 30000 and 32767")?;
                a.is("/spec/externalTrafficPolicy", "Cluster")?;
                Ok(())
            }),
            case("a selector is a map of labels", |c| async move {
                let spec = json!({"selector": {"not a key": "x"}, "ports": [{"port": 80}]});
                let a = c.post(&c.core("services"), &service("a", spec)).await?;
                a.invalid("spec.selector", "FieldValueInvalid")?;
                Ok(())
            }),
        ],
    }
}

fn service(name: &str, spec: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec})
}
