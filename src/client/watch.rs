//! A watch: one inbox, followed for as long as its owner asks.
//!
//! It loads, opens a stream, folds what comes, and when the stream ends, falls
//! silent, or is about to lose its token, goes on with another one after the
//! position it has. It does nothing between two polls: whoever stops polling
//! lags, and whoever drops it leaves.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use futures_util::{FutureExt as _, Stream, StreamExt, future::BoxFuture};
use tokio::time::{Instant, Sleep, sleep, timeout};
use tonic::{Code, Status, Streaming};

use super::{Backoff, Client, Error, Inbox, Service, fold::Then, json, token::Token};
use crate::{
    clock::Timestamp,
    proto::{
        ChangedNotification, Connected, ErrorReason, GetRecentRequest, GetRecentResponse, Head,
        Notification, SubscribeRequest, SubscribeResponse, subscribe_response,
    },
};

/// One thing that happened, and what the inbox is after it.
#[derive(Debug)]
pub struct Update {
    /// What happened.
    pub event: Event,
    /// Where another watch may resume: keep it together with `epoch`. `None`
    /// while the inbox has to be loaded.
    pub position: Option<u64>,
    /// The epoch of the position.
    pub epoch: Option<String>,
    /// The inbox's revision and its counts: the badge.
    pub head: Head,
    /// The list or a count is another one than before.
    pub changed: bool,
}

/// What happened on a watch. More kinds may come.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event {
    /// The inbox was loaded: [`Watch::inbox`] has the list.
    Loaded,
    /// A stream stands.
    Connected {
        /// The service is never silent for longer.
        heartbeat_interval: Option<Duration>,
        /// When the token of the stream expires.
        token_expires_at: Option<Timestamp>,
    },
    /// A notification came, or one changed.
    Notification {
        /// As it is now. An archived one has left the list.
        notification: Box<Notification>,
        /// It is to be heard: announce it. Others only count.
        ring: bool,
    },
    /// The state of notifications changed.
    Changed {
        /// As they are now.
        notifications: Vec<ChangedNotification>,
        /// One of them is to be heard: it took the place of another.
        ring: bool,
    },
    /// The person has looked, on some screen.
    Seen,
    /// What was missed has been replayed.
    CaughtUp,
    /// Nothing happened.
    Heartbeat,
    /// The service cannot resume here. The inbox is loaded next.
    Reset,
    /// An event that this client does not know. Where it changed something, the
    /// inbox is loaded next.
    Unknown,
    /// The service is about to stop. The watch comes back after the pause.
    Reconnect {
        /// The pause.
        after: Duration,
    },
    /// The stream was cut, or could not be opened.
    Disconnected {
        /// Why.
        error: Error,
        /// The pause until the next try.
        retry_in: Duration,
    },
}

/// A stream of [`Update`]s that ends only after a terminal error, which is its
/// last item.
///
/// Cancel safety: what `next` on it returns may be dropped at any time, in a
/// `select!` for one; nothing is lost and nothing begins anew.
pub struct Watch {
    client: Client,
    inbox: Inbox,
    phase: Phase,
    backoff: Backoff,
    /// The token that was refused last, and how.
    refused: Option<(Token, Box<Status>)>,
}

type Opening = BoxFuture<'static, Result<Box<Opened>, Failure>>;

enum Phase {
    /// To load or to open, whichever is due.
    Idle,
    Loading(BoxFuture<'static, Result<GetRecentResponse, Failure>>),
    Opening(Opening),
    Live(Box<Live>),
    Pausing(Pin<Box<Sleep>>),
    Ended,
}

/// A stream that has said `connected`.
struct Opened {
    first: SubscribeResponse,
    stream: Streaming<SubscribeResponse>,
    generation: u64,
    token: Token,
}

struct Live {
    stream: Streaming<SubscribeResponse>,
    generation: u64,
    token: Token,
    since: Instant,
    /// This long without a message is a dead connection.
    silence: Duration,
    watchdog: Pin<Box<Sleep>>,
    token_expires_at: Option<Timestamp>,
    /// When to open the stream that takes over before the token expires.
    take_over: Option<Pin<Box<Sleep>>>,
    successor: Option<Opening>,
}

enum Failure {
    /// A call with this token failed.
    Call(Error, Token),
    /// There is no token to call with.
    NoToken(Error),
    /// The source gave the refused token again.
    SameToken,
}

/// The silence that is allowed where the service names no heartbeat interval.
const DEFAULT_HEARTBEAT: Duration = Duration::from_secs(25);
/// The shortest rest of a token's life that is worth another take-over.
const MIN_TOKEN_REST: Duration = Duration::from_millis(50);

impl Watch {
    pub(super) fn new(client: Client, inbox: Inbox) -> Self {
        Self {
            client,
            inbox,
            phase: Phase::Idle,
            backoff: Backoff::default(),
            refused: None,
        }
    }

