use std::fs;

use jsonwebtoken::{EncodingKey, Header};
use proptest::prelude::*;
use serde_json::json;
use tower::ServiceExt as _;

use super::{
    test_support::{
        Answer, KeyServer, ManualClock, NOW, SECRET, base64url, claims, fixture, fixture_path, jwk,
        jwks, signed_with, signed_with_secret, user_token, verifier, verifier_of, verify,
    },
    *,
};
use crate::{model::InboxKey, random::SeededRandom};

const MICROS: i64 = 1_000_000;
const LONG: Duration = Duration::from_secs(3600);

/// Nothing is read but what a test asks for.
const STILL: Timing = Timing {
    refresh: LONG,
    retry: LONG,
    poll: LONG,
    ask: LONG,
    time_out: Duration::from_secs(10),
    patience: Duration::from_secs(10),
};

fn with_pem(file: &str) -> AuthSettings {
    AuthSettings {
        jwt_public_key_file: Some(fixture_path(file)),
        ..AuthSettings::default()
    }
}

fn with_jwks(place: impl Into<String>) -> AuthSettings {
    AuthSettings {
        jwks: Some(place.into()),
        ..AuthSettings::default()
    }
}

fn timed(settings: &AuthSettings, timing: Timing) -> Arc<TokenVerifier> {
    let random = Arc::new(SeededRandom::new(1));
    let clock = ManualClock::new(NOW);
    Arc::new(TokenVerifier::open_timed(settings, clock, random, timing).unwrap())
}

fn refusal(verifier: &TokenVerifier, token: &str) -> String {
    match verifier.verify_now(token) {
        Err(Error::Invalid(reason)) => reason.into_owned(),
        other => panic!("not refused as invalid: {other:?}"),
    }
}

fn misconfigured(settings: &AuthSettings) -> String {
    let random = Arc::new(SeededRandom::new(1));
    match TokenVerifier::open(settings, ManualClock::new(NOW), random) {
        Ok(_) => panic!("{settings:?} was taken"),
        Err(error) => {
            let line = error.to_string();
            assert!(!line.contains('\n'), "{line}");
            line
        }
    }
}

/// Keeps a verifier's keys fresh, until the guard is dropped.
fn keep_fresh(verifier: &Arc<TokenVerifier>) -> tokio_util::sync::DropGuard {
    let stop = CancellationToken::new();
    let verifier = Arc::clone(verifier);
    let stopped = stop.clone();
    tokio::spawn(async move { verifier.keep_fresh(stopped).await });
    stop.drop_guard()
}

#[test]
fn each_source_verifies_its_own_algorithm() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("jwks");
    let keys = [
        ("rsa-a.private.pem", "r"),
        ("ec-a.private.pem", "e"),
        ("ed-a.private.pem", "d"),
    ];
    fs::write(&file, jwks(&keys)).unwrap();
    let published = verifier_of(&with_jwks(file.to_str().unwrap()), NOW);
    for (private, id) in keys {
        let fixed = verifier_of(&with_pem(&private.replace("private", "public")), NOW);
        // With a `kid`, and without: then all keys of the algorithm are tried.
        for id in [Some(id), None] {
            let token = signed_with(private, id, &claims());
            assert!(fixed.verify_now(&token).is_ok(), "{private}");
            assert!(published.verify_now(&token).is_ok(), "{private}");
        }
        let other = signed_with(&private.replace("-a.", "-b."), None, &claims());
        assert!(refusal(&fixed, &other).contains("not signed"));
        assert!(refusal(&published, &other).contains("not signed"));
    }
    let caller = verifier(NOW).verify_now(&user_token()).unwrap();
    let inbox = InboxKey::parse("acme", "ann").unwrap();
    assert_eq!(caller.right, Right::Read(inbox));
}

#[test]
fn several_sources_stand_side_by_side() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("jwks");
    fs::write(&file, jwks(&[("ed-a.private.pem", "d")])).unwrap();
    let settings = AuthSettings {
        jwt_secret: Some(SECRET.into()),
        jwks: Some(file.to_str().unwrap().into()),
        ..with_pem("ec-a.public.pem")
    };
    let verifier = verifier_of(&settings, NOW);
    assert!(verifier.verify_now(&user_token()).is_ok());
    for private in ["ec-a.private.pem", "ed-a.private.pem"] {
        let token = signed_with(private, None, &claims());
        assert!(verifier.verify_now(&token).is_ok(), "{private}");
    }
    let token = signed_with("rsa-a.private.pem", None, &claims());
    assert!(refusal(&verifier, &token).contains("not signed"));
}

