//! Bytes that no client of ours sends, over HTTP/2 and over gRPC-web on HTTP/1.1:
//! a status with details where one can be said, and a server that lives on.

use std::{collections::BTreeMap, io::Write as _};

use bytes::Bytes;
use doorbell::{
    clock::{Clock as _, SystemClock},
    proto::{GetUnreadCountRequest, SendInAppRequest},
    random::{Random as _, SeededRandom},
};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use prost::Message as _;
use rstest::rstest;
use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};
use tonic::Code;

use crate::{
    calls::{
        Answer, SERVICE, Way, eventually, exchange, frame, lying_frame, mark, metric, refusal,
        resident_kib, send,
    },
    process::PATIENCE,
    server::{SECRET, Server, Setup, free_port, sender_token, user_token},
};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const EMPTY_SETTINGS: &[u8] = b"\0\0\0\x04\0\0\0\0\0";

/// It serves, and nothing in it panicked.
async fn assert_unharmed(server: &Server) {
    let mut client = server.user("acme", "witness").await;
    let answer = client
        .get_unread_count(GetUnreadCountRequest::default())
        .await;
    assert!(answer.is_ok(), "{answer:?}");
    let log = server.log();
    assert!(!log.contains("panicked"), "{log}");
    assert!(!log.contains("\"level\":\"ERROR\""), "{log}");
}

/// Code and reason of an answer, which has both.
fn said(answer: &Answer) -> (Code, String) {
    let status = answer
        .status()
        .unwrap_or_else(|| panic!("no status: {answer:?}"));
    if status.code() == Code::Ok {
        return (Code::Ok, String::new());
    }
    let refusal = refusal(&status);
    (refusal.code, refusal.reason)
}

async fn call(server: &Server, way: Way, method: &str, body: Bytes) -> (Code, String) {
    let token = match method {
        "SendInApp" => sender_token("*"),
        _ => user_token("acme", "ann"),
    };
    let bearer = format!("Bearer {token}");
    let headers = [("authorization", bearer.as_str())];
    let answer = exchange(server, way, &format!("{SERVICE}{method}"), &headers, body)
        .await
        .unwrap();
    said(&answer)
}

/// A `Struct` within a `Struct`, so many times, as bytes: deeper than any parser
/// should follow.
fn nested(levels: usize) -> Vec<u8> {
    fn field(number: u8, inside: &[u8]) -> Vec<u8> {
        let mut bytes = vec![number << 3 | 2];
        prost::encoding::encode_varint(inside.len() as u64, &mut bytes);
        bytes.extend(inside);
        bytes
    }
    let inside = (0..levels).fold(Vec::new(), |inside, _| {
        // A map entry of the key "" and a value that is a struct.
        field(1, &field(2, &field(5, &inside)))
    });
    let mut request = send("acme", "ann", "Hello").encode_to_vec();
    request.extend(field(9, &inside));
    request
}

/// What cannot be read at all, and what is said of it.
fn unreadable() -> BTreeMap<&'static str, (Bytes, &'static str)> {
    const MALFORMED: &str = "MALFORMED_REQUEST";
    const TOO_LARGE: &str = "REQUEST_TOO_LARGE";
    let good = send("acme", "ann", "Hello").encode_to_vec();
    let mut cut = frame(&good).to_vec();
    cut.truncate(cut.len() - 1);
    BTreeMap::from([
        ("invalid UTF-8", (frame(&[0x22, 2, 0xff, 0xfe]), MALFORMED)),
        ("half a character", (frame(&[0x22, 1, 0xc3]), MALFORMED)),
        (
            "a surrogate",
            (frame(&[0x22, 3, 0xed, 0xa0, 0x80]), MALFORMED),
        ),
        ("garbage", (frame(&[0xff; 64]), MALFORMED)),
        (
            "two messages",
            ([frame(&good), frame(&good)].concat().into(), MALFORMED),
        ),
        (
            "a field longer than its message",
            (frame(&[0x22, 0x7f, b'x']), MALFORMED),
        ),
        (
            "an endless varint",
            (
                frame(&[
                    0x22, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1,
                ]),
                MALFORMED,
            ),
        ),
        ("another wire type", (frame(&[0x20, 1]), MALFORMED)),
        ("a field number of zero", (frame(&[0x02, 0]), MALFORMED)),
        ("an end of a group", (frame(&[0x24]), MALFORMED)),
        ("too deep to parse", (frame(&nested(200)), MALFORMED)),
        ("nothing", (Bytes::new(), MALFORMED)),
        ("half a prefix", (Bytes::from_static(&[0, 0, 0]), MALFORMED)),
        ("a message that is cut", (cut.into(), MALFORMED)),
        (
            "a length above what comes",
            (lying_frame(0, 1000, b"x"), MALFORMED),
        ),
        (
            "a length of 4 GiB",
            (lying_frame(0, u32::MAX, b"x"), TOO_LARGE),
        ),
        (
            "a length just above what is read",
            (lying_frame(0, 512 * 1024 + 1, b"x"), TOO_LARGE),
        ),
        ("an unknown flag", (lying_frame(7, 0, b""), MALFORMED)),
        (
            "compressed without a word",
            (lying_frame(1, 3, b"abc"), MALFORMED),
        ),
        (
            "a page of text",
            (Bytes::from_static(b"<html>hello</html>"), MALFORMED),
        ),
    ])
}

