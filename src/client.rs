//! A client that comes back: sends, reads, and watches one inbox.
//!
//! Promises: a [`Watch`] shows the state of the inbox as the service has it,
//! through cuts, restarts, drains, expired tokens and restored stores. It
//! resumes where it was, so that nothing is skipped, and says so when it had to
//! load anew. It ends only with an error that no waiting mends. Calls fail as
//! they fail: only [`Client::patiently`] and what is named so try again by themselves.
//!
//! Tokens are asked for when they are needed, kept while they are accepted, and
//! never printed.

mod error;
pub mod fold;
pub mod json;
mod sends;
mod token;
mod verbs;
mod watch;

use std::{fmt, mem, sync::Arc, time::Duration};

use parking_lot::Mutex;
use rustls_pki_types::{CertificateDer, pem::PemObject as _};
use tokio::time::Instant;
use tonic::{
    Code, Request, Response, Status,
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint},
};

pub use self::{
    error::{BoxError, Error},
    fold::Inbox,
    token::TokenSource,
    verbs::{Edited, Selection, Verb},
    watch::{Event, Update, Watch},
};
pub use crate::proto::{
    About, Action, AddTopicMembersRequest, AddTopicMembersResponse, BroadcastRequest,
    BroadcastResponse, CancelSendRequest, CancelSendResponse, ChangedNotification, Choice, Content,
    DeleteTopicRequest, DeleteTopicResponse, EraseInboxRequest, EraseInboxResponse,
    EraseOrganizationRequest, EraseOrganizationResponse, ErrorReason, FollowUp, FollowUpOptions,
    FollowUpUnless, GetPreferencesRequest, GetPreferencesResponse, GetRecentRequest,
    GetRecentResponse, GetRetractionRequest, GetRetractionResponse, GetSendRequest,
    GetSendResponse, GetTimelineRequest, GetTimelineResponse, GetTypeDefaultsRequest,
    GetTypeDefaultsResponse, GetUnreadCountRequest, GetUnreadCountResponse, Head,
    ListFollowUpsRequest, ListFollowUpsResponse, ListSendsRequest, ListSendsResponse,
    ListTopicMembersRequest, ListTopicMembersResponse, ListTopicsOfUserRequest,
    ListTopicsOfUserResponse, MarkSeenRequest, MarkSeenResponse, Notification, Preference,
    ReadInboxRequest, RemovalCause, RemoveTopicMembersRequest, RemoveTopicMembersResponse,
    RetractBroadcastRequest, RetractBroadcastResponse, RetractFromAllRequest,
    RetractFromAllResponse, RetractInAppRequest, RetractInAppResponse, Retraction, Send, SendError,
    SendInAppRequest, SendInAppResponse, SendResult, SendState, SendToManyRequest,
    SendToManyResponse, SendToTopicRequest, SendToTopicResponse, Suppressed, Through,
    TimelineEntry, TimelineEvent, TypeDefault, UpdateInAppRequest, UpdateInAppResponse,
    UpdatePreferencesRequest, UpdatePreferencesResponse, UpdateTypeDefaultsRequest,
    UpdateTypeDefaultsResponse, View,
};
use crate::{
    clock::{Clock, SystemClock},
    config::MAX_RECENT_LIMIT,
    proto::{
        notification_service_client::NotificationServiceClient,
        operator_service_client::OperatorServiceClient,
    },
    random::{Random, SystemRandom},
};
use token::Token;

/// How a client behaves. The defaults suit a service and a terminal.
#[derive(Clone)]
pub struct Options {
    /// The certificates (PEM) to trust in place of the system's, for `https`.
    pub ca_pem: Option<Vec<u8>>,
    /// How many notifications the list of a [`Watch`] holds: 1 to 100.
    pub window: usize,
    /// The longest a call, or the opening of a stream, may take.
    pub call_timeout: Duration,
    /// The first pause after a failure is random, up to this.
    pub backoff_base: Duration,
    /// The bound doubles with each failure, up to this.
    pub backoff_cap: Duration,
    /// A stream that lived this long begins anew with the first pause.
    pub stable_after: Duration,
    /// Silence of this many of the server's heartbeat intervals is a dead
    /// connection: at least 1.
    pub heartbeats_missed: u32,
    /// Where jitter and idempotency keys come from.
    pub random: Arc<dyn Random>,
    /// What a token's remaining life is measured with.
    pub clock: Arc<dyn Clock>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            ca_pem: None,
            window: 50,
            call_timeout: Duration::from_secs(20),
            backoff_base: Duration::from_millis(500),
            backoff_cap: Duration::from_secs(30),
            stable_after: Duration::from_secs(10),
            heartbeats_missed: 2,
            random: Arc::new(SystemRandom),
            clock: Arc::new(SystemClock),
        }
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("window", &self.window)
            .field("call_timeout", &self.call_timeout)
            .field("backoff_base", &self.backoff_base)
            .field("backoff_cap", &self.backoff_cap)
            .finish_non_exhaustive()
    }
}

