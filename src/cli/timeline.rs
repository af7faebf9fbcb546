//! `doorbell timeline`: what became of one notification; for operators.

use std::io::Write;

use clap::Args;
use serde_json::{Value, json};

use super::{ConnectionArgs, Error, NamedArgs, RecipientArgs, text, write_json};
use crate::client::{
    self, GetTimelineRequest, GetTimelineResponse, RemovalCause, TimelineEntry, TimelineEvent,
};

/// Which notification.
#[derive(Args, Clone)]
pub struct TimelineArgs {
    /// How to reach the service
    #[command(flatten)]
    pub connection: ConnectionArgs,
    /// Whose inbox
    #[command(flatten)]
    pub recipient: RecipientArgs,
    /// Which of its notifications
    #[command(flatten)]
    pub named: NamedArgs,
    /// Print the answer as one JSON object
    #[arg(long)]
    pub json: bool,
}

/// Asks, and prints a line for each entry.
pub async fn run(args: TimelineArgs) -> Result<(), Error> {
    let request = GetTimelineRequest {
        organization_id: args.recipient.organization,
        user_id: args.recipient.user,
        notification_id: args.named.id,
        idempotency_key: args.named.idempotency_key,
    };
    let answer = args.connection.client()?.get_timeline(request).await?;
    print(&mut std::io::stdout().lock(), &answer, args.json)
}

fn print(out: &mut impl Write, of: &GetTimelineResponse, as_json: bool) -> Result<(), Error> {
    let notification = of.notification.clone().unwrap_or_default();
    if as_json {
        let head = of.head.unwrap_or_default();
        let value = json!({
            "notification": client::json::notification(&notification),
            "entries": of.entries.iter().map(entry_json).collect::<Vec<_>>(),
            "seen": of.seen,
            "sender": of.sender,
            "head": client::json::head(&head),
        });
        return Ok(write_json(out, &value)?);
    }
    writeln!(out, "{}", text::notification(&notification))?;
    for entry in &of.entries {
        let time = entry.time.as_ref().map(client::json::rfc3339);
        let time = time.unwrap_or_default();
        let what = match entry.event() {
            TimelineEvent::Sent => format!("sent by {}", text::line(&of.sender)),
            TimelineEvent::Created => match of.seen {
                true => "came into the inbox; seen since".into(),
                false => "came into the inbox; not seen yet".into(),
            },
            TimelineEvent::Removed => format!("removed {}", why(entry.cause())),
            other => name(other),
        };
        writeln!(out, "{time}  {what}")?;
    }
    Ok(())
}

fn entry_json(entry: &TimelineEntry) -> Value {
    let cause = (entry.cause() != RemovalCause::Unspecified).then(|| {
        let name = entry.cause().as_str_name();
        name.trim_start_matches("REMOVAL_CAUSE_").to_lowercase()
    });
    json!({
        "event": name(entry.event()),
        "time": entry.time.as_ref().map(client::json::rfc3339),
        "cause": cause,
    })
}

fn name(event: TimelineEvent) -> String {
    let name = event.as_str_name();
    name.trim_start_matches("TIMELINE_EVENT_").to_lowercase()
}

fn why(cause: RemovalCause) -> &'static str {
    match cause {
        RemovalCause::Unspecified => "for a reason that this version does not know",
        RemovalCause::User => "by its person",
        RemovalCause::Sender => "by its sender",
        RemovalCause::Expired => "since its time was over",
        RemovalCause::Replaced => "since a later one took its place",
    }
}
