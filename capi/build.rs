//! Gives the shared library its name for the loader: programs find the one they were built with, or one that goes with it.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    // Raised when a program that was built before would no longer work.
    println!("cargo:rustc-cdylib-link-arg=-Wl,-soname,libwhorl_c.so.0");
}
