//! The keys that tokens are verified with, each with the one algorithm it
//! serves.
//!
//! A key comes from a secret (HS256), a PEM public key or a JWKS (RS256, ES256
//! or EdDSA, as the key itself implies). A token's header chooses among them
//! and adds nothing: a key never serves another algorithm than its own, so a
//! public key is never taken for a secret.

use std::{collections::HashSet, fmt, fs, io::Read as _, path::Path};

use aws_lc_rs::{
    hmac,
    signature::{
        ECDSA_P256_SHA256_FIXED, ED25519, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256,
        RsaPublicKeyComponents,
    },
};
use base64::{
    Engine as _, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use jsonwebtoken::{
    Algorithm, DecodingKey,
    jwk::{AlgorithmParameters, Jwk},
};
use rustls_pki_types::{SubjectPublicKeyInfoDer, pem::PemObject as _};
use secrecy::{ExposeSecret as _, SecretSlice};
use serde_json::{Map, Value};

use crate::config::{self, AuthSettings};

/// The fewest bytes of a secret (RFC 7518, section 3.2: as long as the hash).
pub const MIN_SECRET_BYTES: usize = 32;

/// The fewest different bytes of a secret: fewer are a placeholder.
const MIN_DISTINCT_BYTES: usize = 8;

/// The fewest different bytes of a secret that may be of chance: what is written in
/// hexadecimal digits has more.
const GUESSABLE_DISTINCT_BYTES: usize = 10;

/// What placeholders have in them; base64 of chance practically never.
const PLACEHOLDERS: [&str; 6] = [
    "secret", "change", "password", "example", "doorbell", "default",
];

/// The sizes of RSA keys that are taken.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;

/// The most keys of a JWKS.
const MAX_JWKS_KEYS: usize = 64;

/// The most keys that one token is tried with.
pub(super) const MAX_TRIES: usize = 4;

/// A byte order mark, which says nothing in UTF-8.
const MARK: &[u8] = "\u{feff}".as_bytes();

/// The most bytes of a file or an answer that holds keys.
pub(super) const MAX_KEY_BYTES: usize = 1 << 20;

/// A secret for HS256 that is long and varied enough.
#[derive(Clone)]
pub struct Secret(SecretSlice<u8>);

impl Secret {
    /// Takes at least 32 bytes, of which at least 8 are different ones.
    ///
    /// # Errors
    ///
    /// What is wrong with it, to be said of the setting.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        const MAKE: &str = "(openssl rand -base64 48)";
        let length = bytes.len();
        if length < MIN_SECRET_BYTES {
            return Err(format!(
                "is too weak: it has {length} bytes and needs at least {MIN_SECRET_BYTES} {MAKE}"
            ));
        }
        if bytes.iter().collect::<HashSet<_>>().len() < MIN_DISTINCT_BYTES {
            return Err(format!(
                "is too weak: it repeats a few characters; take a random one {MAKE}"
            ));
        }
        Ok(Self(bytes.to_vec().into()))
    }

    /// The secret of these settings, or of the file they name, if there is one.
    pub fn load(settings: &AuthSettings) -> Result<Option<Self>, config::Error> {
        const FLAG: &str = "jwt-secret";
        match (&settings.jwt_secret, &settings.jwt_secret_file) {
            (None, None) => Ok(None),
            (Some(_), Some(_)) => Err(config::Error::new(
                FLAG,
                "is set, and so is DOORBELL_JWT_SECRET_FILE: set one of them",
            )),
            (Some(secret), None) => Self::parse(secret.expose_secret().as_bytes())
                .map(Some)
                .map_err(|problem| config::Error::new(FLAG, problem)),
            (None, Some(file)) => read_file("jwt-secret-file", file, |text| {
                let text = text.strip_suffix(b"\n").unwrap_or(text);
                let text = text.strip_suffix(b"\r").unwrap_or(text);
                if std::str::from_utf8(text).is_ok_and(config::has_blank_ends) {
                    return Err(format!(
                        "{} (one line end does not count)",
                        config::BLANK_ENDS
                    ));
                }
                Self::parse(text).map(Some)
            }),
        }
    }

    /// Whether it reads like words that somebody wrote, and not like chance: long enough,
    /// and yet to be guessed.
    pub fn is_guessable(&self) -> bool {
        let bytes = self.bytes();
        let text = String::from_utf8_lossy(bytes).to_lowercase();
        let is_placeholder = PLACEHOLDERS.iter().any(|word| text.contains(word));
        is_placeholder || bytes.iter().collect::<HashSet<_>>().len() < GUESSABLE_DISTINCT_BYTES
    }

    pub(super) fn bytes(&self) -> &[u8] {
        self.0.expose_secret()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// A key and the one algorithm that it serves.
pub(super) struct Key {
    pub(super) algorithm: Algorithm,
    pub(super) id: Option<String>,
    kind: Kind,
}

enum Kind {
    Secret(Box<hmac::Key>),
    Public(ParsedPublicKey),
}

impl Key {
    pub(super) fn from_secret(secret: &Secret) -> Self {
        Self {
            algorithm: Algorithm::HS256,
            id: None,
            kind: Kind::Secret(Box::new(hmac::Key::new(hmac::HMAC_SHA256, secret.bytes()))),
        }
    }

    /// Reads one PEM public key.
    pub(super) fn from_pem(pem: &[u8]) -> Result<Self, String> {
        const UNSUPPORTED: &str = "holds a public key of an unsupported kind: RSA, P-256 or \
                                   Ed25519 is needed";
        let pem = pem.strip_prefix(MARK).unwrap_or(pem);
        match pem_label(pem)?.as_str() {
            "PUBLIC KEY" | "RSA PUBLIC KEY" => {}
            label if label.ends_with("PRIVATE KEY") => {
                return Err(
                    "holds a private key, which does not belong here: give the public \
                            one (openssl pkey -in FILE -pubout)"
                        .into(),
                );
            }
            "CERTIFICATE" => {
                return Err(
                    "holds a certificate: give its public key (openssl x509 -in FILE \
                            -pubkey -noout)"
                        .into(),
                );
            }
            _ => return Err("holds no public key (a PEM block `PUBLIC KEY`)".into()),
        }
        let key = DecodingKey::from_rsa_pem(pem)
            .or_else(|_| DecodingKey::from_ec_pem(pem))
            .or_else(|_| DecodingKey::from_ed_pem(pem))
            .map_err(|_| UNSUPPORTED)?;
        let jwk = Jwk::from_decoding_key(&key, None).map_err(|_| UNSUPPORTED)?;
        // Other curves have points of the same length: only the file says which it is.
        if matches!(jwk.algorithm, AlgorithmParameters::EllipticCurve(_)) && !names_p256(pem) {
            return Err(UNSUPPORTED.into());
        }
        let jwk = serde_json::to_value(jwk).map_err(|_| UNSUPPORTED)?;
        let key = jwk.as_object().ok_or(MALFORMED).and_then(Self::from_jwk);
        key.map_err(|reason| format!("holds a key that {reason}"))
    }

    /// Reads a JWK that is meant to verify signatures with. What real providers write
    /// otherwise than the standard says is mended where it can mean one thing alone;
    /// what is there besides (`x5c` and the like) is not looked at.
    fn from_jwk(jwk: &Map<String, Value>) -> Result<Self, &'static str> {
        let text = |name| jwk.get(name).and_then(Value::as_str);
        let bytes = |name| text(name).and_then(from_base64).ok_or(MALFORMED);
        let id = match jwk.get("kid") {
            None | Some(Value::Null) => None,
            Some(Value::String(id)) => Some(id.clone()),
            Some(_) => return Err("has a `kid` that is not a text"),
        };
        let is_for = |names: &[&str]| match jwk.get("alg") {
            None | Some(Value::Null) => true,
            named => named
                .and_then(Value::as_str)
                .is_some_and(|name| names.contains(&name)),
        };
        let (algorithm, names) = match (text("kty"), text("crv")) {
            (Some("RSA"), _) => (Algorithm::RS256, &["RS256"][..]),
            (Some("EC"), Some("P-256")) => (Algorithm::ES256, &["ES256"][..]),
            // RFC 9864 gives it a name of its own.
            (Some("OKP"), Some("Ed25519")) => (Algorithm::EdDSA, &["EdDSA", "Ed25519"][..]),
            (Some("oct"), _) => return Err("is a symmetric key, which is never taken from a JWKS"),
            _ => return Err("is of an unsupported kind: RSA, P-256 or Ed25519 is needed"),
        };
        if !is_for(names) {
            return Err("is for another algorithm: RS256, ES256 or EdDSA is needed");
        }
        let verifies = match jwk.get("key_ops") {
            None | Some(Value::Null) => true,
            Some(Value::Array(operations)) => operations.iter().any(|name| name == "verify"),
            Some(_) => false,
        };
        if !matches!(jwk.get("use"), None | Some(Value::Null)) && text("use") != Some("sig")
            || !verifies
        {
            return Err("is not meant to verify signatures");
        }
        let key = match algorithm {
            Algorithm::RS256 => rsa(&bytes("n")?, &bytes("e")?),
            Algorithm::ES256 => {
                let [x, y] = [coordinate(&bytes("x")?)?, coordinate(&bytes("y")?)?];
                curve(algorithm, &[&[4], &x[..], &y[..]].concat())
            }
            _ => curve(algorithm, &bytes("x")?),
        }?;
        Ok(Self {
            algorithm,
            id,
            kind: Kind::Public(key),
        })
    }

    /// Whether this key made the signature of `message`, by its algorithm.
    pub(super) fn signed(&self, message: &[u8], signature: &[u8]) -> bool {
        match &self.kind {
            Kind::Secret(key) => hmac::verify(key, message, signature).is_ok(),
            Kind::Public(key) => key.verify_sig(message, signature).is_ok(),
        }
    }

    /// Whether both are the same public key, by the same name.
    fn is(&self, other: &Self) -> bool {
        match (&self.kind, &other.kind) {
            (Kind::Public(own), Kind::Public(others)) => {
                self.id == other.id
                    && self.algorithm == other.algorithm
                    && own.as_ref() == others.as_ref()
            }
            _ => false,
        }
    }
}

const MALFORMED: &str = "is malformed";

/// A public key of RSA. Leading zeros, which some write before a high bit, count for
/// nothing.
fn rsa(n: &[u8], e: &[u8]) -> Result<ParsedPublicKey, &'static str> {
    let (n, e) = (without_zeros(n), without_zeros(e));
    if !RSA_BITS.contains(&bits(n)) {
        return Err("is an RSA key of fewer than 2048 or more than 8192 bits");
    }
    // An even number in either verifies nothing; nor does what is out of bounds here.
    let is_odd = |number: &[u8]| number.last().is_some_and(|byte| byte % 2 == 1);
    if !is_odd(n) || !is_odd(e) || !(2..=33).contains(&bits(e)) {
        return Err(MALFORMED);
    }
    RsaPublicKeyComponents { n, e }
        .to_parsed_public_key(&RSA_PKCS1_2048_8192_SHA256)
        .map_err(|_| MALFORMED)
}