#[test]
fn a_key_id_chooses_its_key_and_no_other() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("jwks");
    fs::write(
        &file,
        jwks(&[("ec-a.private.pem", "a"), ("ec-b.private.pem", "b")]),
    )
    .unwrap();
    let verifier = verifier_of(&with_jwks(file.to_str().unwrap()), NOW);
    let token = |private, id| signed_with(private, Some(id), &claims());
    assert!(verifier.verify_now(&token("ec-a.private.pem", "a")).is_ok());
    assert!(verifier.verify_now(&token("ec-b.private.pem", "b")).is_ok());
    assert!(refusal(&verifier, &token("ec-a.private.pem", "b")).contains("not signed"));
    assert_eq!(
        verifier.verify_now(&token("ec-a.private.pem", "c")),
        Err(Error::KeysUnavailable)
    );
    // The id of a key of another algorithm.
    assert!(refusal(&verifier, &token("ed-a.private.pem", "a")).contains("not signed"));
}

#[test]
fn unsigned_tokens_are_refused() {
    let payload = base64url(claims().to_string().as_bytes());
    for algorithm in ["none", "None", "NONE", "nOnE", "", "HS1"] {
        let header = base64url(
            json!({"alg": algorithm, "typ": "JWT"})
                .to_string()
                .as_bytes(),
        );
        let signature = user_token().rsplit('.').next().unwrap().to_owned();
        for signature in ["", &signature] {
            let token = format!("{header}.{payload}.{signature}");
            assert!(refusal(&verifier(NOW), &token).contains("supported algorithm"));
        }
    }
    let header = base64url(br#"{"alg":"HS256"}"#);
    assert!(refusal(&verifier(NOW), &format!("{header}.{payload}.")).contains("not signed"));
    for garbage in ["", ".", "..", "...", "a.b.c", "a.b", "\u{1f514}", &header] {
        assert!(
            refusal(&verifier(NOW), garbage).contains("no JWT"),
            "{garbage}"
        );
    }
}

#[test]
fn a_public_key_is_never_a_secret() {
    let settings = with_pem("rsa-a.public.pem");
    let both = AuthSettings {
        jwt_secret: Some(SECRET.into()),
        ..settings.clone()
    };
    let pem = fixture("rsa-a.public.pem");
    let trimmed = pem.trim_ascii_end().to_vec();
    for secret in [pem, trimmed] {
        let key = EncodingKey::from_secret(&secret);
        let token = jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims(), &key).unwrap();
        assert!(refusal(&verifier_of(&settings, NOW), &token).contains("not signed"));
        assert!(refusal(&verifier_of(&both, NOW), &token).contains("not signed"));
    }
}

#[test]
fn other_algorithms_of_the_same_key_are_refused() {
    let secret = EncodingKey::from_secret(SECRET.as_bytes());
    for algorithm in [Algorithm::HS384, Algorithm::HS512] {
        let token = jsonwebtoken::encode(&Header::new(algorithm), &claims(), &secret).unwrap();
        assert!(refusal(&verifier(NOW), &token).contains("supported algorithm"));
    }
    let rsa = EncodingKey::from_rsa_pem(&fixture("rsa-a.private.pem")).unwrap();
    let verifier = verifier_of(&with_pem("rsa-a.public.pem"), NOW);
    for algorithm in [Algorithm::RS384, Algorithm::RS512, Algorithm::PS256] {
        let token = jsonwebtoken::encode(&Header::new(algorithm), &claims(), &rsa).unwrap();
        assert!(refusal(&verifier, &token).contains("supported algorithm"));
    }
}

/// A token with a header of any shape, signed with [`SECRET`].
fn with_header(header: &Value) -> String {
    let [header, payload] = [header, &claims()].map(|part| base64url(part.to_string().as_bytes()));
    let message = format!("{header}.{payload}");
    let key = EncodingKey::from_secret(SECRET.as_bytes());
    let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &key, Algorithm::HS256);
    format!("{message}.{}", signature.unwrap())
}