/// Where a watch was, kept by its owner: both of one [`Update`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Position {
    /// What was delivered.
    pub after_revision: u64,
    /// The epoch it was learned in. Absent: a restored store goes unnoticed.
    pub epoch: Option<String>,
}

/// A handle on the service for one caller, cheap to clone. It connects when it
/// is first used.
#[derive(Clone, Debug)]
pub struct Client {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    endpoint: Endpoint,
    tokens: TokenSource,
    options: Options,
    /// Std, since it is held for a look only.
    connection: Mutex<Connection>,
    token: Mutex<Option<Token>>,
}

/// A channel reconnects by itself when its connection is seen to end; one that
/// is silently dead is left for a new channel.
#[derive(Clone, Debug, Default)]
struct Connection {
    generation: u64,
    channel: Option<Channel>,
}

/// Ends a half-open connection without waiting for the next heartbeat.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(20);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(10);

impl Client {
    /// A client of the service at `url`, `http://host:port` or
    /// `https://host:port`, that shows the tokens of `tokens`.
    pub fn new(url: &str, tokens: TokenSource, options: Options) -> Result<Self, Error> {
        let bad = |problem: &str| Error::Options(format!("url `{url}`: {problem}"));
        let uri: http::Uri = url
            .parse()
            .map_err(|error: http::uri::InvalidUri| bad(&error.to_string()))?;
        let is_tls = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return Err(bad("must begin with http:// or https://")),
        };
        if !matches!(uri.path(), "" | "/") || uri.query().is_some() {
            return Err(bad("must end after the host and the port"));
        }
        if !(1..=MAX_RECENT_LIMIT).contains(&options.window) {
            let problem = format!("window: must be 1 to {MAX_RECENT_LIMIT} notifications");
            return Err(Error::Options(problem));
        }
        if options.heartbeats_missed == 0 {
            let problem = "heartbeats_missed: must be at least 1".into();
            return Err(Error::Options(problem));
        }

