//! Keys and tokens that somebody else makes, as the service fetches and reads them.

use std::{net::SocketAddr, sync::Arc};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use doorbell::{
    auth::{Right, Scope, TokenVerifier},
    cli::command::{self, Command, Parsed},
    clock::{Clock as _, SystemClock},
    model::{InboxKey, OrganizationId},
    proto::GetUnreadCountRequest,
    random::SystemRandom,
};
use jsonwebtoken::{Algorithm, EncodingKey, Header, jwk::Jwk};
use rustls::{ServerConfig, crypto::aws_lc_rs};
use rustls_pki_types::PrivatePkcs8KeyDer;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
    task::block_in_place,
};
use tokio_rustls::TlsAcceptor;
use tonic::{Code, Status};

use crate::{
    calls::{eventually, page},
    server::{Server, Setup, free_port},
    support,
};

/// Who answers every request with these keys.
async fn publish(certified: &rcgen::CertifiedKey<rcgen::KeyPair>, keys: String) -> SocketAddr {
    let key = PrivatePkcs8KeyDer::from(certified.signing_key.serialize_der());
    let config = ServerConfig::builder_with_provider(aws_lc_rs::default_provider().into())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certified.cert.der().clone()], key.into())
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let answer = format!(
        "HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{keys}",
        keys.len()
    );
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let (acceptor, answer) = (acceptor.clone(), answer.clone());
            tokio::spawn(async move {
                // Who does not trust the certificate goes away here.
                let Ok(mut stream) = acceptor.accept(stream).await else {
                    return;
                };
                let mut request = [0; 4096];
                let _ = stream.read(&mut request).await;
                let _ = stream.write_all(answer.as_bytes()).await;
                let _ = stream.shutdown().await;
            });
        }
    });
    address
}

async fn call(server: &Server, token: &str) -> Result<(), Status> {
    let mut client = server.client(token).await;
    let answer = client
        .get_unread_count(GetUnreadCountRequest::default())
        .await;
    answer.map(drop)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_come_over_tls_from_whom_this_machine_trusts() {
    let certified = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let stranger = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let signing = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    let keys = json!({"keys": [{
        "kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "use": "sig", "kid": "a",
        "x": URL_SAFE_NO_PAD.encode(signing.public_key_raw()),
    }]});
    let publisher = publish(&certified, keys.to_string()).await;
    let header = Header {
        kid: Some("a".into()),
        ..Header::new(Algorithm::EdDSA)
    };
    let claims = json!({
        "organizationId": "acme", "userId": "ann",
        "exp": SystemClock.now().as_micros() / 1_000_000 + 3600,
    });
    let key = EncodingKey::from_ed_pem(signing.serialize_pem().as_bytes()).unwrap();
    let token = jsonwebtoken::encode(&header, &claims, &key).unwrap();
    let trusting = |root: &rcgen::Certificate, pages: SocketAddr| {
        let mut setup = Setup::new()
            .with("JWKS", format!("https://{publisher}/keys"))
            .with("METRICS_LISTEN", pages);
        // The keys are the only ones.
        setup
            .variables
            .insert("DOORBELL_JWT_SECRET".into(), String::new());
        // Where rustls-native-certs looks before it looks at the system.
        let file = support::write(&setup.directory, "root.pem", &root.pem());
        setup.variables.insert("SSL_CERT_FILE".into(), file);
        block_in_place(|| setup.start())
    };

    let pages = free_port();
    let ready = async || page(pages, "/readyz").await;
    let server = trusting(&certified.cert, pages);
    eventually("the keys are there", async || {
        call(&server, &token).await.is_ok()
    })
    .await;
    eventually("it is ready", async || {
        ready().await.starts_with("HTTP/1.1 200")
    })
    .await;
    drop(server);

    let server = trusting(&stranger.cert, pages);
    eventually("the certificate is refused", async || {
        server.log().contains("certificate")
    })
    .await;
    let status = call(&server, &token).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable, "{status}");
    // Who has no keys can serve nobody.
    let ready = ready().await;
    assert!(ready.starts_with("HTTP/1.1 503"), "{ready}");
    assert!(
        ready.contains("no keys to verify tokens with yet"),
        "{ready}"
    );
}

/// A private key of the fixtures, and its public half as a JWK with nothing besides.
fn fixture(file: &str) -> (Algorithm, EncodingKey, Value) {
    let path = format!("{}/tests/fixtures/auth/{file}", env!("CARGO_MANIFEST_DIR"));
    let pem = std::fs::read(path).unwrap();
    let (algorithm, key) = match file.starts_with("rsa") {
        true => (Algorithm::RS256, EncodingKey::from_rsa_pem(&pem).unwrap()),
        false => (Algorithm::ES256, EncodingKey::from_ec_pem(&pem).unwrap()),
    };
    let jwk = Jwk::from_encoding_key(&key, algorithm).unwrap();
    let mut jwk = serde_json::to_value(jwk).unwrap();
    jwk.as_object_mut().unwrap().remove("alg");
    (algorithm, key, jwk)
}

