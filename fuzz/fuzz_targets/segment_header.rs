//! Fuzzes segments of any bytes.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let _ = fuzz::hostile::header::run(input);
});
