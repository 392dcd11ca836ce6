//! Any bytes as a chunk map: it is gone on with, begun anew or refused.
#![no_main]

use forklift_disk::chunk_map::{ChunkMap, Key};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    forklift_fuzz::with_file(bytes, |path| {
        let key = Key { identity: "test".into(), stamp: "5:1.0".into(), size: 13 << 20, inode: 7 };
        match ChunkMap::open(path, &key) {
            Ok(map) => {
                assert_eq!(map.chunks().len(), 4);
                assert!(map.copied_bytes() <= key.size);
            }
            Err(error) => forklift_fuzz::check_error(&error),
        }
    });
});
