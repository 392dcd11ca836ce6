//! What a vSphere provider says of the user's VDDK: the library's configuration file, and the ways to the bytes.
//!
//! | setting | as upstream | here |
//! |---|---|---|
//! | `useVddkAioOptimization` | a file with larger buffers of asynchronous reads, unless `vddkConfig` has another one | the same |
//! | `vddkConfig` | the text of that file; ignored without `useVddkAioOptimization` | counts too where nobody said `false` |
//! | `vddkTransports` | – | ours: `nbdssl` unless others are named |
//!
//! The keys are those of VMware's "Virtual Disk Development Kit Programming Guide", chapter "Initializing the Library",
//! and of its "Best Practices for NBD Transport".

use std::fmt;

use crate::provider::{Provider, setting};
use crate::settings::parse_bool;

/// The key of the config map, and so the file's name, by upstream's convention.
pub const CONFIG_FILE: &str = "vddk-config-file";
/// Where that config map is mounted.
pub const CONFIG_MOUNT: &str = "/mnt/vddk-conf";
/// The environment variable with the path of the configuration file.
pub const CONFIG_ENV: &str = "FORKLIFT_VDDK_CONFIG";
/// The environment variable with the ways to the bytes, in their order, by colons.
pub const TRANSPORTS_ENV: &str = "VDDK_TRANSPORTS";
/// What `useVddkAioOptimization` asks for: four buffers of 1 MiB for each disk.
pub const AIO: &str = "VixDiskLib.nfcAio.Session.BufSizeIn64KB=16\nVixDiskLib.nfcAio.Session.BufCount=4\n";
/// Longest text of a configuration, bytes.
const MAX_CONFIG: usize = 64 << 10;

/// Returns the text of the library's configuration file; none where the provider wants none. An error says which line
/// of `vddkConfig` is none of the file's.
pub fn config(provider: &Provider) -> Result<Option<String>, String> {
    let aio = provider.setting(setting::USE_VDDK_AIO_OPTIMIZATION).map(str::trim).filter(|told| !told.is_empty());
    let aio = aio.map(|told| parse_bool(told) == Some(true));
    let text = provider.setting(setting::VDDK_CONFIG).filter(|text| !text.trim().is_empty());
    match (text, aio) {
        (_, Some(false)) | (None, None) => Ok(None),
        (None, Some(true)) => Ok(Some(AIO.into())),
        (Some(text), _) => normal(text).map(Some),
    }
}

/// Returns the configuration as the library reads it.
///
/// kubectl-mtv writes YAML's `|` into the text and calls a key `BufSizeIn64K`, which the library does not know: both
/// are put right, so that what its users asked for has an effect.
fn normal(text: &str) -> Result<String, String> {
    if text.len() > MAX_CONFIG {
        return Err(format!("{}: {} bytes are no configuration of VDDK", setting::VDDK_CONFIG, text.len()));
    }
    let mut normal = String::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || number == 0 && matches!(line, "|" | "|-" | "|+") {
            continue;
        }
        if !line.starts_with('#') {
            let Some((key, value)) = line.split_once('=').filter(|(key, _)| is_key(key.trim())) else {
                let number = number + 1;
                return Err(format!("{}: line {number}, {line:?}, is not `key=value`", setting::VDDK_CONFIG));
            };
            let key = match key.trim() {
                wrong if wrong.ends_with(".BufSizeIn64K") => format!("{wrong}B"),
                key => key.to_owned(),
            };
            normal.push_str(&format!("{key}={}\n", value.trim()));
            continue;
        }
        normal.push_str(line);
        normal.push('\n');
    }
    Ok(normal)
}

fn is_key(key: &str) -> bool {
    !key.is_empty() && key.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | ':'))
}

/// A way of the library to the bytes of a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// Over the network, encrypted.
    NbdSsl,
    /// Over the network in plain text.
    Nbd,
    /// From the storage network, which the node must be part of.
    San,
    /// From disks attached to the VM that the node is.
    HotAdd,
}

