//! `doorbell broadcast`: says something to everybody of an organization, or of all.

use std::{io, time::SystemTime};

use clap::Args;

use super::{
    ConnectionArgs, Error, ScopeArgs,
    content::ContentArgs,
    send::{moment, random_key},
    sends,
};
use crate::client::BroadcastRequest;

/// What to say, and to whom.
#[derive(Args, Clone)]
pub struct BroadcastArgs {
    /// How to reach the service
    #[command(flatten)]
    pub connection: ConnectionArgs,
    /// To whom
    #[command(flatten)]
    pub scope: ScopeArgs,
    /// What kind of notification it is, in your words
    #[arg(long = "type", value_name = "TYPE")]
    pub kind: String,
    /// The text to show first
    #[arg(long, value_name = "TEXT")]
    pub title: String,
    /// The rest of what it says
    #[command(flatten)]
    pub content: ContentArgs,
    /// When to begin, at most 90 days ahead: a time, or a while, such as 2h
    #[arg(long, value_name = "WHEN", value_parser = moment)]
    pub deliver_time: Option<SystemTime>,
    /// Who looks until then gets it: a time, or a while, such as 2h; a week where nothing is said
    #[arg(long, value_name = "WHEN", value_parser = moment)]
    pub available_until: Option<SystemTime>,
    /// When it is of no use any more: a time, or a while
    #[arg(long, value_name = "WHEN", value_parser = moment)]
    pub expire_time: Option<SystemTime>,
    /// Do not ring: it is in the inbox and in its counts, and nothing more
    #[arg(long)]
    pub silent: bool,
    /// Makes a repeated broadcast safe; a random one where none is given
    #[arg(long, value_name = "KEY")]
    pub idempotency_key: Option<String>,
    /// Try again for this long when an error may pass
    #[arg(long, value_name = "DURATION", default_value = "30s")]
    pub patience: humantime::Duration,
    /// Print the answer as one JSON object
    #[arg(long)]
    pub json: bool,
}

/// Says it, and prints the answer.
pub async fn run(args: BroadcastArgs) -> Result<(), Error> {
    let client = args.connection.client()?;
    let request = BroadcastRequest {
        organization_id: args.scope.organization_id(),
        all_organizations: args.scope.all_organizations,
        content: Some(args.content.said(args.kind, args.title)),
        idempotency_key: args.idempotency_key.unwrap_or_else(random_key),
        expire_time: args.expire_time.map(Into::into),
        silent: args.silent,
        deliver_time: args.deliver_time.map(Into::into),
        available_until: args.available_until.map(Into::into),
    };
    let call = async || client.broadcast(request.clone()).await;
    let answer = client.patiently(args.patience.into(), call).await?;
    let send = answer.send.unwrap_or_default();
    sends::accepted(&mut io::stdout().lock(), &send, answer.duplicate, args.json)
}