    /// The inbox as of the last update.
    pub fn inbox(&self) -> &Inbox {
        &self.inbox
    }

    /// The next update; `None` after the terminal error. Cancel safe.
    pub async fn next(&mut self) -> Option<Result<Update, Error>> {
        StreamExt::next(self).await
    }

    fn update(&self, event: Event, changed: bool) -> Update {
        Update {
            event,
            position: self.inbox.position(),
            epoch: self.inbox.epoch().map(ToOwned::to_owned),
            head: *self.inbox.head(),
            changed,
        }
    }

    fn load(&self) -> BoxFuture<'static, Result<GetRecentResponse, Failure>> {
        let client = self.client.clone();
        let refused = self.refused_token();
        async move {
            let token = token(&client, refused).await?;
            let request = GetRecentRequest {
                limit: i32::try_from(client.options().window).unwrap_or(i32::MAX),
                ..GetRecentRequest::default()
            };
            client
                .call_with(&token, request, &async |channel, request| {
                    Service::new(channel).get_recent(request).await
                })
                .await
                .map_err(|error| Failure::Call(error, token))
        }
        .boxed()
    }

    /// Opens a stream after the present position, and waits for its first
    /// message.
    fn open(&self, refused: Option<Token>) -> Opening {
        let client = self.client.clone();
        let request = SubscribeRequest {
            after_revision: self.inbox.position(),
            epoch: self.inbox.epoch().map(ToOwned::to_owned),
        };
        async move {
            let token = token(&client, refused).await?;
            let (generation, channel) = client.channel();
            let mut service = Service::new(channel);
            let limit = client.options().call_timeout;
            let opened = timeout(limit, async {
                let response = service.subscribe(token.authorize(request)).await?;
                let mut stream = response.into_inner();
                let first = stream.message().await?.ok_or(Error::Ended)?;
                Ok((first, stream))
            });
            let opened = opened.await.unwrap_or_else(|_| {
                client.renew_connection(generation);
                Err(Error::NoAnswer(limit))
            });
            match opened {
                Ok((first, stream)) => Ok(Box::new(Opened {
                    first,
                    stream,
                    generation,
                    token,
                })),
                Err(error) => Err(Failure::Call(error, token)),
            }
        }
        .boxed()
    }

    fn refused_token(&self) -> Option<Token> {
        self.refused.as_ref().map(|(token, _)| token.clone())
    }

    /// Goes on with a stream that stands, and folds its first message.
    fn begin(&mut self, opened: Opened) -> Update {
        let silence = DEFAULT_HEARTBEAT * self.client.options().heartbeats_missed;
        let live = Live {
            stream: opened.stream,
            generation: opened.generation,
            token: opened.token,
            since: Instant::now(),
            silence,
            watchdog: Box::pin(sleep(silence)),
            token_expires_at: None,
            take_over: None,
            successor: None,
        };
        self.refused = None;
        self.fold(Box::new(live), opened.first)
    }

    /// Folds a message of the stream, and goes on as it demands.
    fn fold(&mut self, mut live: Box<Live>, message: SubscribeResponse) -> Update {
        let effect = self.inbox.apply(&message);
        if let Some(subscribe_response::Event::Connected(connected)) = &message.event {
            live.obey(connected, &self.client);
        }
        live.watchdog.as_mut().reset(Instant::now() + live.silence);
        match effect.then {
            Then::Continue => self.phase = Phase::Live(live),
            Then::Load => {
                self.forgive(&live);
                self.pause(None, true);
            }
            Then::ComeBack(after) => {
                self.forgive(&live);
                // Another connection may reach another node.
                self.client.renew_connection(live.generation);
                self.pause(Some(after), true);
            }
        }
        let event = event(message.event, effect.ring);
        self.update(event, effect.changed)
    }

