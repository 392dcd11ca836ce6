//! What clients did and saw, each with its times: the checker's input.

/// Nanoseconds since the campaign began, on the one clock that all clients share.
pub type Time = u64;

/// What the last writers of an object's parts left in it: every write has a token of its own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tokens {
    /// In the object itself.
    pub main: String,
    /// In its status.
    pub status: String,
}

/// What a client asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// POST.
    Create,
    /// PUT of the version that the client saw.
    Update { expected: u64 },
    /// A patch of whatever is there.
    Patch,
    /// A patch of the status.
    Status,
    /// Server-side apply, which makes the object where there is none.
    Apply,
    /// DELETE.
    Delete,
    /// GET.
    Get,
    /// GET of all.
    List,
}

/// One object of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// Its name.
    pub name: String,
    /// Its resource version.
    pub revision: u64,
    /// What is in it.
    pub tokens: Tokens,
}

/// What a client was told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The write was made.
    Written { revision: u64 },
    /// The object with this UID was deleted.
    Deleted { uid: String },
    /// The object is there.
    Found { revision: u64, tokens: Tokens },
    /// It is not there.
    Absent,
    /// All that is there.
    Listed { revision: u64, items: Vec<Item> },
    /// The write was not made.
    Refused,
    /// No answer: made or not.
    Unknown,
}

/// One request.
#[derive(Clone, Debug)]
pub struct Operation {
    /// Which resource.
    pub resource: &'static str,
    /// Which object; empty for a list.
    pub name: String,
    /// What was asked.
    pub action: Action,
    /// What it writes.
    pub token: String,
    /// Before the request was sent.
    pub invoked: Time,
    /// After the answer had come.
    pub returned: Time,
    /// The answer.
    pub outcome: Outcome,
}

/// Kind of a watch event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// ADDED.
    Added,
    /// MODIFIED.
    Modified,
    /// DELETED.
    Deleted,
}

/// One event of a watch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// What happened.
    pub kind: Kind,
    /// When, in the store's time.
    pub revision: u64,
    /// To which object.
    pub name: String,
    /// Its UID.
    pub uid: String,
    /// What is in it.
    pub tokens: Tokens,
}

/// What one watcher saw, in its order.
#[derive(Clone, Debug)]
pub enum Seen {
    /// A list, from which it goes on.
    Listed { revision: u64, items: Vec<Item> },
    /// An event, and when it came.
    Event(Event, Time),
    /// A bookmark: nothing more happened up to this revision.
    Bookmark(u64),
    /// 410: what comes next is a list.
    Gone,
}

/// One watcher.
#[derive(Clone, Debug)]
pub struct Watch {
    /// What it watches.
    pub resource: &'static str,
    /// What it saw.
    pub seen: Vec<Seen>,
}

/// Everything.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// Requests of all clients, in no order.
    pub operations: Vec<Operation>,
    /// All watchers. The first one of a resource begins before any write.
    pub watches: Vec<Watch>,
}
