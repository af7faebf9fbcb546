//! Who calls: verifies tokens, and says what their bearer may do.
//!
//! A token is a JWT, signed with HS256, RS256, ES256 or EdDSA by one of the
//! configured keys, each of which serves one algorithm. A [`Caller`] exists only
//! for a token that was verified. `exp` is required, has no leeway, and is
//! checked against the injected clock at every use, also where the token was
//! verified before. Verified tokens are remembered until they expire or the keys
//! change, so that a hot caller does not pay for the signature again.
//!
//! What is not here: revoking single tokens (make them short-lived), and keys
//! that a token itself points to or brings along.

mod claims;
mod jwks;
mod keys;
mod layer;
pub mod mint;

use std::{borrow::Cow, path::PathBuf, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use jsonwebtoken::Algorithm;
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};
use tokio_util::sync::CancellationToken;

use self::{
    claims::Verified,
    jwks::{Jwks, Timing},
    keys::{Key, Mismatch, Published},
};
pub use self::{
    claims::{ANY_ORGANIZATION, Caller, MAX_SUBJECT_BYTES, Right, Rules, Scope},
    keys::{MIN_SECRET_BYTES, Secret},
    layer::{Authenticated, Layer, MAX_HEADER_BYTES},
};
use crate::{clock::Clock, config::AuthSettings, random::Random};

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
    /// The JWKS was never read yet: this passes.
    #[error("the keys that verify tokens are not there yet: try again")]
    KeysUnavailable,
}

/// Why these settings make no verifier.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// Nothing to verify tokens with.
    #[error(
        "there is no key to verify tokens with: set one of DOORBELL_JWT_SECRET, \
         DOORBELL_JWT_SECRET_FILE, DOORBELL_JWT_PUBLIC_KEY_FILE and DOORBELL_JWKS"
    )]
    NoKey,
    /// The secret and its file.
    #[error("DOORBELL_JWT_SECRET and DOORBELL_JWT_SECRET_FILE are both set: set one of them")]
    SecretTwice,
    /// A secret of so many bytes.
    #[error(
        "the JWT secret is too weak: it has {0} bytes and needs at least {MIN_SECRET_BYTES} \
         (openssl rand -base64 48)"
    )]
    ShortSecret(usize),
    /// A secret of nearly one byte.
    #[error(
        "the JWT secret is too weak: it repeats a few characters; take a random one \
         (openssl rand -base64 48)"
    )]
    UniformSecret,
    /// A setting that is there and says nothing.
    #[error("{0} is set, but empty")]
    Empty(&'static str),
    /// Two claims that cannot be told apart.
    #[error(
        "DOORBELL_JWT_ORGANIZATION_CLAIM, DOORBELL_JWT_USER_CLAIM and DOORBELL_JWT_ROLE_CLAIM \
         must name three different claims"
    )]
    SameClaim,
    /// A file of keys.
    #[error("the file {} {problem}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// The place of the JWKS.
    #[error("DOORBELL_JWKS {0}")]
    Jwks(&'static str),
}

/// Why a look at the known keys found no caller.
enum Pending {
    /// That is final.
    No(Error),
    /// It is, unless there are other keys than those of this generation.
    UnlessReadAgain { error: Error, generation: u64 },
}

impl Pending {
    fn into_error(self) -> Error {
        match self {
            Self::No(error) | Self::UnlessReadAgain { error, .. } => error,
        }
    }
}

impl From<Error> for Pending {
    fn from(error: Error) -> Self {
        Self::No(error)
    }
}

/// Turns tokens into [`Caller`]s.
pub struct TokenVerifier {
    rules: Rules,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    ring: ArcSwap<Ring>,
    remembered: moka::sync::Cache<[u8; 32], Remembered>,
    jwks: Option<Jwks>,
}

/// The keys of one moment.
struct Ring {
    /// Another one for other keys.
    generation: u64,
    /// From the secret and the PEM file.
    fixed: Arc<[Key]>,
    /// From the JWKS, once it was read.
    published: Option<Published>,
}

/// A verified token, by the SHA-256 of it.
#[derive(Clone)]
struct Remembered {
    verified: Verified,
    /// Of the keys that verified it. A verification that began with keys which
    /// were replaced meanwhile may be remembered late; this tells it.
    generation: u64,
    lifetime: Duration,
}

struct UntilExpiry;

impl moka::Expiry<[u8; 32], Remembered> for UntilExpiry {
    fn expire_after_create(
        &self,
        _: &[u8; 32],
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
    ) -> Result<Self, SettingsError> {
        let timing = Timing::new(*settings.jwks_refresh_interval);
        Self::open_timed(settings, clock, random, timing)
    }

    fn open_timed(
        settings: &AuthSettings,
        clock: Arc<dyn Clock>,
        random: Arc<dyn Random>,
        timing: Timing,
    ) -> Result<Self, SettingsError> {
        let rules = Rules::new(settings)?;
        let mut fixed = Vec::new();
        if let Some(secret) = Secret::load(settings)? {
            fixed.push(Key::from_secret(&secret));
        }
        if let Some(path) = &settings.jwt_public_key_file {
            let key = Key::from_pem(&keys::read_file(path)?);
            fixed.push(key.map_err(|problem| SettingsError::File {
                path: path.clone(),
                problem,
            })?);
        }
        let (jwks, published) = match &settings.jwks {
            None => (None, None),
            Some(place) => {
                let (jwks, published) = Jwks::open(place, timing)?;
                (Some(jwks), published)
            }
        };
        if fixed.is_empty() && jwks.is_none() {
            return Err(SettingsError::NoKey);
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
            jwks,
        };
        if let Some(published) = published {
            verifier.publish(published);
        }
        Ok(verifier)
    }

