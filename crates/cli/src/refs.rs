//! Names as users write them.

/// Splits `namespace/name`; a bare name is in `default`.
pub fn qualified<'a>(text: &'a str, default: &'a str) -> (&'a str, &'a str) {
    text.split_once('/').unwrap_or((default, text))
}

/// Takes the name from the positional argument or from `--name`.
pub fn name(positional: &Option<String>, flag: &Option<String>) -> anyhow::Result<String> {
    match (positional, flag) {
        (Some(_), Some(_)) => anyhow::bail!("cannot specify name as both argument and --name flag"),
        (Some(name), None) | (None, Some(name)) => Ok(name.clone()),
        (None, None) => anyhow::bail!("--name is required"),
    }
}
