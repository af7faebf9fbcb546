//! Who calls: verifies tokens, and says what their bearer may do.
//!
//! A token is a JWT, signed with HS256, RS256, ES256 or EdDSA by one of the
//! configured keys, each of which serves one algorithm. A [`Caller`] exists only
//! for a token that was verified. `exp` is required, has no leeway, and is
//! checked against the injected clock at every use, also where the token was
//! verified before. Verified tokens are remembered until they expire or the keys
//! change, so that a hot caller does not pay for the signature again.
//!
//! A token whose key is not known is refused for good only once the published keys
//! are certain to be newer than it: until then its caller is to come back.
//!
//! What is not here: revoking single tokens (make them short-lived), and keys
//! that a token itself points to or brings along: `jku`, `jwk`, `x5u` and `x5c` are
//! not looked at.

mod admission;
mod claims;
pub mod inspection;
mod jwks;
mod keys;
pub mod mint;

use std::{borrow::Cow, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::Algorithm;
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};
use tokio_util::sync::CancellationToken;

pub use self::{
    admission::{Admission, admit},
    claims::{Caller, MAX_SUBJECT_BYTES, Right, Rules, Scope},
    keys::{MIN_SECRET_BYTES, Secret},
};
use self::{
    claims::Verified,
    jwks::{Jwks, Timing},
    keys::{Key, MAX_TRIES, Published},
};
use crate::{
    clock::{Clock, Timestamp},
    config::{self, AuthSettings},
    random::Random,
};

/// So long after a token was made a JWKS may still come without its key: it stands in
/// a cache on its way, and clocks differ.
const PUBLISHING: Duration = Duration::from_secs(60);

const NOT_SIGNED: Error = Error::Invalid(Cow::Borrowed(
    "it is not signed by a key that is known, with that key's algorithm",
));

/// How many tokens of unknown keys that do not say when they were made are remembered
/// by when they came first, and for how long.
const STRANGERS: u64 = 1024;
const STRANGER_LIFETIME: Duration = Duration::from_secs(10 * 60);

/// Why a call has no caller.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// It brings no token.
    #[error("there is no token: send the metadata `authorization: Bearer <token>`")]
    Missing,
    /// Its token is no good, for a reason that does not repeat the token.
    #[error("the token is not valid: {0}")]
    Invalid(Cow<'static, str>),
    /// Its token was good once.
    #[error("the token has expired")]
    Expired,
    /// The JWKS has not been read, or not since there may be a key for this token:
    /// this passes.
    #[error("the key that verifies this token is not there yet: try again")]
    KeysUnavailable,
}

/// Turns tokens into [`Caller`]s.
pub struct TokenVerifier {
    rules: Rules,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    ring: ArcSwap<Ring>,
    remembered: moka::sync::Cache<Digest, Remembered>,
    strangers: moka::sync::Cache<Digest, Timestamp>,
    jwks: Option<Jwks>,
}

/// The SHA-256 of a token.
type Digest = [u8; 32];

/// The keys of one moment.
struct Ring {
    /// Another one for other keys.
    generation: u64,
    /// From the secret and the PEM file.
    fixed: Arc<[Key]>,
    /// From the JWKS, once it was read, and when that reading began.
    published: Option<(Arc<Published>, Timestamp)>,
}

/// A verified token.
#[derive(Clone)]
struct Remembered {
    verified: Verified,
    /// Of the keys that verified it. A verification that began with keys which
    /// were replaced meanwhile may be remembered late; this tells it.
    generation: u64,
    lifetime: Duration,
}

struct UntilExpiry;

impl moka::Expiry<Digest, Remembered> for UntilExpiry {
    fn expire_after_create(
        &self,
        _: &Digest,
        remembered: &Remembered,
        _: std::time::Instant,
    ) -> Option<Duration> {
        Some(remembered.lifetime)
    }
}

impl TokenVerifier {
    /// A verifier of these settings. Files are read here and now; a JWKS from a
    /// URL comes with [`keep_fresh`](Self::keep_fresh).
    pub fn open(
        settings: &AuthSettings,
        clock: Arc<dyn Clock>,
        random: Arc<dyn Random>,
    ) -> Result<Self, config::Error> {
        let timing = Timing::new(*settings.jwks_refresh_interval);
        Self::open_timed(settings, clock, random, timing)
    }

