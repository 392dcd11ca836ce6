//! Whether KVM can be used: only after a guest has run under it.
//!
//! `/dev/kvm` that opens proves nothing: inside some virtual machines KVM accepts a guest
//! and then emulates it a hundred times slower than QEMU itself does, so that a stock kernel
//! seems to hang. The probe guest is a boot sector that enters 64-bit mode with paging,
//! increments a counter in memory four million times under lock and prints a word: some
//! 50 ms on a real processor, far beyond the deadline on an emulated one. It gets the processor
//! that machines get ([`processor`]): there are hosts where QEMU aborts with `-cpu host` only.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tokio::sync::OnceCell;

const DEADLINE: Duration = Duration::from_secs(4);
const WORD: &[u8] = b"KVM-GUEST-RAN";

/// The boot sector, 16-bit code at 0x7c00; what follows in assembler is what its bytes say.
///
/// ```text
///     cli; xor ax,ax; mov ds,ax; mov es,ax; mov ss,ax; mov sp,0x7c00
///     mov di,0x1000; xor eax,eax; mov cx,0xc00; rep stosd     ; three empty page tables
///     mov dword [0x1000],0x2003; mov dword [0x2000],0x3003; mov dword [0x3000],0x83
///     mov cr3,0x1000; cr4 |= PAE; EFER |= LME; lgdt; cr0 |= PG|PE; jmp 8:long
/// long: mov ds,16; mov ecx,4000000
/// 1:  lock inc qword [0x5000]; dec ecx; jnz 1b
///     mov rsi,word; mov dx,0x3f8                              ; the first serial port
/// 2:  lodsb; test al,al; jz 3f; out dx,al; jmp 2b
/// 3:  mov dx,0xf4; mov al,0; out dx,al; hlt; jmp 3b           ; isa-debug-exit ends QEMU
/// ```
const GUEST: &[u8] = &[
    0xfa, 0x31, 0xc0, 0x8e, 0xd8, 0x8e, 0xc0, 0x8e, 0xd0, 0xbc, 0x00, 0x7c, 0xbf, 0x00, 0x10, 0x66, 0x31, 0xc0, 0xb9,
    0x00, 0x0c, 0x66, 0xf3, 0xab, 0x66, 0xc7, 0x06, 0x00, 0x10, 0x03, 0x20, 0x00, 0x00, 0x66, 0xc7, 0x06, 0x00, 0x20,
    0x03, 0x30, 0x00, 0x00, 0x66, 0xc7, 0x06, 0x00, 0x30, 0x83, 0x00, 0x00, 0x00, 0x66, 0xb8, 0x00, 0x10, 0x00, 0x00,
    0x0f, 0x22, 0xd8, 0x0f, 0x20, 0xe0, 0x66, 0x83, 0xc8, 0x20, 0x0f, 0x22, 0xe0, 0x66, 0xb9, 0x80, 0x00, 0x00, 0xc0,
    0x0f, 0x32, 0x66, 0x0d, 0x00, 0x01, 0x00, 0x00, 0x0f, 0x30, 0x66, 0x0f, 0x01, 0x16, 0xc0, 0x7c, 0x0f, 0x20, 0xc0,
    0x66, 0x0d, 0x01, 0x00, 0x00, 0x80, 0x0f, 0x22, 0xc0, 0x66, 0xea, 0x70, 0x7c, 0x00, 0x00, 0x08, 0x00, 0xb8, 0x10,
    0x00, 0x00, 0x00, 0x8e, 0xd8, 0xb9, 0x00, 0x09, 0x3d, 0x00, 0xf0, 0x48, 0xff, 0x04, 0x25, 0x00, 0x50, 0x00, 0x00,
    0xff, 0xc9, 0x75, 0xf3, 0x48, 0xc7, 0xc6, 0xc6, 0x7c, 0x00, 0x00, 0x66, 0xba, 0xf8, 0x03, 0xac, 0x84, 0xc0, 0x74,
    0x03, 0xee, 0xeb, 0xf8, 0x66, 0xba, 0xf4, 0x00, 0xb0, 0x00, 0xee, 0xf4, 0xeb, 0xf6, 0x66, 0x90, 0x00, 0x00, 0x00,
    0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x9a, 0x20, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x92,
    0x00, 0x00, 0x17, 0x00, 0xa8, 0x7c, 0x00, 0x00, 0x4b, 0x56, 0x4d, 0x2d, 0x47, 0x55, 0x45, 0x53, 0x54, 0x2d, 0x52,
    0x41, 0x4e, 0x00,
];

