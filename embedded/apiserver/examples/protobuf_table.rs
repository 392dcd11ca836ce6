//! Writes `src/protobuf/messages.txt`: the field numbers of the published protobuf interface of Kubernetes.
//!
//! `cargo run -p apiserver --example protobuf_table -- FILE.proto… > embedded/apiserver/src/protobuf/messages.txt`, with
//! the `generated.proto` files of k8s.io/api (v1, v2) and k8s.io/apimachinery.
//!
//! One line per message: its name, then `number:name:type` per field; `*` before a type is a list, `%` a map from
//! text. Scalars: s text, i whole number, b boolean, y bytes, d number.

use std::collections::BTreeMap;

fn short(name: &str) -> String {
    let name = name.trim_start_matches('.');
    name.strip_prefix("k8s.io.api.")
        .or_else(|| name.strip_prefix("k8s.io.apimachinery.pkg."))
        .unwrap_or(name)
        .to_string()
}

fn kind(package: &str, name: &str) -> String {
    match name {
        "string" => "s".into(),
        "int32" | "int64" | "uint32" | "uint64" => "i".into(),
        "bool" => "b".into(),
        "bytes" => "y".into(),
        "double" => "d".into(),
        local if !local.contains('.') => short(&format!("{package}.{local}")),
        full => short(full),
    }
}

fn main() -> std::io::Result<()> {
    let mut messages: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for path in std::env::args().skip(1) {
        let text = std::fs::read_to_string(&path)?;
        let (mut package, mut current) = (String::new(), String::new());
        for line in text.lines().map(|l| l.split("//").next().unwrap_or_default().trim()) {
            if let Some(name) = line.strip_prefix("package ") {
                package = name.trim_end_matches(';').to_string();
            } else if let Some(name) = line.strip_prefix("message ") {
                current = short(&format!("{package}.{}", name.trim_end_matches(" {")));
                messages.insert(current.clone(), Vec::new());
            } else if let Some((left, number)) = line.trim_end_matches(';').split_once(" = ") {
                let left = left.replace(", ", ",");
                let words: Vec<&str> = left.split_whitespace().collect();
                let field = match words.as_slice() {
                    ["optional", of, name] => format!("{number}:{name}:{}", kind(&package, of)),
                    ["repeated", of, name] => format!("{number}:{name}:*{}", kind(&package, of)),
                    [map, name] if map.starts_with("map<string,") => {
                        let of = map.trim_start_matches("map<string,").trim_end_matches('>');
                        format!("{number}:{name}:%{}", kind(&package, of))
                    }
                    _ => continue,
                };
                if let Some(fields) = messages.get_mut(&current) {
                    fields.push(field);
                }
            }
        }
    }
    // only what is not a list of a kind: lists are never sent
    for (name, fields) in messages
        .iter()
        .filter(|(name, _)| !(name.ends_with("List") && messages.contains_key(name.trim_end_matches("List"))))
    {
        println!("{name} {}", fields.join(" "));
    }
    Ok(())
}
