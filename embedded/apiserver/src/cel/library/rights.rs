//! `authorizer.group('apps').resource('deployments').check('create').allowed()`.

use std::sync::Arc;

use super::super::value::{Question, Value};
use super::{Answer, truth};

pub fn call(name: &str, args: &[Value]) -> Answer {
    let text = |value: &Value| match value {
        Value::Text(text) => Some(text.to_string()),
        _ => None,
    };
    match args.split_first()? {
        (Value::Decision(allowed), []) => match name {
            "allowed" => truth(*allowed),
            "errored" => truth(false),
            "reason" | "error" => Some(Ok(Value::text(""))),
            _ => None,
        },
        (Value::Rights(authorizer, question), rest) => {
            let mut question: Question = (**question).clone();
            let first = text(rest.first()?)?;
            match name {
                "group" => question.group = first,
                "path" => question.path = first,
                "serviceAccount" => question.account = Some((first, text(rest.get(1)?)?)),
                "resource" => question.resource = first,
                "subresource" => question.subresource = first,
                "namespace" => question.namespace = first,
                "name" => question.name = first,
                "check" => {
                    question.verb = first;
                    return Some(Ok(Value::Decision(authorizer.allowed(&question))));
                }
                _ => return None,
            }
            Some(Ok(Value::Rights(authorizer.clone(), Arc::new(question))))
        }
        _ => None,
    }
}