#[rstest]
#[case(Way::Grpc)]
#[case(Way::Web)]
#[tokio::test]
async fn what_cannot_be_read_is_refused_with_its_reason(#[case] way: Way) {
    let server = Setup::new().start();
    for (what, (body, reason)) in unreadable() {
        let said = call(&server, way, "SendInApp", body).await;
        assert_eq!(said, (Code::InvalidArgument, reason.to_owned()), "{what}");
    }
    assert_unharmed(&server).await;
}

#[rstest]
#[case(Way::Grpc)]
#[case(Way::Web)]
#[tokio::test]
async fn every_method_refuses_garbage(#[case] way: Way) {
    let server = Setup::new().start();
    for method in [
        "SendInApp",
        "MarkRead",
        "GetUnreadCount",
        "GetRecent",
        "Subscribe",
    ] {
        for body in [
            frame(&[0xff; 64]),
            lying_frame(0, u32::MAX, b""),
            lying_frame(0, 9, b"x"),
            Bytes::new(),
        ] {
            let (code, reason) = call(&server, way, method, body).await;
            assert_eq!(code, Code::InvalidArgument, "{method}: {reason}");
        }
    }
    assert_unharmed(&server).await;
}

/// A message that ends anywhere, in a frame that does not lie: what is left is
/// taken, or refused as what it is. Nothing else comes of it.
#[rstest]
#[case(Way::Grpc)]
#[case(Way::Web)]
#[tokio::test]
async fn a_message_cut_anywhere_is_taken_or_refused(#[case] way: Way) {
    let server = Setup::new().start();
    let whole = SendInAppRequest {
        body: Some("é".into()),
        entity_type: Some("order".into()),
        action_url: Some("/7".into()),
        data: Some(prost_types::Struct {
            fields: [(
                "k".to_owned(),
                prost_types::Value {
                    kind: Some(prost_types::value::Kind::NumberValue(7.5)),
                },
            )]
            .into(),
        }),
        ..send("acme", "ann", "Hello")
    }
    .encode_to_vec();
    let mut reasons = BTreeMap::new();
    for end in 0..=whole.len() {
        let (code, reason) = call(&server, way, "SendInApp", frame(&whole[..end])).await;
        let is_expected = match code {
            Code::Ok => true,
            Code::InvalidArgument => {
                matches!(reason.as_str(), "MALFORMED_REQUEST" | "INVALID_REQUEST")
            }
            _ => false,
        };
        assert!(is_expected, "cut at {end}: {code:?} {reason}");
        *reasons.entry(reason).or_insert(0) += 1;
    }
    // All three were met: required fields missing, a cut field, a whole prefix.
    assert_eq!(reasons.len(), 3, "{reasons:?}");
    assert_unharmed(&server).await;
}