        let mut endpoint = Endpoint::from(uri)
            .connect_timeout(options.call_timeout)
            .http2_keep_alive_interval(KEEP_ALIVE_INTERVAL)
            .keep_alive_timeout(KEEP_ALIVE_TIMEOUT);
        if is_tls {
            let tls = tls(options.ca_pem.as_deref())?;
            endpoint = endpoint
                .tls_config(tls)
                .map_err(|error| Error::Options(format!("TLS: {}", error::root(&error))))?;
        }
        Ok(Self {
            shared: Arc::new(Shared {
                endpoint,
                tokens,
                options,
                connection: Mutex::default(),
                token: Mutex::default(),
            }),
        })
    }

    /// Watches the caller's inbox: loads it, then follows it.
    pub fn watch(&self) -> Watch {
        Watch::new(self.clone(), Inbox::new(self.options().window))
    }

    /// Watches the caller's inbox from where an earlier watch was. The list
    /// begins empty; what changed since is replayed.
    pub fn watch_from(&self, position: Position) -> Watch {
        let window = self.options().window;
        let inbox = Inbox::resume(window, position.after_revision, position.epoch);
        Watch::new(self.clone(), inbox)
    }

    /// Puts a notification into an inbox. Tried once.
    pub async fn send_in_app(&self, request: SendInAppRequest) -> Result<SendInAppResponse, Error> {
        self.call(request, async |channel, request| {
            Service::new(channel).send_in_app(request).await
        })
        .await
    }

    /// Puts a notification into an inbox, and tries again for as long as
    /// `patience` when an error may pass. A request without an
    /// `idempotency_key` gets a random one, so that no try makes a second
    /// notification.
    pub async fn send_in_app_patiently(
        &self,
        mut request: SendInAppRequest,
        patience: Duration,
    ) -> Result<SendInAppResponse, Error> {
        if request.idempotency_key.is_none() {
            let options = self.options();
            let key = options.random.uuid_v7(options.clock.now());
            request.idempotency_key = Some(key.to_string());
        }
        self.patiently(patience, async || self.send_in_app(request.clone()).await)
            .await
    }

    /// Makes a call that may be made twice, and again for as long as `patience` when an
    /// error may pass.
    pub async fn patiently<A>(
        &self,
        patience: Duration,
        call: impl AsyncFn() -> Result<A, Error>,
    ) -> Result<A, Error> {
        let started = Instant::now();
        let mut backoff = Backoff::default();
        loop {
            let error = match call().await {
                Ok(response) => return Ok(response),
                Err(error) => error,
            };
            let pause = error.retry_delay().unwrap_or_default() + backoff.next(self.options());
            if !error.may_pass() || started.elapsed() + pause >= patience {
                return Err(error);
            }
            tokio::time::sleep(pause).await;
        }
    }

    /// Sends one content to many. Tried once.
    pub async fn send_to_many(
        &self,
        request: SendToManyRequest,
    ) -> Result<SendToManyResponse, Error> {
        self.call(request, async |channel, request| {
            Service::new(channel).send_to_many(request).await
        })
        .await
    }

    /// Sends one content to many, and tries again for as long as `patience` with those
    /// whose errors may pass; what became of each, in the order of the request.
    pub async fn send_to_many_patiently(
        &self,
        mut request: SendToManyRequest,
        patience: Duration,
    ) -> Result<Vec<SendResult>, Error> {
        let started = Instant::now();
        let mut backoff = Backoff::default();
        let all = mem::take(&mut request.recipient_user_ids);
        let mut results: Vec<Option<SendResult>> = vec![None; all.len()];
        loop {
            let open = results.iter().map(|result| match result {
                Some(SendResult { error, .. }) => error.as_ref().is_some_and(|error| error.passing),
                None => true,
            });
            let open: Vec<usize> = open
                .enumerate()
                .filter_map(|(at, is)| is.then_some(at))
                .collect();
            if open.is_empty() {
                break;
            }
            request.recipient_user_ids = open.iter().map(|at| all[*at].clone()).collect();
            let answer = self.send_to_many(request.clone()).await;
            let mut pause = backoff.next(self.options());
            let error = match answer {
                Ok(answer) => {
                    for (at, result) in open.into_iter().zip(answer.results) {
                        results[at] = Some(result);
                    }
                    None
                }
                Err(error) => {
                    pause += error.retry_delay().unwrap_or_default();
                    Some(error)
                }
            };
            let is_over = started.elapsed() + pause >= patience;
            match error {
                Some(error) if !error.may_pass() || is_over => return Err(error),
                None if is_over => break,
                _ => {}
            }
            tokio::time::sleep(pause).await;
        }
        Ok(results.into_iter().flatten().collect())
    }

    /// Corrects a notification. Tried once.
    pub async fn update_in_app(
        &self,
        request: UpdateInAppRequest,
    ) -> Result<UpdateInAppResponse, Error> {
        self.call(request, async |channel, request| {
            Service::new(channel).update_in_app(request).await
        })
        .await
    }

    /// Takes notifications back. Tried once.
    pub async fn retract_in_app(
        &self,
        request: RetractInAppRequest,
    ) -> Result<RetractInAppResponse, Error> {
        self.call(request, async |channel, request| {
            Service::new(channel).retract_in_app(request).await
        })
        .await
    }

    /// Notes that the person has looked at all up to a sequence.
    pub async fn mark_seen(&self, request: MarkSeenRequest) -> Result<MarkSeenResponse, Error> {
        self.call(request, async |channel, request| {
            Service::new(channel).mark_seen(request).await
        })
        .await
    }

    /// Reads the head of the caller's inbox, and how many of each of `types` are unread.
    pub async fn get_unread_count(
        &self,
        types: Vec<String>,
    ) -> Result<GetUnreadCountResponse, Error> {
        let request = GetUnreadCountRequest { types };
        self.call(request, async |channel, request| {
            Service::new(channel).get_unread_count(request).await
        })
        .await
    }

    /// Lists notifications of the caller's inbox.
    pub async fn get_recent(&self, request: GetRecentRequest) -> Result<GetRecentResponse, Error> {
        self.call(request, async |channel, request| {
            Service::new(channel).get_recent(request).await
        })
        .await
    }

    /// Lists notifications of any inbox; for operators.
    pub async fn read_inbox(&self, request: ReadInboxRequest) -> Result<GetRecentResponse, Error> {
        let answer = self.call(request, async |channel, request| {
            OperatorServiceClient::new(channel)
                .read_inbox(request)
                .await
        });
        Ok(answer.await?.page.unwrap_or_default())
    }

    /// Says what became of a notification; for operators.
    pub async fn get_timeline(
        &self,
        request: GetTimelineRequest,
    ) -> Result<GetTimelineResponse, Error> {
        self.call(request, async |channel, request| {
            OperatorServiceClient::new(channel)
                .get_timeline(request)
                .await
        })
        .await
    }

    /// Deletes all of one inbox for good; for operators. Tried once.
    pub async fn erase_inbox(
        &self,
        request: EraseInboxRequest,
    ) -> Result<EraseInboxResponse, Error> {
        self.call(request, async |channel, request| {
            OperatorServiceClient::new(channel)
                .erase_inbox(request)
                .await
        })
        .await
    }

    /// Deletes all of each inbox of an organization for good; for operators. Tried once.
    pub async fn erase_organization(
        &self,
        request: EraseOrganizationRequest,
    ) -> Result<EraseOrganizationResponse, Error> {
        self.call(request, async |channel, request| {
            OperatorServiceClient::new(channel)
                .erase_organization(request)
                .await
        })
        .await
    }

    fn options(&self) -> &Options {
        &self.shared.options
    }

    /// Makes a call; with a fresh token once more where the kept one is refused.
    async fn call<Q, A>(
        &self,
        request: Q,
        make: impl AsyncFn(Channel, Request<Q>) -> Result<Response<A>, Status>,
    ) -> Result<A, Error>
    where
        Q: Clone,
    {
        let token = self.token(None).await?;
        let refused = match self.call_with(&token, request.clone(), &make).await {
            Err(error) if error.code() == Some(Code::Unauthenticated) => error,
            other => return other,
        };
        let fresh = self.token(Some(&token)).await?;
        if fresh == token {
            return Err(refused);
        }
        self.call_with(&fresh, request, &make).await
    }

    /// Makes a call, once, within the time-out.
    async fn call_with<Q, A>(
        &self,
        token: &Token,
        request: Q,
        make: &impl AsyncFn(Channel, Request<Q>) -> Result<Response<A>, Status>,
    ) -> Result<A, Error> {
        let (generation, channel) = self.channel();
        let limit = self.options().call_timeout;
        match tokio::time::timeout(limit, make(channel, token.authorize(request))).await {
            Ok(answer) => Ok(answer?.into_inner()),
            Err(_) => {
                self.renew_connection(generation);
                Err(Error::NoAnswer(limit))
            }
        }
    }

    /// The kept token, or one asked for where there is none or it is `refused`.
    async fn token(&self, refused: Option<&Token>) -> Result<Token, Error> {
        let kept = self.shared.token.lock().clone();
        if let Some(kept) = kept
            && refused != Some(&kept)
        {
            return Ok(kept);
        }
        let ask = self.shared.tokens.ask();
        let limit = self.options().call_timeout;
        let token = match tokio::time::timeout(limit, ask).await {
            Ok(token) => token?,
            Err(_) => return Err(Error::TokenSource("it took too long".into())),
        };
        *self.shared.token.lock() = Some(token.clone());
        Ok(token)
    }

    /// The connection, and its generation.
    fn channel(&self) -> (u64, Channel) {
        let mut connection = self.shared.connection.lock();
        let channel = connection
            .channel
            .get_or_insert_with(|| self.shared.endpoint.connect_lazy())
            .clone();
        (connection.generation, channel)
    }

    /// Has the next call make a new connection, unless that of `generation` was
    /// given up already. Calls in flight keep theirs.
    fn renew_connection(&self, generation: u64) {
        let mut connection = self.shared.connection.lock();
        if connection.generation == generation {
            connection.generation += 1;
            connection.channel = None;
        }
    }
}

type Service = NotificationServiceClient<Channel>;

/// How a server is trusted: by these certificates, or by those of the system.
pub(crate) fn tls(ca_pem: Option<&[u8]>) -> Result<ClientTlsConfig, Error> {
    let Some(pem) = ca_pem else {
        return Ok(ClientTlsConfig::new().with_native_roots());
    };
    let certificates = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>();
    match certificates {
        Ok(certificates) if !certificates.is_empty() => {
            Ok(ClientTlsConfig::new().ca_certificate(Certificate::from_pem(pem)))
        }
        Ok(_) => Err(Error::Options("ca_pem: has no certificate".into())),
        Err(error) => Err(Error::Options(format!("ca_pem: {error}"))),
    }
}

/// Exponential backoff with full jitter: the pause is anything up to a bound
/// that doubles.
#[derive(Debug, Default)]
struct Backoff {
    failures: u32,
}

impl Backoff {
    fn next(&mut self, options: &Options) -> Duration {
        let factor = 2_u32.saturating_pow(self.failures);
        self.failures = self.failures.saturating_add(1);
        let bound = options.backoff_base.saturating_mul(factor);
        options.random.up_to(bound.min(options.backoff_cap))
    }
}

#[cfg(test)]
pub(crate) mod tests;
