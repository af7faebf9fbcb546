//! Makes tokens: for `dev`, for `doorbell token`, and for tests.
//!
//! What is minted here would be accepted by a verifier of the same settings and
//! key: a grant that names no well-formed caller is refused before it is signed.

use std::time::Duration;

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Map, Value};

use super::{
    claims::Rules,
    keys::{Secret, pem_label},
};
use crate::clock::Timestamp;

/// What a token shall say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// The organization; `*` for a sender that may send into any.
    pub organization: String,
    /// The user; a sender needs none.
    pub user: Option<String>,
    /// The role; without one it is an ordinary user.
    pub role: Option<String>,
    /// Who it is made for (`sub`), where that is not the user.
    pub subject: Option<String>,
    /// How long it counts, in whole seconds, rounded up.
    pub lifetime: Duration,
}

/// Why no token was made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The grant names no well-formed caller.
    #[error("no such token: {0}")]
    Grant(super::Error),
    /// It would be over at once.
    #[error("no such token: its lifetime must not be zero")]
    Lifetime,
    /// The private key cannot sign.
    #[error("the private key {0}")]
    Key(String),
}

/// Signs tokens with one key.
pub struct Minter {
    rules: Rules,
    header: Header,
    key: EncodingKey,
}

impl Minter {
    /// Signs with HS256; `rules` say what the claims are called, and the issuer
    /// and the audience.
    pub fn from_secret(secret: &Secret, rules: Rules) -> Self {
        Self {
            rules,
            header: Header::new(Algorithm::HS256),
            key: EncodingKey::from_secret(secret.bytes()),
        }
    }

    /// Signs with RS256, ES256 or EdDSA, as the PEM private key implies;
    /// `key_id` is the `kid` under which a JWKS has its public half.
    pub fn from_private_key(
        pem: &[u8],
        key_id: Option<String>,
        rules: Rules,
    ) -> Result<Self, Error> {
        match pem_label(pem).map_err(Error::Key)?.as_str() {
            "PRIVATE KEY" | "RSA PRIVATE KEY" => {}
            label => {
                return Err(Error::Key(format!(
                    "is needed as PEM of the kind `PRIVATE KEY`, and this is `{label}`"
                )));
            }
        }
        let (algorithm, key) = EncodingKey::from_rsa_pem(pem)
            .map(|key| (Algorithm::RS256, key))
            .or_else(|_| EncodingKey::from_ec_pem(pem).map(|key| (Algorithm::ES256, key)))
            .or_else(|_| EncodingKey::from_ed_pem(pem).map(|key| (Algorithm::EdDSA, key)))
            .map_err(|_| unsupported())?;
        let mut header = Header::new(algorithm);
        header.kid = key_id;
        let minter = Self { rules, header, key };
        // A key that cannot sign is found here, not at the first token.
        minter.sign(&Map::new())?;
        Ok(minter)
    }

    /// A token for `grant`, made at `now`.
    pub fn mint(&self, grant: &Grant, now: Timestamp) -> Result<String, Error> {
        let whole = grant.lifetime.as_secs();
        let seconds = whole.saturating_add(u64::from(grant.lifetime.subsec_nanos() > 0));
        if seconds == 0 {
            return Err(Error::Lifetime);
        }
        let issued_at = now.as_micros().div_euclid(1_000_000);
        let expires_at = i64::try_from(seconds)
            .unwrap_or(i64::MAX)
            .saturating_add(issued_at);
        let rules = &self.rules;
        let subject = grant.subject.as_ref().or(grant.user.as_ref());
        let mut claims = Map::new();
        for (name, text) in [
            (rules.organization_claim.as_str(), Some(&grant.organization)),
            (&rules.user_claim, grant.user.as_ref()),
            (&rules.role_claim, grant.role.as_ref()),
            ("sub", subject),
            ("iss", rules.issuer.as_ref()),
            ("aud", rules.audience.as_ref()),
        ] {
            if let Some(text) = text {
                claims.insert(name.to_owned(), text.as_str().into());
            }
        }
        claims.insert("iat".to_owned(), issued_at.into());
        claims.insert("exp".to_owned(), expires_at.into());
        rules.read(&claims).map_err(Error::Grant)?;
        self.sign(&claims)
    }

    fn sign(&self, claims: &Map<String, Value>) -> Result<String, Error> {
        jsonwebtoken::encode(&self.header, claims, &self.key).map_err(|_| unsupported())
    }
}

fn unsupported() -> Error {
    Error::Key("cannot sign: RSA of at least 2048 bits, P-256 or Ed25519 is needed".into())
}

#[cfg(test)]
mod tests;
