//! Sets of completion indexes, written as Kubernetes does: `0,3-5,7`.

use std::collections::BTreeSet;

/// Reads a set; what is not a number or a range is left out.
pub fn parse(text: &str) -> BTreeSet<i32> {
    let mut set = BTreeSet::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        if let (Ok(first), Ok(last)) = (first.trim().parse::<i32>(), last.trim().parse::<i32>()) {
            // as many indexes as a Job may have
            set.extend((first..=last).take(100_000));
        }
    }
    set
}

/// Writes a set.
pub fn format(set: &BTreeSet<i32>) -> String {
    let mut parts: Vec<(i32, i32)> = Vec::new();
    for index in set {
        match parts.last_mut() {
            Some((_, last)) if *last + 1 == *index => *last = *index,
            _ => parts.push((*index, *index)),
        }
    }
    let texts = parts.iter().map(|(first, last)| match last - first {
        0 => first.to_string(),
        1 => format!("{first},{last}"),
        _ => format!("{first}-{last}"),
    });
    texts.collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_short() {
        for text in ["", "0", "0,1", "0-2", "0,2-4,9,10"] {
            assert_eq!(format(&parse(text)), text);
        }
        assert_eq!(format(&parse("3,1,2,x")), "1-3");
    }
}
