//! Reads of a qcow2 image: neighbours in the file are read at once, packed clusters inflated.

use crate::error::Result;
use crate::inflate::{inflate, with_packed};

use super::{Piece, Place, Qcow2};

/// The most packed bytes that are read at once.
const BATCH: u64 = 2 << 20;

impl Qcow2 {
    pub(super) fn read_pieces(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        let mut pieces = Vec::new();
        self.pieces(offset..offset.saturating_add(buf.len() as u64), &mut pieces)?;
        let mut rest = buf;
        let mut todo = pieces.as_slice();
        while let Some(first) = todo.first() {
            let (count, length) = run(todo);
            let (now, later) = todo.split_at(count);
            let (part, after) = rest.split_at_mut(length as usize);
            match first.place {
                Place::Unallocated | Place::Zero => part.fill(0),
                Place::At(host) => self.input.read(part, host, "cluster")?,
                Place::Packed(..) => self.inflate_run(now, part)?,
            }
            (rest, todo) = (after, later);
        }
        Ok(())
    }

    /// Inflates packed clusters whose streams lie close together.
    fn inflate_run(&self, pieces: &[Piece], buf: &mut [u8]) -> Result<()> {
        let streams = pieces.iter().filter_map(|piece| match piece.place {
            Place::Packed(host, length) => Some((piece, host, length)),
            _ => None,
        });
        let start = streams.clone().map(|(_, host, _)| host).min().unwrap_or(0);
        let end = streams.clone().map(|(_, host, length)| host + length).max().unwrap_or(0);
        with_packed((end - start) as usize, |packed| {
            self.input.read(packed, start, "compressed clusters")?;
            let mut rest = buf;
            for (piece, host, length) in streams {
                let stream = &packed[(host - start) as usize..][..length as usize];
                let (part, after) = rest.split_at_mut(piece.length as usize);
                rest = after;
                self.inflate_cluster(piece, host, stream, part)?;
            }
            Ok(())
        })
    }

    fn inflate_cluster(&self, piece: &Piece, host: u64, stream: &[u8], out: &mut [u8]) -> Result<()> {
        let cluster = self.header.cluster_size() as usize;
        let malformed = |reason: String| {
            self.input.malformed(host, format!("compressed cluster of disk offset {}", piece.start), reason)
        };
        let check = |got: usize| {
            if got == cluster { Ok(()) } else { Err(malformed(format!("inflates to {got} bytes, not {cluster}"))) }
        };
        if out.len() == cluster {
            return check(inflate(self.header.packing, stream, out).map_err(malformed)?);
        }
        let mut whole = vec![0; cluster];
        check(inflate(self.header.packing, stream, &mut whole).map_err(malformed)?)?;
        let skip = (piece.start % cluster as u64) as usize;
        out.copy_from_slice(&whole[skip..skip + out.len()]);
        Ok(())
    }
}

/// Returns how many of the first pieces are read together, and their bytes.
fn run(pieces: &[Piece]) -> (usize, u64) {
    let Some(first) = pieces.first() else {
        return (0, 0);
    };
    let mut length = first.length;
    let mut span = match first.place {
        Place::Packed(host, packed) => host..host + packed,
        _ => 0..0,
    };
    let mut count = 1;
    for piece in &pieces[1..] {
        let joins = match (first.place, piece.place) {
            (Place::Unallocated | Place::Zero, Place::Unallocated | Place::Zero) => true,
            (Place::At(host), Place::At(next)) => host.checked_add(length) == Some(next),
            (Place::Packed(..), Place::Packed(host, packed)) => {
                let wider = span.start.min(host)..span.end.max(host + packed);
                let near = wider.end - wider.start <= BATCH;
                if near {
                    span = wider;
                }
                near
            }
            _ => false,
        };
        if !joins {
            break;
        }
        length += piece.length;
        count += 1;
    }
    (count, length)
}
