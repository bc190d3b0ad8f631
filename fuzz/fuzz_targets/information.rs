//! Fuzzes information files.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let _ = fuzz::inputs::information::run(input);
});
