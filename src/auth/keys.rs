//! The keys that tokens are verified with, each with the one algorithm it
//! serves.
//!
//! A key comes from a secret (HS256), a PEM public key or a JWKS (RS256, ES256
//! or EdDSA, as the key itself implies). A token's header chooses among them
//! and adds nothing: a key never serves another algorithm than its own, so a
//! public key is never taken for a secret.

use std::{fmt, fs, io::Read as _, path::Path};

use jsonwebtoken::{
    Algorithm, DecodingKey, DecodingKeyKind, Validation,
    errors::ErrorKind,
    jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, KeyOperations, PublicKeyUse},
};
use rustls_pki_types::{SubjectPublicKeyInfoDer, pem::PemObject as _};
use secrecy::{ExposeSecret as _, SecretSlice};
use serde_json::{Map, Value};

use super::SettingsError;
use crate::config::AuthSettings;

/// The fewest bytes of a secret (RFC 7518, section 3.2: as long as the hash).
pub const MIN_SECRET_BYTES: usize = 32;

/// The fewest different bytes of a secret: fewer are a placeholder.
const MIN_DISTINCT_BYTES: usize = 8;

/// The sizes of RSA keys that are taken.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;

/// The most keys of a JWKS: a token without `kid` is tried with each.
const MAX_JWKS_KEYS: usize = 64;

/// The most bytes of a file or an answer that holds keys.
pub(super) const MAX_KEY_BYTES: usize = 1 << 20;

/// A secret for HS256 that is long and varied enough.
#[derive(Clone)]
pub struct Secret(SecretSlice<u8>);

impl Secret {
    /// Takes at least 32 bytes, of which at least 8 are different ones.
    pub fn parse(bytes: &[u8]) -> Result<Self, SettingsError> {
        if bytes.len() < MIN_SECRET_BYTES {
            return Err(SettingsError::ShortSecret(bytes.len()));
        }
        let mut seen = [false; 256];
        for &byte in bytes {
            seen[usize::from(byte)] = true;
        }
        if seen.iter().filter(|seen| **seen).count() < MIN_DISTINCT_BYTES {
            return Err(SettingsError::UniformSecret);
        }
        Ok(Self(bytes.to_vec().into()))
    }

    /// The secret of these settings, or of the file they name, if there is one.
    pub fn load(settings: &AuthSettings) -> Result<Option<Self>, SettingsError> {
        match (&settings.jwt_secret, &settings.jwt_secret_file) {
            (None, None) => Ok(None),
            (Some(_), Some(_)) => Err(SettingsError::SecretTwice),
            (Some(secret), None) => Self::parse(secret.expose_secret().as_bytes()).map(Some),
            (None, Some(file)) => {
                let bytes = SecretSlice::from(read_file(file)?);
                let text = bytes.expose_secret();
                let text = text.strip_suffix(b"\n").unwrap_or(text);
                Self::parse(text.strip_suffix(b"\r").unwrap_or(text)).map(Some)
            }
        }
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

/// Why a token is not one of a key's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mismatch {
    /// The key did not sign it.
    Signature,
    /// It did, but what it signed is no claims.
    Claims,
}

/// A key and the one algorithm that it serves.
pub(super) struct Key {
    pub(super) algorithm: Algorithm,
    pub(super) id: Option<String>,
    key: DecodingKey,
    validation: Validation,
}

impl Key {
    fn new(algorithm: Algorithm, id: Option<String>, key: DecodingKey) -> Self {
        let mut validation = Validation::new(algorithm);
        // The claims are read by our own rules and against our own clock.
        validation.required_spec_claims.clear();
        validation.validate_exp = false;
        validation.validate_nbf = false;
        validation.validate_aud = false;
        Self {
            algorithm,
            id,
            key,
            validation,
        }
    }

    pub(super) fn from_secret(secret: &Secret) -> Self {
        Self::new(
            Algorithm::HS256,
            None,
            DecodingKey::from_secret(secret.bytes()),
        )
    }

    /// Reads one PEM public key.
    pub(super) fn from_pem(pem: &[u8]) -> Result<Self, String> {
        const UNSUPPORTED: &str = "holds a public key of an unsupported kind: RSA, P-256 or \
                                   Ed25519 is needed";
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
        Self::from_jwk(&jwk).map_err(|reason| format!("holds a key that {reason}"))
    }

