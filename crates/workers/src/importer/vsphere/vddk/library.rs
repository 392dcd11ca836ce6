//! `libvixDiskLib.so` of the user's VDDK, loaded at run time: its functions as Rust has them.
//!
//! Facts: VMware's "Virtual Disk Development Kit Programming Guide" (order of calls, threads) and the types of API 6.5,
//! which later versions keep. The parameters of a connection are allocated by the library, which may have more fields
//! than are known here; only fields that are known are written.

#![expect(unsafe_code, reason = "a C library is called that is loaded at run time")]

use std::ffi::{CStr, CString, c_char, c_int, c_long, c_void};
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};
use std::ptr::{null, null_mut};

use libloading::os::unix::{Library as Loaded, RTLD_GLOBAL, RTLD_NOW, Symbol};

use super::wire::{Failure, Open, SECTOR};

/// The API version that is asked for; later libraries speak it too.
const API: (u32, u32) = (6, 5);
/// Versions whose libraries are looked for, the newest first.
const VERSIONS: std::ops::RangeInclusive<u32> = 6..=9;
/// `VIXDISKLIB_FLAG_OPEN_READ_ONLY`.
const READ_ONLY: u32 = 4;
/// `VIX_ASYNC`: a read was begun, its callback tells the rest.
const ASYNC: u64 = 25_000;
/// `VIXDISKLIB_CRED_UID`.
const BY_PASSWORD: c_int = 1;
/// Sectors of one unit of [`Disk::allocated`]: `VIXDISKLIB_MIN_CHUNK_SIZE`.
const UNIT: u64 = 128;
/// Units of one question: `VIXDISKLIB_MAX_CHUNK_NUMBER`.
const UNITS: u64 = 512 * 1024;

type Handle = *mut c_void;
type Log = extern "C" fn(*const c_char, *mut c_void);
type Done = extern "C" fn(*mut c_void, u64);

/// `VixDiskLibConnectParams`, as far as it is written.
#[repr(C)]
struct ConnectParams {
    vmx_spec: *mut c_char,
    server_name: *mut c_char,
    thumbprint: *mut c_char,
    private_use: c_long,
    cred_type: c_int,
    user_name: *mut c_char,
    password: *mut c_char,
    /// The third word of the union of credentials.
    unused: *mut c_char,
    port: u32,
    nfc_host_port: u32,
    vim_api_version: *mut c_char,
    reserved: [c_char; 8],
    state: *mut c_void,
    /// Union of specifications of another kind.
    storage_object: [*mut c_char; 3],
    spec_type: c_int,
}

/// `VixDiskLibInfo`, as far as it is read.
#[repr(C)]
struct Info {
    geometry: [u32; 6],
    /// Sectors.
    capacity: u64,
}

/// `VixDiskLibBlockList`.
#[repr(C)]
struct BlockList {
    count: u32,
    /// Offset and length in sectors, `count` of them.
    first: [[u64; 2]; 0],
}

/// The library, initialised. What it gave is given back by [`Disk`] and [`Library::exit`].
pub(crate) struct Library {
    init: Symbol<unsafe extern "C" fn(u32, u32, Log, Log, Log, *const c_char, *const c_char) -> u64>,
    exit: Symbol<unsafe extern "C" fn()>,
    error_text: Symbol<unsafe extern "C" fn(u64, *const c_char) -> *mut c_char>,
    free_error_text: Symbol<unsafe extern "C" fn(*mut c_char)>,
    allocate_params: Option<Symbol<unsafe extern "C" fn() -> *mut ConnectParams>>,
    free_params: Symbol<unsafe extern "C" fn(*mut ConnectParams)>,
    connect:
        Symbol<unsafe extern "C" fn(*const ConnectParams, c_char, *const c_char, *const c_char, *mut Handle) -> u64>,
    disconnect: Symbol<unsafe extern "C" fn(Handle) -> u64>,
    open: Symbol<unsafe extern "C" fn(Handle, *const c_char, u32, *mut Handle) -> u64>,
    close: Symbol<unsafe extern "C" fn(Handle) -> u64>,
    transport: Symbol<unsafe extern "C" fn(Handle) -> *const c_char>,
    info: Symbol<unsafe extern "C" fn(Handle, *mut *mut Info) -> u64>,
    free_info: Symbol<unsafe extern "C" fn(*mut Info)>,
    read: Symbol<unsafe extern "C" fn(Handle, u64, u64, *mut u8) -> u64>,
    read_async: Option<Symbol<unsafe extern "C" fn(Handle, u64, u64, *mut u8, Done, *mut c_void) -> u64>>,
    wait: Option<Symbol<unsafe extern "C" fn(Handle) -> u64>>,
    blocks: Option<Symbol<unsafe extern "C" fn(Handle, u64, u64, u64, *mut *mut BlockList) -> u64>>,
    free_blocks: Option<Symbol<unsafe extern "C" fn(*mut BlockList) -> u64>>,
    /// Unloaded last.
    _loaded: Loaded,
}

