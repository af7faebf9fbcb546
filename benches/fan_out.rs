//! What it costs to send to a topic of 100,000: how fast it is delivered, and how much longer
//! the slowest hundredth of others' sends takes meanwhile.
//!
//! The server is the real binary, on SQLite and on Postgres; the others send from a process
//! of their own and never stop. Each round is a send to all members, whose inboxes have a
//! notification more after it.

#![expect(
    clippy::print_stdout,
    unreachable_pub,
    reason = "a program that prints figures"
)]

mod common;

use std::time::{Duration, Instant};

use common::{
    Failure, Others, Server, engines, median, percentile, report, send_for_ever, token, with_token,
};
use doorbell::proto::{
    AddTopicMembersRequest, Content, GetSendRequest, Send, SendState, SendToTopicRequest,
    send_service_client::SendServiceClient, topic_service_client::TopicServiceClient,
};
use tokio::time::{sleep, timeout};
use tonic::{
    metadata::{Ascii, MetadataValue},
    transport::{Channel, Endpoint},
};

type Token = MetadataValue<Ascii>;

const MEMBERS: usize = 100_000;
/// The most that one call takes.
const A_CALL: usize = 1000;
const ROUNDS: usize = 3;
const ALONE: Duration = Duration::from_secs(10);
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// All have it within this, or it is a failure.
const PATIENCE: Duration = Duration::from_secs(300);

fn main() -> Result<(), Failure> {
    let words: Vec<String> = std::env::args().collect();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    if let Some(at) = words.iter().position(|word| word == "sends") {
        let address = words.get(at + 1).ok_or("an address")?;
        return runtime.block_on(send_for_ever(address.parse()?));
    }
    runtime.block_on(async {
        fan_out("SQLite", &[]).await?;
        let postgres = engines::Postgres::start();
        let url = postgres.create_database().await;
        fan_out("Postgres", &[("DOORBELL_DATABASE_URL", &url)]).await
    })
}

async fn fill(channel: Channel, token: &Token) -> Result<(), Failure> {
    let mut topics = TopicServiceClient::new(channel);
    for first in (0..MEMBERS).step_by(A_CALL) {
        let request = AddTopicMembersRequest {
            organization_id: "acme".into(),
            topic_id: "all".into(),
            user_ids: (first..first + A_CALL)
                .map(|user| format!("member-{user:06}"))
                .collect(),
        };
        topics.add_topic_members(with_token(request, token)).await?;
    }
    Ok(())
}

/// Sends to all, and waits until they have it.
async fn send(channel: Channel, token: &Token, key: String) -> Result<Send, Failure> {
    let mut sends = SendServiceClient::new(channel);
    let request = SendToTopicRequest {
        organization_id: "acme".into(),
        topic_id: "all".into(),
        content: Some(Content {
            r#type: "release".into(),
            title: "Version 2 is out".into(),
            ..Content::default()
        }),
        idempotency_key: key.clone(),
        ..SendToTopicRequest::default()
    };
    sends.send_to_topic(with_token(request, token)).await?;
    let request = GetSendRequest {
        organization_id: "acme".into(),
        idempotency_key: Some(key),
        ..GetSendRequest::default()
    };
    loop {
        let answer = sends.get_send(with_token(request.clone(), token)).await?;
        let send = answer.into_inner().send.unwrap_or_default();
        if send.state() == SendState::Done {
            return Ok(send);
        }
        sleep(LOOK_EVERY).await;
    }
}

async fn fan_out(engine: &str, settings: &[(&str, &str)]) -> Result<(), Failure> {
    let server = Server::start(settings)?;
    let token = token(None)?;
    let endpoint = Endpoint::from_shared(format!("http://{}", server.address))?;
    fill(endpoint.connect().await?, &token).await?;
    let mut others = Others::start(server.address)?;
    let mut ratios = Vec::new();
    for round in 0..ROUNDS {
        drop(others.until_now());
        sleep(ALONE).await;
        let mut alone = others.until_now();
        // Made now: a connection without a request is ended after ten seconds.
        let channel = endpoint.connect().await?;
        let began = Instant::now();
        let sent = timeout(PATIENCE, send(channel, &token, round.to_string())).await??;
        let took = began.elapsed().as_secs_f64();
        let mut beside = others.until_now();
        if sent.delivered_count as usize != MEMBERS {
            return Err(format!("{} of {MEMBERS} have it", sent.delivered_count).into());
        }
        let (before, during) = (percentile(&mut alone, 0.99), percentile(&mut beside, 0.99));
        println!(
            "  {engine}: {MEMBERS} members have it after {took:.1} s, {:.0} a second; others' \
             p99 {before:.1} ms before ({:.0} sends a second), {during:.1} ms meanwhile ({:.0})",
            MEMBERS as f64 / took,
            alone.len() as f64 / ALONE.as_secs_f64(),
            beside.len() as f64 / took,
        );
        ratios.push(during / before);
    }
    let what = format!("p99 of others' sends beside a topic of 100,000, to that before, {engine}");
    report(&what, median(&mut ratios), 2.0, "x", false);
    Ok(())
}
