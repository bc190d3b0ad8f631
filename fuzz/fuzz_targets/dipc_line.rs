//! Fuzzes first lines of the mailbox protocol.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let _ = fuzz::inputs::dipc::line(input);
});