/// A public key of P-256, which must be a point of it, or of Ed25519.
fn curve(algorithm: Algorithm, bytes: &[u8]) -> Result<ParsedPublicKey, &'static str> {
    let key = match (algorithm, bytes.len()) {
        (Algorithm::ES256, 65) => ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, bytes),
        (Algorithm::EdDSA, 32) => ParsedPublicKey::new(&ED25519, bytes),
        _ => return Err(MALFORMED),
    };
    key.map_err(|_| MALFORMED)
}

/// A coordinate of P-256 in its 32 bytes, where zeros were left out or put before it.
fn coordinate(bytes: &[u8]) -> Result<[u8; 32], &'static str> {
    let number = without_zeros(bytes);
    let zeros = 32_usize.checked_sub(number.len()).ok_or(MALFORMED)?;
    let mut whole = [0; 32];
    whole[zeros..].copy_from_slice(number);
    Ok(whole)
}

/// base64url as it should be, and with padding, with bits left over, or in the other
/// alphabet: each text can mean one thing alone.
fn from_base64(text: &str) -> Option<Vec<u8>> {
    const LENIENT: GeneralPurpose = GeneralPurpose::new(
        &alphabet::URL_SAFE,
        GeneralPurposeConfig::new()
            .with_decode_allow_trailing_bits(true)
            .with_decode_padding_mode(DecodePaddingMode::RequireNone),
    );
    let text = text
        .trim_end_matches('=')
        .replace('+', "-")
        .replace('/', "_");
    LENIENT.decode(text).ok()
}

