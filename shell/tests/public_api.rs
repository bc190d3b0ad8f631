//! The public API is what `docs/api/` lists, so that a change to it is seen.
//!
//! rustdoc describes the crates as JSON only with options of nightly. `RUSTC_BOOTSTRAP` allows them here.

use std::path::{Path, PathBuf};
use std::process::Command;

/// The packages with a listing, and the library of each.
const PACKAGES: [(&str, &str); 2] = [("whorl-ipc", "whorl"), ("whorl-core", "whorl_core")];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").to_owned()
}

/// The listing of a package, as it is built without the command.
fn listing(package: &str, library: &str) -> String {
    // Not the folder of this build, whose lock cargo may hold.
    let target = root().join("target/api");
    let output = Command::new(env!("CARGO"))
        .current_dir(root())
        .env("RUSTC_BOOTSTRAP", "1")
        .env_remove("RUSTFLAGS")
        .args(["rustdoc", "--quiet", "--lib", "--no-default-features", "--package", package, "--target-dir"])
        .arg(&target)
        .args(["--", "-Z", "unstable-options", "--output-format", "json"])
        .output()
        .expect("cargo");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let api = public_api::Builder::from_rustdoc_json(target.join(format!("doc/{library}.json")))
        .omit_blanket_impls(true)
        .omit_auto_trait_impls(true)
        .omit_auto_derived_impls(true)
        .build();
    let api =
        api.unwrap_or_else(|error| panic!("{error}: `public-api` goes with another version of rustdoc"));
    api.items().map(|item| format!("{item}\n")).collect()
}

#[test]
fn the_public_api_is_the_one_in_its_listing() {
    for (package, library) in PACKAGES {
        let found = listing(package, library);
        let path = root().join(format!("docs/api/{package}.txt"));
        if std::env::var_os("WHORL_WRITE_API").is_some() {
            std::fs::create_dir_all(path.parent().expect("a directory")).expect("the directory");
            std::fs::write(&path, &found).expect("the listing");
        }
        let kept = std::fs::read_to_string(&path).unwrap_or_default();
        let missing = |text: &str, of: &str| -> Vec<String> {
            text.lines().filter(|line| !of.lines().any(|other| other == *line)).map(str::to_owned).collect()
        };
        let (added, removed) = (missing(&found, &kept), missing(&kept, &found));
        assert!(
            added.is_empty() && removed.is_empty(),
            "the public API of {package} is not what docs/api/{package}.txt lists.\nAdded: {added:#?}\nRemoved: \
             {removed:#?}\nIf that is intended, write the listing: WHORL_WRITE_API=1 cargo test -p whorl-ipc --test public_api"
        );
    }
}

/// Types of other crates change with their versions, so a signature names only types of the standard library and of
/// core.
#[test]
fn no_signature_names_a_type_of_another_crate() {
    let found = listing("whorl-ipc", "whorl");
    let foreign: Vec<_> = found
        .lines()
        .filter(|line| {
            ["rustix::", "memmap2::", "libc::", "tracing", "thiserror::"]
                .iter()
                .any(|name| line.contains(name))
        })
        .collect();
    assert_eq!(foreign, Vec::<&str>::new());
}

/// Handles can be moved to another thread. Shared access needs a lock only where a call needs `&mut`.
#[test]
fn handles_can_go_to_another_thread() {
    fn sends<T: Send>() {}
    fn shares<T: Sync>() {}
    sends::<whorl::Sender>();
    sends::<whorl::Receiver>();
    sends::<whorl::Server>();
    sends::<whorl::Mailboxes>();
    sends::<whorl::MailSegment>();
    sends::<whorl::SenderOptions>();
    sends::<whorl::ReceiverOptions>();
    shares::<whorl::MailSegment>();
    shares::<whorl::ReceiverOptions>();
    shares::<whorl::ServerOptions>();
    shares::<whorl::Name>();
}
