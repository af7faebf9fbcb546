//! `doorbell unread`, `doorbell recent` and `doorbell read`: the caller's inbox
//! in single calls.

use std::io::Write;

use clap::Args;
use serde_json::{Value, json};

use super::{ConnectionArgs, Error, text, until_the_reader_left, write_json};
use crate::client::{GetRecentRequest, json};

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
    let head = args.connection.client()?.get_unread_count().await?;
    let out = &mut std::io::stdout().lock();
    if args.json {
        let value = json!({"revision": head.revision, "unread_count": head.unread_count});
        return Ok(write_json(out, &value)?);
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
    };
    let page = args.connection.client()?.get_recent(request).await?;
    let out = &mut std::io::stdout().lock();
    let mut print = || -> Result<(), Error> {
        if args.json {
            let notifications: Vec<Value> =
                page.notifications.iter().map(json::notification).collect();
            let value = json!({
                "notifications": notifications,
                "next_page_token": page.next_page_token,
                "epoch": page.epoch,
                "revision": page.revision,
                "unread_count": page.unread_count,
            });
            return Ok(write_json(out, &value)?);
        }
        for notification in &page.notifications {
            writeln!(out, "{}", text::notification(notification))?;
        }
        writeln!(out, "{}", text::unread(page.unread_count))?;
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

/// Marks as read.
#[derive(Args, Clone)]
pub struct MarkReadArgs {
    /// How to reach the service
    #[command(flatten)]
    pub connection: ConnectionArgs,
    /// The notifications to mark
    #[arg(value_name = "ID", required = true)]
    pub ids: Vec<String>,
    /// Print the answer as one JSON object
    #[arg(long)]
    pub json: bool,
}

/// Marks, and prints how many were unread until now.
pub async fn mark_read(args: MarkReadArgs) -> Result<(), Error> {
    let answer = args.connection.client()?.mark_read(args.ids).await?;
    let out = &mut std::io::stdout().lock();
    if args.json {
        let value = json!({
            "marked_count": answer.marked_count,
            "revision": answer.revision,
            "unread_count": answer.unread_count,
        });
        return Ok(write_json(out, &value)?);
    }
    let marked = answer.marked_count;
    writeln!(
        out,
        "{marked} marked; {}",
        text::unread(answer.unread_count)
    )?;
    Ok(())
}
