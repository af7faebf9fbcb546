//! `doorbell retract`: takes notifications of one inbox back.

use std::io::Write;

use clap::Args;
use serde_json::json;

use super::{ConnectionArgs, Error, RecipientArgs, selection::AboutArgs, text, write_json};
use crate::client::{self, RetractInAppRequest};

/// Which notifications: those that are named, that of a key, those about a thing, those
/// of a collapse key, or that of a send.
#[derive(Args, Clone)]
pub struct RetractArgs {
    /// How to reach the service
    #[command(flatten)]
    pub connection: ConnectionArgs,
    /// Whose inbox
    #[command(flatten)]
    pub recipient: RecipientArgs,
    /// The notifications
    #[arg(value_name = "ID",
          required_unless_present_any = ["idempotency_key", "entity_id", "collapse_key", "send_id"],
          conflicts_with_all = ["idempotency_key", "entity_type", "entity_id", "collapse_key",
                                "send_id"])]
    pub ids: Vec<String>,
    /// The one that was sent with this key
    #[arg(long, value_name = "KEY",
          conflicts_with_all = ["entity_type", "entity_id", "collapse_key", "send_id"])]
    pub idempotency_key: Option<String>,
    /// Those about a thing
    #[command(flatten)]
    pub about: AboutArgs,
    /// All that were sent with this key
    #[arg(long, value_name = "KEY", conflicts_with_all = ["entity_type", "entity_id", "send_id"])]
    pub collapse_key: Option<String>,
    /// The one that a send for later, or to a topic, put here
    #[arg(long, value_name = "ID", conflicts_with_all = ["entity_type", "entity_id"])]
    pub send_id: Option<String>,
    /// Print the answer as one JSON object
    #[arg(long)]
    pub json: bool,
}

/// Takes them back, and prints how many.
pub async fn run(args: RetractArgs) -> Result<(), Error> {
    let client = args.connection.client()?;
    let request = RetractInAppRequest {
        organization_id: args.recipient.organization,
        recipient_user_id: args.recipient.user,
        notification_ids: args.ids,
        idempotency_key: args.idempotency_key,
        about: args.about.about(),
        collapse_key: args.collapse_key,
        send_id: args.send_id,
    };
    let mut answer = client.retract_in_app(request.clone()).await?;
    let mut changed = answer.changed_count;
    while answer.more {
        answer = client.retract_in_app(request.clone()).await?;
        changed += answer.changed_count;
    }
    let head = answer.head.unwrap_or_default();
    let out = &mut std::io::stdout().lock();
    if args.json {
        let value = json!({"changed_count": changed, "head": client::json::head(&head)});
        return Ok(write_json(out, &value)?);
    }
    let unread = text::unread(head.unread_count);
    writeln!(out, "{changed} taken back; {unread}")?;
    Ok(())
}