#[rstest]
#[case(Way::Grpc)]
#[case(Way::Web)]
#[tokio::test]
async fn what_is_missing_is_named_and_what_is_unknown_is_passed_over(#[case] way: Way) {
    let server = Setup::new().start();
    let invalid = (Code::InvalidArgument, "INVALID_REQUEST".to_owned());
    assert_eq!(call(&server, way, "SendInApp", frame(&[])).await, invalid);
    assert_eq!(call(&server, way, "MarkRead", frame(&[])).await, invalid);
    let nobody = mark(["not an id".to_owned()]).encode_to_vec();
    assert_eq!(
        call(&server, way, "MarkRead", frame(&nobody)).await,
        invalid
    );
    // As deep as a parser follows, which is deeper than `data` may be.
    let deep = frame(&nested(32));
    assert_eq!(call(&server, way, "SendInApp", deep).await, invalid);
    let mut later = send("acme", "ann", "Hello").encode_to_vec();
    // Field 100 with some text.
    later.extend([0xa2, 0x06, 3, b'n', b'e', b'w']);
    assert_eq!(
        call(&server, way, "SendInApp", frame(&later)).await.0,
        Code::Ok
    );
    assert_eq!(
        call(&server, way, "GetUnreadCount", frame(&[])).await.0,
        Code::Ok
    );
    assert_unharmed(&server).await;
}

#[rstest]
#[case(Way::Grpc)]
#[case(Way::Web)]
#[tokio::test]
async fn what_is_not_there_is_unimplemented(#[case] way: Way) {
    let server = Setup::new().start();
    for path in [
        "/doorbell.v1.NotificationService/Nothing",
        "/doorbell.v1.NotificationService/",
        "/doorbell.v2.NotificationService/SendInApp",
        "/",
        "/%00",
        "/doorbell.v1.NotificationService/SendInApp/more",
    ] {
        let bearer = format!("Bearer {}", sender_token("*"));
        let headers = [("authorization", bearer.as_str())];
        let answer = exchange(&server, way, path, &headers, frame(&[]))
            .await
            .unwrap();
        let expected = (Code::Unimplemented, "UNKNOWN_METHOD".to_owned());
        assert_eq!(said(&answer), expected, "{path}");
    }
    // A compression that we do not take is named as such.
    let bearer = format!("Bearer {}", sender_token("*"));
    let headers = [("authorization", bearer.as_str()), ("grpc-encoding", "br")];
    let path = format!("{SERVICE}SendInApp");
    let body = lying_frame(1, 1, b"x");
    let answer = exchange(&server, way, &path, &headers, body).await.unwrap();
    assert_eq!(said(&answer).0, Code::Unimplemented);
    assert_eq!(answer.headers["grpc-accept-encoding"], "gzip,identity");
    assert_unharmed(&server).await;
}

/// A bomb is unpacked up to the limit of a request, and no further.
#[rstest]
#[case(Way::Grpc)]
#[case(Way::Web)]
#[tokio::test]
async fn gzip_is_taken_and_a_bomb_is_not(#[case] way: Way) {
    let server = Setup::new().start();
    let bearer = format!("Bearer {}", sender_token("*"));
    let headers = [
        ("authorization", bearer.as_str()),
        ("grpc-encoding", "gzip"),
    ];
    let zipped = |message: &[u8]| {
        let mut zip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        zip.write_all(message).unwrap();
        let zip = zip.finish().unwrap();
        lying_frame(1, u32::try_from(zip.len()).unwrap(), &zip)
    };
    let ask = async |message: &[u8]| {
        let path = format!("{SERVICE}SendInApp");
        let answer = exchange(&server, way, &path, &headers, zipped(message));
        said(&answer.await.unwrap())
    };
    let good = send("acme", "ann", "Hello").encode_to_vec();
    assert_eq!(ask(&good).await.0, Code::Ok);
    let before = resident_kib(&server);
    let bomb = vec![0; 32 << 20];
    for _ in 0..20 {
        let too_large = (Code::InvalidArgument, "REQUEST_TOO_LARGE".to_owned());
        assert_eq!(ask(&bomb).await, too_large);
    }
    let grown = resident_kib(&server).saturating_sub(before);
    assert!(grown < 16 * 1024, "{grown} KiB");
    assert_unharmed(&server).await;
}

