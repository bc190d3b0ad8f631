//! The Debian package, if its tools are there: it is built and unpacked, and its contents work.

use crate::kit::*;
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
    let sandbox = Sandbox::new();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/deb");
    let mut build = Command::new(script);
    build.arg(sandbox.at("made")).current_dir(sandbox.at(""));
    build.env("CARGO_TARGET_DIR", sandbox.at("target")).env("SHELL_BIN", SHELL);
    run(&mut build).has_code(0);
    let made = sandbox.names("made");
    assert_eq!(made.len(), 1, "{made:?}");
    let package = sandbox.at(format!("made/{}", made[0]));
    // Unpacking is what installing does to files. A root of its own leaves the machine unchanged.
    let root = sandbox.at("root");
    let unpack = Command::new("dpkg-deb").arg("-x").arg(&package).arg(&root).status();
    assert!(unpack.is_ok_and(|status| status.success()));
    for file in [
        "usr/bin/shell",
        "usr/share/man/man1/shell.1.gz",
        "usr/share/man/man1/shell-copy.1.gz",
        "usr/share/man/man1/dipc.1.gz",
        "usr/share/bash-completion/completions/shell",
        "usr/share/bash-completion/completions/dipc",
        "usr/share/fish/vendor_completions.d/dipcrm.fish",
        "usr/share/doc/whorl/copyright",
        "usr/share/doc/whorl/changelog.Debian.gz",
        "usr/share/zsh/vendor-completions/_shell",
        "usr/share/fish/vendor_completions.d/shell.fish",
        "usr/lib/systemd/user/dipc@.service",
    ] {
        assert!(fs::metadata(root.join(file)).is_ok_and(|file| file.len() > 0), "{file}");
    }
    for (link, usage) in [("dipc", "shell dipc"), ("dipcrm", "shell dipcrm"), ("whorl", "whorl")] {
        assert_eq!(fs::read_link(root.join("usr/bin").join(link)).unwrap(), Path::new("shell"), "{link}");
        let help = run(Command::new(root.join("usr/bin").join(link)).arg("--help"));
        assert!(help.stdout.contains(&format!("Usage: {usage}")), "{help:?}");
    }
    let completion = fs::read_to_string(root.join("usr/share/bash-completion/completions/shell")).unwrap();
    assert!(
        completion.contains("\"shell\" -- ") || completion.contains(" shell -- "),
        "by its bare name:\n{completion}"
    );
    let zsh = fs::read_to_string(root.join("usr/share/zsh/vendor-completions/_shell")).unwrap();
    assert!(zsh.starts_with("#compdef shell whorl dipc dipcrm\n"), "{zsh}");
    if is_there("lintian") {
        run(Command::new("lintian").args(["--fail-on", "error"]).arg(&package)).has_code(0);
    } else {
        skip("lintian of the Debian package", "there is no lintian");
    }
    first_press(&root);
    installs(&sandbox, &package);
    let dpkg = Command::new("dpkg-deb").arg("-I").arg(&package).output().unwrap();
    let control = String::from_utf8_lossy(&dpkg.stdout).into_owned();
    assert!(control.contains("Package: whorl"), "{control}");
}

/// What zsh offers at the first press of the key after `dipc --inse`, which loads the completion.
fn first_press(root: &Path) {
    if !is_there("zsh") {
        return skip("completion of the package in zsh", "there is no zsh");
    }
    // Without a line editor zsh has no completion, so here `_describe` prints.
    let script = "fpath=($1); compdef() { :; }; _describe() { print -l -- ${(P)3}; }; autoload -U _shell; \
                  service=dipc; words=(dipc --inse); CURRENT=2; _shell";
    let mut zsh = Command::new("zsh");
    zsh.args(["-fc", script, "zsh"]).arg(root.join("usr/share/zsh/vendor-completions"));
    let path = format!("{}:{}", root.join("usr/bin").display(), std::env::var("PATH").unwrap_or_default());
    let ended = run(zsh.env("PATH", path));
    assert!(ended.stdout.contains("--insecure"), "{ended:?}");
}

/// Installs the package into an empty root with only dpkg's database, and removes it again. Nothing may be left.
fn installs(sandbox: &Sandbox, package: &Path) {
    if !is_root() {
        return skip("installing the Debian package", "only the superuser can");
    }
    let root = sandbox.at("installed");
    for directory in ["var/lib/dpkg/info", "var/lib/dpkg/updates", "var/lib/dpkg/triggers"] {
        fs::create_dir_all(root.join(directory)).unwrap();
    }
    fs::write(root.join("var/lib/dpkg/status"), "").unwrap();
    // The packages that it depends on are not installed there.
    let dpkg = |arguments: &[&str], package: &Path| {
        let mut dpkg = Command::new("dpkg");
        dpkg.arg(format!("--root={}", root.display())).args(["--force-depends", "--force-not-root"]);
        run(dpkg.args(arguments).arg(package)).has_code(0);
    };
    dpkg(&["--install"], package);
    let version = run(Command::new(root.join("usr/bin/shell")).arg("--version"));
    assert_eq!(version.stdout, format!("shell {}\n", env!("CARGO_PKG_VERSION")));
    let unit = root.join("usr/lib/systemd/user/dipc@.service");
    verified(&unit, &root);
    dpkg(&["--remove"], Path::new("whorl"));
    assert!(!root.join("usr/bin").exists() && !unit.exists(), "files are left");
}

/// Lets systemd check the unit, with its command at the right path.
fn verified(unit: &Path, root: &Path) {
    if !is_there("systemd-analyze") {
        return skip("verifying the systemd unit", "there is no systemd-analyze");
    }
    let text = fs::read_to_string(unit).unwrap();
    let here = root.join("dipc@9000.service");
    fs::write(&here, text.replace("/usr/bin/shell", root.join("usr/bin/shell").to_str().unwrap())).unwrap();
    let mut analyze = Command::new("systemd-analyze");
    let ended = run(analyze.args(["verify", "--user", "--man=no"]).arg(&here).env("XDG_RUNTIME_DIR", root));
    let complaints: Vec<_> = ended.stderr.lines().filter(|line| line.contains("dipc@")).collect();
    assert!(complaints.is_empty(), "{complaints:#?}");
    fs::remove_file(here).unwrap();
}
