//! The manifest (`.mf`): a digest for each file of the appliance.

use forklift_api::worker::Digest;
use sha1::Digest as _;

/// The digests of a manifest, by file name.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Manifest {
    entries: Vec<(String, Digest)>,
}

impl Manifest {
    /// Reads `SHA256(file)= hex` lines; lines of other algorithms are left out.
    pub fn parse(text: &str) -> Self {
        Self { entries: text.lines().filter_map(line).collect() }
    }

    /// Returns the digest of a file.
    pub fn digest(&self, file: &str) -> Option<&Digest> {
        let bare = |n: &str| n.trim_start_matches("./").to_owned();
        let file = bare(file);
        self.entries.iter().find(|(name, _)| bare(name) == file).map(|(_, digest)| digest)
    }
}

fn line(line: &str) -> Option<(String, Digest)> {
    let (head, hex) = line.rsplit_once('=')?;
    let (algorithm, rest) = head.split_once('(')?;
    let name = rest.trim_end().strip_suffix(')')?;
    let (algorithm, digits) = match algorithm.trim().to_ascii_uppercase().replace('-', "").as_str() {
        "SHA1" => ("SHA1", 40),
        "SHA256" => ("SHA256", 64),
        "SHA512" => ("SHA512", 128),
        _ => return None,
    };
    let hex = hex.trim().to_ascii_lowercase();
    let plausible = hex.len() == digits && hex.chars().all(|c| c.is_ascii_hexdigit());
    plausible.then(|| (name.to_owned(), Digest { algorithm: algorithm.to_owned(), hex }))
}

/// Returns whether bytes have a digest.
pub fn verifies(bytes: &[u8], digest: &Digest) -> bool {
    let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
    let found = match digest.algorithm.as_str() {
        "SHA1" => hex(&sha1::Sha1::digest(bytes)),
        "SHA256" => hex(&sha2::Sha256::digest(bytes)),
        "SHA512" => hex(&sha2::Sha512::digest(bytes)),
        _ => return false,
    };
    found == digest.hex
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_all_tools() {
        let sha1 = "da39a3ee5e6b4b0d3255bfef95601890afd80709";
        let sha256 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        let manifest = Manifest::parse(&format!(
            "SHA1(a.ovf)= {sha1}\nSHA256 (b (1).vmdk) = {}\r\nMD5(c)= 00\nSHA256(d)= short\nnonsense\n",
            sha256.to_uppercase()
        ));
        let shown = |file| manifest.digest(file).map(|d| (d.algorithm.as_str(), d.hex.as_str()));
        assert_eq!(shown("a.ovf"), Some(("SHA1", sha1)));
        assert_eq!(shown("./b (1).vmdk"), Some(("SHA256", sha256)));
        assert_eq!((shown("c"), shown("d")), (None, None));
        assert!(verifies(b"", manifest.digest("a.ovf").expect("listed")));
        assert!(!verifies(b"x", manifest.digest("a.ovf").expect("listed")));
    }
}