    fn open_timed(
        settings: &AuthSettings,
        clock: Arc<dyn Clock>,
        random: Arc<dyn Random>,
        timing: Timing,
    ) -> Result<Self, config::Error> {
        let rules = Rules::new(settings)?;
        let mut fixed = Vec::new();
        if let Some(secret) = Secret::load(settings)? {
            fixed.push(Key::from_secret(&secret));
        }
        if let Some(path) = &settings.jwt_public_key_file {
            fixed.push(keys::read_file("jwt-public-key-file", path, Key::from_pem)?);
        }
        let (jwks, published) = match &settings.jwks {
            None => (None, None),
            Some(place) => {
                let (jwks, published) = Jwks::open(place, timing)?;
                (Some(jwks), published)
            }
        };
        if fixed.is_empty() && jwks.is_none() {
            return Err(config::Error::new(
                "jwt-secret",
                "is not set, so there is no key to verify tokens with: set it, or \
                 DOORBELL_JWT_SECRET_FILE, DOORBELL_JWT_PUBLIC_KEY_FILE or DOORBELL_JWKS",
            ));
        }
        let verifier = Self {
            rules,
            clock,
            random,
            ring: ArcSwap::from_pointee(Ring {
                generation: 0,
                fixed: fixed.into(),
                published: None,
            }),
            remembered: moka::sync::Cache::builder()
                .max_capacity(settings.token_cache_size)
                .expire_after(UntilExpiry)
                .build(),
            strangers: moka::sync::Cache::builder()
                .max_capacity(STRANGERS)
                .time_to_live(STRANGER_LIFETIME)
                .build(),
            jwks,
        };
        if let Some(published) = published {
            verifier.publish(published, verifier.clock.now());
        }
        Ok(verifier)
    }

    /// Whether there is a key to verify a token with; a JWKS may be still to come.
    pub fn has_keys(&self) -> bool {
        let ring = self.ring.load();
        !ring.fixed.is_empty() || ring.published.is_some()
    }

    /// How long ago the last reading of the JWKS began that went well; `None` where there
    /// is no JWKS, or none was read yet.
    pub fn jwks_age(&self) -> Option<Duration> {
        let ring = self.ring.load();
        let (_, read_at) = ring.published.as_ref()?;
        Some(self.clock.now().since(*read_at))
    }

    /// The caller of a token, by the keys that are known; never waits.
    pub fn verify_now(&self, token: &str) -> Result<Arc<Caller>, Error> {
        let ring = self.ring.load();
        let now = self.clock.now();
        let digest: Digest = Sha256::digest(token).into();
        if let Some(remembered) = self.remembered.get(&digest)
            && remembered.generation == ring.generation
        {
            return Ok(Arc::clone(remembered.verified.at(now)?));
        }
        let claims = self.claims_of(token, digest, &ring, now)?;
        let verified = self.rules.read(&claims)?;
        let caller = Arc::clone(verified.at(now)?);
        let remembered = Remembered {
            verified,
            generation: ring.generation,
            lifetime: caller.expires_at.since(now),
        };
        self.remembered.insert(digest, remembered);
        Ok(caller)
    }

    /// The caller of a token that [`verify_now`](Self::verify_now) has no key for. It
    /// waits a moment for the JWKS to be read again, which is done at most once in ten
    /// seconds for all.
    pub async fn verify_again(&self, token: &str) -> Result<Arc<Caller>, Error> {
        if let Some(jwks) = &self.jwks {
            jwks.ask().await;
        }
        self.verify_now(token)
    }

    /// Reads the JWKS again and again until `stop`; returns at once where there
    /// is none. To be run once, beside the server.
    pub async fn keep_fresh(&self, stop: CancellationToken) {
        let Some(jwks) = &self.jwks else {
            return;
        };
        let reading = async {
            let (mut last, mut told) = (None, None);
            loop {
                jwks.due(last, &*self.random).await;
                let begun = self.clock.now();
                let read = jwks.read().await;
                last = Some(read.is_ok());
                match read {
                    Ok(published) => {
                        self.publish(published, begun);
                        told = None;
                    }
                    // The same again is no news.
                    Err(error) if told.as_ref() == Some(&error) => {}
                    Err(error) => {
                        let place = jwks.place();
                        tracing::warn!(%place, %error, "the JWKS was not read; known keys stay");
                        told = Some(error);
                    }
                }
                jwks.finish();
            }
        };
        let _: Option<std::convert::Infallible> = stop.run_until_cancelled(reading).await;
        jwks.close();
    }

