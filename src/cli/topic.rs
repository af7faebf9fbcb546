//! `doorbell topic`: who is a member of which topic.

use std::{
    io::{self, Write},
    path::PathBuf,
};

use clap::{Args, Subcommand};
use serde_json::json;

use super::{ConnectionArgs, Error, PATIENCE, send_to_many::read_users, text, write_json};
use crate::{
    client::{
        AddTopicMembersRequest, DeleteTopicRequest, ListTopicMembersRequest,
        ListTopicsOfUserRequest, RemoveTopicMembersRequest,
    },
    config::{MAX_MEMBERS_LIMIT, MAX_RECIPIENTS},
};

/// What to do with topics.
#[derive(Args, Clone)]
pub struct TopicArgs {
    /// What to do
    #[command(subcommand)]
    pub what: What,
}

/// What to do with topics.
#[derive(Subcommand, Clone)]
pub enum What {
    /// Makes people members
    Add(MembersArgs),
    /// Makes people members no more
    Remove(MembersArgs),
    /// Lists the members, in the order of their ids
    List(OneArgs),
    /// Lists the topics of a person
    Of(OfArgs),
    /// Removes all members
    Delete(OneArgs),
}

/// Which topic.
#[derive(Args, Clone)]
pub struct OneArgs {
    /// How to reach the service
    #[command(flatten)]
    pub connection: ConnectionArgs,
    /// The tenant
    #[arg(long, value_name = "ID")]
    pub organization: String,
    /// The topic
    #[arg(long, value_name = "ID")]
    pub topic: String,
    /// Print the answer as JSON
    #[arg(long)]
    pub json: bool,
}

/// Which people, of which topic.
#[derive(Args, Clone)]
pub struct MembersArgs {
    /// Which topic
    #[command(flatten)]
    pub topic: OneArgs,
    /// The people; or --file
    #[arg(
        value_name = "USER",
        required_unless_present = "file",
        conflicts_with = "file"
    )]
    pub users: Vec<String>,
    /// A file with people, one a line, or - for what is piped in
    #[arg(long, value_name = "FILE")]
    pub file: Option<PathBuf>,
}

/// Whose topics.
#[derive(Args, Clone)]
pub struct OfArgs {
    /// How to reach the service
    #[command(flatten)]
    pub connection: ConnectionArgs,
    /// The tenant
    #[arg(long, value_name = "ID")]
    pub organization: String,
    /// The person
    #[arg(long, value_name = "ID")]
    pub user: String,
    /// Print each as one JSON object
    #[arg(long)]
    pub json: bool,
}

/// Does it.
pub async fn run(args: TopicArgs) -> Result<(), Error> {
    match args.what {
        What::Add(args) => add(args).await,
        What::Remove(args) => remove(args).await,
        What::List(args) => list(args).await,
        What::Of(args) => of(args).await,
        What::Delete(args) => delete(args).await,
    }
}

fn users(args: &MembersArgs) -> Result<Vec<String>, Error> {
    match &args.file {
        Some(file) => read_users("--file", file),
        None => Ok(args.users.clone()),
    }
}

async fn add(args: MembersArgs) -> Result<(), Error> {
    let (client, mut added) = (args.topic.connection.client()?, 0);
    for users in users(&args)?.chunks(MAX_RECIPIENTS) {
        let request = AddTopicMembersRequest {
            organization_id: args.topic.organization.clone(),
            topic_id: args.topic.topic.clone(),
            user_ids: users.to_vec(),
        };
        let call = async || client.add_topic_members(request.clone()).await;
        added += client.patiently(PATIENCE, call).await?.added_count;
    }
    say(
        args.topic.json,
        "added_count",
        added,
        "are members now and were not before",
    )
}

async fn remove(args: MembersArgs) -> Result<(), Error> {
    let (client, mut removed) = (args.topic.connection.client()?, 0);
    for users in users(&args)?.chunks(MAX_RECIPIENTS) {
        let request = RemoveTopicMembersRequest {
            organization_id: args.topic.organization.clone(),
            topic_id: args.topic.topic.clone(),
            user_ids: users.to_vec(),
        };
        let call = async || client.remove_topic_members(request.clone()).await;
        removed += client.patiently(PATIENCE, call).await?.removed_count;
    }
    say(
        args.topic.json,
        "removed_count",
        removed,
        "were members and are none now",
    )
}

async fn delete(args: OneArgs) -> Result<(), Error> {
    let client = args.connection.client()?;
    let request = DeleteTopicRequest {
        organization_id: args.organization,
        topic_id: args.topic,
    };
    let call = async || client.delete_topic(request.clone()).await;
    let removed = client.patiently(PATIENCE, call).await?.removed_count;
    say(
        args.json,
        "removed_count",
        removed,
        "were members and are none now",
    )
}

fn say(as_json: bool, name: &str, count: u32, what: &str) -> Result<(), Error> {
    let out = &mut io::stdout().lock();
    if as_json {
        return Ok(write_json(out, &json!({name: count}))?);
    }
    writeln!(out, "{count} {what}")?;
    Ok(())
}

async fn list(args: OneArgs) -> Result<(), Error> {
    let client = args.connection.client()?;
    let mut request = ListTopicMembersRequest {
        organization_id: args.organization,
        topic_id: args.topic,
        limit: i32::try_from(MAX_MEMBERS_LIMIT).unwrap_or(i32::MAX),
        ..ListTopicMembersRequest::default()
    };
    loop {
        let page = client.list_topic_members(request.clone()).await?;
        print("user_id", &page.user_ids, args.json)?;
        if page.next_page_token.is_empty() {
            return Ok(());
        }
        request.page_token = page.next_page_token;
    }
}

async fn of(args: OfArgs) -> Result<(), Error> {
    let client = args.connection.client()?;
    let mut request = ListTopicsOfUserRequest {
        organization_id: args.organization,
        user_id: args.user,
        limit: i32::try_from(MAX_MEMBERS_LIMIT).unwrap_or(i32::MAX),
        ..ListTopicsOfUserRequest::default()
    };
    loop {
        let page = client.list_topics_of_user(request.clone()).await?;
        print("topic_id", &page.topic_ids, args.json)?;
        if page.next_page_token.is_empty() {
            return Ok(());
        }
        request.page_token = page.next_page_token;
    }
}

fn print(name: &str, ids: &[String], as_json: bool) -> Result<(), Error> {
    let out = &mut io::stdout().lock();
    for id in ids {
        match as_json {
            true => write_json(out, &json!({name: id}))?,
            false => writeln!(out, "{}", text::line(id))?,
        }
    }
    Ok(())
}
