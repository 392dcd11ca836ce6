//! Where an image lies: a path, or a URL of HTTP or NBD.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use url::Url;

use crate::archive::Archive;
use crate::cache::Cached;
use crate::error::{Error, Result};
use crate::http::{self, Http};
use crate::nbd::{NbdSource, Uri};
use crate::place::{Folder, Place, open_file};
use crate::remote::Access;
use crate::source::Source;

/// A place of an image. A file whose name looks like a URL is written `./http:…`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Location {
    /// A file or block device of this machine.
    File(PathBuf),
    /// A file behind HTTP or HTTPS.
    Http(Url),
    /// An export of an NBD server.
    Nbd(Uri),
}

impl Location {
    /// Tells a URL from a path.
    pub fn of(path: &Path) -> Result<Self> {
        let text = path.to_str().unwrap_or_default();
        let scheme = text.split_once("://").map_or("", |(scheme, _)| scheme);
        // the URL itself may hold a secret
        let wrong = |reason: String| Error::Unsupported { path: format!("{scheme}://…"), what: reason };
        match scheme {
            "http" | "https" => Url::parse(text).map(Self::Http).map_err(|error| wrong(error.to_string())),
            "nbd" | "nbds" | "nbd+unix" => text.parse().map(Self::Nbd).map_err(wrong),
            _ => Ok(Self::File(path.to_owned())),
        }
    }

    /// Returns the name for messages and identities, without secrets.
    pub fn shown(&self) -> String {
        match self {
            Self::File(path) => path.display().to_string(),
            Self::Http(url) => http::shown(url),
            Self::Nbd(uri) => uri.to_string(),
        }
    }

    /// Returns the bytes that lie there, and what opens the files beside them.
    pub(crate) fn open(&self, access: &Access, anywhere: bool) -> Result<(Arc<dyn Source>, Box<dyn Place>)> {
        match self {
            Self::File(path) => Ok((Arc::new(open_file(path, false)?), Box::new(Folder::of(path, anywhere)))),
            Self::Http(url) => {
                let http = Http::new(url, access)?;
                let source = http::open(http.clone(), url.clone())?;
                Ok((source, Box::new(http::Folder::of(http, url.clone()))))
            }
            Self::Nbd(uri) => {
                let source: Arc<dyn Source> = Arc::new(NbdSource::open(uri, access)?);
                let cached = Cached::new(source);
                let cached = cached.map_err(|source| Error::Source { path: self.shown(), offset: 0, source })?;
                Ok((Arc::new(cached), Box::new(Nothing(self.shown()))))
            }
        }
    }

    /// Opens the archive that lies there.
    pub(crate) fn archive(&self, access: &Access) -> Result<Archive> {
        self.open(access, false).and_then(|(source, _)| Archive::over(source))
    }
}

/// A place with nothing beside it.
struct Nothing(String);

impl Place for Nothing {
    fn sibling(&self, name: &str) -> Result<Arc<dyn Source>> {
        let what = format!("the image needs {name:?}, and an export has nothing beside it");
        Err(Error::Unsupported { path: self.0.clone(), what })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_and_paths() {
        let of = |text: &str| Location::of(Path::new(text)).map(|location| location.shown());
        assert_eq!(of("a/b.vmdk").expect("a path"), "a/b.vmdk");
        assert_eq!(of("./http://x").expect("a path"), "./http://x");
        assert_eq!(of("https://h/a.ova?sig=x").expect("a URL"), "https://h/a.ova?…");
        assert_eq!(of("nbd://h/x").expect("an export"), "nbd://h:10809/x");
        let error = of("http://user:secret@/").expect_err("has no host");
        assert!(!error.to_string().contains("secret"), "{error}");
    }
}