    /// The claims of a token that a key of `ring` signed.
    fn claims_of(
        &self,
        token: &str,
        digest: Digest,
        ring: &Ring,
        now: Timestamp,
    ) -> Result<Map<String, Value>, Error> {
        let invalid = |reason: &'static str| Error::Invalid(reason.into());
        let no_jwt = || invalid("it is no JWT that is signed with a supported algorithm");
        let (message, signature) = token.rsplit_once('.').ok_or_else(no_jwt)?;
        let (header, payload) = message.split_once('.').ok_or_else(no_jwt)?;
        let header = object(header).ok_or_else(no_jwt)?;
        let algorithm = match header.get("alg").and_then(Value::as_str) {
            Some("HS256") => Algorithm::HS256,
            Some("RS256") => Algorithm::RS256,
            Some("ES256") => Algorithm::ES256,
            Some("EdDSA" | "Ed25519") => Algorithm::EdDSA,
            _ => return Err(no_jwt()),
        };
        // What must be understood, and is not.
        if header.contains_key("crit") {
            return Err(invalid("its header has `crit`, which is not supported"));
        }
        let id = match header.get("kid") {
            None | Some(Value::Null) => None,
            Some(Value::String(id)) => Some(id.as_str()),
            Some(_) => return Err(no_jwt()),
        };
        let signature = URL_SAFE_NO_PAD.decode(signature).map_err(|_| no_jwt())?;

        let published = ring.published.as_ref();
        let published_keys = published.map_or(&[][..], |(published, _)| &published.keys);
        let mut candidates = ring.fixed.iter().chain(published_keys).filter(|key| {
            // A key without an id may be meant by any `kid`.
            let is_meant = key.id.is_none() || id.is_none() || key.id.as_deref() == id;
            key.algorithm == algorithm && is_meant
        });
        let signed = |key: &Key| key.signed(message.as_bytes(), &signature);
        if candidates.by_ref().take(MAX_TRIES).any(signed) {
            return object(payload).ok_or_else(|| invalid("its claims are malformed"));
        }
        if candidates.next().is_some() {
            return Err(invalid("it must name its key (`kid`): there are many"));
        }

        let is_known = published_keys.iter().any(|key| key.id.as_deref() == id);
        let is_fixed = self.jwks.is_none() || algorithm == Algorithm::HS256;
        let Some((_, read_at)) = published.filter(|_| !is_fixed) else {
            // Nothing can be published for it, or nothing was yet.
            return Err(if is_fixed {
                NOT_SIGNED
            } else {
                Error::KeysUnavailable
            });
        };
        if id.is_none() || is_known {
            return Err(NOT_SIGNED);
        }
        // It may lie about this: then its caller is told to come back, and no more.
        let made = object(payload).and_then(|claims| claims::seconds(&claims, "iat").ok()?);
        let made = made.unwrap_or_else(|| self.strangers.get_with(digest, || now));
        if read_at.since(made.min(now)) < PUBLISHING {
            return Err(Error::KeysUnavailable);
        }
        Err(invalid("it names a key that is not known (`kid`)"))
    }

    /// Takes the keys of a JWKS, the reading of which began at `begun`, in place of the
    /// former ones. Called by one task at a time.
    fn publish(&self, published: Published, begun: Timestamp) {
        let old = self.ring.load();
        let (published, generation) = match &old.published {
            Some((same, _)) if **same == published => (Arc::clone(same), old.generation),
            _ => (Arc::new(published), old.generation + 1),
        };
        if let Some(jwks) = &self.jwks
            && generation != old.generation
        {
            let place = jwks.place();
            for reason in &published.left_out {
                tracing::warn!(%place, %reason, "a key of the JWKS is left out");
            }
            tracing::info!(%place, keys = published.keys.len(), "the JWKS has new keys");
        }
        self.ring.store(Arc::new(Ring {
            generation,
            fixed: Arc::clone(&old.fixed),
            published: Some((published, begun)),
        }));
        if generation != old.generation {
            // For the memory; what makes them count no more is the generation.
            self.remembered.invalidate_all();
        }
    }
}

/// The JSON object that is written in base64url.
fn object(text: &str) -> Option<Map<String, Value>> {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(text).ok()?).ok()
}

#[cfg(test)]
pub(crate) mod test_support;
#[cfg(test)]
mod tests;