    /// Forgets earlier failures where the stream lived long enough.
    fn forgive(&mut self, live: &Live) {
        if live.since.elapsed() >= self.client.options().stable_after {
            self.backoff = Backoff::default();
        }
    }

    /// Waits as long as was asked and a jittered backoff. Where nothing failed,
    /// the first time is free of the latter: only a loop of it is slowed down.
    fn pause(&mut self, asked: Option<Duration>, nothing_failed: bool) -> Duration {
        let is_free = nothing_failed && self.backoff.failures == 0;
        let jitter = self.backoff.next(self.client.options());
        let asked = asked.unwrap_or_default();
        let pause = if is_free { asked } else { asked + jitter };
        self.phase = if pause.is_zero() {
            Phase::Idle
        } else {
            Phase::Pausing(Box::pin(sleep(pause)))
        };
        pause
    }

    /// Plans the next try, or ends where there is none.
    fn fail(&mut self, failure: Failure) -> Result<Update, Error> {
        let mut nothing_failed = false;
        let error = match failure {
            Failure::Call(Error::Status(status), token)
                if status.code() == Code::Unauthenticated =>
            {
                if self.client.shared.tokens.is_fixed() {
                    return self.end(Error::Status(status));
                }
                self.refused = Some((token, status.clone()));
                // A fresh token may mend it at once.
                nothing_failed = true;
                Error::Status(status)
            }
            Failure::Call(error, _) | Failure::NoToken(error) => error,
            Failure::SameToken => match &self.refused {
                Some((_, status)) => {
                    let error = Error::Status(status.clone());
                    // Where it expired, its source may only be late.
                    if !error.has_reason(ErrorReason::TokenExpired) {
                        return self.end(error);
                    }
                    error
                }
                None => Error::Ended,
            },
        };
        if error.is_terminal() {
            return self.end(error);
        }
        let retry_in = self.pause(error.retry_delay(), nothing_failed);
        Ok(self.update(Event::Disconnected { error, retry_in }, false))
    }

    fn end(&mut self, error: Error) -> Result<Update, Error> {
        self.phase = Phase::Ended;
        Err(error)
    }

    /// Polls the stream and what watches over it.
    fn poll_live(
        &mut self,
        mut live: Box<Live>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Update, Error>> {
        // The take-over comes before the stream: a steady flow of events must
        // not outlast the token.
        if let Some(timer) = &mut live.take_over
            && timer.as_mut().poll(cx).is_ready()
        {
            live.take_over = None;
            live.successor = Some(self.open(Some(live.token.clone())));
        }
        if let Some(successor) = &mut live.successor
            && let Poll::Ready(opened) = successor.as_mut().poll(cx)
        {
            live.successor = None;
            match opened {
                Ok(opened) => return Poll::Ready(Ok(self.begin(*opened))),
                Err(_) => {
                    // The stream there is goes on; its own end tells what is
                    // wrong. Until then, the next attempt.
                    live.plan_take_over(&self.client);
                    cx.waker().wake_by_ref();
                }
            }
        }
        if let Poll::Ready(message) = live.stream.poll_next_unpin(cx) {
            let error = match message {
                Some(Ok(message)) => return Poll::Ready(Ok(self.fold(live, message))),
                Some(Err(status)) => status.into(),
                None => Error::Ended,
            };
            self.forgive(&live);
            return Poll::Ready(self.fail(Failure::Call(error, live.token)));
        }
        if live.watchdog.as_mut().poll(cx).is_ready() {
            self.forgive(&live);
            self.client.renew_connection(live.generation);
            let failure = Failure::Call(Error::Silent(live.silence), live.token);
            return Poll::Ready(self.fail(failure));
        }
        self.phase = Phase::Live(live);
        Poll::Pending
    }
}

impl Stream for Watch {
    type Item = Result<Update, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let watch = &mut *self;
        loop {
            match &mut watch.phase {
                Phase::Idle => {
                    watch.phase = match watch.inbox.position() {
                        None => Phase::Loading(watch.load()),
                        Some(_) => Phase::Opening(watch.open(watch.refused_token())),
                    };
                }
                Phase::Loading(call) => {
                    let item = match ready!(call.as_mut().poll(cx)) {
                        Ok(page) => {
                            watch.phase = Phase::Idle;
                            watch.refused = None;
                            watch.inbox.load(page);
                            Ok(watch.update(Event::Loaded, true))
                        }
                        Err(failure) => watch.fail(failure),
                    };
                    return Poll::Ready(Some(item));
                }
                Phase::Opening(opening) => {
                    let item = match ready!(opening.as_mut().poll(cx)) {
                        Ok(opened) => Ok(watch.begin(*opened)),
                        Err(failure) => watch.fail(failure),
                    };
                    return Poll::Ready(Some(item));
                }
                Phase::Live(_) => {
                    if let Phase::Live(live) = std::mem::replace(&mut watch.phase, Phase::Idle) {
                        return watch.poll_live(live, cx).map(Some);
                    }
                }
                Phase::Pausing(pause) => {
                    ready!(pause.as_mut().poll(cx));
                    watch.phase = Phase::Idle;
                }
                Phase::Ended => return Poll::Ready(None),
            }
        }
    }
}

