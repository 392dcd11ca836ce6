//! Datastore files over HTTP: `/folder/PATH?dcPath=…&dsName=…`, by ranges.
//!
//! ```text
//! descriptor  v-000001.vmdk ─► v-000001-sesparse.vmdk │ v-000001-delta.vmdk
//!    │ parent  v.vmdk ───────► v-flat.vmdk
//! ```
//!
//! The bytes are those of the files as the datastore holds them; what of a file was ever written, change tracking
//! tells where it is on (`*`). A file of another folder (a linked clone's parent) is found by the chain that the
//! server tells, never by the path that a descriptor names. Datastores whose disks are no files (vSAN, vVol) and files
//! that a running VM writes to are refused by the server, and read in another way.

use std::ops::Range;
use std::sync::Arc;

use forklift_disk::Format;
use forklift_disk::error::{Error, Result};
use forklift_disk::http::{self, Http};
use forklift_disk::open::{Disk, Options, References};
use forklift_disk::place::{Place, is_file_name, not_beside};
use forklift_disk::remote::Access;
use forklift_disk::source::Source;
use reqwest::Url;

use super::machine::Machine;

/// Files of the chain, each with its datastore and folder.
pub(super) struct Files {
    http: Http,
    server: Url,
    datacenter: String,
    /// Datastore, folder, name.
    chain: Vec<(String, String, String)>,
}

impl Files {
    /// Returns the files of a disk; an error where their names do not tell their folders apart.
    pub(super) fn new(machine: &Machine, server: &Url, datacenter: &str, access: &Access) -> Result<Self> {
        let unsupported = |what: String| Error::Unsupported { path: machine.file().to_owned(), what };
        let mut chain: Vec<(String, String, String)> = Vec::new();
        for file in &machine.files {
            let (store, path) =
                Machine::split(file).ok_or_else(|| unsupported(format!("{file:?} is no datastore path")))?;
            let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
            let link = (store.to_owned(), folder.to_owned(), name.to_owned());
            if chain.iter().any(|other| other.2 == link.2 && *other != link) {
                return Err(unsupported(format!("two files of its chain are called {name:?}")));
            }
            chain.push(link);
        }
        Ok(Self { http: Http::new(server, access)?, server: server.clone(), datacenter: datacenter.to_owned(), chain })
    }

    fn url(&self, store: &str, folder: &str, name: &str) -> Url {
        let mut url = self.server.clone();
        url.set_query(None);
        url.set_path("/folder");
        if let Ok(mut path) = url.path_segments_mut() {
            path.extend(folder.split('/').filter(|part| !part.is_empty())).push(name);
        }
        url.query_pairs_mut().append_pair("dcPath", &self.datacenter).append_pair("dsName", store);
        url
    }

    /// Returns where a file lies: one of the chain, or an extent of one.
    fn place(&self, name: &str) -> Option<(&str, &str)> {
        let link = |wanted: &str| self.chain.iter().find(|(.., name)| name == wanted);
        let stem = name.strip_suffix(".vmdk")?;
        let described =
            ["-flat", "-delta", "-sesparse", "-rdm", "-rdmp"].iter().find_map(|suffix| stem.strip_suffix(suffix));
        let described = described.map(|stem| format!("{stem}.vmdk"));
        let found = link(name).or_else(|| link(described.as_deref()?));
        // any other file can only lie beside the first
        let (store, folder, _) = found.or_else(|| self.chain.first())?;
        Some((store, folder))
    }

    /// Opens the disk: its descriptor, and what that names.
    pub(super) fn open(&self) -> Result<Disk> {
        let Some((store, folder, name)) = self.chain.first() else {
            return Err(Error::Usage { what: "the disk has no file".into() });
        };
        let source = http::open(self.http.clone(), self.url(store, folder, name))?;
        let options = Options { format: Some(Format::Vmdk), references: References::Siblings, ..Options::default() };
        Disk::at(source, &options, self)
    }
}

impl Place for Files {
    fn sibling(&self, name: &str) -> Result<Arc<dyn Source>> {
        // a parent may be named by its path on the host; the chain knows where it is
        let name = name.rsplit('/').next().unwrap_or(name);
        let (store, folder) =
            self.place(name).filter(|_| is_file_name(name)).ok_or_else(|| not_beside(self.server.as_str(), name))?;
        http::open(self.http.clone(), self.url(store, folder, name))
    }
}

/// Returns areas as ranges.
pub(super) fn ranges(areas: &[(u64, u64)]) -> Vec<Range<u64>> {
    areas.iter().map(|(start, length)| *start..start + length).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(names: &[&str]) -> Result<Files> {
        let server = Url::parse("https://vc.example:8443/sdk").expect("a URL");
        let machine = Machine::with_files(names);
        let mut access = Access::default();
        access.insecure = true;
        Files::new(&machine, &server, "F 1/D&C", &access)
    }

    #[test]
    fn urls_of_files_are_escaped() {
        let files = files(&["[ds 1] a b/v#1.vmdk"]).expect("opens");
        let url = files.url("ds 1", "a b/c", "v#1-flat.vmdk");
        assert_eq!(
            url.as_str(),
            "https://vc.example:8443/folder/a%20b/c/v%231-flat.vmdk?dcPath=F+1%2FD%26C&dsName=ds+1"
        );
    }

    #[test]
    fn parents_of_other_folders_are_found_by_the_chain() {
        let files = files(&["[a] clone/c-000001.vmdk", "[a] clone/c.vmdk", "[b] base/b-000002.vmdk"]).expect("opens");
        for (name, place) in [
            ("c-000001-sesparse.vmdk", ("a", "clone")),
            ("c-flat.vmdk", ("a", "clone")),
            ("b-000002.vmdk", ("b", "base")),
            ("b-000002-delta.vmdk", ("b", "base")),
            ("other.vmdk", ("a", "clone")),
        ] {
            assert_eq!(files.place(name), Some(place), "{name}");
        }
        assert!(self::files(&["[a] x/v.vmdk", "[a] y/v.vmdk"]).is_err(), "not told apart");
        assert!(self::files(&["v.vmdk"]).is_err());
    }
}