/// What is no gRPC by its own word gets an answer of HTTP, and changes nothing.
#[rstest]
#[case(Way::Grpc)]
#[case(Way::Web)]
#[tokio::test]
async fn another_content_type_is_not_served(#[case] way: Way) {
    let server = Setup::new().start();
    let body = frame(&send("acme", "witness", "Hello").encode_to_vec());
    let bearer = format!("Bearer {}", sender_token("*"));
    for content_type in [
        "application/json",
        "text/plain",
        "application/x-protobuf",
        "",
    ] {
        let headers = [
            ("authorization", bearer.as_str()),
            ("content-type", content_type),
        ];
        let path = format!("{SERVICE}SendInApp");
        let answer = exchange(&server, way, &path, &headers, body.clone()).await;
        let answer = answer.unwrap();
        let is_refused = !answer.http.is_success()
            || answer
                .status()
                .is_some_and(|status| status.code() != Code::Ok);
        assert!(is_refused, "{content_type}: {answer:?}");
    }
    let mut witness = server.user("acme", "witness").await;
    let head = witness
        .get_unread_count(GetUnreadCountRequest::default())
        .await;
    assert_eq!(head.unwrap().into_inner().head.unwrap().revision, 0);
    assert_unharmed(&server).await;
}

#[rstest]
#[case(Way::Grpc)]
#[case(Way::Web)]
#[tokio::test]
async fn headers_are_bounded(#[case] way: Way) {
    const MOST: usize = 16 * 1024;
    let server = Setup::new().with("MAX_HEADER_BYTES", MOST).start();
    let path = format!("{SERVICE}GetUnreadCount");
    let bearer = format!("Bearer {}", user_token("acme", "ann"));
    let get = async |name: &str, value: String| {
        let headers = [("authorization", bearer.as_str()), (name, value.as_str())];
        exchange(&server, way, &path, &headers, frame(&[])).await
    };
    // Well below the limit nothing is the matter.
    let answer = get("x-much", "x".repeat(MOST / 2)).await.unwrap();
    assert_eq!(said(&answer).0, Code::Ok);
    // Above it the call is refused, or the connection is, before a handler runs.
    for bytes in [MOST + 1, 16 * MOST] {
        if let Ok(answer) = get("x-much", "x".repeat(bytes)).await {
            assert_eq!(answer.http.as_u16(), 431, "{answer:?}");
        }
    }
    // A token is bounded by the same setting, and by no other.
    let claims = json!({
        "organizationId": "acme", "userId": "ann",
        "exp": SystemClock.now().as_micros() / 1_000_000 + 3600,
        "groups": "x".repeat(MOST * 2 / 3),
    });
    let key = EncodingKey::from_secret(SECRET.as_bytes());
    let token = jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &key).unwrap();
    assert!(token.len() > MOST * 3 / 4);
    let long = format!("Bearer {token}");
    let headers = [("authorization", long.as_str())];
    let answer = exchange(&server, way, &path, &headers, frame(&[])).await;
    assert_eq!(said(&answer.unwrap()).0, Code::Ok);
    let expected = (Code::Unauthenticated, "TOKEN_INVALID".to_owned());
    // Two of them are none.
    let twice = [
        ("authorization", bearer.as_str()),
        ("authorization", bearer.as_str()),
    ];
    let answer = exchange(&server, way, &path, &twice, frame(&[]))
        .await
        .unwrap();
    assert_eq!(said(&answer), expected);
    assert_unharmed(&server).await;
}

/// Writes these bytes, says that no more come, and reads what comes back until
/// the end; the other side may close as soon as it likes.
async fn raw(server: &Server, bytes: &[u8]) -> Vec<u8> {
    let mut socket = TcpStream::connect(server.setup.listen).await.unwrap();
    let mut answer = Vec::new();
    let talk = async {
        // Fails where it has closed already.
        let _ = socket.write_all(bytes).await;
        let _ = socket.shutdown().await;
        let _ = socket.read_to_end(&mut answer).await;
    };
    timeout(PATIENCE, talk).await.expect("the connection ends");
    answer
}

fn h2(frames: &[(u8, u8, u32, &[u8])]) -> Vec<u8> {
    let mut bytes = [PREFACE, EMPTY_SETTINGS].concat();
    for (kind, flags, stream, payload) in frames {
        bytes.extend(&u32::try_from(payload.len()).unwrap().to_be_bytes()[1..]);
        bytes.extend([*kind, *flags]);
        bytes.extend(stream.to_be_bytes());
        bytes.extend(*payload);
    }
    bytes
}

