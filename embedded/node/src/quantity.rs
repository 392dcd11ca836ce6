//! Kubernetes quantities: `10Gi`, `500m`, `1e3`.

/// Reads a quantity as a number of units.
pub fn parse(text: &str) -> Option<f64> {
    let text = text.trim();
    const SUFFIXES: [(&str, f64); 14] = [
        ("Ki", 1024.0),
        ("Mi", 1_048_576.0),
        ("Gi", 1_073_741_824.0),
        ("Ti", 1_099_511_627_776.0),
        ("Pi", 1_125_899_906_842_624.0),
        ("Ei", 1_152_921_504_606_846_976.0),
        ("n", 1e-9),
        ("u", 1e-6),
        ("m", 1e-3),
        ("k", 1e3),
        ("M", 1e6),
        ("G", 1e9),
        ("T", 1e12),
        ("P", 1e15),
    ];
    for (suffix, factor) in SUFFIXES {
        if let Some(number) = text.strip_suffix(suffix) {
            return number.parse::<f64>().ok().map(|value| value * factor);
        }
    }
    match text.strip_suffix('E') {
        Some(number) => number.parse::<f64>().ok().map(|value| value * 1e18),
        None => text.parse().ok(),
    }
}

/// Reads a quantity as whole bytes, rounded up.
pub fn bytes(text: &str) -> Option<u64> {
    parse(text).filter(|value| *value >= 0.0).map(|value| value.ceil() as u64)
}

/// Writes bytes in the largest binary unit that is exact, or with one decimal for people.
pub fn human(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["", "Ki", "Mi", "Gi", "Ti", "Pi"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if value.fract() == 0.0 { format!("{value}{}", UNITS[unit]) } else { format!("{value:.1}{}", UNITS[unit]) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_read() {
        for (text, expected) in [
            ("10Gi", Some(10 << 30)),
            ("1M", Some(1_000_000)),
            ("1500m", Some(2)),
            ("123", Some(123)),
            ("1e3", Some(1000)),
            ("2E", Some(2_000_000_000_000_000_000)),
            ("", None),
            ("x", None),
            ("-1", None),
        ] {
            assert_eq!(bytes(text), expected, "{text}");
        }
        assert_eq!(human(1 << 30), "1Gi");
        assert_eq!(human(1_500_000), "1.4Mi");
    }
}
