//! Allocation units: `byte * 2^20`, `MegaBytes`, `GB`, …

/// Returns the bytes of one unit, or `None` for a unit that nobody defined.
///
/// No units mean bytes. Names are binary, as exporters mean them: `GigaBytes` is 2^30.
pub fn bytes(units: &str) -> Option<u64> {
    let text = units.trim().to_ascii_lowercase();
    if text.is_empty() {
        return Some(1);
    }
    let mut factors = text.split('*').map(str::trim);
    let unit = named(factors.next().unwrap_or_default())?;
    factors.try_fold(unit, |product, f| product.checked_mul(factor(f)?))
}

/// Returns a quantity in bytes; `None` when it is negative, too large, or its units are unknown.
pub fn quantity(amount: i64, units: &str) -> Option<u64> {
    u64::try_from(amount).ok()?.checked_mul(bytes(units)?)
}

fn factor(text: &str) -> Option<u64> {
    match text.split_once('^') {
        None => text.parse().ok(),
        Some((base, power)) => base.trim().parse::<u64>().ok()?.checked_pow(power.trim().parse().ok()?),
    }
}

fn named(text: &str) -> Option<u64> {
    let power = match text {
        "byte" | "bytes" | "b" => 0,
        "kilobyte" | "kilobytes" | "kb" | "kib" | "k" => 10,
        "megabyte" | "megabytes" | "mb" | "mib" | "m" => 20,
        "gigabyte" | "gigabytes" | "gb" | "gib" | "g" => 30,
        "terabyte" | "terabytes" | "tb" | "tib" | "t" => 40,
        "petabyte" | "petabytes" | "pb" | "pib" => 50,
        _ => return None,
    };
    Some(1 << power)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_of_all_exporters() {
        for (units, expected) in [
            ("", Some(1)),
            ("byte", Some(1)),
            ("Bytes", Some(1)),
            ("byte * 2^20", Some(1 << 20)),
            ("byte*2^30", Some(1 << 30)),
            ("byte * 1024 * 1024", Some(1 << 20)),
            ("byte * 10^9", Some(1_000_000_000)),
            ("MegaBytes", Some(1 << 20)),
            ("MegaByte", Some(1 << 20)),
            ("GB", Some(1 << 30)),
            ("GigaBytes", Some(1 << 30)),
            ("hertz * 10^6", None),
            ("byte * 2^64", None),
            ("byte * x", None),
            ("byte *", None),
            ("byte * 2^", None),
        ] {
            assert_eq!(bytes(units), expected, "{units:?}");
        }
    }

    #[test]
    fn quantities_that_are_impossible_are_none() {
        assert_eq!(quantity(16, "byte * 2^30"), Some(16 << 30));
        assert_eq!(quantity(-1, ""), None);
        assert_eq!(quantity(i64::MAX, "GB"), None);
    }
}