/// The usable keys of a JWKS.
pub(super) struct Published {
    pub(super) keys: Vec<Key>,
    /// Why other keys were left out, a line each.
    pub(super) left_out: Vec<String>,
}

impl PartialEq for Published {
    fn eq(&self, other: &Self) -> bool {
        self.left_out == other.left_out
            && self.keys.len() == other.keys.len()
            && self
                .keys
                .iter()
                .zip(&other.keys)
                .all(|(own, others)| own.is(others))
    }
}

impl Published {
    /// Reads a JWKS (RFC 7517). One usable key is enough: others are left out.
    pub(super) fn parse(text: &[u8]) -> Result<Self, String> {
        let text = text.strip_prefix(MARK).unwrap_or(text);
        let document: Value = serde_json::from_slice(text).map_err(|_| "is not JSON")?;
        let Some(Value::Array(entries)) = document.get("keys") else {
            return Err("is not a JWKS: it has no list `keys`".into());
        };
        let mut published = Self {
            keys: Vec::new(),
            left_out: Vec::new(),
        };
        for (index, entry) in entries.iter().enumerate() {
            let name = match entry.get("kid").and_then(Value::as_str) {
                Some(id) => format!("key {index} ({id:?})"),
                None => format!("key {index}"),
            };
            if published.keys.len() == MAX_JWKS_KEYS {
                let reason = format!("{name} and what follows is beyond the {MAX_JWKS_KEYS}th");
                published.left_out.push(reason);
                break;
            }
            let key = entry.as_object().ok_or(MALFORMED).and_then(Key::from_jwk);
            match key.and_then(|key| published.admit(key)) {
                Ok(()) => {}
                Err(reason) => published.left_out.push(format!("{name} {reason}")),
            }
        }
        if published.keys.is_empty() {
            let reasons = match published.left_out.is_empty() {
                true => "the list `keys` is empty".into(),
                false => published.left_out.join("; "),
            };
            return Err(format!("has no usable key: {reasons}"));
        }
        Ok(published)
    }