/// An open disk; all calls come from the thread that opened it.
pub(super) struct Disk<'a> {
    library: &'a Library,
    params: Params<'a>,
    connection: Handle,
    handle: Handle,
    /// Bytes.
    pub size: u64,
    /// The way that the library chose.
    pub transport: String,
}

/// Parameters of a connection, and the texts that they point at.
struct Params<'a> {
    library: &'a Library,
    raw: *mut ConnectParams,
    own: bool,
    texts: Vec<CString>,
}

unsafe extern "C" {
    /// Of the C library. A `va_list` is handed over as a pointer on the machines that VDDK is made for (x86-64 Linux).
    fn vsnprintf(buffer: *mut c_char, size: usize, format: *const c_char, arguments: *mut c_void) -> c_int;
}

/// Returns the text of a message of the library.
fn message(format: *const c_char, arguments: *mut c_void) -> String {
    let mut buffer = [0u8; 2048];
    // SAFETY: the library calls its loggers with a format and its arguments; the buffer has the size that is told
    let length = unsafe { vsnprintf(buffer.as_mut_ptr().cast(), buffer.len(), format, arguments) };
    let length = usize::try_from(length).unwrap_or(0).min(buffer.len() - 1);
    String::from_utf8_lossy(buffer.get(..length).unwrap_or_default()).trim_end().to_owned()
}

extern "C" fn log(format: *const c_char, arguments: *mut c_void) {
    // a panic must not pass through C
    let _ = catch_unwind(|| tracing::debug!(target: "vddk", "{}", message(format, arguments)));
}

extern "C" fn warn(format: *const c_char, arguments: *mut c_void) {
    let _ = catch_unwind(|| tracing::warn!(target: "vddk", "{}", message(format, arguments)));
}

extern "C" fn panic(format: *const c_char, arguments: *mut c_void) {
    let _ = catch_unwind(|| tracing::error!(target: "vddk", "the library gives up: {}", message(format, arguments)));
}

/// Returns the newest `libvixDiskLib.so` of a distribution.
pub(crate) fn find(folder: &Path) -> Result<PathBuf, Failure> {
    let places = ["lib64", "vmware-vix-disklib-distrib/lib64", ""];
    let names = VERSIONS.rev().map(|version| format!("libvixDiskLib.so.{version}")).chain(["libvixDiskLib.so".into()]);
    let names: Vec<String> = names.collect();
    let in_place = |place: &&str| {
        let place = folder.join(place);
        names.iter().map(|name| place.join(name)).find(|file| file.is_file())
    };
    places.iter().find_map(in_place).ok_or_else(|| {
        let what = "nor in its lib64: this is not VMware's VDDK";
        failure("dlopen", format!("no libvixDiskLib.so in {} {what}", folder.display()))
    })
}

fn text(text: &str, field: &str) -> Result<CString, Failure> {
    CString::new(text).map_err(|_| failure("order", format!("{field} holds a NUL")))
}

/// Returns the loader's own words.
fn reason(error: &libloading::Error) -> String {
    std::error::Error::source(error).map_or_else(|| error.to_string(), ToString::to_string)
}

fn failure(call: &str, text: String) -> Failure {
    Failure { call: call.into(), code: 0, text }
}

