//! See `doorbell::fuzz::send`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| doorbell::fuzz::send(bytes));
