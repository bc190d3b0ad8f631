//! Fuzzes whole conversations in the mailbox protocol.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let _ = fuzz::inputs::dipc::session(input);
});
