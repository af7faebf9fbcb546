//! The backend of somebody's organization: it asks one node after the other, with a key, until
//! one answers, so there is never a doubt about what it asked for.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use doorbell::{
    client::{
        self, AddTopicMembersRequest, BroadcastRequest, CancelSendRequest, Choice, Client, Content,
        ErrorReason, FollowUp, GetPreferencesRequest, GetRetractionRequest, GetSendRequest,
        ListFollowUpsRequest, Options, RemoveTopicMembersRequest, RetractBroadcastRequest,
        RetractFromAllRequest, Retraction, Send, SendInAppRequest, SendResult, SendToManyRequest,
        SendToTopicRequest, TokenSource, UpdatePreferencesRequest,
    },
    clock::{Clock as _, SystemClock},
    store,
};
use tokio::time::{Instant, sleep};

use super::{organization, passes};
use crate::{
    process::PATIENCE,
    server::{sender_token, user_token},
};

/// So late may be done what a killed node has said to Postgres.
pub const LATE: Duration = Duration::from_secs(1);
const PAUSE: Duration = Duration::from_millis(40);
/// They get what goes to many, too.
const OTHERS: usize = 20;
const TOPIC: &str = "news";

/// One call, to one node after the other.
macro_rules! ask {
    ($self:ident.$clients:ident.$method:ident($request:ident)) => {{
        let call = |client: Client| {
            let request = $request.clone();
            async move { client.$method(request).await }
        };
        $self.ask(&$self.$clients, call).await
    }};
}

/// Who sends to a person, and the person where only they may ask.
pub struct Backend {
    name: String,
    tolerated: &'static [&'static str],
    senders: Vec<Client>,
    owners: Vec<Client>,
    turn: AtomicUsize,
}

