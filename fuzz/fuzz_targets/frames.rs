//! Fuzzes the bytes that arrive in sockets.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let _ = fuzz::inputs::frames::run(input);
});
