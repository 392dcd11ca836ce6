//! Inflating of grains and clusters, with one decompressor and one buffer of packed bytes a thread.

use std::cell::RefCell;

use libdeflater::Decompressor;

/// How a grain or cluster is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Packing {
    /// RFC 1950, VMDK.
    Zlib,
    /// RFC 1951, qcow2; bytes may follow the stream.
    Deflate,
    /// Zstandard, qcow2; bytes may follow the frame.
    Zstd,
}

struct Tools {
    deflate: Decompressor,
    zstd: Option<zstd::zstd_safe::DCtx<'static>>,
}

thread_local! {
    static TOOLS: RefCell<Tools> = RefCell::new(Tools { deflate: Decompressor::new(), zstd: None });
    static PACKED: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Inflates into `out`; returns how much of it was filled, or what is wrong with the stream.
pub(crate) fn inflate(packing: Packing, packed: &[u8], out: &mut [u8]) -> Result<usize, String> {
    TOOLS.with_borrow_mut(|tools| match packing {
        Packing::Zlib => tools.deflate.zlib_decompress(packed, out).map_err(|error| error.to_string()),
        Packing::Deflate => tools.deflate.deflate_decompress(packed, out).map_err(|error| error.to_string()),
        Packing::Zstd => unpack_zstd(tools, packed, out),
    })
}

fn unpack_zstd(tools: &mut Tools, packed: &[u8], out: &mut [u8]) -> Result<usize, String> {
    use zstd::zstd_safe::{DCtx, InBuffer, OutBuffer, ResetDirective, get_error_name};
    let context = tools.zstd.get_or_insert_with(DCtx::create);
    context.reset(ResetDirective::SessionOnly).map_err(|code| get_error_name(code).to_owned())?;
    let wanted = out.len();
    let mut input = InBuffer::around(packed);
    let mut output = OutBuffer::around(out);
    loop {
        let before = (input.pos(), output.pos());
        let left =
            context.decompress_stream(&mut output, &mut input).map_err(|code| get_error_name(code).to_owned())?;
        let stuck = before == (input.pos(), output.pos());
        if left == 0 || output.pos() == wanted || stuck {
            return Ok(output.pos());
        }
    }
}

/// Lends the thread's buffer, `length` bytes of it, for packed bytes.
pub(crate) fn with_packed<T>(length: usize, work: impl FnOnce(&mut [u8]) -> T) -> T {
    // taken out, so that a nested call gets a buffer of its own instead of a panic
    let mut buffer = PACKED.take();
    if buffer.len() < length {
        buffer.resize(length, 0);
    }
    let result = work(buffer.get_mut(..length).unwrap_or_default());
    PACKED.set(buffer);
    result
}
