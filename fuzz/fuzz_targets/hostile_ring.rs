//! Fuzzes a live ring with a hostile peer.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let _ = fuzz::hostile::ring::run(input);
});
