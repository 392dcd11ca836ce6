//! Output: tables for people, JSON and YAML for programs, Markdown for documents.

use std::io::{IsTerminal, Write};

use anyhow::Context;
use serde_json::{Value, json};
use unicode_width::UnicodeWidthStr;

use crate::{Format, Global};

/// A table: titles, and rows of as many cells.
pub struct Table<'a> {
    pub titles: Vec<&'a str>,
    pub rows: Vec<Vec<String>>,
}

/// Prints items in the format asked for; `row` says how one becomes a table row.
pub fn print(
    global: &Global,
    format: Format,
    items: &[Value],
    titles: &[&str],
    row: impl Fn(&Value) -> Vec<String>,
    empty: &str,
) -> anyhow::Result<()> {
    match format {
        Format::Json => line(&serde_json::to_string_pretty(items)?),
        Format::Yaml => line(serde_saphyr::to_string(&items)?.trim_end()),
        Format::Table | Format::Markdown if items.is_empty() => line(empty),
        Format::Table => {
            let table = Table { titles: titles.to_vec(), rows: items.iter().map(row).collect() };
            line(render(&table, coloured(global)).trim_end())
        }
        Format::Markdown => line(&markdown(&Table { titles: titles.to_vec(), rows: items.iter().map(row).collect() })),
    }
}

/// Writes a line; a reader that has gone away is no error.
pub fn line(text: &str) -> anyhow::Result<()> {
    match writeln!(std::io::stdout(), "{text}") {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => std::process::exit(0),
        result => result.context("failed to write the output"),
    }
}

/// Says whether colours are wanted.
pub fn coloured(global: &Global) -> bool {
    !global.no_color && std::io::stdout().is_terminal()
}

/// Draws a table: columns two spaces apart, a rule under the titles.
pub fn render(table: &Table<'_>, colour: bool) -> String {
    let mut widths: Vec<usize> = table.titles.iter().map(|title| title.width()).collect();
    for row in &table.rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.width());
        }
    }
    let mut text = String::new();
    let mut put = |cells: &mut dyn Iterator<Item = &str>, style: &dyn Fn(&str) -> (&'static str, &'static str)| {
        let mut line = String::new();
        for (cell, width) in cells.zip(&widths) {
            let (on, off) = style(cell);
            line += &format!("{on}{cell}{off}{}", " ".repeat(width.saturating_sub(cell.width()) + 2));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    };
    put(&mut table.titles.iter().copied(), &|_| if colour { ("\x1b[1m", "\x1b[0m") } else { ("", "") });
    let rules: Vec<_> = widths.iter().map(|width| "─".repeat(*width)).collect();
    put(&mut rules.iter().map(String::as_str), &|_| ("", ""));
    for row in &table.rows {
        put(&mut row.iter().map(String::as_str), &|cell| {
            if colour { (shade(cell), if shade(cell).is_empty() { "" } else { "\x1b[0m" }) } else { ("", "") }
        });
    }
    text
}

fn shade(cell: &str) -> &'static str {
    match cell.to_ascii_lowercase().as_str() {
        "running" | "executing" => "\x1b[34m",
        "completed" | "succeeded" | "ready" | "true" | "bound" | "available" => "\x1b[32m",
        "pending" | "stopped" | "unknown" | "canceled" => "\x1b[33m",
        "failed" | "error" | "false" => "\x1b[31m",
        _ => "",
    }
}

fn markdown(table: &Table<'_>) -> String {
    let line = |cells: Vec<String>| format!("| {} |", cells.join(" | "));
    let mut lines = vec![
        line(table.titles.iter().map(|title| title.to_string()).collect()),
        line(vec!["---".into(); table.titles.len()]),
    ];
    lines.extend(
        table
            .rows
            .iter()
            .map(|row| line(row.iter().map(|cell| cell.replace('|', "\\|").replace('\n', "<br>")).collect())),
    );
    lines.join("\n")
}

/// Returns a value as a cell: text as it is, nothing for null.
pub fn cell(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// Returns a timestamp the way the options ask for.
pub fn time(global: &Global, value: &Value) -> String {
    let Some(timestamp) = value.as_str().and_then(|text| text.parse::<jiff::Timestamp>().ok()) else {
        return cell(value);
    };
    let zone = if global.use_utc { jiff::tz::TimeZone::UTC } else { jiff::tz::TimeZone::system() };
    timestamp.to_zoned(zone).strftime("%Y-%m-%d %H:%M:%S").to_string()
}

/// Prints objects that would be made, one document after another.
pub fn dry_run(objects: &[Value], format: Option<Format>) -> anyhow::Result<()> {
    for object in objects {
        match format.unwrap_or(Format::Yaml) {
            Format::Json => line(&serde_json::to_string_pretty(object)?)?,
            Format::Yaml => line(&format!("---\n{}", serde_saphyr::to_string(object)?.trim_end()))?,
            other => anyhow::bail!(
                "invalid output format for dry-run: {}. Valid formats are: json, yaml",
                format!("{other:?}").to_lowercase()
            ),
        }
    }
    Ok(())
}

/// Returns the row of an object for JSON and YAML: the derived fields, and the object itself.
pub fn with_object(mut derived: Value, object: &Value) -> Value {
    derived["object"] = json!(object);
    derived
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let table = Table {
            titles: vec!["NAME", "READY"],
            rows: vec![vec!["a-long-name".into(), "true".into()], vec!["b".into(), "false".into()]],
        };
        expect![[r#"
            NAME         READY
            ───────────  ─────
            a-long-name  true
            b            false
        "#]]
        .assert_eq(&render(&table, false));
        expect![[r#"
            | NAME | READY |
            | --- | --- |
            | a-long-name | true |
            | b | false |"#]]
        .assert_eq(&markdown(&table));
    }
}
