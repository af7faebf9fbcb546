//! `doorbell retract`: takes notifications back, of one inbox or of all.

use std::io::Write;

use clap::Args;
use indicatif::ProgressBar;
use serde_json::json;

use super::{
    ConnectionArgs, Error, PATIENCE, selection::AboutArgs, send::random_key, sends::LOOK_EVERY,
    text, write_json,
};
use crate::client::{
    self, Client, GetRetractionRequest, RetractFromAllRequest, RetractInAppRequest,
};

/// Which notifications: those that are named, that of a key, those about a thing, those
/// of a collapse key, or that of a send.
#[derive(Args, Clone)]
pub struct RetractArgs {
    /// How to reach the service
    #[command(flatten)]
    pub connection: ConnectionArgs,
    /// The tenant
    #[arg(long, value_name = "ID")]
    pub organization: String,
    /// The person; or --everybody
    #[arg(long, value_name = "ID", required_unless_present = "everybody")]
    pub user: Option<String>,
    /// From all who have it, and from whom it was to come: those about a thing. Waits until they
    /// are through
    #[arg(long, requires = "entity_id", conflicts_with_all = ["user", "ids", "collapse_key",
                                                             "send_id"])]
    pub everybody: bool,
    /// The notifications
    #[arg(value_name = "ID",
          required_unless_present_any = ["idempotency_key", "entity_id", "collapse_key", "send_id"],
          conflicts_with_all = ["idempotency_key", "entity_type", "entity_id", "collapse_key",
                                "send_id"])]
    pub ids: Vec<String>,
    /// The one that was sent with this key; with --everybody, makes a repeated call safe
    #[arg(long, value_name = "KEY", conflicts_with_all = ["collapse_key", "send_id"])]
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
    if args.everybody {
        return from_all(&client, args).await;
    }
    if args.idempotency_key.is_some() && args.about.entity_id.is_some() {
        let problem = "--idempotency-key: names a notification, and --entity-id does: give one";
        return Err(Error::Usage(problem.into()));
    }
    let request = RetractInAppRequest {
        organization_id: args.organization,
        recipient_user_id: args.user.unwrap_or_default(),
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

/// Waits until it is through; on a terminal, with a count that rises.
async fn from_all(client: &Client, args: RetractArgs) -> Result<(), Error> {
    let key = args.idempotency_key.unwrap_or_else(random_key);
    let request = RetractFromAllRequest {
        organization_id: args.organization.clone(),
        about: args.about.about(),
        idempotency_key: key.clone(),
    };
    let call = async || client.retract_from_all(request.clone()).await;
    client.patiently(PATIENCE, call).await?;
    let request = GetRetractionRequest {
        organization_id: args.organization,
        idempotency_key: Some(key),
        ..GetRetractionRequest::default()
    };
    let bar = ProgressBar::new_spinner().with_message("taken back");
    let retraction = loop {
        let call = async || client.get_retraction(request.clone()).await;
        let answer = client.patiently(PATIENCE, call).await?;
        let retraction = answer.retraction.unwrap_or_default();
        if retraction.ended_at.is_some() {
            break retraction;
        }
        bar.set_position(retraction.retracted_count.into());
        tokio::time::sleep(LOOK_EVERY).await;
    };
    bar.finish_and_clear();
    let out = &mut std::io::stdout().lock();
    if args.json {
        return Ok(write_json(out, &client::json::retraction(&retraction))?);
    }
    writeln!(out, "{} taken back", retraction.retracted_count)?;
    if retraction.error_count > 0 {
        writeln!(out, "{} could not be taken back", retraction.error_count)?;
    }
    Ok(())
}
