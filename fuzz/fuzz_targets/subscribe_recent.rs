//! See `doorbell::fuzz::subscribe_recent`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| doorbell::fuzz::subscribe_recent(bytes));
