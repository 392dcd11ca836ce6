//! Kubernetes' quantities: `100m`, `1.5Gi`, `2e3`.

use super::super::eval::Fault;
use super::super::value::Value;
use super::{Answer, failed, truth};

/// A quantity, exact to a billionth.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Quantity {
    nanos: i128,
}

const NANO: i128 = 1_000_000_000;

const SUFFIXES: &[(&str, i128, i128)] = &[
    ("Ki", 1 << 10, 1),
    ("Mi", 1 << 20, 1),
    ("Gi", 1 << 30, 1),
    ("Ti", 1 << 40, 1),
    ("Pi", 1 << 50, 1),
    ("Ei", 1 << 60, 1),
    ("n", 1, 1_000_000_000),
    ("u", 1, 1_000_000),
    ("m", 1, 1000),
    ("k", 1000, 1),
    ("M", 1_000_000, 1),
    ("G", 1_000_000_000, 1),
    ("T", 1_000_000_000_000, 1),
    ("P", 1_000_000_000_000_000, 1),
    ("E", 1_000_000_000_000_000_000, 1),
];

impl Quantity {
    /// Reads a quantity; None when it is none. What is smaller than a billionth is rounded up.
    pub fn parse(text: &str) -> Option<Self> {
        let (negative, rest) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text.strip_prefix('+').unwrap_or(text)),
        };
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, suffix) = rest.split_at(end);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if whole.is_empty() && fraction.is_empty() || fraction.contains('.') || number.len() > 30 {
            return None;
        }
        let (times, over) = Self::factor(suffix)?;
        let digits: i128 = format!("{whole}{fraction}").parse().ok()?;
        let scale = 10i128.checked_pow(u32::try_from(fraction.len()).ok()?)?.checked_mul(over)?;
        let exact = digits.checked_mul(times)?.checked_mul(NANO);
        let nanos = match exact {
            Some(exact) => exact.div_euclid(scale) + i128::from(exact.rem_euclid(scale) != 0),
            // beyond what Kubernetes keeps: it stops at the largest
            None => i128::from(i64::MAX).checked_mul(NANO)?,
        };
        Some(Self { nanos: if negative { -nanos } else { nanos } })
    }

    fn factor(suffix: &str) -> Option<(i128, i128)> {
        if suffix.is_empty() {
            return Some((1, 1));
        }
        if let Some((_, times, over)) = SUFFIXES.iter().find(|s| s.0 == suffix) {
            return Some((*times, *over));
        }
        let exponent: i32 = suffix.strip_prefix(['e', 'E'])?.parse().ok()?;
        let size = 10i128.checked_pow(exponent.unsigned_abs().min(18))?;
        Some(if exponent < 0 { (1, size) } else { (size, 1) })
    }

    /// The whole number, if it is one that fits.
    fn whole(self) -> Option<i64> {
        (self.nanos % NANO == 0).then(|| i64::try_from(self.nanos / NANO).ok()).flatten()
    }

    /// Sum.
    pub fn plus(self, other: Self) -> Self {
        Self { nanos: self.nanos.saturating_add(other.nanos) }
    }

    /// Difference.
    pub fn minus(self, other: Self) -> Self {
        Self { nanos: self.nanos.saturating_sub(other.nanos) }
    }

    /// A whole number.
    pub fn of(number: i64) -> Self {
        Self { nanos: i128::from(number) * NANO }
    }
}

impl std::fmt::Display for Quantity {
    /// The shortest of the usual forms: `3`, `1500m`, `2Gi`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.nanos % NANO != 0 {
            return match self.nanos % (NANO / 1000) {
                0 => write!(f, "{}m", self.nanos / (NANO / 1000)),
                _ => write!(f, "{}n", self.nanos),
            };
        }
        let whole = self.nanos / NANO;
        let sizes = ["Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
        let fits = sizes.iter().enumerate().rev().find(|(n, _)| whole != 0 && whole % (1 << (10 * (n + 1))) == 0);
        match fits {
            Some((n, suffix)) => write!(f, "{}{suffix}", whole >> (10 * (n + 1))),
            None => write!(f, "{whole}"),
        }
    }
}

pub fn call(name: &str, args: &[Value]) -> Answer {
    use Value::Quantity as Q;
    match (name, args) {
        ("quantity", [Value::Text(text)]) => Some(match Quantity::parse(text) {
            Some(quantity) => Ok(Q(quantity)),
            None => Fault::new(
                "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'",
            ),
        }),
        ("isQuantity", [Value::Text(text)]) => truth(Quantity::parse(text).is_some()),
        ("sign", [Q(a)]) => Some(Ok(Value::Int(i64::try_from(a.nanos.signum()).unwrap_or(0)))),
        ("isGreaterThan", [Q(a), Q(b)]) => truth(a > b),
        ("isLessThan", [Q(a), Q(b)]) => truth(a < b),
        ("compareTo", [Q(a), Q(b)]) => Some(Ok(Value::Int(a.cmp(b) as i64))),
        #[expect(clippy::cast_precision_loss, reason = "approximate by its name")]
        ("asApproximateFloat", [Q(a)]) => Some(Ok(Value::Double(a.nanos as f64 / NANO as f64))),
        ("asInteger", [Q(a)]) => match a.whole() {
            Some(number) => Some(Ok(Value::Int(number))),
            None => failed("cannot convert value to integer"),
        },
        ("isInteger", [Q(a)]) => truth(a.whole().is_some()),
        ("add", [Q(a), Q(b)]) => Some(Ok(Q(a.plus(*b)))),
        ("add", [Q(a), Value::Int(b)]) => Some(Ok(Q(a.plus(Quantity::of(*b))))),
        ("sub", [Q(a), Q(b)]) => Some(Ok(Q(a.minus(*b)))),
        ("sub", [Q(a), Value::Int(b)]) => Some(Ok(Q(a.minus(Quantity::of(*b))))),
        _ => None,
    }
}
