//! See `doorbell::fuzz::token`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| doorbell::fuzz::token(bytes));