    /// Reads a JWK that is meant to verify signatures with.
    pub(super) fn from_jwk(jwk: &Jwk) -> Result<Self, &'static str> {
        let (algorithm, key_algorithm) = match &jwk.algorithm {
            AlgorithmParameters::RSA(_) => (Algorithm::RS256, KeyAlgorithm::RS256),
            AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P256 => {
                (Algorithm::ES256, KeyAlgorithm::ES256)
            }
            AlgorithmParameters::OctetKeyPair(key) if key.curve == EllipticCurve::Ed25519 => {
                (Algorithm::EdDSA, KeyAlgorithm::EdDSA)
            }
            AlgorithmParameters::OctetKey(_) => {
                return Err("is a symmetric key, which is never taken from a JWKS");
            }
            _ => return Err("is of an unsupported kind: RSA, P-256 or Ed25519 is needed"),
        };
        if jwk
            .common
            .key_algorithm
            .is_some_and(|named| named != key_algorithm)
        {
            return Err("is for another algorithm: RS256, ES256 or EdDSA is needed");
        }
        let is_for_signatures = matches!(
            jwk.common.public_key_use,
            None | Some(PublicKeyUse::Signature)
        );
        let verifies = jwk
            .common
            .key_operations
            .as_ref()
            .is_none_or(|operations| operations.contains(&KeyOperations::Verify));
        if !is_for_signatures || !verifies {
            return Err("is not meant to verify signatures");
        }
        let key = DecodingKey::from_jwk(jwk).map_err(|_| "is malformed")?;
        let fits = match key.kind() {
            DecodingKeyKind::RsaModulusExponent { n, .. } => {
                if !RSA_BITS.contains(&bits(n)) {
                    return Err("is an RSA key of fewer than 2048 or more than 8192 bits");
                }
                true
            }
            DecodingKeyKind::SecretOrDer(bytes) => match algorithm {
                Algorithm::ES256 => bytes.len() == 65,
                _ => bytes.len() == 32,
            },
        };
        if !fits {
            return Err("is malformed");
        }
        Ok(Self::new(algorithm, jwk.common.key_id.clone(), key))
    }

    /// The claims of a token that this key signed, by its algorithm.
    pub(super) fn verify(&self, token: &str) -> Result<Map<String, Value>, Mismatch> {
        jsonwebtoken::decode(token, &self.key, &self.validation)
            .map(|token| token.claims)
            .map_err(|error| match error.kind() {
                ErrorKind::Json(_) | ErrorKind::Utf8(_) => Mismatch::Claims,
                _ => Mismatch::Signature,
            })
    }
}

/// The usable keys of a JWKS.
pub(super) struct Published {
    jwks: Vec<Jwk>,
    pub(super) keys: Vec<Key>,
    /// Why other keys were left out, a line each.
    pub(super) left_out: Vec<String>,
}

impl PartialEq for Published {
    fn eq(&self, other: &Self) -> bool {
        self.jwks == other.jwks
    }
}