#[test]
fn keys_that_a_token_brings_along_are_not_looked_at() {
    for (name, value) in [
        ("jku", json!("https://evil.example/keys")),
        ("jku", json!({"a": [1]})),
        ("jwk", jwk("ec-a.private.pem", None)),
        ("jwk", json!("none")),
        ("x5u", json!("file:///dev/null")),
        ("x5c", json!(["AAAA"])),
        ("x5c", json!("AAAA")),
        ("x5t#S256", json!(5)),
        ("kid", json!("../../dev/null")),
        ("kid", Value::Null),
        ("typ", json!("at+jwt")),
    ] {
        let token = with_header(&json!({"alg": "HS256", name: value}));
        assert!(verifier(NOW).verify_now(&token).is_ok(), "{name} = {value}");
        // It opens nothing either.
        let forged = signed_with("ec-a.private.pem", None, &claims());
        let (_, rest) = forged.split_once('.').unwrap();
        let header = json!({"alg": "ES256", name: value}).to_string();
        let forged = format!("{}.{rest}", base64url(header.as_bytes()));
        assert!(refusal(&verifier(NOW), &forged).contains("not signed"));
    }
    for value in [json!(["b64"]), json!([]), Value::Null] {
        let token = with_header(&json!({"alg": "HS256", "crit": value}));
        assert!(refusal(&verifier(NOW), &token).contains("`crit`"));
    }
    for header in [
        json!({}),
        json!({"alg": 5}),
        json!({"alg": "HS256", "kid": 5}),
        json!([1]),
    ] {
        assert!(refusal(&verifier(NOW), &with_header(&header)).contains("no JWT"));
    }
}

#[test]
fn the_rules_for_claims_hold_for_signed_tokens() {
    let with = |name: &str, value: Value| {
        let mut claims = claims();
        claims[name] = value;
        signed_with_secret(&claims)
    };
    let now = NOW.as_micros() / MICROS;
    let verifier = verifier(NOW);
    assert!(refusal(&verifier, &with("exp", json!((now + 60).to_string()))).contains("`exp`"));
    assert!(refusal(&verifier, &with("exp", Value::Null)).contains("`exp`"));
    assert!(refusal(&verifier, &with("exp", json!(u64::MAX))).contains("`exp`"));
    assert!(refusal(&verifier, &with("organizationId", json!("*"))).contains("`organizationId`"));
    assert!(refusal(&verifier, &with("userId", json!("a\u{7}"))).contains("`userId`"));
    assert_eq!(
        verifier.verify_now(&with("exp", json!(now))),
        Err(Error::Expired)
    );
    assert_eq!(
        verifier.verify_now(&with("exp", json!(now - 1))),
        Err(Error::Expired)
    );
    assert!(verifier.verify_now(&with("exp", json!(now + 1))).is_ok());
    assert!(verifier.verify_now(&with("nbf", json!(now + 60))).is_ok());
    assert!(refusal(&verifier, &with("nbf", json!(now + 61))).contains("`nbf`"));
    let list = jsonwebtoken::encode(
        &Header::new(Algorithm::HS256),
        &json!([1, 2]),
        &EncodingKey::from_secret(SECRET.as_bytes()),
    );
    assert!(refusal(&verifier, &list.unwrap()).contains("claims are malformed"));
}

#[test]
fn a_remembered_token_is_no_better_than_a_new_one() {
    let clock = ManualClock::new(NOW);
    let settings = AuthSettings {
        jwt_secret: Some(SECRET.into()),
        ..AuthSettings::default()
    };
    let random = Arc::new(SeededRandom::new(1));
    let verifier = TokenVerifier::open(&settings, Arc::clone(&clock) as _, random).unwrap();
    let mut claims = claims();
    claims["nbf"] = json!(NOW.as_micros() / MICROS);
    let token = signed_with_secret(&claims);
    assert!(verifier.verify_now(&token).is_ok());
    clock.set(Timestamp::from_micros(NOW.as_micros() + 60 * MICROS - 1));
    assert!(verifier.verify_now(&token).is_ok());
    clock.set(Timestamp::from_micros(NOW.as_micros() + 60 * MICROS));
    assert_eq!(verifier.verify_now(&token), Err(Error::Expired));
    // The clock was set back.
    clock.set(Timestamp::from_micros(NOW.as_micros() - 61 * MICROS));
    assert!(refusal(&verifier, &token).contains("`nbf`"));
}

