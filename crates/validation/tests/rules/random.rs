//! A small deterministic generator, and values that nobody expects.

use serde_json::{Value, json};

/// Small deterministic generator (SplitMix64).
pub struct Rng(u64);

impl Rng {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ 0xD1B5_4A32_D192_ED03)
    }

    pub fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) % n as u64) as usize
    }

    pub fn chance(&mut self, permille: usize) -> bool {
        self.below(1000) < permille
    }

    pub fn one<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len())]
    }
}

/// Texts that break patterns, letter cases, escapes and formats.
const TEXTS: &[&str] = &[
    "",
    " ",
    "0",
    "true",
    "null",
    "\n",
    "test\n",
    "a\tb\r\u{b}\u{c}\u{7}\u{8}",
    "\u{0}",
    "\u{1b}[31m\u{7f}",
    "\"quoted\" and \\ back",
    "%d %s %v %!",
    "<a href='x'>&amp;</a>",
    "äöü ÄÖÜ ß ſ",
    "W\u{130}NDOWS 10",
    "RED HAT ENTERPRISE L\u{130}NUX 9",
    "\u{212a}elvin ΟΔΟΣ",
    "日本語の仮想マシン",
    "👩‍👩‍👧 family",
    "e\u{301}migratable",
    "émigratable",
    "\u{2028}\u{feff}\u{a0}\u{ad}",
    "migratable",
    "rhel_6",
    "[ds] a/b/c.vmdk",
    "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
];

/// Numbers at the edges of the types that are in the way.
fn number(rng: &mut Rng) -> Value {
    match rng.below(16) {
        0 => json!(-1),
        1 => json!(0),
        2 => json!(1),
        3 => json!(2),
        4 => json!(0.5),
        5 => json!(-0.25),
        6 => json!(1.0),
        7 => json!(1e21),
        8 => json!(-1e-7),
        9 => json!(i64::MAX),
        10 => json!(i64::MIN),
        11 => json!(u64::MAX),
        12 => json!(9_007_199_254_740_993_i64),
        13 => json!(2_147_483_648_i64),
        14 => json!(-123_456.789),
        _ => json!(rng.below(1 << 40)),
    }
}

/// Any value at all, at most `depth` levels deep.
pub fn anything(rng: &mut Rng, depth: usize) -> Value {
    match rng.below(if depth == 0 { 8 } else { 12 }) {
        0 => Value::Null,
        1 => json!(true),
        2 => json!(false),
        3 | 4 => number(rng),
        5..=7 => json!(rng.one(TEXTS)),
        8 | 9 => (0..rng.below(4)).map(|_| anything(rng, depth - 1)).collect(),
        _ => Value::Object(
            (0..rng.below(4))
                .map(|_| {
                    let key = *rng.one(&["id", "name", "kind", "size", "0", "", "é\n", "disk", "profile", "key"]);
                    (key.to_owned(), anything(rng, depth - 1))
                })
                .collect(),
        ),
    }
}
