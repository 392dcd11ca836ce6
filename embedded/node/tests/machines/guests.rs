//! Guests small enough to be written here.

use std::path::Path;
use std::process::Command;

/// What a guest does after its word.
#[derive(PartialEq)]
pub enum Then {
    /// Nothing for ever.
    Halt,
    /// Switches itself off.
    PowerOff,
    /// Waits for the power button, then switches itself off.
    AwaitButton,
    /// Answers each byte on the serial port with the byte that has the case bit the other way.
    Echo,
}

/// A boot sector that prints a word on the first serial port and then does as told, through
/// the ACPI registers of QEMU's q35 machine.
pub fn boot_sector(word: &str, then: Then) -> Vec<u8> {
    // cli; xor ax,ax; mov ds,ax; mov si,word; mov dx,0x3f8
    let mut code = vec![0xfa, 0x31, 0xc0, 0x8e, 0xd8, 0xbe, 0, 0, 0xba, 0xf8, 0x03];
    // next: lodsb; test al,al; jz end; out dx,al; jmp next
    code.extend([0xac, 0x84, 0xc0, 0x74, 0x03, 0xee, 0xeb, 0xf8]);
    if then == Then::Echo {
        // poll: mov dx,0x3fd; in al,dx; test al,1; jz poll; mov dx,0x3f8; in al,dx; xor al,0x20; out dx,al; jmp poll
        code.extend([
            0xba, 0xfd, 0x03, 0xec, 0xa8, 0x01, 0x74, 0xf8, 0xba, 0xf8, 0x03, 0xec, 0x34, 0x20, 0xee, 0xeb, 0xef,
        ]);
    }
    if matches!(then, Then::PowerOff | Then::AwaitButton) {
        // end: the PCI configuration of the LPC bridge (00:1f.0) sets and enables the power
        // management port at 0x600, as no operating system has done it: PMBASE, ACPI_CNTL
        for (register, value) in [(0x8000_f840_u32, 0x601_u32), (0x8000_f844, 0x80)] {
            // mov dx,0xcf8; mov eax,register; out dx,eax; mov dx,0xcfc; mov eax,value; out dx,eax
            code.extend([0xba, 0xf8, 0x0c, 0x66, 0xb8]);
            code.extend(register.to_le_bytes());
            code.extend([0x66, 0xef, 0xba, 0xfc, 0x0c, 0x66, 0xb8]);
            code.extend(value.to_le_bytes());
            code.extend([0x66, 0xef]);
        }
        if then == Then::AwaitButton {
            // mov dx,0x602; mov ax,0x100; out dx,ax: the button is of interest
            code.extend([0xba, 0x02, 0x06, 0xb8, 0x00, 0x01, 0xef]);
            // again: mov dx,0x600; in ax,dx; test ax,0x100; jz again
            code.extend([0xba, 0x00, 0x06, 0xed, 0xa9, 0x00, 0x01, 0x74, 0xf7]);
        }
        // mov dx,0x604; mov ax,0x2000; out dx,ax
        code.extend([0xba, 0x04, 0x06, 0xb8, 0x00, 0x20, 0xef]);
    }
    // hlt; jmp to it
    code.extend([0xf4, 0xeb, 0xfd]);
    let text = u16::try_from(0x7c00 + code.len()).expect("small");
    code[6..8].copy_from_slice(&text.to_le_bytes());
    code.extend(word.as_bytes());
    code.push(0);
    code.resize(510, 0);
    code.extend([0x55, 0xaa]);
    code
}