impl Library {
    /// Loads and initialises the library of a distribution.
    pub(crate) fn load(folder: &Path, config: Option<&str>) -> Result<Self, Failure> {
        let file = find(folder)?;
        let failed = |error| failure("dlopen", format!("{} cannot be loaded: {}", file.display(), reason(&error)));
        // SAFETY: loading runs the library's initialisers; the user gave it to be run, in this process of its own
        let loaded = unsafe { Loaded::open(Some(&file), RTLD_NOW | RTLD_GLOBAL) }.map_err(failed)?;
        let lacks = |name: &str| {
            let what = "this is not VMware's VDDK, or one before 6.5";
            failure("dlsym", format!("{} has no {name}: {what}", file.display()))
        };
        // SAFETY (of all symbols): the types are those of the library's header for the function of that name, and the
        // library stays loaded as long as `Library`, which holds both
        macro_rules! symbol {
            ($name:literal) => {
                unsafe { loaded.get(concat!("VixDiskLib_", $name)) }
                    .map_err(|_| lacks(concat!("VixDiskLib_", $name)))?
            };
            (optional $name:literal) => {
                unsafe { loaded.get(concat!("VixDiskLib_", $name)) }.ok()
            };
        }
        let library = Self {
            init: symbol!("InitEx"),
            exit: symbol!("Exit"),
            error_text: symbol!("GetErrorText"),
            free_error_text: symbol!("FreeErrorText"),
            allocate_params: symbol!(optional "AllocateConnectParams"),
            free_params: symbol!("FreeConnectParams"),
            connect: symbol!("ConnectEx"),
            disconnect: symbol!("Disconnect"),
            open: symbol!("Open"),
            close: symbol!("Close"),
            transport: symbol!("GetTransportMode"),
            info: symbol!("GetInfo"),
            free_info: symbol!("FreeInfo"),
            read: symbol!("Read"),
            read_async: symbol!(optional "ReadAsync"),
            wait: symbol!(optional "Wait"),
            blocks: symbol!(optional "QueryAllocatedBlocks"),
            free_blocks: symbol!(optional "FreeBlockList"),
            _loaded: loaded,
        };
        let root = file.parent().and_then(Path::parent).unwrap_or(folder);
        let root = text(&root.display().to_string(), "the library's folder")?;
        let config = config.map(|config| text(config, "the configuration's path")).transpose()?;
        let config = config.as_ref().map_or(null(), |config| config.as_ptr());
        // SAFETY: the texts outlive the call, the loggers live as long as the process
        let code = unsafe { (library.init)(API.0, API.1, log, warn, panic, root.as_ptr(), config) };
        library.check("VixDiskLib_InitEx", code)?;
        Ok(library)
    }

    /// Gives back what initialisation took; no call follows.
    pub(crate) fn exit(&self) {
        // SAFETY: all disks are closed: they borrow the library
        unsafe { (self.exit)() };
    }

    /// Returns whether reads can be asynchronous: begun one after the other, and waited for together.
    pub(super) fn is_asynchronous(&self) -> bool {
        self.read_async.is_some() && self.wait.is_some()
    }

    fn check(&self, call: &str, code: u64) -> Result<(), Failure> {
        if code == 0 { Ok(()) } else { Err(self.failed(call, code)) }
    }

    /// Returns what the library says of an error.
    pub(super) fn failed(&self, call: &str, code: u64) -> Failure {
        // SAFETY: the text is the library's until it is given back below
        let told = unsafe { (self.error_text)(code, null()) };
        if told.is_null() {
            return Failure { call: call.into(), code, text: "the library does not say why".into() };
        }
        // SAFETY: a text of the library ends with NUL; it is copied before it is given back, once
        let text = unsafe { CStr::from_ptr(told) }.to_string_lossy().into_owned();
        // SAFETY: as above
        unsafe { (self.free_error_text)(told) };
        Failure { call: call.into(), code, text }
    }