    /// Whether there is a key to verify a token with; a JWKS may be still to come.
    pub fn has_keys(&self) -> bool {
        let ring = self.ring.load();
        !ring.fixed.is_empty() || ring.published.is_some()
    }

    /// The caller of a token, by the keys that are known; never waits.
    pub fn verify_now(&self, token: &str) -> Result<Arc<Caller>, Error> {
        self.check(token).map_err(Pending::into_error)
    }

    /// The caller of a token. One that names an unknown key waits for the JWKS
    /// to be read again, which is done at most once in ten seconds for all.
    pub async fn verify(&self, token: &str) -> Result<Arc<Caller>, Error> {
        match self.check(token) {
            Ok(caller) => Ok(caller),
            Err(pending) => self.check_again(token, pending).await,
        }
    }

    /// Reads the JWKS again and again until `stop`; returns at once where there
    /// is none. To be run once, beside the server.
    pub async fn keep_fresh(&self, stop: CancellationToken) {
        let Some(jwks) = &self.jwks else {
            return;
        };
        let reading = async {
            let mut last = None;
            loop {
                jwks.due(last, &*self.random).await;
                last = Some(match jwks.read().await {
                    Ok(published) => {
                        if let Some(published) = published {
                            self.publish(published);
                        }
                        true
                    }
                    Err(error) => {
                        let place = jwks.place();
                        tracing::warn!(%place, %error, "the JWKS was not read; known keys stay");
                        false
                    }
                });
                jwks.finish();
            }
        };
        let _: Option<std::convert::Infallible> = stop.run_until_cancelled(reading).await;
        jwks.close();
    }

    /// Looks at the known keys.
    fn check(&self, token: &str) -> Result<Arc<Caller>, Pending> {
        let ring = self.ring.load();
        let now = self.clock.now();
        let digest: [u8; 32] = Sha256::digest(token).into();
        if let Some(remembered) = self.remembered.get(&digest)
            && remembered.generation == ring.generation
        {
            return Ok(Arc::clone(remembered.verified.at(now)?));
        }
        let claims = self.claims_of(token, &ring)?;
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

    /// Looks again when that can help.
    async fn check_again(&self, token: &str, pending: Pending) -> Result<Arc<Caller>, Error> {
        match (pending, &self.jwks) {
            (Pending::UnlessReadAgain { error, generation }, Some(jwks)) => {
                jwks.ask().await;
                // The keys may also have come just before it was asked.
                if self.ring.load().generation == generation {
                    Err(error)
                } else {
                    self.verify_now(token)
                }
            }
            (pending, _) => Err(pending.into_error()),
        }
    }

    /// The claims of a token that a key of `ring` signed.
    fn claims_of(&self, token: &str, ring: &Ring) -> Result<Map<String, Value>, Pending> {
        let header = jsonwebtoken::decode_header(token).map_err(|_| {
            Error::Invalid("it is no JWT that is signed with a supported algorithm".into())
        })?;
        // Keys that a token brings along or points to are an attacker's.
        let foreign = [
            ("jku", header.jku.is_some()),
            ("jwk", header.jwk.is_some()),
            ("x5u", header.x5u.is_some()),
            ("x5c", header.x5c.is_some()),
            ("crit", header.crit.is_some()),
        ];
        if let Some((name, _)) = foreign.iter().find(|(_, present)| *present) {
            let reason = format!("its header has `{name}`, which is not supported");
            return Err(Error::Invalid(reason.into()).into());
        }

        let published = ring.published.as_ref();
        let published_keys = published.map_or(&[][..], |published| &published.keys[..]);
        let id = header.kid.as_deref();
        let candidates = ring.fixed.iter().chain(published_keys).filter(|key| {
            // A key without an id may be meant by any `kid`.
            let is_meant = key.id.is_none() || id.is_none() || key.id.as_deref() == id;
            key.algorithm == header.alg && is_meant
        });
        for key in candidates {
            match key.verify(token) {
                Ok(claims) => return Ok(claims),
                Err(Mismatch::Signature) => {}
                Err(Mismatch::Claims) => {
                    return Err(Error::Invalid("its claims are malformed".into()).into());
                }
            }
        }

        let can_be_published = self.jwks.is_some()
            && matches!(
                header.alg,
                Algorithm::RS256 | Algorithm::ES256 | Algorithm::EdDSA
            );
        let is_unknown = id.is_some() && !published_keys.iter().any(|key| key.id.as_deref() == id);
        if can_be_published && published.is_none() {
            Err(Pending::UnlessReadAgain {
                error: Error::KeysUnavailable,
                generation: ring.generation,
            })
        } else if can_be_published && is_unknown {
            Err(Pending::UnlessReadAgain {
                error: Error::Invalid("it names a key that is not known (`kid`)".into()),
                generation: ring.generation,
            })
        } else {
            let reason = "it is not signed by a key that is known, with that key's algorithm";
            Err(Error::Invalid(reason.into()).into())
        }
    }

    /// Takes the keys of a JWKS in place of the former ones. Called by one task
    /// at a time.
    fn publish(&self, published: Published) {
        let old = self.ring.load();
        if old.published.as_ref() == Some(&published) {
            return;
        }
        if let Some(jwks) = &self.jwks {
            let place = jwks.place();
            for reason in &published.left_out {
                tracing::warn!(%place, %reason, "a key of the JWKS is left out");
            }
            tracing::info!(%place, keys = published.keys.len(), "the JWKS has new keys");
        }
        self.ring.store(Arc::new(Ring {
            generation: old.generation + 1,
            fixed: Arc::clone(&old.fixed),
            published: Some(published),
        }));
        // For the memory; what makes them count no more is the generation.
        self.remembered.invalidate_all();
    }
}

#[cfg(test)]
pub(crate) mod test_support;
#[cfg(test)]
mod tests;
