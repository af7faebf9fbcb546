//! `doorbell erase`: deletes an inbox, or all of a tenant's, for good; for operators.

use std::io::Write;

use clap::Args;
use serde_json::json;

use super::{ConnectionArgs, Error, text, write_json};
use crate::client::{self, EraseInboxRequest, EraseOrganizationRequest};

/// Whose inbox, or whose inboxes.
#[derive(Args, Clone)]
pub struct EraseArgs {
    /// How to reach the service
    #[command(flatten)]
    pub connection: ConnectionArgs,
    /// The tenant
    #[arg(long, value_name = "ID")]
    pub organization: String,
    /// The person whose inbox is deleted
    #[arg(
        long,
        value_name = "ID",
        required_unless_present = "whole_organization"
    )]
    pub user: Option<String>,
    /// Delete every inbox of the tenant
    #[arg(long, conflicts_with = "user")]
    pub whole_organization: bool,
    /// Print the answer as one JSON object
    #[arg(long)]
    pub json: bool,
}

/// Deletes, and prints how much.
pub async fn run(args: EraseArgs) -> Result<(), Error> {
    match args.user.clone() {
        Some(user) => inbox(args, user).await,
        None => organization(args).await,
    }
}

async fn inbox(args: EraseArgs, user_id: String) -> Result<(), Error> {
    let client = args.connection.client()?;
    let request = EraseInboxRequest {
        organization_id: args.organization,
        user_id,
    };
    let mut answer = client.erase_inbox(request.clone()).await?;
    let mut erased = answer.erased_count;
    while answer.more {
        answer = client.erase_inbox(request.clone()).await?;
        erased += answer.erased_count;
    }
    let head = answer.head.unwrap_or_default();
    let out = &mut std::io::stdout().lock();
    if args.json {
        let value = json!({"erased_count": erased, "head": client::json::head(&head)});
        return Ok(write_json(out, &value)?);
    }
    let whose = format!("{} of {}", request.user_id, request.organization_id);
    writeln!(out, "{}: {erased} erased", text::line(&whose))?;
    Ok(())
}

async fn organization(args: EraseArgs) -> Result<(), Error> {
    let client = args.connection.client()?;
    let request = EraseOrganizationRequest {
        organization_id: args.organization,
    };
    let (mut erased, mut inboxes) = (0, 0);
    loop {
        let answer = client.erase_organization(request.clone()).await?;
        erased += answer.erased_count;
        inboxes += answer.inbox_count;
        if !answer.more {
            break;
        }
    }
    let out = &mut std::io::stdout().lock();
    if args.json {
        let value = json!({"erased_count": erased, "inbox_count": inboxes});
        return Ok(write_json(out, &value)?);
    }
    let whose = text::line(&request.organization_id);
    let of = if inboxes == 1 { "inbox" } else { "inboxes" };
    writeln!(out, "{whose}: {erased} of {inboxes} {of} erased")?;
    Ok(())
}