#[tokio::test]
async fn frames_that_are_none_end_their_connection_alone() {
    const PING: u8 = 6;
    const GOAWAY: u8 = 7;
    const WITNESS: [u8; 8] = *b"witness!";
    let server = Setup::new().start();
    let big = vec![0; 20_000];
    let streams: Vec<_> = (0..2000)
        .map(|n| (3, 0, 2 * n + 1, &[0, 0, 0, 8][..]))
        .collect();
    let pings = vec![(6, 0, 0, &[0; 8][..]); 5000];
    let continuations: Vec<_> = std::iter::once((1, 0, 1, &[0x82][..]))
        .chain(vec![(9, 0, 1, &big[..16_000]); 100])
        .collect();
    for (what, bytes, is_refused) in [
        ("DATA on stream 0", h2(&[(0, 0, 0, b"x")]), true),
        ("DATA on an idle stream", h2(&[(0, 0, 1, b"x")]), true),
        ("HEADERS on an even stream", h2(&[(1, 4, 2, &[0x82])]), true),
        (
            "headers that are no HPACK",
            h2(&[(1, 4, 1, &[0xff; 40])]),
            true,
        ),
        ("SETTINGS of a wrong length", h2(&[(4, 0, 0, b"xyz")]), true),
        (
            "a window that overflows",
            h2(&[(8, 0, 0, &[0x7f, 0xff, 0xff, 0xff])]),
            true,
        ),
        ("a window update of zero", h2(&[(8, 0, 0, &[0; 4])]), true),
        ("a frame above the largest", h2(&[(0, 0, 1, &big)]), true),
        ("a PING of a wrong length", h2(&[(6, 0, 0, b"x")]), true),
        ("a push", h2(&[(5, 4, 1, &[0, 0, 0, 2])]), true),
        ("endless headers", h2(&continuations), true),
        ("resets of nothing", h2(&streams), true),
        ("an unknown frame", h2(&[(200, 9, 77, b"whatever")]), false),
        ("many pings", h2(&pings), false),
    ] {
        // Who goes on answers a PING behind it.
        let ping = [&[0, 0, 8, 6, 0, 0, 0, 0, 0], &WITNESS[..]].concat();
        let answer = raw(&server, &[bytes, ping].concat()).await;
        let mut rest = &answer[..];
        let (mut goaway, mut goes_on) = (0, false);
        while let [a, b, c, kind, flags, _, _, _, _, more @ ..] = rest {
            let length = u32::from_be_bytes([0, *a, *b, *c]) as usize;
            let Some((payload, more)) = more.split_at_checked(length) else {
                break;
            };
            match *kind {
                GOAWAY => goaway = payload[7],
                PING => goes_on |= *flags == 1 && payload == WITNESS,
                _ => {}
            }
            rest = more;
        }
        assert_eq!(goes_on, !is_refused, "{what}: {answer:?}");
        // What was sent and not read can take the word of it away.
        assert!(is_refused || goaway == 0, "{what}: GOAWAY {goaway}");
        assert_unharmed(&server).await;
    }
}

