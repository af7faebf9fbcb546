//! One call by a connection of its own, seen as what it is on the way: headers, versions,
//! frames and when they come. A client library hides what a proxy does to them.

use std::{fmt, sync::Arc, time::Duration};

use bytes::{Buf as _, Bytes, BytesMut};
use http::{HeaderMap, Request, Response, Uri, Version, header};
use http_body_util::{BodyExt as _, Full};
use hyper::{
    body::Incoming,
    client::conn::{http1, http2},
};
use hyper_rustls::ConfigBuilderExt as _;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::{ClientConfig, RootCertStore, crypto::aws_lc_rs};
use rustls_pki_types::{CertificateDer, ServerName, pem::PemObject as _};
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::TlsConnector;

use crate::{cli::text::with_causes, server::tls};

/// A connection must be there, and an answer begin, within so long.
pub(super) const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// Of a compressed body, so many bytes may be its beginning alone.
const COMPRESSED_HEAD_BYTES: usize = 32;
/// A message of a stream that is longer is none of ours.
const MAX_MESSAGE_BYTES: usize = 8 << 20;
const SERVICE: &str = "/doorbell.v1.NotificationService/";

/// How a call is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    /// As backends do: HTTP/2 and nothing else.
    Grpc,
    /// As pages do: HTTP/2 where there is TLS and the other side offers it.
    GrpcWeb,
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Grpc => "gRPC",
            Self::GrpcWeb => "gRPC-web",
        })
    }
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Problem {
    /// Nobody is to be connected to.
    Away(String),
    /// The certificate, or something else of TLS.
    Tls(String),
    /// The other side does not speak HTTP/2.
    NoHttp2(String),
    /// The connection ended, or nothing came.
    NoAnswer(String),
}

/// Where the service is reached.
pub(super) struct Target {
    uri: Uri,
    host: String,
    port: u16,
    /// None: in the clear.
    roots: Option<RootsOrNative>,
}

type RootsOrNative = Option<RootCertStore>;

