//! The Debian package, where the tools are: built, unpacked, and what is in it works.

mod common;

use common::*;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

fn is_there(program: &str) -> bool {
    let tried = Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    tried.is_ok_and(|status| status.success())
}

#[test]
fn the_package_holds_the_command_its_links_pages_completions_and_unit() {
    for tool in ["cargo-deb", "dpkg-deb"] {
        if !is_there(tool) {
            return skip("the Debian package", &format!("there is no {tool}"));
        }
    }
    let place = Place::new();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/deb");
    let mut build = Command::new(script);
    build.arg(place.at("made")).env("SHELL_BIN", env!("CARGO_BIN_EXE_shell")).current_dir(place.at(""));
    let built = start(build.env("CARGO_TARGET_DIR", place.at("target"))).end(LIMIT * 3);
    built.has_code(0);
    let made = place.names("made");
    assert_eq!(made.len(), 1, "{made:?}");
    let package = place.at(format!("made/{}", made[0]));
    // Unpacked, which is what installing does to files; a root of our own leaves the machine as it is.
    let root = place.at("root");
    let unpack = Command::new("dpkg-deb").arg("-x").arg(&package).arg(&root).status();
    assert!(unpack.is_ok_and(|status| status.success()));
    for file in [
        "usr/bin/shell",
        "usr/share/man/man1/shell.1.gz",
        "usr/share/man/man1/shell-copy.1.gz",
        "usr/share/man/man1/dipc.1.gz",
        "usr/share/bash-completion/completions/shell",
        "usr/share/zsh/vendor-completions/_shell",
        "usr/share/fish/vendor_completions.d/shell.fish",
        "usr/lib/systemd/user/dipc@.service",
    ] {
        assert!(fs::metadata(root.join(file)).is_ok_and(|file| file.len() > 0), "{file}");
    }
    for link in ["dipc", "dipcrm"] {
        assert_eq!(fs::read_link(root.join("usr/bin").join(link)).unwrap(), Path::new("shell"), "{link}");
        let help = run(Command::new(root.join("usr/bin").join(link)).arg("--help"));
        assert!(help.stdout.contains(&format!("Usage: shell {link}")), "{help:?}");
    }
    let completion = fs::read_to_string(root.join("usr/share/bash-completion/completions/shell")).unwrap();
    assert!(
        completion.contains("\"shell\" -- ") || completion.contains(" shell -- "),
        "by its bare name:\n{completion}"
    );
    let dpkg = Command::new("dpkg-deb").arg("-I").arg(&package).output().unwrap();
    let control = String::from_utf8_lossy(&dpkg.stdout).into_owned();
    assert!(control.contains("Package: whorl"), "{control}");
}
