//! Amounts such as `500m` and `1Gi`: reading them, and the form in which they are stored.
//!
//! <https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/>

use serde_json::Value;

const BINARY: &[&str] = &["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
/// Thousandths to begin with: an amount is kept in billionths.
const DECIMAL: &[(&str, i128)] = &[
    ("n", 1),
    ("u", 1_000),
    ("m", 1_000_000),
    ("", 1_000_000_000),
    ("k", 1_000_000_000_000),
    ("M", 1_000_000_000_000_000),
    ("G", 1_000_000_000_000_000_000),
    ("T", 1_000_000_000_000_000_000_000),
    ("P", 1_000_000_000_000_000_000_000_000),
    ("E", 1_000_000_000_000_000_000_000_000_000),
];
const ONE: i128 = 1_000_000_000;

/// The amount in billionths, whether its suffix is a binary one, and whether it has an exponent.
fn read(text: &str) -> Option<(i128, bool, bool)> {
    let digits = text.trim_start_matches(['+', '-']);
    let end = digits.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(digits.len());
    let (number, suffix) = digits.split_at(end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() || fraction.contains('.') || digits.len() + 1 < text.len() {
        return None;
    }
    let mut billionths: i128 = if whole.is_empty() { 0 } else { whole.parse::<i128>().ok()?.checked_mul(ONE)? };
    let kept: String = fraction.chars().chain("000000000".chars()).take(9).collect();
    billionths = billionths.checked_add(kept.parse().ok()?)?;
    let exponent = suffix.strip_prefix(['e', 'E']).and_then(|e| e.parse::<i32>().ok());
    let amount = if let Some(step) = BINARY.iter().position(|b| *b == suffix && !suffix.is_empty()) {
        billionths.checked_mul(1_i128 << (10 * step))?
    } else if let Some((_, factor)) = DECIMAL.iter().find(|(name, _)| *name == suffix) {
        if *factor < ONE { billionths / (ONE / factor) } else { billionths.checked_mul(factor / ONE)? }
    } else {
        let power = 10_i128.checked_pow(exponent?.unsigned_abs())?;
        if exponent? < 0 { billionths / power } else { billionths.checked_mul(power)? }
    };
    let binary = BINARY.iter().skip(1).any(|b| *b == suffix);
    Some((if text.starts_with('-') { -amount } else { amount }, binary, exponent.is_some()))
}

fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

/// The amount in billionths; None where it is none.
pub fn amount(value: &Value) -> Option<i128> {
    read(&text(value)?).map(|(amount, _, _)| amount)
}

/// The form in which Kubernetes stores the amount: no fraction, the largest suffix that needs none.
pub fn canonical(value: &Value) -> Option<String> {
    let given = text(value)?;
    let (amount, binary, exponent) = read(&given)?;
    if exponent {
        return Some(given);
    }
    if amount == 0 {
        return Some("0".into());
    }
    if binary && amount % ONE == 0 {
        let whole = amount / ONE;
        let step = (1..BINARY.len()).rev().find(|step| whole % (1_i128 << (10 * step)) == 0).unwrap_or(0);
        return Some(format!("{}{}", whole >> (10 * step), BINARY.get(step).copied().unwrap_or_default()));
    }
    let (suffix, factor) = DECIMAL.iter().rev().find(|(_, factor)| amount % factor == 0)?;
    Some(format!("{}{suffix}", amount / factor))
}

/// Writes the amounts of an object `{"cpu": …, "memory": …}` in their canonical form; returns one that is none.
pub fn normalize(amounts: Option<&mut Value>) -> Option<String> {
    let mut wrong = None;
    for (_, amount) in amounts.and_then(Value::as_object_mut).into_iter().flatten() {
        match canonical(amount) {
            Some(text) => *amount = text.into(),
            None => wrong = text(amount),
        }
    }
    wrong
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn amounts_are_written_in_one_form() {
        let pairs = [
            (json!(0.5), "500m"),
            (json!("0.5"), "500m"),
            (json!("1024Mi"), "1Gi"),
            (json!("1000m"), "1"),
            (json!("1.5Gi"), "1536Mi"),
            (json!("1000k"), "1M"),
            (json!("100"), "100"),
            (json!(2000), "2k"),
            (json!("0"), "0"),
            (json!("1e3"), "1e3"),
            (json!("0.1Ki"), "102400m"),
        ];
        for (given, wanted) in pairs {
            assert_eq!(canonical(&given).as_deref(), Some(wanted), "{given}");
        }
        for wrong in ["much", "", "1.2.3", "1X", "--1", "."] {
            assert_eq!(canonical(&json!(wrong)), None, "{wrong}");
        }
    }

    #[test]
    fn amounts_are_compared() {
        assert!(amount(&json!("2")) > amount(&json!("1500m")));
        assert_eq!(amount(&json!("1Gi")), amount(&json!("1073741824")));
    }
}