#[test]
fn a_token_is_remembered_for_its_generation_of_keys_alone() {
    let verifier = verifier(NOW);
    let token = user_token();
    let caller = verifier.verify_now(&token).unwrap();
    let without_keys = |generation| {
        verifier.ring.store(Arc::new(Ring {
            generation,
            fixed: Arc::new([]),
            published: None,
        }));
    };
    // No key could verify it any more: it is remembered.
    without_keys(0);
    assert!(Arc::ptr_eq(&caller, &verifier.verify_now(&token).unwrap()));
    // Like a verification that began with former keys and ended with others.
    without_keys(1);
    assert!(refusal(&verifier, &token).contains("not signed"));
}

#[test]
fn what_is_remembered_is_bounded() {
    for size in [0, 2] {
        let settings = AuthSettings {
            jwt_secret: Some(SECRET.into()),
            token_cache_size: size,
            ..AuthSettings::default()
        };
        let verifier = verifier_of(&settings, NOW);
        for user in 0..50 {
            let mut claims = claims();
            claims["userId"] = json!(user.to_string());
            assert!(verifier.verify_now(&signed_with_secret(&claims)).is_ok());
        }
        verifier.remembered.run_pending_tasks();
        assert_eq!(verifier.remembered.entry_count(), size);
    }
}

#[test]
fn settings_without_a_good_key_are_refused_in_one_line() {
    let secret = |text: &str| AuthSettings {
        jwt_secret: Some(text.into()),
        ..AuthSettings::default()
    };
    assert!(misconfigured(&AuthSettings::default()).contains("there is no key"));
    assert!(misconfigured(&secret("hunter2")).contains("it has 7 bytes"));
    assert!(!misconfigured(&secret("hunter2")).contains("hunter2"));
    assert!(misconfigured(&secret("")).contains("it has 0 bytes"));
    assert!(misconfigured(&secret(&"0".repeat(40))).contains("repeats"));
    assert!(misconfigured(&with_pem("rsa-a.private.pem")).contains("private key"));
    assert!(misconfigured(&with_pem("no-such.pem")).contains("no-such.pem cannot be read"));
    let readme = fixture_path("README");
    assert!(misconfigured(&with_jwks(readme.to_str().unwrap())).contains("is not JSON"));
    assert!(misconfigured(&with_jwks("http://id.example.com/")).contains("https://"));
}

#[tokio::test]
async fn calls_wait_for_the_first_keys_and_no_longer() {
    let server = KeyServer::start(Answer::Text(jwks(&[("rsa-a.private.pem", "a")]))).await;
    let settings = AuthSettings {
        jwt_secret: Some(SECRET.into()),
        ..with_jwks(&server.url)
    };
    let verifier = timed(&settings, STILL);
    let token = signed_with("rsa-a.private.pem", Some("a"), &claims());
    assert_eq!(verifier.verify_now(&token), Err(Error::KeysUnavailable));
    assert!(
        verifier.verify_now(&user_token()).is_ok(),
        "the secret needs no JWKS"
    );
    let _fresh = keep_fresh(&verifier);
    assert!(verify(&verifier, &token).await.is_ok());
    assert!(verifier.verify_now(&token).is_ok());
}

#[tokio::test]
async fn a_server_that_fails_first_and_answers_later_is_asked_again() {
    let server = KeyServer::start(Answer::Status(500)).await;
    let eager = Duration::from_millis(5);
    let timing = Timing {
        refresh: eager,
        retry: eager,
        ..STILL
    };
    let verifier = timed(&with_jwks(&server.url), timing);
    let token = signed_with("ec-a.private.pem", None, &claims());
    let _fresh = keep_fresh(&verifier);
    assert_eq!(verify(&verifier, &token).await, Err(Error::KeysUnavailable));
    server.say(Answer::Text(jwks(&[("ec-a.private.pem", "a")])));
    // The second answer from here on is a good one, and the third comes after
    // the keys of the second were taken.
    server.has_served(server.count() + 3).await;
    assert!(verifier.verify_now(&token).is_ok());
}

