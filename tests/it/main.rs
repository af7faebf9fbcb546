//! One integration binary: a file a subject.

#![expect(unreachable_pub, reason = "a binary has no outside")]
#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails so"
)]

mod architecture;
mod bad_input;
mod broadcast;
mod calls;
mod cluster;
mod commands;
mod costs;
mod curl;
mod deployed;
mod doctor;
mod documents;
mod durability;
mod engines;
mod fan_out;
mod feeds;
mod follow_up_calls;
mod follow_ups;
mod foreign;
mod fuzzed;
mod history;
mod hooked;
mod inbox_commands;
mod isolation;
mod keys;
mod later;
mod load;
mod logs;
mod many;
mod operator_page;
mod operators;
#[cfg(feature = "sabotage")]
mod oracle;
mod people;
mod plans;
mod postgres;
mod preferences;
mod process;
mod programs;
mod proxies;
mod races;
mod reference;
mod retractions;
mod rpcs;
mod sends;
mod server;
mod starts;
mod store;
mod streams;
mod support;
mod sweeper;
mod upgrade;
mod workers;