    /// Connects to the server and opens the disk for reading.
    pub(super) fn open(&self, order: &Open) -> Result<Disk<'_>, Failure> {
        let params = Params::new(self, order)?;
        let snapshot = order.snapshot.as_deref().map(|id| text(id, "the snapshot")).transpose()?;
        let transports = text(&order.transports, "the transports")?;
        let file = text(&order.file, "the file")?;
        let mut connection = null_mut();
        let snapshot = snapshot.as_ref().map_or(null(), |snapshot| snapshot.as_ptr());
        // SAFETY: the parameters and texts live until the end of this function at least
        let code = unsafe { (self.connect)(params.raw, 1, snapshot, transports.as_ptr(), &raw mut connection) };
        self.check("VixDiskLib_ConnectEx", code)?;
        let mut disk =
            Disk { library: self, params, connection, handle: null_mut(), size: 0, transport: String::new() };
        // SAFETY: the connection is open; from here on the disk's drop closes what is open
        let code = unsafe { (self.open)(disk.connection, file.as_ptr(), READ_ONLY, &raw mut disk.handle) };
        self.check("VixDiskLib_Open", code)?;
        let mut info = null_mut();
        // SAFETY: the handle is open; what is told is given back below
        let code = unsafe { (self.info)(disk.handle, &raw mut info) };
        self.check("VixDiskLib_GetInfo", code)?;
        // SAFETY: the library succeeded, so that it points at the disk's facts, of which a prefix is read
        let capacity = unsafe { info.as_ref() }.map_or(0, |info| info.capacity);
        // SAFETY: it is given back once
        unsafe { (self.free_info)(info) };
        disk.size = capacity.saturating_mul(SECTOR);
        // SAFETY: the handle is open; the text is the handle's
        let transport = unsafe { (self.transport)(disk.handle) };
        if !transport.is_null() {
            // SAFETY: a text of the library ends with NUL; it is copied
            disk.transport = unsafe { CStr::from_ptr(transport) }.to_string_lossy().into_owned();
        }
        Ok(disk)
    }
}

impl<'a> Params<'a> {
    fn new(library: &'a Library, order: &Open) -> Result<Self, Failure> {
        let texts = [&order.vm, &order.server, &order.thumbprint, &order.user, &order.password]
            .map(|part| text(part, "a parameter of the connection"));
        let texts = texts.into_iter().collect::<Result<Vec<_>, _>>()?;
        let own = library.allocate_params.is_none();
        let raw = match &library.allocate_params {
            // SAFETY: the library allocates and clears what its version has
            Some(allocate) => unsafe { allocate() },
            // SAFETY: numbers and pointers, for which all zeros is a value; given back by `drop`
            None => Box::into_raw(Box::new(unsafe { std::mem::zeroed() })),
        };
        if raw.is_null() {
            return Err(failure("VixDiskLib_AllocateConnectParams", "no memory".into()));
        }
        let params = Self { library, raw, own, texts };
        let pointer = |index: usize| params.texts.get(index).map_or(null_mut(), |text| text.as_ptr().cast_mut());
        // SAFETY: `raw` points at parameters that are ours alone until the connection is made; the library does not
        // write to the texts, which live as long as the parameters
        unsafe {
            (*raw).vmx_spec = pointer(0);
            (*raw).server_name = pointer(1);
            (*raw).thumbprint = pointer(2);
            (*raw).cred_type = BY_PASSWORD;
            (*raw).user_name = pointer(3);
            (*raw).password = pointer(4);
            (*raw).port = order.port;
        }
        Ok(params)
    }
}

impl Drop for Params<'_> {
    fn drop(&mut self) {
        if self.own {
            // SAFETY: it came from a box of this type, and is dropped once
            drop(unsafe { Box::from_raw(self.raw) });
            return;
        }
        // SAFETY: the library frees the texts as well, if they are still there: these are ours; both are given back once
        unsafe {
            (*self.raw).vmx_spec = null_mut();
            (*self.raw).server_name = null_mut();
            (*self.raw).thumbprint = null_mut();
            (*self.raw).user_name = null_mut();
            (*self.raw).password = null_mut();
            (self.library.free_params)(self.raw);
        }
    }
}

/// What is done once a read has ended; called on a thread of the library.
pub(super) type Then = Box<dyn FnOnce(Result<(), u64>) + Send>;

