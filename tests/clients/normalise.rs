//! Replaces what differs between any two servers by nature: identities, times, versions, addresses, signatures.

use std::sync::LazyLock;

use regex::Regex;

static RULES: LazyLock<Vec<(Regex, &str)>> = LazyLock::new(|| {
    [
        (r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", "UID"),
        (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", "TIME"),
        (r"(Mon|Tue|Wed|Thu|Fri|Sat|Sun), \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d \+0000", "TIME"),
        (r#"(resourceVersion"?: "?)\d+"#, "${1}REVISION"),
        (r"(Resource Version: +)\d+", "${1}REVISION"),
        (r"kube-api-access-[a-z0-9]{5}", "kube-api-access-RANDOM"),
        (r"127\.0\.0\.1:\d+", "ADDRESS"),
        (r"\b(10\.96|127\.32)\.\d+\.\d+\b", "CLUSTER-IP"),
        (r"eyJ[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+", "TOKEN"),
        (r"LS0tLS1CRUdJTi[A-Za-z0-9+/=]+", "PEM"),
        (r"-----BEGIN CERTIFICATE-----[\s\S]+?-----END CERTIFICATE-----", "PEM"),
        (r"v1\.33\.\d+(\+embedded)?", "VERSION"),
        (r"/tmp/[A-Za-z0-9._-]+/", "FOLDER/"),
        (r"\(forklift-peer|\(embedded", "(server"),
        // a table's age and a wait's elapsed time
        (r"\b(\d+(\.\d+)?(ms|s|m|µs))+\b", "AGE"),
        (r"<unknown>|<invalid>", "AGE"),
        // the width of the columns follows the width of what was replaced
        (r" {2,}", "  "),
        (r"(?m)[ ]+$", ""),
    ]
    .into_iter()
    .map(|(pattern, with)| (Regex::new(pattern).expect("a pattern"), with))
    .collect()
});

pub fn normalise(text: &str) -> String {
    RULES.iter().fold(text.to_owned(), |text, (pattern, with)| pattern.replace_all(&text, *with).into_owned())
}

/// Returns the lines that only one of two texts has, in order, marked with - and +; empty where they are the same.
pub fn difference(left: &str, right: &str) -> String {
    if left == right {
        return String::new();
    }
    let (left, right): (Vec<&str>, Vec<&str>) = (left.lines().collect(), right.lines().collect());
    // the longest common subsequence by the plain table: outputs have a few hundred lines
    let mut longest = vec![vec![0_u32; right.len() + 1]; left.len() + 1];
    for (i, l) in left.iter().enumerate().rev() {
        for (j, r) in right.iter().enumerate().rev() {
            longest[i][j] = match l == r {
                true => longest[i + 1][j + 1] + 1,
                false => longest[i + 1][j].max(longest[i][j + 1]),
            };
        }
    }
    let (mut i, mut j, mut text) = (0, 0, String::new());
    while i < left.len() || j < right.len() {
        if i < left.len() && j < right.len() && left[i] == right[j] {
            (i, j) = (i + 1, j + 1);
        } else if j == right.len() || (i < left.len() && longest[i + 1][j] >= longest[i][j + 1]) {
            text += &format!("    - {}\n", left[i]);
            i += 1;
        } else {
            text += &format!("    + {}\n", right[j]);
            j += 1;
        }
    }
    // the same lines, and still not the same text: the end of the last line
    if text.is_empty() { "    (differ in the last line's end)\n".into() } else { text }
}

#[test]
fn only_what_differs_by_nature_is_replaced() {
    assert_eq!(
        normalise("NAME   AGE\nweb    3m2s\nuid: 0f8fad5b-d9cd-469f-a165-70867728950e"),
        "NAME  AGE\nweb  AGE\nuid: UID"
    );
    assert_eq!(normalise("replicas: 3 of 5"), "replicas: 3 of 5");
    assert_eq!(difference("a\nb\nc", "a\nc\nd"), "    - b\n    + d\n");
}
