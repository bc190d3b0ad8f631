//! Builds and runs core in a program that has nothing else: no standard library, no C library, no runtime.
#![cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

fn build() -> PathBuf {
    let package = Path::new(env!("CARGO_MANIFEST_DIR")).join("../freestanding");
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("freestanding");
    let built = Command::new(env!("CARGO"))
        .args(["build", "--release", "--locked", "--offline", "--manifest-path"])
        .arg(package.join("Cargo.toml"))
        .arg("--target-dir")
        .arg(&target)
        // The target and the flags that this test was built with are not meant for that program.
        .env_remove("CARGO_BUILD_TARGET")
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .output()
        .expect("cargo runs");
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    target.join("release/freestanding")
}

/// Returns the types of a little-endian ELF-64 file's program headers.
fn program_headers(file: &[u8]) -> Vec<u32> {
    let number = |at: usize, length: usize| {
        file[at..at + length].iter().rev().fold(0usize, |value, byte| value << 8 | usize::from(*byte))
    };
    assert_eq!(&file[..6], b"\x7FELF\x02\x01", "a 64-bit little-endian ELF file");
    let (start, size, count) = (number(32, 8), number(54, 2), number(56, 2));
    (0..count).map(|i| number(start + i * size, 4) as u32).collect()
}

#[test]
fn core_runs_without_a_runtime() {
    const LOAD: u32 = 1;
    const DYNAMIC: u32 = 2;
    const INTERPRETER: u32 = 3;

    let program = build();
    let ran = Command::new(&program).output().expect("the program starts");
    assert_eq!(ran.status.code(), Some(0));
    assert_eq!(ran.stdout, b"1000 messages through a ring in a static, without a runtime\n");
    assert!(ran.stderr.is_empty());

    let headers = program_headers(&fs::read(&program).unwrap());
    assert!(headers.contains(&LOAD));
    assert!(
        !headers.contains(&DYNAMIC) && !headers.contains(&INTERPRETER),
        "linked to something: {headers:?}"
    );
}
