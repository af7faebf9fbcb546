//! See `doorbell_fuzz::json`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| doorbell_fuzz::json(bytes));
