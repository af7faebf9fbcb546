//! The composition root: where the parts are put together, and where they end.

use std::{convert::Infallible, net::SocketAddr, sync::Arc, time::Duration};

use axum::{
    Router,
    body::Body,
    middleware::{from_fn, from_fn_with_state},
    response::IntoResponse,
};
use tokio::{
    net::TcpListener,
    sync::watch,
    time::{Instant, timeout, timeout_at},
};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};
use tonic::{codec::CompressionEncoding, server::NamedService, service::Routes};
use tonic_health::{ServingStatus, server::HealthReporter};
use tonic_web::GrpcWebLayer;
use tower_http::catch_panic::CatchPanicLayer;

use crate::{
    auth,
    bus::{self, Bus, nats::Nats},
    clock::Clock,
    config::{Config, ServerSettings, StoreSettings},
    follow_ups::FollowUps,
    grpc::{
        self, Service, call_limit,
        call_log::{self, CallLog},
        connect, convert, cors, operators, protocol,
        server::{
            notification_service_server::{self, NotificationServiceServer},
            operator_service_server::{self, OperatorServiceServer},
            preference_service_server::{self, PreferenceServiceServer},
            send_service_server::{self, SendServiceServer},
            topic_service_server::{self, TopicServiceServer},
        },
        status, topics,
    },
    inbox::Inboxes,
    live,
    metrics::{
        self,
        pages::{self, Readiness},
    },
    node::Node,
    operator_page,
    operators::Operators,
    preferences::Preferences,
    proto,
    random::Random,
    retractions::Retractions,
    sends::Sends,
    server::{self, ConnectionEvent, Peer, Shutdown, tls},
    store::{self, Sharing},
    sweeper::Sweeper,
    telemetry::Seldom,
    topics::Topics,
};

/// Why a server could not be built: one line for who starts it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A setting is refused.
    #[error(transparent)]
    Config(#[from] crate::config::Error),
    /// The certificate is refused.
    #[error(transparent)]
    Tls(#[from] tls::Error),
    /// The store cannot be opened.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// An address cannot be listened on.
    #[error("cannot listen on {address}: {error}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        error: std::io::Error,
    },
    /// A bug.
    #[error("{0}")]
    Internal(String),
}

/// The names under which health is told: that of all, and those of the services.
const SERVICES: [&str; 6] = [
    "",
    notification_service_server::SERVICE_NAME,
    operator_service_server::SERVICE_NAME,
    preference_service_server::SERVICE_NAME,
    send_service_server::SERVICE_NAME,
    topic_service_server::SERVICE_NAME,
];
/// How often the store is asked whether it answers.
const CHECK_EVERY: Duration = Duration::from_secs(2);
/// A store that takes longer than this does not answer.
const CHECK_TIMEOUT: Duration = Duration::from_secs(5);
/// After the end of the drain, this much is for what is still queued and for closing
/// the store.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);
/// The most connections of the operators' port, which people have.
pub const OPERATOR_CONNECTIONS: u32 = 256;
/// The most bytes of a message that needs no token.
const MAX_OPEN_MESSAGE_BYTES: usize = 1024;

/// A server that is ready to run.
pub struct App {
    inbox: Arc<Inboxes>,
    /// None once it runs.
    sweeper: Option<Sweeper>,
    routers: Routers,
    /// Where operators are served, once it is listened on.
    operators: Option<TcpListener>,
    tls: Option<Arc<tls::Acceptor>>,
    config: Config,
    metrics: metrics::Handle,
    health: HealthReporter,
    ready: watch::Sender<Readiness>,
    verifier: Arc<auth::TokenVerifier>,
}

