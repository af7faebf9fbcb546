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
        let text = |text: &String| Value::from(text.as_str());
        let claims: Map<String, Value> = [
            (
                rules.organization_claim.as_str(),
                Some(text(&grant.organization)),
            ),
            (rules.user_claim.as_str(), grant.user.as_ref().map(text)),
            (rules.role_claim.as_str(), grant.role.as_ref().map(text)),
            (
                "sub",
                grant.subject.as_ref().or(grant.user.as_ref()).map(text),
            ),
            ("iss", rules.issuer.as_ref().map(text)),
            ("aud", rules.audience.as_ref().map(text)),
            ("iat", Some(issued_at.into())),
            ("exp", Some(expires_at.into())),
        ]
        .into_iter()
        .filter_map(|(name, value)| Some((name.to_owned(), value?)))
        .collect();
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
mod tests {
    use super::*;
    use crate::{
        auth::{
            Right, Scope,
            test_support::{SECRET, fixture, verifier_of},
        },
        config::AuthSettings,
        model::InboxKey,
    };

    const NOW: Timestamp = Timestamp::from_micros(1_000_500_000);

    fn grant() -> Grant {
        Grant {
            organization: "acme".into(),
            user: Some("ann".into()),
            role: None,
            subject: None,
            lifetime: Duration::from_secs(60),
        }
    }

    fn settings() -> AuthSettings {
        AuthSettings {
            jwt_secret: Some(SECRET.into()),
            jwt_organization_claim: "tenant".into(),
            jwt_user_claim: "uid".into(),
            jwt_role_claim: "role".into(),
            sender_role: "backend".into(),
            jwt_issuer: Some("us".into()),
            jwt_audience: Some("them".into()),
            ..AuthSettings::default()
        }
    }

    fn minter(settings: &AuthSettings) -> Minter {
        let secret = Secret::load(settings).unwrap().unwrap();
        Minter::from_secret(&secret, Rules::new(settings).unwrap())
    }

    #[test]
    fn what_is_minted_is_accepted() {
        let settings = settings();
        let verifier = verifier_of(&settings, NOW);
        let token = minter(&settings).mint(&grant(), NOW).unwrap();
        let caller = verifier.verify_now(&token).unwrap();
        assert_eq!(
            caller.right,
            Right::Read(InboxKey::parse("acme", "ann").unwrap())
        );
        assert_eq!(&*caller.subject, "ann");
        assert_eq!(caller.expires_at, Timestamp::from_seconds(1060));

        let sender = Grant {
            organization: "*".into(),
            user: None,
            role: Some("backend".into()),
            subject: Some("billing".into()),
            lifetime: Duration::from_millis(1),
        };
        let token = minter(&settings).mint(&sender, NOW).unwrap();
        let caller = verifier.verify_now(&token).unwrap();
        assert_eq!(caller.right, Right::Send(Scope::Any));
        assert_eq!(&*caller.subject, "billing");
        assert_eq!(caller.expires_at, Timestamp::from_seconds(1001));
    }

    #[test]
    fn private_keys_sign_what_their_public_half_verifies() {
        for (private, public) in [
            ("rsa-a.private.pem", "rsa-a.public.pem"),
            ("rsa-a.traditional.private.pem", "rsa-a.pkcs1.public.pem"),
            ("ec-a.private.pem", "ec-a.public.pem"),
            ("ed-a.private.pem", "ed-a.public.pem"),
        ] {
            let settings = AuthSettings {
                jwt_public_key_file: Some(crate::auth::test_support::fixture_path(public)),
                ..AuthSettings::default()
            };
            let rules = Rules::new(&settings).unwrap();
            let minter = Minter::from_private_key(&fixture(private), None, rules).unwrap();
            let token = minter.mint(&grant(), NOW).unwrap();
            assert!(
                verifier_of(&settings, NOW).verify_now(&token).is_ok(),
                "{private}"
            );
        }
    }

    #[test]
    fn what_would_be_refused_is_not_minted() {
        let minter = minter(&AuthSettings {
            jwt_secret: Some(SECRET.into()),
            ..AuthSettings::default()
        });
        let refused = |grant: Grant| minter.mint(&grant, NOW).unwrap_err();
        let wildcard = Grant {
            organization: "*".into(),
            ..grant()
        };
        assert!(matches!(refused(wildcard), Error::Grant(_)));
        let nobody = Grant {
            user: None,
            ..grant()
        };
        assert!(matches!(refused(nobody), Error::Grant(_)));
        let endless = Grant {
            lifetime: Duration::MAX,
            ..grant()
        };
        assert!(matches!(refused(endless), Error::Grant(_)));
        let over = Grant {
            lifetime: Duration::ZERO,
            ..grant()
        };
        assert_eq!(refused(over), Error::Lifetime);
    }

    #[test]
    fn a_key_that_cannot_sign_is_refused_in_words() {
        let rules = || Rules::new(&AuthSettings::default()).unwrap();
        for file in ["rsa-a.public.pem", "certificate.pem", "README"] {
            let refused = Minter::from_private_key(&fixture(file), None, rules());
            assert!(matches!(refused, Err(Error::Key(_))), "{file}");
        }
    }
}
