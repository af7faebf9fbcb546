//! Where a client's token comes from, and how it is shown.

use std::{fmt, future::Future, path::PathBuf, sync::Arc};

use futures_util::future::BoxFuture;
use tonic::{
    Request,
    metadata::{Ascii, MetadataValue},
};

use super::error::{BoxError, Error};

type Ask = dyn Fn() -> BoxFuture<'static, Result<String, BoxError>> + Send + Sync;

/// Where tokens come from.
#[derive(Clone)]
pub struct TokenSource(Kind);

#[derive(Clone)]
enum Kind {
    Fixed(Arc<str>),
    Asked(Arc<Ask>),
}

impl TokenSource {
    /// The same token always. A watch ends with an error when it expires.
    pub fn fixed(token: &str) -> Self {
        Self(Kind::Fixed(token.into()))
    }

    /// Asks `get_token` for the first token, for another before it expires, and
    /// for another when it was refused. An error of it is taken for a passing
    /// one.
    pub fn asked<F, T>(get_token: F) -> Self
    where
        F: Fn() -> T + Send + Sync + 'static,
        T: Future<Output = Result<String, BoxError>> + Send + 'static,
    {
        Self(Kind::Asked(Arc::new(move || Box::pin(get_token()))))
    }

    /// Reads `path` whenever a token is asked for: something else renews it.
    pub fn file(path: PathBuf) -> Self {
        let path = Arc::new(path);
        Self::asked(move || {
            let path = path.clone();
            async move {
                let token = tokio::fs::read_to_string(&*path)
                    .await
                    .map_err(|error| format!("{}: {error}", path.display()))?;
                Ok(token)
            }
        })
    }

    /// Whether asking again can bring another token.
    pub(super) fn is_fixed(&self) -> bool {
        matches!(self.0, Kind::Fixed(_))
    }

    pub(super) async fn ask(&self) -> Result<Token, Error> {
        match &self.0 {
            Kind::Fixed(token) => Token::parse(token),
            Kind::Asked(ask) => Token::parse(&ask().await.map_err(Error::TokenSource)?),
        }
    }
}

impl fmt::Debug for TokenSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Kind::Fixed(_) => "TokenSource::fixed(..)",
            Kind::Asked(_) => "TokenSource::asked(..)",
        })
    }
}

/// A token as the header that shows it. Its `Debug` does not tell it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Token(MetadataValue<Ascii>);

impl Token {
    fn parse(token: &str) -> Result<Self, Error> {
        let token = token.trim();
        if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(Error::Token);
        }
        let mut header =
            MetadataValue::try_from(format!("Bearer {token}")).map_err(|_| Error::Token)?;
        header.set_sensitive(true);
        Ok(Self(header))
    }

    pub(super) fn authorize<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request
            .metadata_mut()
            .insert("authorization", self.0.clone());
        request
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_trimmed_and_not_told() {
        let token = Token::parse(" abc.def\n").unwrap();
        assert_eq!(token, Token::parse("abc.def").unwrap());
        assert!(!format!("{token:?}").contains("abc"));
        assert!(!format!("{:?}", TokenSource::fixed("abc")).contains("abc"));
    }

    #[test]
    fn what_a_header_cannot_carry_is_no_token() {
        for text in ["", " \n", "a b", "a\nb", "ä"] {
            assert!(matches!(Token::parse(text), Err(Error::Token)), "{text:?}");
        }
    }
}