impl App {
    /// Opens the store and puts the parts together. `local` admits pages of this
    /// machine, for `doorbell dev`.
    pub async fn build(
        config: Config,
        clock: Arc<dyn Clock>,
        random: Arc<dyn Random>,
        local: bool,
    ) -> Result<Self, Error> {
        config.check()?;
        let metrics = metrics::install().map_err(|error| Error::Internal(error.to_string()))?;
        metrics::limits(config.server.max_connections, config.writer.write_queue);
        let tls = match (&config.server.tls_cert_file, &config.server.tls_key_file) {
            (Some(certificate), Some(key)) => Some(tls::Acceptor::load(certificate, key)?),
            _ => None,
        };
        let verifier = auth::TokenVerifier::open(&config.auth, clock.clone(), random.clone())?;
        let verifier = Arc::new(verifier);
        let sharing = match config.bus.nats_url {
            None => Sharing::Alone,
            Some(_) => Sharing::Shared,
        };
        let store = store::open(&config.store, sharing, &*random).await?;
        let bus = match config.bus.nats_url {
            None => Bus::local(&config.feed),
            Some(_) => {
                let hub = bus::hub(&config.feed);
                let database = store.database_id().await?;
                Bus::Nats(Nats::open(&config.bus, database, hub, random.clone()).await?)
            }
        };
        let inbox = Inboxes::new(
            store.clone(),
            bus,
            clock.clone(),
            random.clone(),
            config.feed.clone(),
            &config.writer,
        );
        let content = &config.content;
        let preferences = Arc::new(Preferences::new(store.clone()));
        let sends = Sends::new(
            store.clone(),
            inbox.clone(),
            preferences.clone(),
            clock.clone(),
            config.retention.retention.into(),
        );
        let sends = Arc::new(sends);
        let retractions = Retractions::new(store.clone(), inbox.clone(), clock.clone());
        let retractions = Arc::new(retractions);
        let follow_ups = Arc::new(FollowUps::new(store.clone(), inbox.clone()));
        let operators = Operators::new(store.clone(), inbox.clone());
        let (ready, is_ready) = watch::channel(Err("starting"));
        let node = Node {
            clock: clock.clone(),
            started_at: clock.now(),
            inboxes: inbox.clone(),
            ready: is_ready,
            metrics: metrics.clone(),
            is_shared: !config.store.is_file(),
            has_bus: config.bus.nats_url.is_some(),
        };
        let is_single = config.auth.single_organization.is_some();
        let services = Services {
            own: Service::new(
                inbox.clone(),
                sends.clone(),
                preferences.clone(),
                clock.clone(),
                content.clone(),
            ),
            preferences: grpc::preferences::Service::new(preferences, content.clone()),
            operators: operators::Service::new(operators, node, is_single, content.clone()),
            sends: grpc::sends::Service::new(
                sends.clone(),
                retractions.clone(),
                follow_ups.clone(),
                content.clone(),
            ),
            topics: topics::Service::new(Topics::new(store.clone()), content.clone()),
        };
        let sweeper = Sweeper::new(
            store,
            inbox.clone(),
            clock,
            &*random,
            config.retention.clone(),
        )
        .with(sends)
        .with(retractions)
        .with(follow_ups);
        let health = HealthReporter::new();
        let routers = routers(services, &verifier, &health, random, &config, local)?;
        Ok(Self {
            inbox,
            sweeper: Some(sweeper),
            routers,
            operators: None,
            tls,
            config,
            metrics,
            health,
            ready,
            verifier,
        })
    }

    /// Listens where operators are to be served, and says where that is; nowhere unless it
    /// is set. [`run`](Self::run) serves there.
    pub async fn listen_for_operators(&mut self) -> Result<Option<SocketAddr>, Error> {
        let Some(address) = self.config.http.operator_listen else {
            return Ok(None);
        };
        let listener = listen(address).await?;
        let address = listener.local_addr().unwrap_or(address);
        self.operators = Some(listener);
        Ok(Some(address))
    }

    /// Serves on `listener`, where operators are listened for, and on the metrics address
    /// if there is one, until `shutdown` resolves; then drains, and returns within the
    /// drain timeout.
    pub async fn run(
        mut self,
        listener: TcpListener,
        shutdown: impl Future<Output = ()>,
    ) -> Result<(), Error> {
        // Ends what runs beside the server, however this ends.
        let stop = CancellationToken::new();
        let _stopped = stop.clone().drop_guard();
        self.serve_pages(stop.clone()).await?;
        let metrics = self.metrics.clone();
        tokio::spawn(
            stop.clone()
                .run_until_cancelled_owned(async move { metrics.upkeep().await }),
        );
        let verifier = self.verifier.clone();
        let fresh = stop.clone();
        tokio::spawn(async move { verifier.keep_fresh(fresh).await });
        let monitor = Monitor {
            inbox: self.inbox.clone(),
            verifier: self.verifier.clone(),
            store: self.config.store.clone(),
            health: self.health.clone(),
            ready: self.ready.clone(),
            away: Seldom::new(1),
        };
        monitor.check().await;
        let monitor = AbortOnDropHandle::new(tokio::spawn(monitor.run()));
        let sweeper = self.sweeper.take().map(Sweeper::run);
        let sweeper = sweeper.map(|run| AbortOnDropHandle::new(tokio::spawn(run)));

        let end = Shutdown::new();
        let operators = self.operators.take();
        let settings = ServerSettings {
            max_connections: self.config.server.max_connections.min(OPERATOR_CONNECTIONS),
            ..self.config.server.clone()
        };
        let serve = |listener, router: &Router, settings| {
            server::serve(
                listener,
                router.clone(),
                settings,
                self.tls.clone(),
                Arc::new(connection_observer()),
                end.clone(),
            )
        };
        let served = serve(listener, &self.routers.all, &self.config.server);
        let served = async {
            match operators {
                None => served.await,
                Some(listener) => {
                    let operators = serve(listener, &self.routers.operators, &settings);
                    tokio::join!(served, operators);
                }
            }
        };
        tokio::pin!(served);
        let told_at = tokio::select! {
            () = &mut served => Instant::now(),
            () = shutdown => {
                let told_at = Instant::now();
                // It would say that all is well.
                drop(monitor);
                // What is due has time, and who waits for an answer has not.
                drop(sweeper);
                self.drain(&end, served).await;
                told_at
            }
        };
        // Who queued a write and went away has the whole time as well.
        let server = &self.config.server;
        let within = *server.drain_delay + *server.drain_timeout + CLOSE_TIMEOUT;
        let closed = timeout_at(told_at + within, self.inbox.close()).await;
        if closed.is_err() {
            tracing::warn!("the store did not close in time; what was committed is kept");
        }
        Ok(())
    }