impl Target {
    /// Reads `http://host[:port]` or `https://host[:port]`; `ca_pem` is trusted in place of
    /// the system's certificates.
    pub(super) fn new(url: &str, ca_pem: Option<&[u8]>) -> Result<Self, String> {
        let uri: Uri = url.parse().map_err(|_| "is no URL".to_owned())?;
        let is_tls = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return Err("must begin with http:// or https://".into()),
        };
        if uri.authority().is_some_and(|it| it.as_str().contains('@')) {
            return Err("must not contain a user or a password".into());
        }
        if !matches!(uri.path(), "" | "/") || uri.query().is_some() {
            return Err("must end after the host and the port".into());
        }
        let host = uri.host().unwrap_or_default();
        let host = host
            .trim_start_matches('[')
            .trim_end_matches(']')
            .to_owned();
        let port = uri.port_u16().unwrap_or(if is_tls { 443 } else { 80 });
        let roots = match ca_pem {
            _ if !is_tls => None,
            None => Some(None),
            Some(pem) => {
                let mut roots = RootCertStore::empty();
                for certificate in CertificateDer::pem_slice_iter(pem) {
                    let added = certificate
                        .map_err(|error| error.to_string())
                        .and_then(|it| roots.add(it).map_err(|error| error.to_string()));
                    added.map_err(|error| format!("cannot be trusted by --ca-file: {error}"))?;
                }
                Some(Some(roots))
            }
        };
        Ok(Self {
            uri,
            host,
            port,
            roots,
        })
    }

    fn tls(&self, roots: &RootsOrNative, protocol: Protocol) -> Result<TlsConnector, String> {
        let config = ClientConfig::builder_with_provider(aws_lc_rs::default_provider().into())
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?;
        let config = match roots {
            Some(roots) => config.with_root_certificates(roots.clone()),
            None => config
                .with_native_roots()
                .map_err(|error| error.to_string())?,
        };
        let mut config = config.with_no_client_auth();
        config.alpn_protocols = match protocol {
            Protocol::Grpc => vec![b"h2".to_vec()],
            Protocol::GrpcWeb => vec![b"h2".to_vec(), b"http/1.1".to_vec()],
        };
        Ok(Arc::new(config).into())
    }

    async fn connect(&self, protocol: Protocol) -> Result<Connection, Problem> {
        let address = (self.host.as_str(), self.port);
        let stream = timeout(CALL_TIMEOUT, TcpStream::connect(address)).await;
        let stream = stream
            .map_err(|_| Problem::Away(format!("no connection within {CALL_TIMEOUT:?}")))?
            .map_err(|error| Problem::Away(with_causes(&error)))?;
        // A client that waits for more to send would be late.
        let _ = stream.set_nodelay(true);
        let Some(roots) = &self.roots else {
            let is_http2 = protocol == Protocol::Grpc;
            return Connection::over(TokioIo::new(stream), is_http2, None).await;
        };
        let tls = self.tls(roots, protocol).map_err(Problem::Tls)?;
        let name = ServerName::try_from(self.host.clone());
        let name = name.map_err(|error| Problem::Tls(error.to_string()))?;
        let stream = timeout(CALL_TIMEOUT, tls.connect(name, stream)).await;
        let stream = stream
            .map_err(|_| Problem::Tls(format!("no handshake within {CALL_TIMEOUT:?}")))?
            .map_err(|error| {
                let text = error.to_string();
                // What a server says that has none of the protocols that it was offered.
                if text
                    .to_lowercase()
                    .replace(' ', "")
                    .contains("noapplicationprotocol")
                {
                    Problem::NoHttp2("it says so in the TLS handshake".into())
                } else {
                    Problem::Tls(text)
                }
            })?;
        let (_, session) = stream.get_ref();
        let is_http2 = session.alpn_protocol() == Some(b"h2");
        let certificates = session.peer_certificates().unwrap_or_default();
        let ends = certificates.first().and_then(tls::end_of);
        if protocol == Protocol::Grpc && !is_http2 {
            return Err(Problem::NoHttp2(
                "it does not offer it in the TLS handshake".into(),
            ));
        }
        Connection::over(TokioIo::new(stream), is_http2, ends).await
    }

    /// Makes a call, and answers when its headers are there. Its connection lives as long
    /// as what it answers.
    pub(super) async fn call(
        &self,
        protocol: Protocol,
        method: &str,
        message: &[u8],
        token: Option<&str>,
    ) -> Result<Answer, Problem> {
        let mut connection = self.connect(protocol).await?;
        let content_type = match protocol {
            Protocol::Grpc => "application/grpc",
            Protocol::GrpcWeb => "application/grpc-web+proto",
        };
        let mut request =
            Request::post(format!("{SERVICE}{method}")).header(header::CONTENT_TYPE, content_type);
        if let Some(token) = token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {}", token.trim()));
        }
        request = match protocol {
            Protocol::Grpc => request.header(header::TE, "trailers"),
            // As every browser does.
            Protocol::GrpcWeb => request
                .header("x-grpc-web", "1")
                .header(header::ACCEPT, content_type)
                .header(header::ACCEPT_ENCODING, "gzip, deflate, br"),
        };
        let mut framed = vec![0];
        framed.extend(
            u32::try_from(message.len())
                .unwrap_or(u32::MAX)
                .to_be_bytes(),
        );
        framed.extend(message);
        let no_answer = |error: &dyn fmt::Display| Problem::NoAnswer(error.to_string());
        let mut request = request
            .body(Full::new(Bytes::from(framed)))
            .map_err(|error| no_answer(&error))?;
        let authority = self.uri.authority().map_or("", |it| it.as_str());
        let answered = async {
            match &mut connection.sender {
                Sender::Http1(sender) => {
                    let host = authority.parse();
                    let host = host.map_err(|_| Problem::NoAnswer("no such host".into()))?;
                    request.headers_mut().insert(header::HOST, host);
                    let sent = sender.send_request(request).await;
                    sent.map_err(|error| no_answer(&with_causes(&error)))
                }
                Sender::Http2(sender) => {
                    let path = request.uri().path();
                    let scheme = self.uri.scheme_str().unwrap_or_default();
                    let uri = Uri::builder().scheme(scheme).authority(authority);
                    let uri = uri.path_and_query(path).build();
                    *request.uri_mut() = uri.map_err(|error| no_answer(&error))?;
                    let sent = sender.send_request(request).await;
                    sent.map_err(|error| match self.roots {
                        // In the clear nobody was asked before whether they speak it.
                        None => Problem::NoHttp2(with_causes(&error)),
                        Some(_) => no_answer(&with_causes(&error)),
                    })
                }
            }
        };
        let answered = timeout(CALL_TIMEOUT, answered).await;
        let response = answered
            .map_err(|_| Problem::NoAnswer(format!("no answer within {CALL_TIMEOUT:?}")))??;
        Ok(Answer::new(response, connection))
    }
}

enum Sender {
    Http1(http1::SendRequest<Full<Bytes>>),
    Http2(http2::SendRequest<Full<Bytes>>),
}

struct Connection {
    sender: Sender,
    /// When the other side's certificate ends, in seconds since the Unix epoch.
    certificate_ends: Option<u64>,
}