/// A program for EFI. It counts its runs in a variable of the firmware, and says on the first serial port
/// `EFI-GUEST-RUN-n-TPM-y`, where y is Y with a TPM behind the CRB interface and N without.
///
/// ```text
///     sub rsp,0x48; mov rbx,[rdx+0x58]                            ; the runtime services
///     GetVariable(name, guid, 0, &size, &data)  (rbx+0x48); inc byte [data]
///     SetVariable(name, guid, NV|BS|RT, 1, &data)  (rbx+0x58)
///     mov eax,[0xfed40030]; inc eax; cmp eax,2; jae found; mov byte [tpm],'N'
/// found: mov dx,0x3f8; lea rsi,[msg]
/// 1:  lodsb; test al,al; jz 2f; out dx,al; jmp 1b
/// 2:  hlt; jmp 2b
///     size, guid, name, msg: "EFI-GUEST-RUN-", data: "0", "-TPM-", tpm: "Y\n\0"
/// ```
const EFI_CODE: &[u8] = &[
    0x48, 0x83, 0xec, 0x48, 0x48, 0x8b, 0x5a, 0x58, 0x48, 0x8d, 0x0d, 0x99, 0x00, 0x00, 0x00, 0x48, 0x8d, 0x15, 0x82,
    0x00, 0x00, 0x00, 0x4d, 0x31, 0xc0, 0x4c, 0x8d, 0x0d, 0x70, 0x00, 0x00, 0x00, 0x48, 0x8d, 0x05, 0x99, 0x00, 0x00,
    0x00, 0x48, 0x89, 0x44, 0x24, 0x20, 0xff, 0x53, 0x48, 0xfe, 0x05, 0x8b, 0x00, 0x00, 0x00, 0x48, 0x8d, 0x0d, 0x6c,
    0x00, 0x00, 0x00, 0x48, 0x8d, 0x15, 0x55, 0x00, 0x00, 0x00, 0x41, 0xb8, 0x07, 0x00, 0x00, 0x00, 0x41, 0xb9, 0x01,
    0x00, 0x00, 0x00, 0x48, 0x8d, 0x05, 0x6a, 0x00, 0x00, 0x00, 0x48, 0x89, 0x44, 0x24, 0x20, 0xff, 0x53, 0x58, 0xb8,
    0x30, 0x00, 0xd4, 0xfe, 0x8b, 0x00, 0xff, 0xc0, 0x83, 0xf8, 0x02, 0x73, 0x07, 0xc6, 0x05, 0x53, 0x00, 0x00, 0x00,
    0x4e, 0x66, 0xba, 0xf8, 0x03, 0x48, 0x8d, 0x35, 0x34, 0x00, 0x00, 0x00, 0xac, 0x84, 0xc0, 0x74, 0x03, 0xee, 0xeb,
    0xf8, 0xf4, 0xeb, 0xfd, 0x0f, 0x1f, 0x80, 0x00, 0x00, 0x00, 0x00, 0x01, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
    0x46, 0x6f, 0x72, 0x67, 0x65, 0x20, 0x47, 0x75, 0x65, 0x73, 0x74, 0x20, 0x56, 0x61, 0x72, 0x31, 0x52, 0x00, 0x75,
    0x00, 0x6e, 0x00, 0x73, 0x00, 0x00, 0x00, 0x45, 0x46, 0x49, 0x2d, 0x47, 0x55, 0x45, 0x53, 0x54, 0x2d, 0x52, 0x55,
    0x4e, 0x2d, 0x30, 0x2d, 0x54, 0x50, 0x4d, 0x2d, 0x59, 0x0a, 0x00,
];

/// Wraps the program in PE32+ headers: one section, readable, writable and executable.
pub fn efi_program() -> Vec<u8> {
    let mut file = b"MZ".to_vec();
    file.resize(0x3c, 0);
    file.extend(64_u32.to_le_bytes());
    file.extend(b"PE\0\0");
    let mut put = |numbers: &[(u64, usize)]| {
        for (number, width) in numbers {
            file.extend(&number.to_le_bytes()[..*width]);
        }
    };
    // COFF: x86-64, one section, 240 bytes of optional header
    put(&[(0x8664, 2), (1, 2), (0, 4), (0, 4), (0, 4), (240, 2), (0x22, 2)]);
    // optional header: PE32+, entry at 0x1000
    put(&[(0x20b, 2), (0, 2), (0x200, 4), (0, 4), (0, 4), (0x1000, 4), (0x1000, 4)]);
    put(&[(0x1000_0000, 8), (0x1000, 4), (0x200, 4), (0, 8), (0, 8), (0x2000, 4), (0x200, 4), (0, 4)]);
    // an EFI application, sixteen empty directories
    put(&[(10, 2), (0, 2), (0, 8), (0, 8), (0, 8), (0, 8), (0, 4), (16, 4)]);
    put(&[(0, 8); 16]);
    // the section: name, sizes and places
    put(&[
        (u64::from_le_bytes(*b".text\0\0\0"), 8),
        (0x200, 4),
        (0x1000, 4),
        (0x200, 4),
        (0x200, 4),
        (0, 8),
        (0, 4),
        (0xe000_0020, 4),
    ]);
    file.resize(0x200, 0);
    file.extend(EFI_CODE);
    file.resize(0x400, 0);
    file
}

/// Makes a FAT image with files of this machine, by mtools.
pub fn fat(image: &Path, bytes: u64, files: &[(&Path, &str)]) {
    std::fs::File::create(image).and_then(|file| file.set_len(bytes)).expect("an empty image");
    let run = |program: &str, args: &[&std::ffi::OsStr]| {
        let output = Command::new(program).arg("-i").arg(image).args(args).output().expect("mtools");
        assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
    };
    run("mformat", &["-v".as_ref(), "ESP".as_ref(), "::".as_ref()]);
    let mut made: Vec<&str> = Vec::new();
    for (file, place) in files {
        for (at, _) in place.match_indices('/') {
            if !made.contains(&&place[..at]) {
                made.push(&place[..at]);
                run("mmd", &[format!("::{}", &place[..at]).as_ref()]);
            }
        }
        run("mcopy", &[file.as_os_str(), format!("::{place}").as_ref()]);
    }
}

/// Says whether a program or file is there; with REQUIRE_PEERS=1 it has to be.
pub fn there(what: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = if what.starts_with('/') {
        Path::new(what).exists()
    } else {
        std::env::split_paths(&path).any(|dir| dir.join(what).is_file())
    };
    assert!(found || std::env::var("REQUIRE_PEERS").as_deref() != Ok("1"), "{what} is not on this machine");
    if !found {
        eprintln!("skipped: {what} is not on this machine");
    }
    found
}