impl Backend {
    pub fn new(urls: &[String], name: &str, tolerated: &'static [&'static str]) -> Self {
        let clients = |token: String| {
            let tokens = TokenSource::fixed(&token);
            let client =
                |url: &String| Client::new(url, tokens.clone(), Options::default()).unwrap();
            urls.iter().map(client).collect()
        };
        Self {
            name: name.into(),
            tolerated,
            senders: clients(sender_token("*")),
            owners: clients(user_token(&organization(name), name)),
            turn: AtomicUsize::new(0),
        }
    }

    /// Asks until it is answered. What was not answered at first may be done late, and undo
    /// what was done since: then it is asked once more.
    async fn ask<A, F>(&self, clients: &[Client], call: impl Fn(Client) -> F) -> Result<A, String>
    where
        F: Future<Output = Result<A, client::Error>>,
    {
        let deadline = Instant::now() + 3 * PATIENCE;
        let mut in_doubt = false;
        loop {
            let turn = self.turn.fetch_add(1, Ordering::Relaxed);
            match call(clients[turn % clients.len()].clone()).await {
                Ok(answer) if !in_doubt => return Ok(answer),
                Ok(_) => {
                    in_doubt = false;
                    sleep(LATE).await;
                }
                Err(error) => {
                    passes(&error, self.tolerated)?;
                    in_doubt = true;
                    sleep(PAUSE).await;
                }
            }
            if Instant::now() > deadline {
                return Err("no node answers a backend".into());
            }
        }
    }

    fn organization_id(&self) -> String {
        organization(&self.name)
    }

    /// Sends it later, to its person alone; `None` where its time was past before it came to
    /// a node, and it was sent at once.
    pub async fn schedule(
        &self,
        of: &SendInAppRequest,
        after: Duration,
    ) -> Result<Option<Send>, String> {
        let schedule = |client: Client| {
            let request = SendInAppRequest {
                idempotency_key: Some(of.title.clone()),
                deliver_time: Some(time_after(after)),
                ..of.clone()
            };
            async move { client.send_in_app(request).await }
        };
        Ok(self.ask(&self.senders, schedule).await?.send)
    }

    /// Stops a send, if it is not done.
    pub async fn cancel(&self, send_id: &str) -> Result<Option<Send>, String> {
        let request = CancelSendRequest {
            organization_id: self.organization_id(),
            send_id: send_id.into(),
            ..CancelSendRequest::default()
        };
        let cancel = |client: Client| {
            let request = request.clone();
            async move {
                match client.cancel_send(request).await {
                    Ok(cancelled) => Ok(cancelled.send),
                    Err(error) if error.has_reason(ErrorReason::SendDone) => Ok(None),
                    Err(error) => Err(error),
                }
            }
        };
        self.ask(&self.senders, cancel).await
    }

    pub async fn get(&self, send_id: &str) -> Result<Send, String> {
        let request = GetSendRequest {
            organization_id: self.organization_id(),
            send_id: Some(send_id.into()),
            ..GetSendRequest::default()
        };
        let send = ask!(self.senders.get_send(request))?.send;
        send.ok_or_else(|| format!("there is no send {send_id}"))
    }

    /// Makes its person a member of the topic, or no member.
    pub async fn has_topic(&self, is_member: bool) -> Result<(), String> {
        let (organization_id, topic_id) = (self.organization_id(), TOPIC.to_owned());
        let user_ids = vec![self.name.clone()];
        if is_member {
            let request = AddTopicMembersRequest {
                organization_id,
                topic_id,
                user_ids,
            };
            return ask!(self.senders.add_topic_members(request)).map(drop);
        }
        let request = RemoveTopicMembersRequest {
            organization_id,
            topic_id,
            user_ids,
        };
        ask!(self.senders.remove_topic_members(request)).map(drop)
    }

    /// Sends it to all members of the topic.
    pub async fn send_to_topic(&self, of: &SendInAppRequest) -> Result<Send, String> {
        let request = SendToTopicRequest {
            organization_id: self.organization_id(),
            topic_id: TOPIC.into(),
            content: Some(content(of)),
            idempotency_key: of.title.clone(),
            collapse_key: of.collapse_key.clone(),
            silent: of.silent,
            follow_up: of.follow_up,
            ..SendToTopicRequest::default()
        };
        let sent = ask!(self.senders.send_to_topic(request))?.send;
        sent.ok_or_else(|| "what goes to a topic is no send".into())
    }

    /// Sends it to its person and others; what became of it.
    pub async fn send_to_many(&self, of: &SendInAppRequest) -> Result<SendResult, String> {
        let others = (0..OTHERS).map(|other| format!("other {other}"));
        let request = SendToManyRequest {
            organization_id: self.organization_id(),
            recipient_user_ids: others.chain([self.name.clone()]).collect(),
            content: Some(content(of)),
            idempotency_key: of.title.clone(),
            collapse_key: of.collapse_key.clone(),
            silent: of.silent,
            follow_up: of.follow_up,
            ..SendToManyRequest::default()
        };
        let send = |client: Client| {
            let request = request.clone();
            async move {
                let answer = client.send_to_many(request).await?;
                let mut errors = answer.results.iter().filter_map(|of| of.error.as_ref());
                match errors.any(|error| error.passing) {
                    true => Err(client::Error::Ended),
                    false => Ok(answer),
                }
            }
        };
        let results = self.ask(&self.senders, send).await?.results;
        match results.into_iter().next_back() {
            Some(result) if result.error.is_none() => Ok(result),
            result => Err(format!("one of many: {result:?}")),
        }
    }

    /// Says it to all, who are its person and others.
    pub async fn broadcast(&self, of: &SendInAppRequest) -> Result<Send, String> {
        let request = BroadcastRequest {
            organization_id: self.organization_id(),
            content: Some(content(of)),
            idempotency_key: of.title.clone(),
            silent: of.silent,
            ..BroadcastRequest::default()
        };
        let sent = ask!(self.senders.broadcast(request))?.send;
        sent.ok_or_else(|| "a broadcast is no send".into())
    }

    pub async fn retract_broadcast(&self, send_id: &str) -> Result<(), String> {
        let request = RetractBroadcastRequest {
            organization_id: self.organization_id(),
            send_id: send_id.into(),
            ..RetractBroadcastRequest::default()
        };
        ask!(self.senders.retract_broadcast(request)).map(drop)
    }

    /// Takes back from all what is about a thing.
    pub async fn retract_from_all(&self, of: &store::About, key: &str) -> Result<(), String> {
        let request = RetractFromAllRequest {
            organization_id: self.organization_id(),
            about: Some(client::About {
                entity_type: of.entity_type.clone(),
                entity_id: of.entity_id.clone(),
            }),
            idempotency_key: key.into(),
        };
        ask!(self.senders.retract_from_all(request)).map(drop)
    }

    pub async fn retraction(&self, key: &str) -> Result<Retraction, String> {
        let request = GetRetractionRequest {
            organization_id: self.organization_id(),
            idempotency_key: Some(key.into()),
            ..GetRetractionRequest::default()
        };
        let retraction = ask!(self.senders.get_retraction(request))?.retraction;
        retraction.ok_or_else(|| format!("there is no retraction {key}"))
    }

    /// Its person says whether they want a type.
    pub async fn wants(&self, of: &str, on: bool) -> Result<(), String> {
        let request = UpdatePreferencesRequest {
            choices: vec![Choice {
                r#type: of.into(),
                on: Some(on),
            }],
        };
        ask!(self.owners.update_preferences(request)).map(drop)
    }

    /// The types that its person does not want.
    pub async fn muted(&self) -> Result<Vec<String>, String> {
        let request = GetPreferencesRequest {};
        let answer = ask!(self.owners.get_preferences(request))?;
        let muted = answer.preferences.into_iter().filter(|of| !of.on);
        Ok(muted.map(|of| of.r#type).collect())
    }

    /// All that was told of notifications that nobody looked at.
    pub async fn follow_ups(&self) -> Result<Vec<FollowUp>, String> {
        let mut request = ListFollowUpsRequest {
            organization_id: self.organization_id(),
            limit: 100,
            ..ListFollowUpsRequest::default()
        };
        let mut all = Vec::new();
        loop {
            let page = ask!(self.senders.list_follow_ups(request))?;
            if page.follow_ups.is_empty() {
                return Ok(all);
            }
            all.extend(page.follow_ups);
            request.after_position = page.position;
            request.epoch = page.epoch;
        }
    }
}

fn content(of: &SendInAppRequest) -> Content {
    Content {
        r#type: of.r#type.clone(),
        title: of.title.clone(),
        entity_type: of.entity_type.clone(),
        entity_id: of.entity_id.clone(),
        ..Content::default()
    }
}

/// So long from now.
pub fn time_after(time: Duration) -> prost_types::Timestamp {
    let micros = SystemClock.now().after(time).as_micros();
    prost_types::Timestamp {
        seconds: micros.div_euclid(1_000_000),
        nanos: i32::try_from(micros.rem_euclid(1_000_000) * 1000).unwrap(),
    }
}
