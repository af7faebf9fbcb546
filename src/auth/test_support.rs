//! Keys, tokens and a clock for the tests.

use std::{
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use jsonwebtoken::{Algorithm, EncodingKey, Header, jwk::Jwk};
use serde_json::{Value, json};
use tokio::{net::TcpListener, sync::watch, task::JoinSet};

use super::{Caller, Error, TokenVerifier};
use crate::{
    clock::{Clock, Timestamp},
    config::AuthSettings,
    random::SeededRandom,
};

pub(crate) const SECRET: &str = "a secret for tests, long and varied enough";
pub(crate) const NOW: Timestamp = Timestamp::from_seconds(1_000_000);

/// A clock that stands until it is set.
pub(crate) struct ManualClock(AtomicI64);

impl ManualClock {
    pub(crate) fn new(now: Timestamp) -> Arc<Self> {
        Arc::new(Self(AtomicI64::new(now.as_micros())))
    }

    pub(crate) fn set(&self, now: Timestamp) {
        self.0.store(now.as_micros(), Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_micros(self.0.load(Ordering::SeqCst))
    }
}

pub(crate) fn fixture_path(file: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures/auth")
        .join(file)
}

pub(crate) fn fixture(file: &str) -> Vec<u8> {
    std::fs::read(fixture_path(file)).unwrap()
}

/// The private key of a fixture, by its name.
pub(crate) fn private_key(file: &str) -> (Algorithm, EncodingKey) {
    let pem = fixture(file);
    match file.split('-').next() {
        Some("rsa") => (Algorithm::RS256, EncodingKey::from_rsa_pem(&pem).unwrap()),
        Some("ec") => (Algorithm::ES256, EncodingKey::from_ec_pem(&pem).unwrap()),
        _ => (Algorithm::EdDSA, EncodingKey::from_ed_pem(&pem).unwrap()),
    }
}

/// The public half of a private key, as a JWK.
pub(crate) fn jwk(file: &str, id: Option<&str>) -> Value {
    let (algorithm, key) = private_key(file);
    let mut jwk = Jwk::from_encoding_key(&key, algorithm).unwrap();
    jwk.common.key_id = id.map(Into::into);
    serde_json::to_value(jwk).unwrap()
}

/// A JWKS of the public halves of these keys, with these ids.
pub(crate) fn jwks(keys: &[(&str, &str)]) -> String {
    let keys: Vec<Value> = keys.iter().map(|(file, id)| jwk(file, Some(id))).collect();
    json!({ "keys": keys }).to_string()
}

/// A good user's claims, for a minute.
pub(crate) fn claims() -> Value {
    json!({"organizationId": "acme", "userId": "ann", "exp": NOW.as_micros() / 1_000_000 + 60})
}

pub(crate) fn signed_with_secret(claims: &Value) -> String {
    let key = EncodingKey::from_secret(SECRET.as_bytes());
    jsonwebtoken::encode(&Header::new(Algorithm::HS256), claims, &key).unwrap()
}

/// Signed with the private key of a fixture.
pub(crate) fn signed_with(file: &str, id: Option<&str>, claims: &Value) -> String {
    let (algorithm, key) = private_key(file);
    let mut header = Header::new(algorithm);
    header.kid = id.map(Into::into);
    jsonwebtoken::encode(&header, claims, &key).unwrap()
}

pub(crate) fn user_token() -> String {
    signed_with_secret(&claims())
}

pub(crate) fn verifier_of(settings: &AuthSettings, now: Timestamp) -> TokenVerifier {
    let random = Arc::new(SeededRandom::new(1));
    TokenVerifier::open(settings, ManualClock::new(now), random).unwrap()
}

/// Verifies what [`SECRET`] signs.
pub(crate) fn verifier(now: Timestamp) -> TokenVerifier {
    let settings = AuthSettings {
        jwt_secret: Some(SECRET.into()),
        ..AuthSettings::default()
    };
    verifier_of(&settings, now)
}

/// The caller of a token, as the layer finds it.
pub(crate) async fn verify(verifier: &TokenVerifier, token: &str) -> Result<Arc<Caller>, Error> {
    match verifier.verify_now(token) {
        Err(Error::KeysUnavailable) => verifier.verify_again(token).await,
        other => other,
    }
}

/// base64url without padding, for tokens that no library would make.
pub(crate) fn base64url(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let group = chunk
            .iter()
            .fold(0_u32, |group, byte| group << 8 | u32::from(*byte));
        let group = group << (8 * (3 - chunk.len()));
        for place in 0..=chunk.len() {
            let index = group >> (18 - 6 * place) & 63;
            text.push(char::from(ALPHABET[index as usize]));
        }
    }
    text
}

/// A server of a JWKS on a loopback port. It ends when it is dropped.
pub(crate) struct KeyServer {
    pub(crate) url: String,
    answer: Arc<Mutex<Answer>>,
    /// How many requests it answered.
    pub(crate) served: watch::Receiver<usize>,
    tasks: JoinSet<()>,
}

/// What a [`KeyServer`] says.
#[derive(Clone)]
pub(crate) enum Answer {
    Text(String),
    Status(u16),
    Redirect(String),
    Nothing,
}

impl KeyServer {
    pub(crate) async fn start(answer: Answer) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let url = format!("http://{}/jwks", listener.local_addr().unwrap());
        let answer = Arc::new(Mutex::new(answer));
        let (count, served) = watch::channel(0);
        let said = Arc::clone(&answer);
        let count = Arc::new(count);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let said = Arc::clone(&said);
                let count = Arc::clone(&count);
                let service = service_fn(move |_| {
                    let answer = said.lock().unwrap().clone();
                    count.send_modify(|count| *count += 1);
                    async move {
                        let response = http::Response::builder();
                        let response = match answer {
                            Answer::Text(text) => response.body(text),
                            Answer::Status(status) => response.status(status).body(String::new()),
                            Answer::Redirect(to) => response
                                .status(302)
                                .header("location", to)
                                .body(String::new()),
                            Answer::Nothing => std::future::pending().await,
                        };
                        Ok::<_, std::convert::Infallible>(response.unwrap())
                    }
                });
                connections.spawn(async move {
                    let connection = hyper::server::conn::http1::Builder::new();
                    let connection = connection.serve_connection(TokioIo::new(stream), service);
                    // The client may go away at any time.
                    let _: Result<(), hyper::Error> = connection.await;
                });
            }
        });
        Self {
            url,
            answer,
            served,
            tasks,
        }
    }

    pub(crate) fn say(&self, answer: Answer) {
        *self.answer.lock().unwrap() = answer;
    }

    /// Waits until it has answered `count` requests.
    pub(crate) async fn has_served(&self, count: usize) {
        let mut served = self.served.clone();
        let enough = served.wait_for(|served| *served >= count);
        let within = tokio::time::timeout(Duration::from_secs(30), enough).await;
        within.expect("it is not asked").unwrap();
    }

    pub(crate) fn count(&self) -> usize {
        assert!(!self.tasks.is_empty());
        *self.served.borrow()
    }
}
