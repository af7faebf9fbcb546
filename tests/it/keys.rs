//! Keys that somebody else publishes, as the service fetches them.

use std::{net::SocketAddr, sync::Arc};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use doorbell::{
    clock::{Clock as _, SystemClock},
    proto::GetUnreadCountRequest,
};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use rustls::{ServerConfig, crypto::aws_lc_rs};
use rustls_pki_types::PrivatePkcs8KeyDer;
use serde_json::json;
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
    let answer = client.get_unread_count(GetUnreadCountRequest {}).await;
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
