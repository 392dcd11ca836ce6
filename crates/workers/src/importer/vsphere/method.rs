//! Which way a disk is read, and why.
//!
//! | what is copied | ways, in the order in which they are tried |
//! |---|---|
//! | areas that changed | ranges, lease |
//! | the whole disk, what was ever written is known | ranges, lease |
//! | the whole disk, nobody knows what was ever written | lease, ranges: an export leaves out what was never written |
//!
//! Before all of them comes the user's VDDK, and instead of them what the provider's setting `transferMethod` says. A
//! thin disk that is filled by a tenth takes ten times the lease's bytes by ranges; a lease in turn is one stream,
//! begins anew where it breaks off, and is the only one of its VM.

use forklift_api::provider::setting::TRANSFER_METHOD;
use forklift_api::worker::{VsphereDisk, WorkerError};

use super::What;

/// A way to read a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Method {
    Vddk,
    Ranges,
    Nfc,
}

const ALL: [Method; 3] = [Method::Vddk, Method::Ranges, Method::Nfc];

impl Method {
    /// Returns its name for people.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Vddk => "VDDK",
            Self::Ranges => "datastore ranges",
            Self::Nfc => "export lease",
        }
    }

    /// Returns its name in the provider's setting.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Vddk => "vddk",
            Self::Ranges => "ranges",
            Self::Nfc => "nfc",
        }
    }
}

/// Returns the ways to read a disk in the order in which they are tried, at least one, and why the first one is.
pub(super) fn choose(disk: &VsphereDisk, what: &What) -> Result<(Vec<Method>, &'static str), WorkerError> {
    if let Some(told) = disk.method.as_deref().filter(|method| !method.is_empty()) {
        let Some(method) = ALL.into_iter().find(|method| method.word() == told) else {
            let hint = "set the provider's transferMethod to nfc, ranges or vddk, or leave it out";
            let text = format!("the copy method {told:?} of the provider's setting {TRANSFER_METHOD} is not known");
            return Err(WorkerError::new("Usage", text, hint, false));
        };
        return Ok((vec![method], "as the provider's transferMethod says"));
    }
    let (mut methods, why) = match what {
        What::Round(_) => (vec![Method::Ranges, Method::Nfc], "only areas that changed are read"),
        What::Whole(Some(_)) => {
            (vec![Method::Ranges, Method::Nfc], "change tracking knows what of the disk was ever written")
        }
        What::Whole(None) => (
            vec![Method::Nfc, Method::Ranges],
            "without change tracking only an export leaves out what was never written",
        ),
    };
    if disk.vddk.is_none() {
        return Ok((methods, why));
    }
    methods.insert(0, Method::Vddk);
    Ok((methods, "the provider has VDDK"))
}

#[cfg(test)]
mod tests {
    use forklift_disk::changed::ChangedRanges;

    use super::*;

    #[test]
    fn the_way_follows_from_what_is_known() {
        use Method::{Nfc, Ranges, Vddk};
        let round = || {
            let id = String::new;
            What::Round(ChangedRanges { base_change_id: id(), change_id: id(), size: None, ranges: Vec::new() })
        };
        let disk = |method: Option<&str>, vddk: bool| VsphereDisk {
            method: method.map(Into::into),
            vddk: vddk.then(|| "/opt".into()),
            ..VsphereDisk::default()
        };
        let of = |disk: VsphereDisk, what: What| choose(&disk, &what).expect("is known").0;
        assert_eq!(of(disk(None, false), What::Whole(None)), [Nfc, Ranges]);
        assert_eq!(of(disk(None, false), What::Whole(Some(Vec::new()))), [Ranges, Nfc]);
        assert_eq!(of(disk(None, false), round()), [Ranges, Nfc]);
        assert_eq!(of(disk(Some(""), true), What::Whole(None)), [Vddk, Nfc, Ranges]);
        assert_eq!(of(disk(None, true), round()), [Vddk, Ranges, Nfc]);
        assert_eq!(of(disk(Some("nfc"), true), round()), [Nfc]);
        let error = choose(&disk(Some("fax"), true), &round()).expect_err("is not known");
        assert!(error.code == "Usage" && error.message.contains("\"fax\""), "{error:?}");
    }
}