impl Live {
    /// Takes what `connected` says of the stream.
    fn obey(&mut self, connected: &Connected, client: &Client) {
        let interval = heartbeat_interval(connected).unwrap_or(DEFAULT_HEARTBEAT);
        self.silence = interval.saturating_mul(client.options().heartbeats_missed);
        self.token_expires_at = connected.token_expires_at.as_ref().map(json::timestamp);
        self.plan_take_over(client);
    }

    /// Another stream takes over when 80 to 90 percent of the rest of the
    /// token's life are over: jittered, so that not all come at once.
    fn plan_take_over(&mut self, client: &Client) {
        let options = client.options();
        self.take_over = self
            .token_expires_at
            .filter(|_| !client.shared.tokens.is_fixed())
            .map(|expires_at| expires_at.since(options.clock.now()))
            .filter(|rest| *rest >= MIN_TOKEN_REST)
            .map(|rest| {
                let wait = rest.mul_f64(0.8) + options.random.up_to(rest.mul_f64(0.1));
                Box::pin(sleep(wait))
            });
    }
}

/// A token to call with that is not the `refused` one.
async fn token(client: &Client, refused: Option<Token>) -> Result<Token, Failure> {
    let token = client
        .token(refused.as_ref())
        .await
        .map_err(Failure::NoToken)?;
    if refused.as_ref() == Some(&token) {
        return Err(Failure::SameToken);
    }
    Ok(token)
}

fn heartbeat_interval(connected: &Connected) -> Option<Duration> {
    let interval: Duration = connected.heartbeat_interval?.try_into().ok()?;
    (!interval.is_zero()).then_some(interval)
}

fn event(event: Option<subscribe_response::Event>, ring: bool) -> Event {
    match event {
        Some(subscribe_response::Event::Connected(connected)) => Event::Connected {
            heartbeat_interval: heartbeat_interval(&connected),
            token_expires_at: connected.token_expires_at.as_ref().map(json::timestamp),
        },
        Some(subscribe_response::Event::Notification(notification)) => Event::Notification {
            notification: Box::new(notification),
            ring,
        },
        Some(subscribe_response::Event::Changed(changed)) => Event::Changed {
            notifications: changed.notifications,
            ring,
        },
        Some(subscribe_response::Event::Seen(_)) => Event::Seen,
        Some(subscribe_response::Event::CaughtUp(_)) => Event::CaughtUp,
        Some(subscribe_response::Event::Heartbeat(_)) => Event::Heartbeat,
        Some(subscribe_response::Event::Reset(_)) => Event::Reset,
        Some(subscribe_response::Event::Reconnect(reconnect)) => Event::Reconnect {
            after: reconnect
                .after
                .and_then(|after| after.try_into().ok())
                .unwrap_or_default(),
        },
        None => Event::Unknown,
    }
}