impl Published {
    /// Reads a JWKS (RFC 7517). One usable key is enough: others are left out.
    pub(super) fn parse(text: &[u8]) -> Result<Self, String> {
        let mut document: Value = serde_json::from_slice(text).map_err(|_| "is not JSON")?;
        let Some(Value::Array(entries)) = document.get_mut("keys").map(Value::take) else {
            return Err("is not a JWKS: it has no list `keys`".into());
        };
        let mut published = Self {
            jwks: Vec::new(),
            keys: Vec::new(),
            left_out: Vec::new(),
        };
        for (index, entry) in entries.into_iter().enumerate() {
            let name = match entry.get("kid").and_then(Value::as_str) {
                Some(id) => format!("key {index} ({id:?})"),
                None => format!("key {index}"),
            };
            let key = serde_json::from_value::<Jwk>(entry)
                .map_err(|_| "is malformed")
                .and_then(|jwk| Key::from_jwk(&jwk).map(|key| (jwk, key)));
            match key {
                Ok(_) if published.keys.len() == MAX_JWKS_KEYS => {
                    published
                        .left_out
                        .push(format!("{name} is beyond the {MAX_JWKS_KEYS}th"));
                    break;
                }
                Ok((jwk, key)) => {
                    published.jwks.push(jwk);
                    published.keys.push(key);
                }
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
}

/// A whole file of at most [`MAX_KEY_BYTES`].
pub(super) fn read_file(path: &Path) -> Result<Vec<u8>, SettingsError> {
    let unreadable = |error: std::io::Error| SettingsError::File {
        path: path.to_owned(),
        problem: format!("cannot be read: {error}"),
    };
    let file = fs::File::open(path).map_err(unreadable)?;
    let mut bytes = Vec::new();
    file.take(MAX_KEY_BYTES as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(unreadable)?;
    if bytes.len() > MAX_KEY_BYTES {
        return Err(SettingsError::File {
            path: path.to_owned(),
            problem: format!("has more than {MAX_KEY_BYTES} bytes"),
        });
    }
    Ok(bytes)
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

/// How many bits a big-endian number has.
fn bits(number: &[u8]) -> usize {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    number.get(zeros).map_or(0, |first| {
        (number.len() - zeros) * 8 - first.leading_zeros() as usize
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::auth::test_support::{fixture, fixture_path, jwk};

    #[test]
    fn secrets_are_long_and_varied() {
        let varied: Vec<u8> = (0..64).collect();
        assert!(Secret::parse(&varied[..32]).is_ok());
        assert!(matches!(
            Secret::parse(&varied[..31]),
            Err(SettingsError::ShortSecret(31))
        ));
        assert!(matches!(
            Secret::parse(b""),
            Err(SettingsError::ShortSecret(0))
        ));
        assert!(matches!(
            Secret::parse(&[b'x'; 64]),
            Err(SettingsError::UniformSecret)
        ));
        assert!(matches!(
            Secret::parse(&b"abcdefg".repeat(6)),
            Err(SettingsError::UniformSecret)
        ));
        assert!(Secret::parse(&b"abcdefgh".repeat(4)).is_ok());
        assert_eq!(format!("{:?}", Secret::parse(&varied).unwrap()), "Secret");
    }

    #[test]
    fn a_secret_file_may_end_in_a_line_end() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("secret");
        let settings = AuthSettings {
            jwt_secret_file: Some(path.clone()),
            ..AuthSettings::default()
        };
        let secret = "0123456789abcdef0123456789abcdef";
        for end in ["", "\n", "\r\n"] {
            fs::write(&path, format!("{secret}{end}")).unwrap();
            assert_eq!(
                Secret::load(&settings).unwrap().unwrap().bytes(),
                secret.as_bytes()
            );
        }
        fs::write(&path, format!("{secret}\n\n")).unwrap();
        assert_eq!(
            Secret::load(&settings).unwrap().unwrap().bytes().len(),
            secret.len() + 1
        );
        fs::write(&path, "short\n").unwrap();
        assert!(matches!(
            Secret::load(&settings),
            Err(SettingsError::ShortSecret(5))
        ));
        fs::remove_file(&path).unwrap();
        let error = Secret::load(&settings).unwrap_err().to_string();
        assert!(
            error.contains("cannot be read") && error.contains("secret"),
            "{error}"
        );
    }

    #[test]
    fn a_secret_is_given_once() {
        let settings = AuthSettings {
            jwt_secret: Some("0123456789abcdef0123456789abcdef".into()),
            jwt_secret_file: Some("secret".into()),
            ..AuthSettings::default()
        };
        assert!(matches!(
            Secret::load(&settings),
            Err(SettingsError::SecretTwice)
        ));
        assert!(!format!("{settings:?}").contains("0123"));
    }

    #[test]
    fn a_public_key_implies_its_algorithm() {
        for (file, algorithm) in [
            ("rsa-a.public.pem", Algorithm::RS256),
            ("rsa-a.pkcs1.public.pem", Algorithm::RS256),
            ("ec-a.public.pem", Algorithm::ES256),
            ("ed-a.public.pem", Algorithm::EdDSA),
        ] {
            let key =
                Key::from_pem(&fixture(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
            assert_eq!(key.algorithm, algorithm, "{file}");
            assert_eq!(key.validation.algorithms, [algorithm]);
        }
    }

    #[test]
    fn what_is_no_good_public_key_is_refused_in_words() {
        for (pem, words) in [
            (fixture("rsa-a.private.pem"), "private key"),
            (fixture("rsa-a.traditional.private.pem"), "private key"),
            (fixture("ed-a.private.pem"), "private key"),
            (fixture("certificate.pem"), "certificate"),
            (fixture("rsa-1024.public.pem"), "fewer than 2048"),
            (fixture("p384.public.pem"), "unsupported kind"),
            (fixture("secp256k1.public.pem"), "unsupported kind"),
            (
                [fixture("rsa-a.public.pem"), fixture("ec-a.public.pem")].concat(),
                "more than one",
            ),
            (
                b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n".to_vec(),
                "unsupported",
            ),
            (b"ssh-ed25519 AAAA".to_vec(), "not PEM"),
            (Vec::new(), "not PEM"),
        ] {
            let error = Key::from_pem(&pem).err().unwrap_or_default();
            assert!(error.contains(words), "{words}: {error}");
        }
    }

    #[test]
    fn a_jwks_keeps_its_usable_keys() {
        let mut encryption = jwk("rsa-a.private.pem", Some("enc"));
        encryption["use"] = json!("enc");
        let mut other_algorithm = jwk("rsa-a.private.pem", Some("rs512"));
        other_algorithm["alg"] = json!("RS512");
        let mut signing = jwk("ec-a.private.pem", Some("signs"));
        signing["key_ops"] = json!(["sign"]);
        let mut short = jwk("ed-a.private.pem", Some("short"));
        short["x"] = json!("AAAA");
        let mut good = jwk("ec-a.private.pem", Some("good"));
        good["use"] = json!("sig");
        good["key_ops"] = json!(["verify"]);
        good.as_object_mut().unwrap().remove("alg");
        let document = json!({"keys": [
            {"kty": "oct", "kid": "secret", "k": "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"},
            {"kty": "lattice", "kid": "new"},
            17,
            encryption, other_algorithm, signing, short, good,
        ]});
        let published = Published::parse(document.to_string().as_bytes()).unwrap();
        let ids: Vec<_> = published.keys.iter().map(|key| key.id.as_deref()).collect();
        assert_eq!(ids, [Some("good")]);
        assert_eq!(published.keys[0].algorithm, Algorithm::ES256);
        assert_eq!(published.left_out.len(), 7, "{:?}", published.left_out);
        assert!(
            published.left_out[0].contains("symmetric"),
            "{:?}",
            published.left_out
        );
        assert!(!published.left_out.concat().contains("AAAAAAAA"));
    }

    #[test]
    fn a_jwks_without_usable_key_is_refused() {
        for (text, words) in [
            ("", "not JSON"),
            ("[]", "no list `keys`"),
            ("{\"keys\": {}}", "no list `keys`"),
            ("{\"keys\": []}", "is empty"),
            (
                "{\"keys\": [{\"kty\": \"oct\", \"k\": \"AAAA\"}]}",
                "symmetric",
            ),
        ] {
            let error = Published::parse(text.as_bytes()).err().unwrap_or_default();
            assert!(error.contains(words), "{text}: {error}");
        }
    }

    #[test]
    fn a_jwks_is_bounded() {
        let list = |count: usize| {
            let keys: Vec<_> = (0..count)
                .map(|index| jwk("ed-a.private.pem", Some(&index.to_string())))
                .collect();
            Published::parse(json!({ "keys": keys }).to_string().as_bytes()).unwrap()
        };
        assert!(list(MAX_JWKS_KEYS).left_out.is_empty());
        let published = list(MAX_JWKS_KEYS + 1);
        assert_eq!(published.keys.len(), MAX_JWKS_KEYS);
        assert_eq!(published.left_out.len(), 1);
    }

    #[test]
    fn weak_rsa_keys_are_refused_in_a_jwks() {
        let key = DecodingKey::from_rsa_pem(&fixture("rsa-1024.public.pem")).unwrap();
        let jwk = Jwk::from_decoding_key(&key, None).unwrap();
        assert!(
            Key::from_jwk(&jwk)
                .err()
                .unwrap_or_default()
                .contains("fewer than 2048")
        );
        assert_eq!(bits(&[0, 0, 1, 0]), 9);
        assert_eq!(bits(&[0, 0]), 0);
    }

    #[test]
    fn files_of_keys_are_bounded() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("keys");
        fs::write(&path, vec![b' '; MAX_KEY_BYTES]).unwrap();
        assert!(read_file(&path).is_ok());
        fs::write(&path, vec![b' '; MAX_KEY_BYTES + 1]).unwrap();
        assert!(
            read_file(&path)
                .unwrap_err()
                .to_string()
                .contains("more than")
        );
        assert!(read_file(&fixture_path("no-such-file")).is_err());
    }
}