    async fn drain(&self, end: &Shutdown, served: impl Future<Output = ()>) {
        tracing::info!("draining");
        let _ = self.ready.send_replace(Err("draining"));
        metrics::ready(false);
        for service in SERVICES {
            self.health
                .set_service_status(service, ServingStatus::NotServing)
                .await;
        }
        self.inbox.drain(self.config.server.drain_delay.into());
        tokio::pin!(served);
        let delay: Duration = self.config.server.drain_delay.into();
        if timeout(delay, &mut served).await.is_ok() {
            return;
        }
        // Ends the streams of who watches the health.
        for service in SERVICES {
            self.health.clone().clear_service_status(service).await;
        }
        end.drain();
        served.await;
    }

    async fn serve_pages(&self, stop: CancellationToken) -> Result<(), Error> {
        let Some(address) = self.config.http.metrics_listen else {
            return Ok(());
        };
        let listener = listen(address).await?;
        let pages = pages::router(self.metrics.clone(), self.ready.subscribe());
        tokio::spawn(async move { pages::serve(listener, pages, stop.cancelled()).await });
        Ok(())
    }
}

/// Listens on `address`.
pub async fn listen(address: SocketAddr) -> Result<TcpListener, Error> {
    TcpListener::bind(address)
        .await
        .map_err(|error| Error::Listen { address, error })
}

/// Asks the store now and then, and tells health and readiness.
struct Monitor {
    inbox: Arc<Inboxes>,
    verifier: Arc<auth::TokenVerifier>,
    store: StoreSettings,
    health: HealthReporter,
    ready: watch::Sender<Readiness>,
    /// It is away for longer than one look.
    away: Seldom,
}

impl Monitor {
    async fn run(self) {
        loop {
            tokio::time::sleep(CHECK_EVERY).await;
            self.check().await;
        }
    }

    fn say_away(&self, error: &dyn std::fmt::Display) {
        if let Some(times) = self.away.now() {
            tracing::error!(%error, times, "the store does not answer");
        }
    }

    async fn check(&self) {
        let readiness = match timeout(CHECK_TIMEOUT, self.inbox.check()).await {
            Ok(Ok(())) if !self.verifier.has_keys() => {
                Err("there are no keys to verify tokens with yet")
            }
            Ok(Ok(())) => Ok(self.inbox.trouble()),
            Ok(Err(error)) => {
                self.say_away(&error);
                Err("the store does not answer")
            }
            Err(timeout) => {
                self.say_away(&timeout);
                Err("the store does not answer in time")
            }
        };
        metrics::ready(readiness.is_ok());
        metrics::jwks_age(self.verifier.jwks_age().unwrap_or_default());
        metrics::disk_free(store::free_bytes(&self.store).unwrap_or_default());
        if self.ready.send_replace(readiness) == readiness {
            return;
        }
        let serving = ServingStatus::Serving;
        let health = if readiness.is_ok() {
            serving
        } else {
            ServingStatus::NotServing
        };
        for service in SERVICES {
            self.health.set_service_status(service, health).await;
        }
    }
}

/// What answers calls that need a token.
struct Services {
    own: Service,
    preferences: grpc::preferences::Service,
    operators: operators::Service,
    sends: grpc::sends::Service,
    topics: topics::Service,
}

/// What is served on each port.
struct Routers {
    all: Router,
    operators: Router,
}