fn with(mut object: Value, more: &Value) -> Value {
    let more = more.as_object().unwrap().clone();
    object.as_object_mut().unwrap().extend(more);
    object
}

/// A provider as the guide names it, what its keys have besides, a user's claims and what
/// they have where they are a sender's.
struct Provider {
    name: &'static str,
    file: &'static str,
    jwk: Value,
    claims: Value,
    sender: Value,
    reader: (&'static str, &'static str),
}

fn providers() -> Vec<Provider> {
    let rsa = "rsa-a.private.pem";
    vec![
        Provider {
            name: "Auth0",
            file: rsa,
            jwk: json!({"use": "sig", "alg": "RS256", "x5t": "NjVBRjY5", "x5c": ["MIIDDTCC"]}),
            claims: json!({
                "iss": "https://TENANT.eu.auth0.com/", "sub": "auth0|5f7c8ec7", "azp": "my_client",
                "aud": ["https://api.example.com", "https://TENANT.eu.auth0.com/userinfo"],
                "scope": "openid profile", "org_id": "org_9ybs", "permissions": [],
            }),
            sender: json!({"https://example.com/roles": ["admin", "service"]}),
            reader: ("org_9ybs", "auth0|5f7c8ec7"),
        },
        Provider {
            name: "Keycloak",
            file: rsa,
            jwk: json!({"use": "sig", "alg": "RS256", "x5c": ["MIICmzCC"], "x5t#S256": "Xbb1"}),
            claims: json!({
                "iss": "https://id.example.com/realms/REALM", "aud": "account", "typ": "Bearer",
                "sub": "f1a5bd3e", "azp": "web", "acr": "1", "session_state": "9e4b",
                "realm_access": {"roles": ["offline_access"]},
                "resource_access": {"account": {"roles": ["view-profile"]}}, "scope": "openid",
            }),
            sender: json!({"realm_access": {"roles": ["offline_access", "service"]}}),
            reader: ("acme", "f1a5bd3e"),
        },
        Provider {
            name: "Cognito (id tokens)",
            file: rsa,
            jwk: json!({"use": "sig", "alg": "RS256"}),
            claims: json!({
                "iss": "https://cognito-idp.REGION.amazonaws.com/POOL", "aud": "CLIENT",
                "sub": "aaaa-bbbb", "cognito:username": "ann", "token_use": "id",
                "auth_time": 1_500_009_400, "event_id": "4d8", "custom:org_id": "acme",
                "cognito:groups": ["readers"], "email_verified": true,
            }),
            sender: json!({"cognito:groups": ["readers", "service"]}),
            reader: ("acme", "aaaa-bbbb"),
        },
        Provider {
            name: "Clerk",
            file: rsa,
            jwk: json!({"use": "sig", "alg": "RS256"}),
            claims: json!({
                "iss": "https://clerk.example.com", "sub": "user_2abc", "sid": "sess_2abc", "v": 2,
                "azp": "https://example.com", "fva": [9, -1], "pla": "u:free",
                "o": {"id": "org_2abc", "slg": "acme", "rol": "member", "per": "", "fpm": ""},
            }),
            sender: json!({"o": {"id": "org_2abc", "rol": "service"}}),
            reader: ("org_2abc", "user_2abc"),
        },
        Provider {
            name: "Supabase",
            file: "ec-a.private.pem",
            jwk: json!({"use": "sig", "alg": "ES256", "key_ops": ["verify"], "ext": true}),
            claims: json!({
                "iss": "https://PROJECT.supabase.co/auth/v1", "aud": "authenticated",
                "sub": "1c1d", "role": "authenticated", "aal": "aal1", "session_id": "b2c3",
                "amr": [{"method": "password", "timestamp": 1}], "is_anonymous": false,
                "app_metadata": {"provider": "email", "providers": ["email"], "org_id": 42},
                "user_metadata": {"organizationId": "not-this"},
            }),
            sender: json!({"app_metadata": {"org_id": 42, "roles": ["service"]}}),
            reader: ("42", "1c1d"),
        },
        Provider {
            name: "Firebase",
            file: rsa,
            jwk: json!({"use": "sig", "alg": "RS256"}),
            claims: json!({
                "iss": "https://securetoken.google.com/PROJECT", "aud": "PROJECT",
                "sub": "Uq3m", "user_id": "Uq3m", "auth_time": 1,
                "firebase": {
                    "identities": {"email": ["a@example.com"]}, "sign_in_provider": "password",
                    "tenant": "acme-x1y2z",
                },
            }),
            sender: json!({"userRole": "service"}),
            reader: ("acme-x1y2z", "Uq3m"),
        },
        Provider {
            name: "Entra",
            file: rsa,
            jwk: json!({
                "use": "sig", "x5t": "-KI3Q9nN", "x5c": ["MIIDBTCC"],
                "cloud_instance_name": "microsoftonline.com",
                "issuer": "https://login.microsoftonline.com/TENANT/v2.0",
            }),
            claims: json!({
                "iss": "https://login.microsoftonline.com/TENANT/v2.0", "aud": "APPLICATION",
                "sub": "AAAAAAAA", "oid": "690222be", "tid": "72f988bf", "ver": "2.0",
                "uti": "fqiB", "rh": "0.AX", "roles": ["Task.Read"], "scp": "access_as_user",
            }),
            sender: json!({"roles": ["Task.Read", "service"]}),
            reader: ("72f988bf", "690222be"),
        },
    ]
}