impl Connection {
    async fn over<S>(
        stream: TokioIo<S>,
        is_http2: bool,
        certificate_ends: Option<u64>,
    ) -> Result<Self, Problem>
    where
        S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
    {
        // How a connection ends is told by the call on it.
        let sender = if is_http2 {
            let made = http2::handshake(TokioExecutor::new(), stream).await;
            let (sender, connection) =
                made.map_err(|error| Problem::NoHttp2(with_causes(&error)))?;
            tokio::spawn(connection);
            Sender::Http2(sender)
        } else {
            let made = http1::handshake(stream).await;
            let (sender, connection) =
                made.map_err(|error| Problem::NoAnswer(with_causes(&error)))?;
            tokio::spawn(connection);
            Sender::Http1(sender)
        };
        Ok(Self {
            sender,
            certificate_ends,
        })
    }
}

/// How a call ended, as gRPC says it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Status {
    pub(super) code: u32,
    pub(super) message: String,
}

impl Status {
    fn of(headers: &HeaderMap) -> Option<Self> {
        let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
        Some(Self {
            code: text("grpc-status")?.trim().parse().ok()?,
            message: text("grpc-message").unwrap_or_default().trim().to_owned(),
        })
    }
}

/// What a call says next.
#[derive(Debug)]
pub(super) enum Said {
    /// A message; none of a compressed body, which is not looked into.
    Message(Option<Bytes>),
    /// Its end, with a status where one came.
    End(Option<Status>),
}

/// An answer, as far as it has come.
pub(super) struct Answer {
    pub(super) http_status: http::StatusCode,
    pub(super) version: Version,
    pub(super) headers: HeaderMap,
    pub(super) certificate_ends: Option<u64>,
    body: Incoming,
    waiting: BytesMut,
    trailers: Option<Status>,
    /// The call ends with its connection.
    _connection: Connection,
}

impl Answer {
    fn new(response: Response<Incoming>, connection: Connection) -> Self {
        let (parts, body) = response.into_parts();
        Self {
            http_status: parts.status,
            version: parts.version,
            // An answer without a message has its status here.
            trailers: Status::of(&parts.headers),
            headers: parts.headers,
            certificate_ends: connection.certificate_ends,
            body,
            waiting: BytesMut::new(),
            _connection: connection,
        }
    }

    fn header(&self, name: header::HeaderName) -> &str {
        let value = self.headers.get(name);
        value
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
    }

    /// Whether it is one of gRPC at all.
    pub(super) fn is_grpc(&self) -> bool {
        self.http_status == http::StatusCode::OK
            && self.content_type().starts_with("application/grpc")
    }

    pub(super) fn content_type(&self) -> &str {
        self.header(header::CONTENT_TYPE)
    }

    /// How it was compressed on the way; Doorbell does not.
    pub(super) fn encoding(&self) -> Option<&str> {
        match self.header(header::CONTENT_ENCODING) {
            "" | "identity" => None,
            encoding => Some(encoding),
        }
    }

    pub(super) fn date(&self) -> Option<&str> {
        match self.header(header::DATE) {
            "" => None,
            date => Some(date),
        }
    }

    /// Waits for what comes next, however long. Cancel safe.
    pub(super) async fn next(&mut self) -> Result<Said, String> {
        loop {
            if let Some(said) = self.take()? {
                return Ok(said);
            }
            match self.body.frame().await {
                None => return Ok(Said::End(self.trailers.take())),
                Some(Err(error)) => return Err(with_causes(&error)),
                Some(Ok(frame)) => {
                    if let Some(trailers) = frame.trailers_ref() {
                        self.trailers = Status::of(trailers).or(self.trailers.take());
                    }
                    if let Ok(data) = frame.into_data() {
                        self.waiting.extend_from_slice(&data);
                    }
                }
            }
        }
    }

    /// What is there as a whole.
    fn take(&mut self) -> Result<Option<Said>, String> {
        const IS_TRAILERS: u8 = 0x80;
        if self.encoding().is_some() {
            let is_something = self.waiting.len() > COMPRESSED_HEAD_BYTES;
            return Ok(is_something.then(|| {
                self.waiting.clear();
                Said::Message(None)
            }));
        }
        let Some((head, rest)) = self.waiting.split_first_chunk::<5>() else {
            return Ok(None);
        };
        let [flags, length @ ..] = *head;
        let length = u32::from_be_bytes(length) as usize;
        if length > MAX_MESSAGE_BYTES {
            return Err("what comes is not gRPC".into());
        }
        if rest.len() < length {
            return Ok(None);
        }
        self.waiting.advance(head.len());
        let message = self.waiting.split_to(length).freeze();
        if flags & IS_TRAILERS == 0 {
            return Ok(Some(Said::Message(Some(message))));
        }
        let text = String::from_utf8_lossy(&message).into_owned();
        let mut trailers = HeaderMap::new();
        for (name, value) in text.lines().filter_map(|line| line.split_once(':')) {
            if let (Ok(name), Ok(value)) = (
                name.trim().parse::<header::HeaderName>(),
                value.trim().parse(),
            ) {
                trailers.insert(name, value);
            }
        }
        Ok(Some(Said::End(Status::of(&trailers))))
    }
}