/// Health needs no token; the rest of the layers is around all calls. Operators have the
/// same calls on a port of their own, which lets in nobody else, and no other origin.
fn routers(
    services: Services,
    verifier: &Arc<auth::TokenVerifier>,
    health: &HealthReporter,
    random: Arc<dyn Random>,
    config: &Config,
    local: bool,
) -> Result<Routers, Error> {
    // tonic refuses a longer message before it reads or unpacks it; `convert` refuses what
    // is above the limit in words.
    let most = convert::most_bytes_of_many(&config.content).saturating_mul(2);
    macro_rules! limited {
        ($server:ident, $service:expr) => {
            route(
                $server::new($service)
                    .max_decoding_message_size(most)
                    .accept_compressed(CompressionEncoding::Gzip),
            )
        };
    }
    let readers = call_limit::Readers::new(
        config.server.max_calls_per_user as usize,
        config.feed.max_streams_per_user,
    );
    let admission = auth::Admission {
        verifier: verifier.clone(),
        refuse: |error| status::of_auth(error).into_http(),
    };
    let services = limited!(NotificationServiceServer, services.own)
        .merge(limited!(OperatorServiceServer, services.operators))
        .merge(limited!(PreferenceServiceServer, services.preferences))
        .merge(limited!(SendServiceServer, services.sends))
        .merge(limited!(TopicServiceServer, services.topics));
    let of_operators = services
        .clone()
        .layer(from_fn(operators::only))
        .layer(from_fn_with_state(admission.clone(), auth::admit));
    let own = services
        .layer(from_fn_with_state(readers, call_limit::of_readers))
        .layer(from_fn_with_state(admission, auth::admit));

    let health = tonic_health::server::HealthService::from_health_reporter(health.clone());
    let health = tonic_health::pb::health_server::HealthServer::new(health);
    let mut open = route(health.max_decoding_message_size(MAX_OPEN_MESSAGE_BYTES));
    if config.http.reflection {
        let builder = || {
            tonic_reflection::server::Builder::configure()
                .register_encoded_file_descriptor_set(proto::FILE_DESCRIPTOR_SET)
                .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
                .register_encoded_file_descriptor_set(tonic_types::pb::FILE_DESCRIPTOR_SET)
        };
        let failed = |error: tonic_reflection::server::Error| Error::Internal(error.to_string());
        let v1 = builder().build_v1().map_err(failed)?;
        let v1alpha = builder().build_v1alpha().map_err(failed)?;
        open = open
            .merge(route(v1.max_decoding_message_size(MAX_OPEN_MESSAGE_BYTES)))
            .merge(route(
                v1alpha.max_decoding_message_size(MAX_OPEN_MESSAGE_BYTES),
            ));
    }
    let places = call_limit::Open::new(|extensions| {
        let peer = extensions.get::<Peer>()?.clone();
        Some((peer.address, Box::new(move || peer.close())))
    });
    let open = open.layer(from_fn_with_state(places, call_limit::of_open));

    let most_parts = convert::most_parts(&config.content);
    let schema = connect::Schema::new(most, MAX_OPEN_MESSAGE_BYTES, most_parts);
    let schema = Arc::new(schema.map_err(|error| Error::Internal(error.to_string()))?);
    let log = CallLog::new(random, |extensions| Some(extensions.get::<Peer>()?.address));
    let layered = |calls: Router| {
        calls
            .layer(from_fn_with_state(schema.clone(), protocol::keep))
            .layer(CatchPanicLayer::custom(|_| {
                status::internal().into_http::<Body>()
            }))
            .layer(from_fn_with_state(log.clone(), call_log::log))
            .layer((connect::Layer::new(schema.clone()), GrpcWebLayer::new()))
    };
    // Its fallback says in gRPC's words that there is no such call.
    let calls = Routes::default().into_axum_router();
    let calls = layered(calls.merge(own).merge(open)).layer(cors::layer(&config.http, local));
    // Beside the layers of the calls: a page is none.
    let all = if config.http.live_page {
        calls.merge(live::router())
    } else {
        calls
    };
    let operators = layered(of_operators).merge(operator_page::router());
    Ok(Routers { all, operators })
}

/// The calls of a service, by its name.
fn route<S>(service: S) -> Router
where
    S: NamedService + tower::Service<http::Request<Body>, Error = Infallible>,
    S: Clone + Send + Sync + 'static,
    S::Response: IntoResponse,
    S::Future: Send + 'static,
{
    Router::new().route_service(&format!("/{}/{{*call}}", S::NAME), service)
}

/// Counts connections.
fn connection_observer() -> impl Fn(ConnectionEvent) + Send + Sync {
    |event| match event {
        ConnectionEvent::Opened => metrics::connection_opened(),
        ConnectionEvent::Closed => metrics::connection_closed(),
        ConnectionEvent::Refused => metrics::connections_refused(1),
    }
}