#[tokio::test]
async fn unknown_keys_cost_one_fetch_whatever_their_number() {
    let server = KeyServer::start(Answer::Text(jwks(&[("ed-a.private.pem", "a")]))).await;
    let verifier = timed(&with_jwks(&server.url), STILL);
    let _fresh = keep_fresh(&verifier);
    let mut finished = verifier.jwks.as_ref().unwrap().finished.subscribe();
    finished.wait_for(|count| *count == 1).await.unwrap();
    let known = signed_with("ed-a.private.pem", Some("a"), &claims());
    let storm = futures_util::future::join_all((0..300).map(|index| {
        let token = signed_with("ed-b.private.pem", Some(&format!("b{index}")), &claims());
        let verifier = Arc::clone(&verifier);
        async move { verify(&verifier, &token).await }
    }));
    for answer in storm.await {
        assert_eq!(answer, Err(Error::KeysUnavailable));
    }
    assert!(verify(&verifier, &known).await.is_ok());
    assert_eq!(server.count(), 2);
    // Still within the pause: no fetch, and nothing that is final.
    server.say(Answer::Text(jwks(&[("ed-b.private.pem", "b")])));
    let rotated = signed_with("ed-b.private.pem", Some("b"), &claims());
    assert_eq!(
        verify(&verifier, &rotated).await,
        Err(Error::KeysUnavailable)
    );
    assert_eq!(server.count(), 2);
}

#[tokio::test]
async fn a_new_key_is_waited_for_until_the_set_is_newer_than_the_token() {
    let server = KeyServer::start(Answer::Text(jwks(&[("ec-a.private.pem", "a")]))).await;
    let clock = ManualClock::new(NOW);
    let timing = Timing {
        ask: Duration::ZERO,
        ..STILL
    };
    let random = Arc::new(SeededRandom::new(1));
    let settings = with_jwks(&server.url);
    let verifier = TokenVerifier::open_timed(&settings, Arc::clone(&clock) as _, random, timing);
    let verifier = Arc::new(verifier.unwrap());
    let _fresh = keep_fresh(&verifier);
    let seconds = NOW.as_micros() / MICROS;
    let at = |second: i64| clock.set(Timestamp::from_seconds(seconds + second));
    let made = |id: &str, iat: Option<i64>| {
        let mut claims = claims();
        claims["exp"] = json!(seconds + 3600);
        if let Some(iat) = iat {
            claims["iat"] = json!(seconds + iat);
        }
        signed_with("ec-b.private.pem", Some(id), &claims)
    };
    // A token of a key that the set in some cache does not have yet, for 45 seconds.
    let rotated = made("b", Some(0));
    let made_up = [
        made("c", Some(0)),
        made("d", None),
        made("e", Some(100_000)),
    ];
    for second in [0, 20, 45, 59] {
        at(second);
        for token in made_up.iter().chain([&rotated]) {
            assert_eq!(
                verify(&verifier, token).await,
                Err(Error::KeysUnavailable),
                "{second}"
            );
        }
    }
    // What is older than the set, by a minute, is known to have no key at once.
    let old = made("f", Some(-61));
    let fetches = server.count();
    assert!(refusal(&verifier, &old).contains("`kid`"));
    assert_eq!(server.count(), fetches);

    server.say(Answer::Text(jwks(&[
        ("ec-a.private.pem", "a"),
        ("ec-b.private.pem", "b"),
    ])));
    assert!(verify(&verifier, &rotated).await.is_ok());
    // The set is newer than these: the one by its word, the other since it came first. The
    // third is of a time to come, and is told to come back.
    at(60);
    for token in &made_up[..2] {
        let answer = verify(&verifier, token).await;
        assert!(matches!(answer, Err(Error::Invalid(_))), "{answer:?}");
    }
    assert_eq!(
        verify(&verifier, &made_up[2]).await,
        Err(Error::KeysUnavailable)
    );
    // A set that cannot be read is no newer than it was.
    server.say(Answer::Status(500));
    at(300);
    let late = made("g", Some(200));
    assert_eq!(verify(&verifier, &late).await, Err(Error::KeysUnavailable));
    assert!(verifier.verify_now(&rotated).is_ok());
}

