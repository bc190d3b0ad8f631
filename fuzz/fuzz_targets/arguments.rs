//! Fuzzes command lines.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let _ = fuzz::inputs::arguments::run(input);
});