extern "C" fn done(then: *mut c_void, code: u64) {
    // SAFETY: it is the box that `read` gave to the library, which calls back once
    let then = unsafe { Box::from_raw(then.cast::<Then>()) };
    let _ = catch_unwind(std::panic::AssertUnwindSafe(|| then(if code == 0 { Ok(()) } else { Err(code) })));
}

impl Disk<'_> {
    /// Reads sectors into `memory`; `then` is called when they are there, maybe before this returns.
    ///
    /// # Safety
    /// `memory` has room for `sectors`, and nobody touches it until `then` was called.
    pub(super) unsafe fn read(&self, first: u64, sectors: u64, memory: *mut u8, then: Then) {
        let Some(read) = self.library.read_async.as_ref().filter(|_| self.library.is_asynchronous()) else {
            // SAFETY: the handle is open, the memory is the caller's promise
            let code = unsafe { (self.library.read)(self.handle, first, sectors, memory) };
            return then(if code == 0 { Ok(()) } else { Err(code) });
        };
        let then = Box::into_raw(Box::new(then));
        // SAFETY: as above; the library calls back once where it answers ASYNC, and not at all otherwise
        let code = unsafe { read(self.handle, first, sectors, memory, done, then.cast()) };
        if code != ASYNC {
            // SAFETY: nobody else has the box then
            let then = unsafe { Box::from_raw(then) };
            then(if code == 0 { Ok(()) } else { Err(code) });
        }
    }

    /// Waits until all reads that were begun have called back.
    pub(super) fn wait(&self) {
        if let Some(wait) = &self.library.wait {
            // SAFETY: the handle is open
            let code = unsafe { wait(self.handle) };
            if code != 0 {
                tracing::warn!("{}", self.library.failed("VixDiskLib_Wait", code));
            }
        }
    }

    /// Returns which parts of the disk were ever written, start and length in bytes; an error where the library does
    /// not know.
    pub(super) fn allocated(&self) -> Result<Vec<(u64, u64)>, Failure> {
        const CALL: &str = "VixDiskLib_QueryAllocatedBlocks";
        let (Some(query), Some(free)) = (&self.library.blocks, &self.library.free_blocks) else {
            return Err(failure(CALL, "this version has no such function".into()));
        };
        let sectors = self.size / SECTOR;
        // a question has to be of whole units: what is left is taken as written
        let whole = sectors / UNIT * UNIT;
        let mut found = Vec::new();
        let mut at = 0;
        while at < whole {
            let count = (UNIT * UNITS).min(whole - at);
            let mut list = null_mut();
            // SAFETY: the handle is open; the list is given back below
            let code = unsafe { query(self.handle, at, count, UNIT, &raw mut list) };
            self.library.check(CALL, code)?;
            if list.is_null() {
                return Err(failure(CALL, "there is no list".into()));
            }
            // SAFETY: the library made a list with so many entries behind its count
            let blocks = unsafe {
                std::slice::from_raw_parts((&raw const (*list).first).cast::<[u64; 2]>(), (*list).count as usize)
            };
            found.extend(blocks.iter().map(|[start, length]| (start * SECTOR, length * SECTOR)));
            // SAFETY: it is given back once
            unsafe { free(list) };
            at += count;
        }
        if whole < sectors {
            found.push((whole * SECTOR, (sectors - whole) * SECTOR));
        }
        Ok(found)
    }
}

impl Drop for Disk<'_> {
    fn drop(&mut self) {
        if !self.handle.is_null() {
            self.wait();
            // SAFETY: it is open, and closed once; no read is under way
            let code = unsafe { (self.library.close)(self.handle) };
            if code != 0 {
                tracing::warn!("{}", self.library.failed("VixDiskLib_Close", code));
            }
        }
        // SAFETY: as above; the parameters are dropped after it
        let code = unsafe { (self.library.disconnect)(self.connection) };
        if code != 0 {
            tracing::warn!("{}", self.library.failed("VixDiskLib_Disconnect", code));
        }
        debug_assert!(!self.params.raw.is_null());
    }
}
