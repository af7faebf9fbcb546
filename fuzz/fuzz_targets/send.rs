//! See `doorbell_fuzz::send`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| doorbell_fuzz::send(bytes));
