//! See `doorbell_fuzz::subscribe_recent`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| doorbell_fuzz::subscribe_recent(bytes));
