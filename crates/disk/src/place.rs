//! Where the files lie that an image may name: beside it, in its folder, archive or URL.
//!
//! An image may name other files (a backing file, extents). An appliance comes from strangers: one
//! that names `/etc/shadow` as its backing file must not be read into a disk. Only siblings are
//! opened by default, and symbolic links are not followed there.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::archive::Archive;
use crate::error::{Error, Result};
use crate::source::{FileRange, Source, advise_sequential};

/// Opens the files that an image names.
pub trait Place: Send + Sync {
    /// Returns the bytes of the file `name`; a name that leads out of the place is refused.
    fn sibling(&self, name: &str) -> Result<Arc<dyn Source>>;
}

/// A folder of this machine.
#[derive(Debug, Clone)]
pub struct Folder {
    /// Its path.
    pub path: PathBuf,
    /// Whether names may lead anywhere; only for images that are trusted.
    pub anywhere: bool,
}

impl Folder {
    /// Returns the folder that a file lies in.
    pub fn of(file: &Path, anywhere: bool) -> Self {
        let folder = file.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        Self { path: folder.to_owned(), anywhere }
    }
}

impl Place for Folder {
    fn sibling(&self, name: &str) -> Result<Arc<dyn Source>> {
        if self.anywhere {
            return Ok(Arc::new(open_file(&self.path.join(name), false)?));
        }
        if !is_file_name(name) {
            return Err(not_beside(&self.path.display().to_string(), name));
        }
        Ok(Arc::new(open_file(&self.path.join(name), true)?))
    }
}

impl Place for Archive {
    fn sibling(&self, name: &str) -> Result<Arc<dyn Source>> {
        // members are looked up by their whole name: nothing is opened that the archive does not hold
        self.member(name)
    }
}

/// Returns whether a name is that of a file beside another, and no path.
pub fn is_file_name(name: &str) -> bool {
    !name.is_empty() && !name.contains(['/', '\\', '\0']) && name != ".." && name != "."
}

/// Refuses a name that leads out of `place`.
pub fn not_beside(place: &str, name: &str) -> Error {
    Error::Unsupported {
        path: place.to_owned(),
        what: format!("the image names {name:?}, which is not a file beside it"),
    }
}

/// Opens a file or block device; `beside` another, symbolic links are not followed.
pub(crate) fn open_file(path: &Path, beside: bool) -> Result<FileRange> {
    let shown = path.display().to_string();
    let flags = if beside { libc::O_NOFOLLOW | libc::O_NONBLOCK } else { libc::O_NONBLOCK };
    let open = || {
        let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
        regular(&file)?;
        advise_sequential(&file);
        FileRange::whole(Arc::new(file), shown.clone())
    };
    open().map_err(|source| Error::Source { path: shown.clone(), offset: 0, source })
}

/// A pipe or a socket would be waited for without end.
fn regular(file: &File) -> io::Result<()> {
    use std::os::unix::fs::FileTypeExt;
    let kind = file.metadata()?.file_type();
    if kind.is_file() || kind.is_block_device() {
        return Ok(());
    }
    Err(io::Error::other("is neither a file nor a block device"))
}
