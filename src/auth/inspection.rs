//! What is known of the keys before they serve: which there are, and what the JWKS says.

use super::TokenVerifier;

/// The keys that a verifier would verify with.
#[derive(Clone, Debug)]
pub struct Keys {
    /// The algorithms of those from a secret and from a file.
    pub fixed: Vec<String>,
    /// What the JWKS says now, where there is one.
    pub jwks: Option<Jwks>,
}

/// A JWKS that was asked for.
#[derive(Clone, Debug)]
pub struct Jwks {
    /// Where it is, without what may be secret.
    pub place: String,
    /// Its keys, or why there are none.
    pub read: Result<Published, String>,
}

/// The keys of a JWKS.
#[derive(Clone, Debug)]
pub struct Published {
    /// Each one's algorithm.
    pub algorithms: Vec<String>,
    /// How many of them bear no name (`kid`).
    pub nameless: usize,
    /// Why others are left out, a line each.
    pub left_out: Vec<String>,
    /// The moment that the answer bore, as HTTP writes it.
    pub date: Option<String>,
}

impl TokenVerifier {
    /// Looks at the keys, and reads the JWKS once more. What it verifies with stays as it
    /// is.
    pub async fn inspect(&self) -> Keys {
        let fixed = self.ring.load().fixed.clone();
        let names = |keys: &[super::Key]| {
            let names = keys.iter().map(|key| format!("{:?}", key.algorithm));
            names.collect::<Vec<_>>()
        };
        let jwks = match &self.jwks {
            None => None,
            Some(jwks) => {
                let read = jwks.read_dated().await.map(|(found, date)| Published {
                    algorithms: names(&found.keys),
                    nameless: found.keys.iter().filter(|key| key.id.is_none()).count(),
                    left_out: found.left_out,
                    date,
                });
                let place = jwks.place();
                Some(Jwks { place, read })
            }
        };
        Keys {
            fixed: names(&fixed),
            jwks,
        }
    }
}