/// The settings of a provider, from its row of the guide, with its keys in `file`.
fn documented(provider: &str, file: &str) -> Vec<String> {
    let guide = std::fs::read_to_string(format!("{}/docs/api.md", env!("CARGO_MANIFEST_DIR")));
    let guide = guide.unwrap();
    let row = guide
        .lines()
        .find(|line| line.starts_with(&format!("| {provider} | ")))
        .unwrap_or_else(|| panic!("the guide has no {provider}"));
    let settings = row.split('`').skip(1).step_by(2);
    let words = settings.map(|setting| {
        let (variable, value) = setting.split_once('=').unwrap();
        let flag = variable.strip_prefix("DOORBELL_").unwrap();
        let flag = flag.to_lowercase().replace('_', "-");
        let is_place = flag == "jwks" && value.starts_with("https://");
        format!("--{flag}={}", if is_place { file } else { value })
    });
    ["doorbell".into(), "serve".into()]
        .into_iter()
        .chain(words)
        .collect()
}

#[test]
fn what_identity_providers_make_is_read_as_the_guide_says() {
    let directory = tempfile::tempdir().unwrap();
    for provider in providers() {
        let name = provider.name;
        let file = directory.path().join("jwks.json").display().to_string();
        let (algorithm, key, public) = fixture(provider.file);
        // One for something else, and one of a kind to come, stand beside it.
        let keys = json!({"keys": [
            with(public.clone(), &json!({"kid": "enc", "use": "enc", "alg": "RSA-OAEP"})),
            {"kty": "AKP", "alg": "ML-DSA-44", "kid": "next", "pub": "AAAA"},
            with(with(public, &provider.jwk), &json!({"kid": "k1/="})),
        ]});
        std::fs::write(&file, keys.to_string()).unwrap();
        let words = documented(name, &file).into_iter().map(Into::into);
        let Ok(Parsed::Run(command)) = command::parse(words, []) else {
            panic!("{name}: the settings are refused");
        };
        let Command::Serve(config) = *command else {
            panic!("another command");
        };
        let (clock, random) = (Arc::new(SystemClock), Arc::new(SystemRandom));
        let verifier = TokenVerifier::open(&config.auth, clock, random).unwrap();
        let now = SystemClock.now().as_micros() / 1_000_000;
        let claims = with(
            provider.claims,
            &json!({"iat": now, "nbf": now, "exp": now + 300}),
        );
        let sign = |claims: &Value| {
            let header = Header {
                kid: Some("k1/=".into()),
                ..Header::new(algorithm)
            };
            jsonwebtoken::encode(&header, claims, &key).unwrap()
        };
        let right = |claims: &Value| {
            let caller = verifier.verify_now(&sign(claims));
            caller
                .unwrap_or_else(|error| panic!("{name}: {error}"))
                .right
                .clone()
        };
        let (organization, user) = provider.reader;
        let inbox = InboxKey::parse(organization, user).unwrap();
        assert_eq!(right(&claims), Right::Read(inbox), "{name}");
        let sender = right(&with(claims.clone(), &provider.sender));
        let organization = OrganizationId::parse(organization).unwrap();
        assert_eq!(sender, Right::Send(Scope::One(organization)), "{name}");
        let foreign = with(claims, &json!({"iss": "https://id.example.org"}));
        assert!(verifier.verify_now(&sign(&foreign)).is_err(), "{name}");
    }
}