#[test]
fn a_token_without_a_key_id_is_tried_with_few_keys() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("jwks");
    let others: Vec<_> = (0..MAX_TRIES).map(|index| format!("b{index}")).collect();
    for (count, is_found) in [(MAX_TRIES - 1, true), (MAX_TRIES, false)] {
        let mut keys: Vec<_> = others[..count]
            .iter()
            .map(|id| ("ec-b.private.pem", &**id))
            .collect();
        keys.push(("ec-a.private.pem", "a"));
        fs::write(&file, jwks(&keys)).unwrap();
        let verifier = verifier_of(&with_jwks(file.to_str().unwrap()), NOW);
        let nameless = signed_with("ec-a.private.pem", None, &claims());
        match is_found {
            true => assert!(verifier.verify_now(&nameless).is_ok()),
            false => assert!(refusal(&verifier, &nameless).contains("must name its key")),
        }
        let named = signed_with("ec-a.private.pem", Some("a"), &claims());
        assert!(verifier.verify_now(&named).is_ok());
    }
}

#[tokio::test]
async fn a_rotated_key_is_fetched_and_the_former_forgotten() {
    let server = KeyServer::start(Answer::Text(jwks(&[("ec-a.private.pem", "a")]))).await;
    let verifier = timed(
        &with_jwks(&server.url),
        Timing {
            ask: Duration::ZERO,
            ..STILL
        },
    );
    let _fresh = keep_fresh(&verifier);
    let old = signed_with("ec-a.private.pem", Some("a"), &claims());
    let new = signed_with("ec-b.private.pem", Some("b"), &claims());
    assert!(verify(&verifier, &old).await.is_ok());
    assert_eq!(verify(&verifier, &new).await, Err(Error::KeysUnavailable));
    assert!(
        verifier.verify_now(&old).is_ok(),
        "the same keys again change nothing"
    );
    server.say(Answer::Text(jwks(&[("ec-b.private.pem", "b")])));
    assert!(verify(&verifier, &new).await.is_ok());
    assert_eq!(verify(&verifier, &old).await, Err(Error::KeysUnavailable));
    verifier.remembered.run_pending_tasks();
    assert_eq!(verifier.remembered.entry_count(), 1);
}

#[tokio::test]
async fn keys_stay_when_a_refresh_fails() {
    let server = KeyServer::start(Answer::Text(jwks(&[("ec-a.private.pem", "a")]))).await;
    let eager = Duration::from_millis(5);
    let verifier = timed(
        &with_jwks(&server.url),
        Timing {
            refresh: eager,
            retry: eager,
            ..STILL
        },
    );
    let _fresh = keep_fresh(&verifier);
    server.has_served(2).await;
    for answer in [
        Answer::Status(404),
        Answer::Text("gone".into()),
        Answer::Text(r#"{"keys":[]}"#.into()),
    ] {
        server.say(answer);
        server.has_served(server.count() + 3).await;
        let mut claims = claims();
        // One that is not remembered.
        claims["jti"] = json!(server.count());
        let token = signed_with("ec-a.private.pem", Some("a"), &claims);
        assert!(verifier.verify_now(&token).is_ok());
    }
}

#[tokio::test]
async fn answers_that_hold_no_keys_are_refused() {
    let elsewhere = KeyServer::start(Answer::Text(jwks(&[("ec-a.private.pem", "a")]))).await;
    let padded = |bytes: usize| {
        let keys = jwks(&[("ec-a.private.pem", "a")]);
        Answer::Text(format!("{keys}{}", " ".repeat(bytes - keys.len())))
    };
    let timing = Timing {
        time_out: Duration::from_millis(200),
        ..STILL
    };
    for (answer, words) in [
        (Answer::Status(503), "503"),
        (Answer::Status(204), "204"),
        (Answer::Redirect(elsewhere.url.clone()), "redirect"),
        (Answer::Text("<html>".into()), "not JSON"),
        (padded(keys::MAX_KEY_BYTES + 1), "length limit"),
        (Answer::Nothing, "no answer within"),
    ] {
        let server = KeyServer::start(answer).await;
        let (source, _) = Jwks::open(&server.url, timing).unwrap();
        let error = source.read().await.err().unwrap_or_default();
        assert!(error.contains(words), "{words}: {error}");
        assert_eq!(server.count(), 1);
    }
    assert_eq!(elsewhere.count(), 0);
    let server = KeyServer::start(padded(keys::MAX_KEY_BYTES)).await;
    let (source, _) = Jwks::open(&server.url, STILL).unwrap();
    assert!(source.read().await.is_ok());

    let gone = server.url.clone();
    drop(server);
    let (source, _) = Jwks::open(&gone, STILL).unwrap();
    assert!(
        source
            .read()
            .await
            .err()
            .unwrap_or_default()
            .contains("connect")
    );
}

#[tokio::test]
async fn a_file_is_read_again_when_it_changed() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("jwks");
    let replace = |text: &str| {
        let next = directory.path().join("next");
        fs::write(&next, text).unwrap();
        fs::rename(&next, &file).unwrap();
    };
    replace(&jwks(&[("ec-a.private.pem", "a")]));
    let timing = Timing {
        poll: Duration::from_millis(2),
        ask: Duration::ZERO,
        ..STILL
    };
    let verifier = timed(&with_jwks(file.to_str().unwrap()), timing);
    let old = signed_with("ec-a.private.pem", Some("a"), &claims());
    let new = signed_with("ec-b.private.pem", Some("b"), &claims());
    assert!(verifier.verify_now(&old).is_ok());
    let _fresh = keep_fresh(&verifier);
    assert_eq!(verify(&verifier, &new).await, Err(Error::KeysUnavailable));

    replace("broken");
    assert_eq!(verify(&verifier, &new).await, Err(Error::KeysUnavailable));
    assert!(verifier.verify_now(&old).is_ok());

    replace(&jwks(&[("ec-b.private.pem", "b")]));
    assert!(verify(&verifier, &new).await.is_ok());
    assert!(verifier.verify_now(&old).is_err());
}