impl Transport {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::NbdSsl, Self::Nbd, Self::San, Self::HotAdd];

    /// Returns its name in the library and in the setting.
    pub fn word(self) -> &'static str {
        match self {
            Self::NbdSsl => "nbdssl",
            Self::Nbd => "nbd",
            Self::San => "san",
            Self::HotAdd => "hotadd",
        }
    }
}

/// The ways that may be taken, in the order in which the library tries them; at least one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transports(Vec<Transport>);

impl Default for Transports {
    fn default() -> Self {
        Self(vec![Transport::NbdSsl])
    }
}

impl fmt::Display for Transports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words: Vec<&str> = self.0.iter().map(|way| way.word()).collect();
        f.write_str(&words.join(":"))
    }
}

impl Transports {
    /// Reads `san:nbdssl`; commas do too. An error says which word is none.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut ways = Vec::new();
        for word in text.split([':', ',']).map(str::trim).filter(|word| !word.is_empty()) {
            let known = Transport::ALL.into_iter().find(|way| way.word() == word);
            let way = known.ok_or_else(|| {
                let known = Transport::ALL.map(Transport::word).join(", ");
                format!("{}: {word:?} is none of {known}", setting::VDDK_TRANSPORTS)
            })?;
            if !ways.contains(&way) {
                ways.push(way);
            }
        }
        if ways.is_empty() { Ok(Self::default()) } else { Ok(Self(ways)) }
    }

    /// Reads a provider's setting.
    pub fn of(provider: &Provider) -> Result<Self, String> {
        Self::parse(provider.setting(setting::VDDK_TRANSPORTS).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::ProviderSpec;

    fn of(settings: &[(&str, &str)]) -> Result<Option<String>, String> {
        let settings = settings.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        config(&Provider::new("p", ProviderSpec { settings, ..ProviderSpec::default() }))
    }

    #[test]
    fn buffers_are_upstreams_and_the_users_own_text_goes_before() {
        assert_eq!(of(&[]), Ok(None));
        assert_eq!(of(&[("useVddkAioOptimization", "true")]), Ok(Some(AIO.into())));
        let own = ("vddkConfig", "vixDiskLib.nfc.LogLevel = 4\n\n# slow\ntmpDirectory=\"/scratch\"");
        let text = "vixDiskLib.nfc.LogLevel=4\n# slow\ntmpDirectory=\"/scratch\"\n".to_owned();
        assert_eq!(of(&[own, ("useVddkAioOptimization", "true")]), Ok(Some(text.clone())));
        assert_eq!(of(&[own]), Ok(Some(text)), "what is written is not left out silently");
        assert_eq!(of(&[own, ("useVddkAioOptimization", "false")]), Ok(None));
    }

    #[test]
    fn what_kubectl_mtv_writes_has_an_effect() {
        let written = "|\nVixDiskLib.nfcAio.Session.BufSizeIn64K=32\nVixDiskLib.nfcAio.Session.BufCount=8";
        let text = "VixDiskLib.nfcAio.Session.BufSizeIn64KB=32\nVixDiskLib.nfcAio.Session.BufCount=8\n";
        assert_eq!(of(&[("vddkConfig", written)]), Ok(Some(text.into())));
    }

    #[test]
    fn what_is_no_configuration_names_its_line() {
        let error = of(&[("vddkConfig", "a=1\n{\"json\": true}")]).expect_err("is refused");
        assert_eq!(error, "vddkConfig: line 2, \"{\\\"json\\\": true}\", is not `key=value`");
        assert!(of(&[("vddkConfig", "a b=1")]).is_err());
    }

    #[test]
    fn ways_are_named_in_their_order() {
        let read = |text: &str| Transports::parse(text).map(|ways| ways.to_string());
        assert_eq!(read(""), Ok("nbdssl".into()));
        assert_eq!(read("san, hotadd:nbdssl:san"), Ok("san:hotadd:nbdssl".into()));
        assert_eq!(read("carrier"), Err("vddkTransports: \"carrier\" is none of nbdssl, nbd, san, hotadd".into()));
    }
}
