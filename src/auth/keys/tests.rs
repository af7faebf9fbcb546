use serde_json::json;

use super::*;
use crate::auth::test_support::{base64url, fixture, fixture_path, jwk, signed_with};

#[test]
fn secrets_are_long_and_varied() {
    let varied: Vec<u8> = (0..64).collect();
    assert!(Secret::parse(&varied[..32]).is_ok());
    for (weak, problem) in [
        (&varied[..31], "it has 31 bytes and needs at least 32"),
        (&[][..], "it has 0 bytes"),
        (&[b'x'; 64][..], "it repeats"),
        (&b"abcdefg".repeat(6)[..], "it repeats"),
    ] {
        let refused = Secret::parse(weak).unwrap_err();
        assert!(refused.contains(problem), "{refused}");
    }
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
    for text in [
        format!("{secret}\n\n"),
        format!("{secret} \n"),
        format!(" {secret}"),
        format!("\u{feff}{secret}\n"),
    ] {
        fs::write(&path, text).unwrap();
        let error = Secret::load(&settings).unwrap_err().to_string();
        assert!(
            error.contains("a byte order mark: take that away"),
            "{error}"
        );
        assert!(!error.contains(secret) && error.contains(path.to_str().unwrap()));
    }
    fs::write(&path, "short\n").unwrap();
    let error = Secret::load(&settings).unwrap_err().to_string();
    assert!(error.contains("it has 5 bytes"), "{error}");
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
    let error = Secret::load(&settings).unwrap_err().to_string();
    assert!(error.contains("set one of them"), "{error}");
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
        let key = Key::from_pem(&fixture(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
        assert_eq!(key.algorithm, algorithm, "{file}");
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
fn numbers_have_bits() {
    assert_eq!(bits(without_zeros(&[0, 0, 1, 0])), 9);
    assert_eq!(bits(without_zeros(&[0, 0])), 0);
    assert_eq!(bits(&[0x80]), 8);
}

/// What is left out of a JWKS with this key alone.
fn left_out(jwk: &Value) -> String {
    let document = json!({"keys": [jwk, json!({"kty": "EC"}), json!(17)]});
    match Published::parse(document.to_string().as_bytes()) {
        Ok(_) => String::new(),
        Err(reason) => reason,
    }
}

/// Whether the public key verifies what the private half signs.
fn verifies(file: &str, jwk: &Value) -> bool {
    let document = json!({ "keys": [jwk] }).to_string();
    let published = Published::parse(document.as_bytes()).unwrap_or_else(|error| panic!("{error}"));
    let token = signed_with(file, None, &json!({}));
    let (message, signature) = token.rsplit_once('.').unwrap();
    let signature = from_base64(signature).unwrap();
    published.keys[0].signed(message.as_bytes(), &signature)
}

/// A field of base64url, of the bytes that `change` makes of it.
fn changed(jwk: &Value, name: &str, change: impl Fn(Vec<u8>) -> Vec<u8>) -> Value {
    let bytes = from_base64(jwk[name].as_str().unwrap()).unwrap();
    let mut jwk = jwk.clone();
    jwk[name] = json!(base64url(&change(bytes)));
    jwk
}

#[test]
fn keys_as_real_providers_publish_them_verify() {
    for (file, names) in [
        ("rsa-a.private.pem", &["n", "e"][..]),
        ("ec-a.private.pem", &["x", "y"]),
        ("ed-a.private.pem", &["x"]),
    ] {
        let plain = jwk(file, Some("a"));
        assert!(verifies(file, &plain), "{file}");
        let with = |name: &str, value: Value| {
            let mut jwk = plain.clone();
            jwk[name] = value;
            assert!(verifies(file, &jwk), "{file}: {jwk}");
        };
        with("use", json!("sig"));
        with("use", Value::Null);
        with("alg", Value::Null);
        with("kid", Value::Null);
        with("key_ops", json!(["verify"]));
        with("key_ops", json!(["sign", "verify"]));
        with("x5c", json!(["MIIB"]));
        with("x5c", json!("MIIB"));
        with("x5t", json!("AAAA"));
        with("x5t#S256", json!(7));
        with("issuer", json!("https://login.example"));
        with("cloud_instance_name", json!("example"));
        for name in names {
            let text = plain[*name].as_str().unwrap();
            with(name, json!(format!("{text}==")));
            with(name, json!(text.replace('-', "+").replace('_', "/")));
            if *name != "x" || file.starts_with("ec") {
                assert!(verifies(
                    file,
                    &changed(&plain, name, |bytes| [&[0, 0], &bytes[..]].concat())
                ));
            }
        }
        if file.starts_with("ed") {
            assert!(
                left_out(&json!({"kty": "OKP", "crv": "Ed25519", "x": "AAAA"}))
                    .contains("malformed")
            );
            with("alg", json!("Ed25519"));
        }
    }
}

#[test]
fn a_coordinate_may_lack_its_leading_zeros() {
    assert_eq!(coordinate(&[1, 2]).unwrap()[29..], [0, 1, 2]);
    assert_eq!(coordinate(&[&[0; 3][..], &[7; 32]].concat()), Ok([7; 32]));
    assert_eq!(coordinate(&[7; 33]), Err(MALFORMED));
}

#[test]
fn bits_left_over_in_base64_count_for_nothing() {
    // 65537 each time; the last of these has bits that no byte takes.
    for text in ["AQAB", "AAEAAQ", "AAEAAQ==", "AAEAAR"] {
        assert_eq!(
            without_zeros(&from_base64(text).unwrap()),
            [1, 0, 1],
            "{text}"
        );
    }
    for text in ["A", "AQ AB", "AQA\n", "AQ=AB", "ÄÄ"] {
        assert_eq!(from_base64(text), None, "{text}");
    }
}

#[test]
fn keys_that_verify_nothing_are_left_out_with_a_reason() {
    let rsa = jwk("rsa-a.private.pem", None);
    let ec = jwk("ec-a.private.pem", None);
    let flip = |mut bytes: Vec<u8>| {
        *bytes.last_mut().unwrap() ^= 1;
        bytes
    };
    for (jwk, words) in [
        (changed(&ec, "x", flip), "malformed"),
        (changed(&ec, "x", |_| vec![0; 32]), "malformed"),
        (
            changed(&ec, "y", |bytes| [&bytes[..], &[1]].concat()),
            "malformed",
        ),
        (changed(&rsa, "n", flip), "malformed"),
        (
            changed(&rsa, "n", |bytes| bytes[..128].to_vec()),
            "fewer than 2048",
        ),
        (changed(&rsa, "n", |_| Vec::new()), "fewer than 2048"),
        (changed(&rsa, "e", |_| vec![1, 0, 0]), "malformed"),
        (changed(&rsa, "e", |_| vec![1]), "malformed"),
        (changed(&rsa, "e", |_| vec![1; 9]), "malformed"),
        (changed(&rsa, "e", |_| Vec::new()), "malformed"),
    ] {
        assert!(left_out(&jwk).contains(words), "{jwk}: {}", left_out(&jwk));
    }
    for (name, value, words) in [
        ("kid", json!(7), "`kid`"),
        ("use", json!("enc"), "not meant"),
        ("use", json!(["sig"]), "not meant"),
        ("key_ops", json!(["sign"]), "not meant"),
        ("key_ops", json!("verify"), "not meant"),
        ("alg", json!("RS512"), "another algorithm"),
        ("alg", json!(7), "another algorithm"),
        ("n", json!(7), "malformed"),
        ("n", json!("not base64"), "malformed"),
    ] {
        let mut jwk = rsa.clone();
        jwk[name] = value;
        assert!(left_out(&jwk).contains(words), "{jwk}: {}", left_out(&jwk));
    }
}

#[test]
fn a_jwks_has_few_keys_of_one_name() {
    let list = |count: usize, id: Option<&str>| {
        let keys: Vec<_> = (0..count).map(|_| jwk("ed-a.private.pem", id)).collect();
        Published::parse(json!({ "keys": keys }).to_string().as_bytes()).unwrap()
    };
    for id in [None, Some("a")] {
        assert!(list(MAX_TRIES, id).left_out.is_empty());
        let more = list(MAX_TRIES + 1, id);
        assert_eq!((more.keys.len(), more.left_out.len()), (MAX_TRIES, 1));
    }
}

#[test]
fn a_byte_order_mark_before_keys_counts_for_nothing() {
    let marked = |text: &[u8]| [MARK, text].concat();
    assert!(Key::from_pem(&marked(&fixture("ec-a.public.pem"))).is_ok());
    let document = json!({"keys": [jwk("ec-a.private.pem", None)]}).to_string();
    assert!(Published::parse(&marked(document.as_bytes())).is_ok());
}

#[test]
fn files_of_keys_are_bounded() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("keys");
    fs::write(&path, vec![b' '; MAX_KEY_BYTES]).unwrap();
    let read_file = |path: &Path| read_file("jwks", path, |_| Ok(()));
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