#[tokio::test]
async fn keeping_fresh_ends_when_it_is_told_to() {
    let stop = CancellationToken::new();
    // Without a JWKS there is nothing to do.
    verifier(NOW).keep_fresh(stop.clone()).await;
    let server = KeyServer::start(Answer::Nothing).await;
    let verifier = timed(&with_jwks(&server.url), STILL);
    let running = tokio::spawn({
        let verifier = Arc::clone(&verifier);
        let stop = stop.clone();
        async move { verifier.keep_fresh(stop).await }
    });
    server.has_served(1).await;
    stop.cancel();
    running.await.unwrap();
    let token = signed_with("ec-a.private.pem", None, &claims());
    assert_eq!(verify(&verifier, &token).await, Err(Error::KeysUnavailable));
}

#[tokio::test]
async fn admission_waits_for_keys_too() {
    let server = KeyServer::start(Answer::Text(jwks(&[("rsa-a.private.pem", "a")]))).await;
    let verifier = timed(&with_jwks(&server.url), STILL);
    let _fresh = keep_fresh(&verifier);
    let admission = Admission {
        verifier,
        refuse: |error| panic!("{error}"),
    };
    let service = axum::Router::new()
        .fallback(async |caller: axum::Extension<Arc<Caller>>| caller.subject.to_string())
        .layer(axum::middleware::from_fn_with_state(admission, admit));
    let token = signed_with("rsa-a.private.pem", Some("a"), &claims());
    let request = http::Request::builder()
        .header("authorization", format!("Bearer {token}"))
        .body(axum::body::Body::empty())
        .unwrap();
    let answer = service.oneshot(request).await.unwrap().into_body();
    let answer = http_body_util::BodyExt::collect(answer).await.unwrap();
    assert_eq!(answer.to_bytes(), "ann");
}

proptest! {
    #[test]
    fn no_text_makes_it_panic_or_is_repeated(token in "[ -~]{12,200}") {
        let error = verifier(NOW).verify_now(&token).unwrap_err();
        prop_assert!(!error.to_string().contains(&token));
    }

    #[test]
    fn no_other_text_than_the_token_passes(place in 0_usize..200, letter in "[A-Za-z0-9_.=-]") {
        let token = user_token();
        let place = place % token.len();
        let mut other = token.clone();
        other.replace_range(place..=place, &letter);
        prop_assert_eq!(verifier(NOW).verify_now(&other).is_ok(), other == token);
    }

    #[test]
    fn no_claims_make_it_panic(
        name in prop::sample::select(vec!["exp", "nbf", "sub", "userId", "organizationId", "userRole"]),
        number in any::<f64>(),
        text in ".{0,300}",
    ) {
        for value in [json!(number), json!(text), json!([text]), json!({"a": number})] {
            let mut claims = claims();
            claims[name] = value;
            if let Ok(caller) = verifier(NOW).verify_now(&signed_with_secret(&claims)) {
                prop_assert!(!caller.is_expired(NOW));
                prop_assert!(!caller.subject.chars().any(char::is_control));
            }
        }
    }
}
