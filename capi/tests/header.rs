//! `include/whorl.h` is what cbindgen makes of the source, and C and C++ compilers accept it without a warning.

use std::path::{Path, PathBuf};
use std::process::Command;

fn here() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

#[test]
fn the_header_is_the_source_s() {
    let config = cbindgen::Config::from_file(here().join("cbindgen.toml")).expect("the configuration");
    let sources = ["support", "sender", "receiver", "mailboxes", "server"]
        .map(|file| here().join(format!("src/{file}.rs")));
    let made = sources
        .iter()
        .fold(cbindgen::Builder::new().with_config(config), |builder, file| builder.with_src(file));
    let mut header = Vec::new();
    made.generate().expect("a header").write(&mut header);
    let path = here().join("include/whorl.h");
    if std::env::var_os("WHORL_WRITE_HEADER").is_some() {
        std::fs::write(&path, &header).expect("the header");
    }
    let kept = std::fs::read(&path).unwrap_or_default();
    assert!(
        kept == header,
        "include/whorl.h is not what the source says: WHORL_WRITE_HEADER=1 cargo test -p whorl-capi --test header writes it"
    );
    let header = String::from_utf8(header).expect("text");
    for family in ["whorl_sender_", "whorl_receiver_", "whorl_mailboxes_", "whorl_server_", "whorl_answers_"]
    {
        assert!(header.contains(family), "{family}");
    }
}

#[test]
fn compilers_accept_the_header_without_a_warning() {
    for (compiler, language) in [("cc", "c"), ("c++", "c++")] {
        let standard = if language == "c" { "-std=c99" } else { "-std=c++11" };
        let output = Command::new(compiler)
            .args(["-Wall", "-Wextra", "-Wpedantic", "-Werror", "-fsyntax-only", standard, "-x", language])
            .arg(here().join("include/whorl.h"))
            .output();
        match output {
            Ok(output) => {
                assert!(output.status.success(), "{compiler}: {}", String::from_utf8_lossy(&output.stderr))
            }
            Err(_) => eprintln!("SKIPPED: the header as {language}: there is no {compiler}"),
        }
    }
}
