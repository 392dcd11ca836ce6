//! The table of differences, `differences.md`: which case fails on which server, how the failure shows, and why it stays.

use anyhow::{Context as _, Result, bail};

use crate::server::Kind;

/// One line of the table.
#[derive(Clone, Debug, PartialEq)]
pub struct Difference {
    /// Chapter.
    pub chapter: String,
    /// Name of the case.
    pub case: String,
    /// Server on which the case fails: `ours` or `real`.
    pub server: String,
    /// Part of the failure's text, so that another failure of the same case is not taken for this one.
    pub shows: String,
    /// Why the difference stays.
    pub why: String,
}

/// The table of this crate.
pub fn listed() -> Result<Vec<Difference>> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/differences.md");
    parse(&std::fs::read_to_string(path).with_context(|| format!("cannot read {path}"))?)
}

/// Reads the table out of its Markdown.
pub fn parse(text: &str) -> Result<Vec<Difference>> {
    let mut found = Vec::new();
    for line in text.lines().filter(|l| l.starts_with('|')).skip(2) {
        let cells: Vec<String> =
            line.trim_matches('|').split(" | ").map(|c| c.trim().trim_matches('`').to_string()).collect();
        let [chapter, case, server, shows, why] = cells.as_slice() else {
            bail!("differences.md: five cells expected (chapter, case, server, shows, why): {line}");
        };
        if [chapter, case, shows, why].iter().any(|c| c.is_empty()) || !matches!(server.as_str(), "ours" | "real") {
            bail!("differences.md: every cell needs a text, and the server is `ours` or `real`: {line}");
        }
        found.push(Difference {
            chapter: chapter.clone(),
            case: case.clone(),
            server: server.clone(),
            shows: shows.clone(),
            why: why.clone(),
        });
    }
    Ok(found)
}

impl Difference {
    /// Whether the line is about this case on this server.
    pub fn is_about(&self, chapter: &str, case: &str, server: Kind) -> bool {
        self.chapter == chapter && self.case == case && self.server == server.name()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_names_a_case_that_exists() {
        let chapters = crate::cases::all();
        for line in listed().unwrap() {
            let known = chapters.iter().any(|c| c.name == line.chapter && c.cases.iter().any(|t| t.name == line.case));
            assert!(known, "differences.md names a case that does not exist: {} / {}", line.chapter, line.case);
        }
    }

    #[test]
    fn a_line_needs_all_cells() {
        let head = "| chapter | case | server | shows | why |\n|---|---|---|---|---|\n";
        assert_eq!(parse(head).unwrap(), []);
        assert_eq!(parse(&format!("{head}| a | b c | ours | `x` | because |\n")).unwrap()[0].shows, "x");
        assert!(parse(&format!("{head}| a | b | ours | x |\n")).is_err());
        assert!(parse(&format!("{head}| a | b | theirs | x | y |\n")).is_err());
    }
}