/// The processor's help for virtual machines, looked for once.
#[derive(Clone, Debug)]
pub struct Accelerator {
    cache: PathBuf,
    usable: Arc<OnceCell<bool>>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Kept {
    boot_id: String,
    kernel: String,
    usable: bool,
}

impl Accelerator {
    /// Keeps the answer in a file, for as long as this kernel runs.
    pub fn new(cache: PathBuf) -> Self {
        Self { cache, usable: Arc::default() }
    }

    /// Says whether KVM can be used.
    pub async fn kvm(&self) -> bool {
        let cache = self.cache.clone();
        *self
            .usable
            .get_or_init(
                || async move { tokio::task::spawn_blocking(move || remembered(&cache)).await.unwrap_or(false) },
            )
            .await
    }
}

fn remembered(cache: &Path) -> bool {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default().trim().to_owned();
    let boot_id = read("/proc/sys/kernel/random/boot_id");
    let kernel = read("/proc/sys/kernel/osrelease");
    let kept: Option<Kept> = std::fs::read(cache).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
    if let Some(kept) = kept
        && !boot_id.is_empty()
        && (&kept.boot_id, &kept.kernel) == (&boot_id, &kernel)
    {
        return kept.usable;
    }
    let usable = Path::new("/dev/kvm").exists() && runs("kvm", DEADLINE);
    tracing::info!(usable, "probed KVM with a guest");
    let text = serde_json::to_vec(&Kept { boot_id, kernel, usable });
    if let Err(error) = text.map_err(std::io::Error::from).and_then(|text| std::fs::write(cache, text)) {
        tracing::debug!(%error, "the answer of the KVM probe is not kept");
    }
    usable
}

/// The processor that machines get when they ask for none.
pub fn processor(kvm: bool) -> &'static str {
    if kvm { "host" } else { "max" }
}

/// Runs the probe guest and says whether it finished in time.
pub fn runs(accelerator: &str, deadline: Duration) -> bool {
    let Ok(file) = image() else { return false };
    let drive = format!("if=virtio,format=raw,snapshot=on,file={}", file.display());
    let child = Command::new("qemu-system-x86_64")
        .args([
            "-accel",
            accelerator,
            "-cpu",
            processor(accelerator == "kvm"),
            "-machine",
            "q35",
            "-m",
            "64",
            "-display",
            "none",
            "-nodefaults",
            "-no-reboot",
        ])
        .args(["-serial", "stdio", "-device", "isa-debug-exit,iobase=0xf4,iosize=4", "-drive", &drive])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn();
    let Ok(mut child) = child else {
        // leftovers in the temporary directory are harmless
        let _ = std::fs::remove_file(&file);
        return false;
    };
    let end = Instant::now() + deadline;
    let finished = loop {
        match child.try_wait() {
            Ok(Some(_)) => break true,
            Ok(None) if Instant::now() < end => std::thread::sleep(Duration::from_millis(20)),
            Ok(None) | Err(_) => break false,
        }
    };
    if !finished {
        // it may have ended this very moment
        let _ = child.kill();
        let _ = child.wait();
    }
    let mut said = Vec::new();
    if let Some(mut out) = child.stdout.take() {
        // what was not read is not there
        let _ = out.read_to_end(&mut said);
    }
    let _ = std::fs::remove_file(&file);
    finished && said.windows(WORD.len()).any(|part| part == WORD)
}

/// Writes the guest's disk: firmware refuses disks that are too small.
fn image() -> std::io::Result<PathBuf> {
    let path = std::env::temp_dir().join(format!("kvm-probe-{}.img", uuid::Uuid::new_v4().simple()));
    let mut disk = GUEST.to_vec();
    disk.resize(510, 0);
    disk.extend([0x55, 0xaa]);
    disk.resize(1 << 20, 0);
    std::fs::write(&path, disk)?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_probe_guest_runs_where_guests_run() {
        // under QEMU's own emulation it always does; that it fails without an accelerator
        // of that name shows that success is not the default
        assert!(runs("tcg", Duration::from_secs(60)));
        assert!(!runs("no-such-accelerator", Duration::from_secs(60)));
    }

    #[tokio::test]
    async fn the_answer_is_kept() {
        let dir = tempfile::tempdir().expect("a directory");
        let cache = dir.path().join("kvm.json");
        let kept = Kept {
            boot_id: std::fs::read_to_string("/proc/sys/kernel/random/boot_id").expect("an id").trim().into(),
            kernel: std::fs::read_to_string("/proc/sys/kernel/osrelease").expect("a name").trim().into(),
            usable: true,
        };
        std::fs::write(&cache, serde_json::to_vec(&kept).expect("json")).expect("written");
        assert!(Accelerator::new(cache).kvm().await);
    }
}