    /// Takes a key, unless there are as many of its name, or of none, as a token is
    /// tried with.
    fn admit(&mut self, key: Key) -> Result<(), &'static str> {
        let is_alike = |other: &&Key| other.algorithm == key.algorithm && other.id == key.id;
        if self.keys.iter().filter(is_alike).count() == MAX_TRIES {
            return Err("has the `kid` of four before it, or like them none");
        }
        self.keys.push(key);
        Ok(())
    }
}

/// What a whole file of at most [`MAX_KEY_BYTES`] says, which the setting of `flag` names.
/// Its bytes are wiped.
pub(super) fn read_file<T>(
    flag: &str,
    path: &Path,
    parse: impl FnOnce(&[u8]) -> Result<T, String>,
) -> Result<T, config::Error> {
    let read = || {
        let mut bytes = Vec::new();
        let mut file = fs::File::open(path)?.take(MAX_KEY_BYTES as u64 + 1);
        file.read_to_end(&mut bytes)?;
        Ok::<_, std::io::Error>(SecretSlice::from(bytes))
    };
    let parsed = match read() {
        Ok(bytes) if bytes.expose_secret().len() > MAX_KEY_BYTES => {
            Err(format!("has more than {MAX_KEY_BYTES} bytes"))
        }
        Ok(bytes) => parse(bytes.expose_secret()),
        Err(error) => Err(format!("cannot be read: {error}")),
    };
    parsed.map_err(|problem| config::Error::new(flag, format!("{} {problem}", path.display())))
}

/// The label of the only block of a PEM text.
pub(super) fn pem_label(pem: &[u8]) -> Result<String, String> {
    let text = String::from_utf8_lossy(pem);
    let mut labels = text.lines().filter_map(|line| {
        line.trim()
            .strip_prefix("-----BEGIN ")?
            .strip_suffix("-----")
    });
    match (labels.next(), labels.next()) {
        (None, _) => Err("is not PEM (-----BEGIN …)".into()),
        (Some(label), None) => Ok(label.to_owned()),
        (Some(_), Some(_)) => Err("holds more than one PEM block: one is needed".into()),
    }
}

/// Whether a PEM public key names the curve P-256.
fn names_p256(pem: &[u8]) -> bool {
    /// The DER of the object identifier 1.2.840.10045.3.1.7.
    const P256: [u8; 10] = [0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
    SubjectPublicKeyInfoDer::from_pem_slice(pem)
        .is_ok_and(|der| der.windows(P256.len()).any(|window| window == P256))
}

fn without_zeros(number: &[u8]) -> &[u8] {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    &number[zeros..]
}

/// How many bits a big-endian number has that begins with no zero.
fn bits(number: &[u8]) -> usize {
    number
        .first()
        .map_or(0, |first| number.len() * 8 - first.leading_zeros() as usize)
}

#[cfg(test)]
mod tests;