#[tokio::test]
async fn requests_of_http_1_that_are_none_end_their_connection_alone() {
    let server = Setup::new().start();
    let token = user_token("acme", "ann");
    let post = |headers: &str, body: &str| {
        format!(
            "POST {SERVICE}GetUnreadCount HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\n\
             content-type: application/grpc-web+proto\r\n{headers}\r\n\r\n{body}"
        )
    };
    let many: String = (0..500).map(|n| format!("x-{n}: y\r\n")).collect();
    let empty_message = "\0\0\0\0\0";
    for (what, request, statuses) in [
        ("no request", "hello\r\n\r\n".to_owned(), &["400"][..]),
        ("a header without a name", post(": x", ""), &["400"]),
        ("a header with a line end", post("a: b\rc", ""), &["400"]),
        (
            "two lengths",
            post("content-length: 5\r\ncontent-length: 6", empty_message),
            &["400"],
        ),
        (
            "a length that is none",
            post("content-length: -5", empty_message),
            &["400"],
        ),
        (
            "chunks that are none",
            post("transfer-encoding: chunked", "zz\r\nxx"),
            &["200", "400"],
        ),
        (
            "a huge chunk",
            post("transfer-encoding: chunked", "ffffffffffffffff\r\nxx"),
            &["200", "400"],
        ),
        (
            "a body that is cut",
            post("content-length: 500", empty_message),
            &["200"],
        ),
        (
            "too many headers",
            post(&many[..many.len() - 2], ""),
            &["431"],
        ),
        (
            "a header that is too long",
            post(&format!("a: {}", "x".repeat(100_000)), ""),
            &["431"],
        ),
        (
            "a path that is too long",
            format!("POST /{} HTTP/1.1\r\n\r\n", "x".repeat(100_000)),
            &["414", "431"],
        ),
        (
            "a version of the future",
            "POST / HTTP/7.3\r\n\r\n".to_owned(),
            &["400"],
        ),
        ("TLS", "\x16\x03\x01\x02\0\x01\0\x01".to_owned(), &["400"]),
        (
            "text that is no base64",
            post("content-length: 4", "====").replace("grpc-web+proto", "grpc-web-text"),
            &["200"],
        ),
    ] {
        let answer = String::from_utf8_lossy(&raw(&server, request.as_bytes()).await).into_owned();
        let status = answer.split(' ').nth(1).unwrap_or_default();
        // Closed without a word is an answer too.
        assert!(
            answer.is_empty() || statuses.contains(&status),
            "{what}: {answer}"
        );
        if status == "200" {
            // gRPC says it in the status, and never that all is well.
            let ok = ["grpc-status: 0", "grpc-status:0"];
            assert!(!ok.iter().any(|ok| answer.contains(ok)), "{what}: {answer}");
            assert!(answer.contains("grpc-status"), "{what}: {answer}");
            assert!(
                answer.contains("grpc-status-details-bin"),
                "{what}: {answer}"
            );
        }
        assert_unharmed(&server).await;
    }
}

#[tokio::test]
async fn noise_harms_nothing() {
    let server = Setup::new().start();
    let random = SeededRandom::new(7);
    let mut length = [0; 2];
    for round in 0..200 {
        random.fill(&mut length);
        let mut noise = vec![0; usize::from(u16::from_le_bytes(length)) % 4000];
        random.fill(&mut noise);
        // Behind each of the beginnings that are let in.
        let beginning: &[u8] = match round % 3 {
            0 => b"",
            1 => b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0",
            _ => b"POST /doorbell.v1.NotificationService/SendInApp HTTP/1.1\r\n",
        };
        raw(&server, &[beginning, &noise].concat()).await;
    }
    assert_unharmed(&server).await;
}

/// Messages that say that they are huge, and bodies that never come: what is
/// said reserves nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_only_promised_takes_no_memory() {
    const CONNECTIONS: usize = 200;
    const MOST_KIB: u64 = 32 * 1024;
    let pages = free_port();
    let server = Setup::new().with("METRICS_LISTEN", pages).start();
    assert_unharmed(&server).await;
    let before = resident_kib(&server);
    let bearer = format!("Bearer {}", sender_token("*"));
    for way in Way::ALL {
        for _ in 0..CONNECTIONS {
            let headers = [("authorization", bearer.as_str())];
            let body = lying_frame(0, u32::MAX, &[0; 100]);
            let path = format!("{SERVICE}SendInApp");
            let answer = exchange(&server, way, &path, &headers, body).await.unwrap();
            assert_eq!(said(&answer).1, "REQUEST_TOO_LARGE");
        }
    }
    // The largest that is read, promised on many connections at once.
    let mut waiting = Vec::new();
    for _ in 0..CONNECTIONS {
        let mut socket = TcpStream::connect(server.setup.listen).await.unwrap();
        let request = format!(
            "POST {SERVICE}SendInApp HTTP/1.1\r\nhost: x\r\nauthorization: {bearer}\r\n\
             content-type: application/grpc-web+proto\r\ncontent-length: 65541\r\n\r\n\
             \0\0\x01\0\0"
        );
        socket.write_all(request.as_bytes()).await.unwrap();
        waiting.push(socket);
    }
    // All of them are being served.
    eventually("all are connected", async || {
        metric(pages, "doorbell_connections_open").await >= CONNECTIONS as f64
    })
    .await;
    assert_unharmed(&server).await;
    let grown = resident_kib(&server).saturating_sub(before);
    println!("{CONNECTIONS} promises of 64 KiB, and twice as many of 4 GiB: {grown} KiB");
    assert!(grown < MOST_KIB, "{grown} KiB more than {before} KiB");
    assert_unharmed(&server).await;
}
