//! `doorbell unread`, `recent`, `read` and `seen`: the caller's inbox in single calls.

use std::io::Write;

use clap::Args;
use serde_json::{Value, json};

use super::{ConnectionArgs, Error, text, until_the_reader_left, write_json};
use crate::client::{
    About, Client, GetRecentRequest, GetRecentResponse, MarkReadRequest, MarkSeenRequest, Through,
    json,
};

/// Asks how many are unread.
#[derive(Args, Clone)]
pub struct UnreadArgs {
    /// How to reach the service
    #[command(flatten)]
    pub connection: ConnectionArgs,
    /// Print the answer as one JSON object
    #[arg(long)]
    pub json: bool,
}

/// Prints the unread count.
pub async fn unread(args: UnreadArgs) -> Result<(), Error> {
    let answer = args.connection.client()?.get_unread_count().await?;
    let head = answer.head.unwrap_or_default();
    let out = &mut std::io::stdout().lock();
    if args.json {
        return Ok(write_json(out, &json!({"head": json::head(&head)}))?);
    }
    writeln!(out, "{}", text::unread(head.unread_count))?;
    Ok(())
}

/// Lists what is in the inbox.
#[derive(Args, Clone)]
pub struct RecentArgs {
    /// How to reach the service
    #[command(flatten)]
    pub connection: ConnectionArgs,
    /// How many at most: 1 to 100
    #[arg(long, value_name = "N", default_value_t = 20,
          value_parser = clap::value_parser!(i32).range(1..=100))]
    pub limit: i32,
    /// Only those created after this moment, such as 2026-01-31T12:00:00Z
    #[arg(long, value_name = "TIME")]
    pub since: Option<humantime::Timestamp>,
    /// Leave out what has been read
    #[arg(long)]
    pub unread_only: bool,
    /// Go on after a page: the token that it ended with
    #[arg(
        long,
        value_name = "TOKEN",
        default_value = "",
        hide_default_value = true
    )]
    pub page_token: String,
    /// Print the page as one JSON object
    #[arg(long)]
    pub json: bool,
}

/// Prints a page, newest first.
pub async fn recent(args: RecentArgs) -> Result<(), Error> {
    let request = GetRecentRequest {
        limit: args.limit,
        since: args
            .since
            .map(|since| std::time::SystemTime::from(since).into()),
        page_token: args.page_token,
        unread_only: args.unread_only,
        ..GetRecentRequest::default()
    };
    let page = args.connection.client()?.get_recent(request).await?;
    let head = page.head.unwrap_or_default();
    let out = &mut std::io::stdout().lock();
    let mut print = || -> Result<(), Error> {
        if args.json {
            let notifications: Vec<Value> =
                page.notifications.iter().map(json::notification).collect();
            let value = json!({
                "notifications": notifications,
                "next_page_token": page.next_page_token,
                "epoch": page.epoch,
                "head": json::head(&head),
            });
            return Ok(write_json(out, &value)?);
        }
        for notification in &page.notifications {
            writeln!(out, "{}", text::notification(notification))?;
        }
        writeln!(out, "{}", text::unread(head.unread_count))?;
        if !page.next_page_token.is_empty() {
            writeln!(
                out,
                "more: --page-token {}",
                text::line(&page.next_page_token)
            )?;
        }
        Ok(())
    };
    until_the_reader_left(print())
}

/// Marks as read: those that are named, those about a thing, or all.
#[derive(Args, Clone)]
pub struct MarkReadArgs {
    /// How to reach the service
    #[command(flatten)]
    pub connection: ConnectionArgs,
    /// The notifications to mark
    #[arg(value_name = "ID", required_unless_present_any = ["entity_id", "all"],
          conflicts_with_all = ["entity_id", "all"])]
    pub ids: Vec<String>,
    /// Those about the thing of this kind and of --entity-id
    #[arg(
        long,
        value_name = "TEXT",
        requires = "entity_id",
        conflicts_with = "all"
    )]
    pub entity_type: Option<String>,
    /// Those about the thing of --entity-type and of this id
    #[arg(
        long,
        value_name = "TEXT",
        requires = "entity_type",
        conflicts_with = "all"
    )]
    pub entity_id: Option<String>,
    /// All that are there now
    #[arg(long)]
    pub all: bool,
    /// With --all: only those of this type; may be given again
    #[arg(long = "type", value_name = "TEXT", requires = "all")]
    pub types: Vec<String>,
    /// Print the answer as one JSON object
    #[arg(long)]
    pub json: bool,
}

/// Marks, and prints how many were unread until now.
pub async fn mark_read(args: MarkReadArgs) -> Result<(), Error> {
    let client = args.connection.client()?;
    let selection = match (args.entity_type, args.entity_id) {
        (Some(entity_type), Some(entity_id)) => About {
            entity_type,
            entity_id,
        }
        .into(),
        _ if args.all => {
            let page = first_page(&client).await?;
            Through {
                revision: page.head.unwrap_or_default().revision,
                epoch: page.epoch,
                types: args.types,
            }
            .into()
        }
        _ => MarkReadRequest::from(args.ids),
    };
    let answer = client.mark_read(selection).await?;
    let head = answer.head.unwrap_or_default();
    let out = &mut std::io::stdout().lock();
    if args.json {
        let value = json!({
            "changed_count": answer.changed_count,
            "more": answer.more,
            "head": json::head(&head),
        });
        return Ok(write_json(out, &value)?);
    }
    let changed = answer.changed_count;
    let more = if answer.more { "; more are left" } else { "" };
    writeln!(
        out,
        "{changed} marked{more}; {}",
        text::unread(head.unread_count)
    )?;
    Ok(())
}

/// The head and the epoch, with the newest notification.
async fn first_page(client: &Client) -> Result<GetRecentResponse, Error> {
    let request = GetRecentRequest {
        limit: 1,
        ..GetRecentRequest::default()
    };
    Ok(client.get_recent(request).await?)
}

/// Says that the person has looked.
#[derive(Args, Clone)]
pub struct MarkSeenArgs {
    /// How to reach the service
    #[command(flatten)]
    pub connection: ConnectionArgs,
    /// Up to the notification of this sequence; without it, at all there is
    #[arg(long, value_name = "N")]
    pub through_sequence: Option<u64>,
    /// Print the answer as one JSON object
    #[arg(long)]
    pub json: bool,
}

/// Marks as seen, and prints how many are still unseen.
pub async fn mark_seen(args: MarkSeenArgs) -> Result<(), Error> {
    let client = args.connection.client()?;
    let page = first_page(&client).await?;
    let newest = page.notifications.first().map_or(0, |row| row.sequence);
    let request = MarkSeenRequest {
        through_sequence: args.through_sequence.unwrap_or(newest),
        epoch: page.epoch,
    };
    let head = client.mark_seen(request).await?.head.unwrap_or_default();
    let out = &mut std::io::stdout().lock();
    if args.json {
        return Ok(write_json(out, &json!({"head": json::head(&head)}))?);
    }
    let unread = text::unread(head.unread_count);
    writeln!(out, "{} unseen; {unread}", head.unseen_count)?;
    Ok(())
}
