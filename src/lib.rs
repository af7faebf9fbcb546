//! Doorbell: in-app notifications, durable, in order, resumable.
//!
//! A backend calls `SendInApp`; every open screen of that user rings at once; who
//! was away finds the notification in the inbox, and a stream that comes back
//! misses nothing. This crate is the whole service, and a client for it
//! ([`client`]).
//!
//! # What it promises
//!
//! 1. **Durable.** A send that was answered OK is in the inbox exactly once, after
//!    `kill -9` and after a crash of the machine.
//! 2. **Gap-free and in order.** Every change is seen on every stream: live,
//!    replayed, healed, or, where that is impossible, announced by `reset`.
//! 3. **Counts are absolute and ordered.** Every message and reply carries one head:
//!    the revision and both counts, read together.
//! 4. **The counts are the counts** of the rows that are unread, and of those that are
//!    unseen, at every commit.
//! 5. **Idempotent.** The same key for the same inbox answers with the first
//!    notification, for as long as it lives.
//! 6. **Isolated.** Organization and user of the reading calls come from the token
//!    and from nowhere else.
//! 7. **Bounded.** Every queue, page, batch, message, room, replay and connection
//!    has a limit. A slow reader slows nobody and is never dropped for it.
//! 8. **A stream never outlives its token.**
//! 9. **Drains.** Told to stop, it sends its streams elsewhere, commits what was
//!    begun, and ends within the deadline whatever the clients do.
//!
//! # The map
//!
//! Imports go downward only; `ARCHITECTURE.md` says why each floor is there.
//!
//! - [`cli`]: the commands, [`app`]: the composition root
//! - [`server`]: connections; [`sweeper`]: what happens later; [`grpc`]: the service; [`auth`]: who calls; [`live`]: a
//!   page that shows it; [`operator_page`]: the page of operators
//! - [`operators`]: what is done to inboxes that are not one's own; [`node`]: how this node is
//! - [`inbox`]: the use cases, with group commit and the feeds
//! - [`store`]: where inboxes are; [`bus`]: the way to other nodes; [`hub`]: who is
//!   listening here
//! - [`wire`]: a change as the bytes that streams send; [`model`]: the words
//! - [`clock`], [`random`], [`config`], [`metrics`],
//!   [`telemetry`], [`proto`]: leaves

pub mod app;
pub mod auth;
pub mod bus;
pub mod cli;
pub mod client;
pub mod clock;
pub mod config;
pub mod follow_ups;
pub mod grpc;
pub mod hub;
pub mod inbox;
pub mod live;
pub mod metrics;
pub mod model;
pub mod node;
pub mod operator_page;
pub mod operators;
pub mod preferences;
pub mod proto;
pub mod random;
pub mod retractions;
pub mod sabotage;
pub mod sends;
pub mod server;
pub mod store;
pub mod sweeper;
pub mod telemetry;
pub mod topics;
pub mod tries;
pub mod wire;
