//! The calls as the contract has them: what they take, answer and refuse.

use std::{collections::BTreeMap, time::Duration};

use doorbell::proto::{
    About, Action, ArchiveRequest, Content, GetRecentRequest, GetRecentResponse,
    GetUnreadCountRequest, MarkReadRequest, MarkReadResponse, MarkSeenRequest, MarkUnreadRequest,
    RemovalCause, RemoveRequest, RetractInAppRequest, SendInAppRequest, SubscribeRequest,
    SubscribeResponse, Suppressed, UnarchiveRequest, UpdateInAppRequest, View,
    subscribe_response::Event,
};
use prost::Message as _;
use prost_types::{ListValue, Struct, Timestamp, value::Kind};
use sqlx::{Connection as _, SqliteConnection};
use tokio::task::JoinSet;
use tonic::{Code, Status};
use uuid::Uuid;

use crate::{
    calls::{
        Inbox, after, assert_invalid, assert_refused, counts, epoch, head, in_seconds, mark,
        mark_through, next, refusal, rest, send, signed, until_caught_up,
    },
    history::{Head, Screen, Told},
    server::{Client, Server, Setup, sender_token},
};

fn value(kind: Kind) -> prost_types::Value {
    prost_types::Value { kind: Some(kind) }
}

fn text(text: impl Into<String>) -> prost_types::Value {
    value(Kind::StringValue(text.into()))
}

fn object(fields: impl IntoIterator<Item = (impl Into<String>, prost_types::Value)>) -> Struct {
    Struct {
        fields: fields
            .into_iter()
            .map(|(key, value)| (key.into(), value))
            .collect(),
    }
}

/// An object of so many levels.
fn deep(levels: usize) -> Struct {
    let leaf = object([("leaf", value(Kind::BoolValue(true)))]);
    (1..levels).fold(leaf, |inner, _| {
        object([("in", value(Kind::StructValue(inner)))])
    })
}

fn numbers(count: usize) -> Struct {
    let values = vec![value(Kind::NumberValue(1.0)); count];
    object([("n", value(Kind::ListValue(ListValue { values })))])
}

type Case = (&'static str, fn(&mut SendInAppRequest, usize), usize);

fn letters(count: usize) -> String {
    "x".repeat(count)
}

/// Each field, how to make it of a size, and the largest size.
const BOUNDED: [Case; 14] = [
    (
        "organization_id",
        |r, n| r.organization_id = letters(n),
        128,
    ),
    (
        "recipient_user_id",
        |r, n| r.recipient_user_id = letters(n),
        128,
    ),
    ("type", |r, n| r.r#type = letters(n), 128),
    ("title", |r, n| r.title = letters(n), 512),
    ("body", |r, n| r.body = Some(letters(n)), 8 * 1024),
    ("entity_type", |r, n| r.entity_type = Some(letters(n)), 128),
    ("entity_id", |r, n| r.entity_id = Some(letters(n)), 128),
    (
        "action_url",
        |r, n| r.action_url = Some(format!("/{}", letters(n - 1))),
        2048,
    ),
    (
        "idempotency_key",
        |r, n| r.idempotency_key = Some(letters(n)),
        128,
    ),
    (
        "image_url",
        |r, n| r.image_url = Some(format!("/{}", letters(n - 1))),
        2048,
    ),
    (
        "collapse_key",
        |r, n| r.collapse_key = Some(letters(n)),
        128,
    ),
    (
        "actions[0].label",
        |r, n| r.actions = vec![button(&letters(n), "/")],
        128,
    ),
    (
        "actions[0].url",
        |r, n| r.actions = vec![button("Go", &format!("/{}", letters(n - 1)))],
        2048,
    ),
    ("actions", |r, n| r.actions = vec![button("Go", "/"); n], 3),
];

fn button(label: &str, url: &str) -> Action {
    Action {
        label: label.into(),
        url: url.into(),
        is_primary: false,
    }
}

#[tokio::test]
async fn every_field_of_a_send_is_bounded_at_n_and_n_plus_1() {
    let server = Setup::new().start();
    let mut sender = server.sender().await;
    for (field, resize, most) in BOUNDED {
        let mut request = send("acme", "ann", "Hello");
        resize(&mut request, most);
        let sent = sender.send_in_app(request.clone()).await;
        assert!(sent.is_ok(), "{field} of {most}: {sent:?}");
        resize(&mut request, most + 1);
        assert_invalid(sender.send_in_app(request).await, &[field]);
    }
    // Bytes count, not characters.
    let mut request = send("acme", "ann", &"é".repeat(256));
    assert!(sender.send_in_app(request.clone()).await.is_ok());
    request.title.push('x');
    assert_invalid(sender.send_in_app(request).await, &["title"]);
}

#[tokio::test]
async fn the_data_of_a_send_is_bounded_in_bytes_and_levels() {
    let server = Setup::new().start();
    let mut sender = server.sender().await;
    let with = |data: Struct| SendInAppRequest {
        data: Some(data),
        ..send("acme", "ann", "Hello")
    };
    // `{"k":"…"}` has 8 bytes besides.
    let most = 16 * 1024 - 8;
    let large = |bytes| with(object([("k", text(letters(bytes)))]));
    assert!(sender.send_in_app(large(most)).await.is_ok());
    assert_invalid(sender.send_in_app(large(most + 1)).await, &["data"]);

    assert!(sender.send_in_app(with(deep(16))).await.is_ok());
    assert_invalid(sender.send_in_app(with(deep(17))).await, &["data"]);
    let list = |inner| {
        value(Kind::ListValue(ListValue {
            values: vec![inner],
        }))
    };
    let lists = |levels| (1..levels).fold(value(Kind::NullValue(0)), |inner, _| list(inner));
    assert!(
        sender
            .send_in_app(with(object([("l", lists(16))])))
            .await
            .is_ok()
    );
    let too_deep = with(object([("l", lists(17))]));
    assert_invalid(sender.send_in_app(too_deep).await, &["data"]);

    for wrong in [
        value(Kind::NumberValue(f64::NAN)),
        value(Kind::NumberValue(f64::INFINITY)),
        value(Kind::NumberValue(f64::NEG_INFINITY)),
        text("nul \0"),
        prost_types::Value { kind: None },
        list(value(Kind::NumberValue(f64::NAN))),
    ] {
        let request = with(object([("k", wrong)]));
        assert_invalid(sender.send_in_app(request).await, &["data"]);
    }
    let request = with(object([("nul \0", text("x"))]));
    assert_invalid(sender.send_in_app(request).await, &["data"]);
}

/// A request of exactly so many bytes, of fields that are each within their
/// limits: a list of numbers takes more bytes than its JSON.
fn of_bytes(bytes: usize) -> SendInAppRequest {
    let mut request = SendInAppRequest {
        data: Some(numbers(2400)),
        body: Some(letters(200)),
        ..send("acme", "ann", "Hello")
    };
    let missing = bytes - request.encoded_len();
    request.body = Some(letters(200 + missing));
    assert_eq!(request.encoded_len(), bytes);
    request
}

#[tokio::test]
async fn a_whole_request_is_bounded_at_n_and_n_plus_1() {
    let server = Setup::new().start();
    let mut sender = server.sender().await;
    let most = 32 * 1024;
    assert!(sender.send_in_app(of_bytes(most)).await.is_ok());
    for above in [of_bytes(most + 1), {
        // So large that it is refused before it is read.
        let mut request = send("acme", "ann", "Hello");
        request.body = Some(letters(1 << 20));
        request
    }] {
        let answer = sender.send_in_app(above).await;
        assert_refused(answer, Code::InvalidArgument, "REQUEST_TOO_LARGE");
    }
}

#[tokio::test]
async fn all_that_is_wrong_with_a_send_is_named_at_once() {
    let server = Setup::new().start();
    let mut sender = server.sender().await;
    let answer = sender.send_in_app(SendInAppRequest::default()).await;
    assert_invalid(
        answer,
        &["organization_id", "recipient_user_id", "type", "title"],
    );
    for (field, spoil) in NOT_TEXT {
        let mut request = send("acme", "ann", "Hello");
        spoil(&mut request);
        assert_invalid(sender.send_in_app(request).await, &[field]);
    }
    for (url, is_good) in [
        ("https://example.com/a?b=c#d", true),
        ("http://example.com", true),
        ("HTTPS://example.com", true),
        ("/", true),
        ("/orders/7", true),
        ("", false),
        ("orders/7", false),
        ("//example.com", false),
        ("/\\example.com", false),
        ("https://", false),
        ("https:///path", false),
        ("javascript:alert(1)", false),
        ("data:text/html,x", false),
        ("/a b", false),
        ("/a\nb", false),
    ] {
        let mut request = send("acme", "ann", "Hello");
        request.action_url = Some(url.into());
        request.image_url = Some(url.into());
        request.actions = vec![button("Go", url)];
        let answer = sender.send_in_app(request).await;
        if is_good {
            assert!(answer.is_ok(), "{url}: {answer:?}");
        } else {
            let mut fields = refusal(&answer.unwrap_err()).fields;
            fields.sort();
            fields.dedup();
            assert_eq!(
                fields,
                ["action_url", "actions[0].url", "image_url"],
                "{url}"
            );
        }
    }
}

type Spoil = (&'static str, fn(&mut SendInAppRequest));

/// What is no text in each field.
const NOT_TEXT: [Spoil; 12] = [
    ("organization_id", |r| r.organization_id = "a\nb".into()),
    ("organization_id", |r| r.organization_id = "*".into()),
    ("organization_id", |r| r.organization_id = "\0".into()),
    ("recipient_user_id", |r| {
        r.recipient_user_id = "a\u{85}b".into();
    }),
    ("type", |r| r.r#type = "a\0".into()),
    ("title", |r| r.title = "a\0".into()),
    ("body", |r| r.body = Some("a\0".into())),
    ("entity_type", |r| r.entity_type = Some("\0".into())),
    ("entity_id", |r| r.entity_id = Some("\0".into())),
    ("action_url", |r| r.action_url = Some("/\0".into())),
    ("idempotency_key", |r| {
        r.idempotency_key = Some(String::new());
    }),
    ("idempotency_key", |r| r.idempotency_key = Some("\0".into())),
];

fn full(user: &str) -> SendInAppRequest {
    SendInAppRequest {
        body: Some("The body\nof two lines".into()),
        entity_type: Some("order".into()),
        entity_id: Some(String::new()),
        action_url: Some("/orders/7".into()),
        data: Some(object([
            ("whole", value(Kind::NumberValue(7.0))),
            ("part", value(Kind::NumberValue(-0.1))),
            ("null", value(Kind::NullValue(0))),
            (
                "list",
                value(Kind::ListValue(ListValue {
                    values: vec![text("é")],
                })),
            ),
            (
                "object",
                value(Kind::StructValue(object([("a", text(""))]))),
            ),
        ])),
        idempotency_key: Some("k1".into()),
        ..send("acme", user, "Hello")
    }
}

#[tokio::test]
async fn a_send_answers_with_what_is_in_the_inbox() {
    let server = Setup::new().start();
    let mut sender = server.sender().await;
    let mut ann = server.user("acme", "ann").await;
    let request = full("ann");
    let answer = sender
        .send_in_app(request.clone())
        .await
        .unwrap()
        .into_inner();
    assert_eq!((counts(answer.head), answer.duplicate), ((1, 1), false));
    let sent = answer.notification.unwrap();
    let id = Uuid::parse_str(&sent.id).unwrap();
    assert_eq!((id.get_version_num(), id.to_string()), (7, sent.id.clone()));
    assert_eq!((sent.sequence, sent.revision), (1, 1));
    assert_eq!((sent.read_at, sent.archived_at), (None, None));
    assert_eq!(
        (sent.r#type.clone(), sent.title.clone(), sent.body.clone()),
        (request.r#type, request.title, request.body)
    );
    assert_eq!(
        (
            sent.entity_type.clone(),
            sent.entity_id.clone(),
            sent.action_url.clone(),
            sent.data.clone()
        ),
        (
            request.entity_type,
            request.entity_id,
            request.action_url,
            request.data
        )
    );
    let created_at = sent.created_at.unwrap();
    assert_eq!(created_at.nanos % 1000, 0, "microseconds");
    assert!((in_seconds(-60)..in_seconds(60)).contains(&created_at.seconds));
    let page = recent(&mut ann, GetRecentRequest::default()).await;
    assert_eq!(page.notifications, [sent]);
}

#[tokio::test]
async fn the_same_key_answers_with_the_first_and_changes_nothing() {
    let server = Setup::new().start();
    let mut ann = Inbox::new(&server, "acme", "ann").await;
    let mut stream = ann.subscribe(SubscribeRequest::default()).await;
    next(&mut stream).await;
    let sent = async |sender: &mut Client, request| {
        sender.send_in_app(request).await.unwrap().into_inner()
    };
    let first = sent(&mut ann.sender, full("ann")).await;
    let again = sent(&mut ann.sender, full("ann")).await;
    assert!(again.duplicate);
    assert_eq!(again.notification, first.notification);
    assert_eq!(counts(again.head), (1, 1));

    // As it is now, with the present head.
    let id = first.notification.unwrap().id;
    ann.reader.mark_read(mark([id.clone()])).await.unwrap();
    let later = sent(&mut ann.sender, full("ann")).await;
    assert_eq!((counts(later.head), later.duplicate), ((2, 0), true));
    let as_it_is = later.notification.unwrap();
    assert_eq!((as_it_is.revision, as_it_is.sequence), (2, 1));
    assert!(as_it_is.read_at.is_some());

    // Another content, in any field.
    let others: [fn(&mut SendInAppRequest); 4] = [
        |r| r.title = "Other".into(),
        |r| r.body = None,
        |r| r.entity_id = None,
        |r| r.data = None,
    ];
    for change in others {
        let mut request = full("ann");
        change(&mut request);
        let answer = ann.sender.send_in_app(request).await;
        assert_refused(answer, Code::AlreadyExists, "IDEMPOTENCY_MISMATCH");
    }
    // The key belongs to the inbox.
    for (organization, user) in [("acme", "bob"), ("globex", "ann")] {
        let mut request = full(user);
        request.organization_id = organization.into();
        request.title = "Other".into();
        assert!(!sent(&mut ann.sender, request).await.duplicate);
    }
    // The stream saw one send, one mark, and what comes now.
    ann.sender
        .send_in_app(send("acme", "ann", "Last"))
        .await
        .unwrap();
    let seen = [
        next(&mut stream).await,
        next(&mut stream).await,
        next(&mut stream).await,
    ];
    assert_eq!(seen.map(|message| message.position), [1, 2, 3]);
}

#[tokio::test]
async fn one_key_at_once_from_many_sends_one() {
    let server = Setup::new().start();
    let sender = server.sender().await;
    let mut sends = JoinSet::new();
    for _ in 0..20 {
        let mut sender = sender.clone();
        sends.spawn(async move { sender.send_in_app(full("ann")).await });
    }
    let mut firsts = 0;
    let mut ids = Vec::new();
    while let Some(answer) = sends.join_next().await {
        let answer = answer.unwrap().unwrap().into_inner();
        firsts += usize::from(!answer.duplicate);
        assert_eq!(counts(answer.head), (1, 1));
        ids.push(answer.notification.unwrap().id);
    }
    ids.dedup();
    assert_eq!((firsts, ids.len()), (1, 1));
}

#[tokio::test]
async fn marking_takes_1_to_500_ids_that_are_well_formed() {
    let server = Setup::new().start();
    let mut ann = Inbox::new(&server, "acme", "ann").await;
    ann.send("One").await;
    let unknown = |count: usize| (0..count).map(|n| Uuid::from_u128(n as u128 + 1).to_string());
    for count in [0, 501] {
        let answer = ann.reader.mark_read(mark(unknown(count))).await;
        assert_invalid(answer, &["notification_ids"]);
    }
    let answer = ann.reader.mark_read(mark(unknown(500))).await.unwrap();
    let answer = answer.into_inner();
    assert_eq!((answer.changed_count, counts(answer.head)), (0, (1, 1)));

    let good = ann.ids[0].to_string();
    for bad in [
        "",
        "x",
        &good[1..],
        &good.replace('-', ""),
        &format!("{{{good}}}"),
    ] {
        let ids = [good.clone(), bad.to_owned(), good.clone()];
        assert_invalid(
            ann.reader.mark_read(mark(ids)).await,
            &["notification_ids[1]"],
        );
    }
    let every = vec!["x".to_owned(); 500];
    let refused = assert_refused(
        ann.reader.mark_read(mark(every)).await,
        Code::InvalidArgument,
        "INVALID_REQUEST",
    );
    assert!((1..=20).contains(&refused.fields.len()), "{refused:?}");
}

#[tokio::test]
async fn marking_skips_what_is_not_unread_and_is_one_change() {
    let server = Setup::new().start();
    let mut ann = Inbox::new(&server, "acme", "ann").await;
    for title in ["One", "Two", "Three"] {
        ann.send(title).await;
    }
    let ids = ann.ids.clone();
    let mut stream = ann.subscribe(SubscribeRequest::default()).await;
    next(&mut stream).await;
    ann.mark(&ids[..1]).await;
    let mixed = [
        ids[0].to_string(),
        ids[1].to_string(),
        ids[1].to_string(),
        ids[2].to_string().to_uppercase(),
        Uuid::from_u128(7).to_string(),
    ];
    let answer = ann
        .reader
        .mark_read(mark(mixed.clone()))
        .await
        .unwrap()
        .into_inner();
    assert_eq!((answer.changed_count, counts(answer.head)), (2, (5, 0)));
    let again = ann
        .reader
        .mark_read(mark(mixed))
        .await
        .unwrap()
        .into_inner();
    assert_eq!((again.changed_count, counts(again.head)), (0, (5, 0)));

    let first = next(&mut stream).await;
    assert_eq!(head(&first), (4, 4, 2, false));
    let second = next(&mut stream).await;
    assert_eq!(head(&second), (5, 5, 0, false));
    let Some(Event::Changed(changed)) = second.event else {
        panic!("{second:?}")
    };
    let changed = changed.notifications;
    let told: Vec<_> = changed
        .iter()
        .map(|row| (row.id.as_str(), row.sequence, row.revision))
        .collect();
    let (one, two) = (ids[1].to_string(), ids[2].to_string());
    assert_eq!(told, [(one.as_str(), 2, 5), (two.as_str(), 3, 5)]);
    let page = recent(&mut ann.reader, GetRecentRequest::default()).await;
    assert_eq!(page.notifications[0].read_at, changed[1].read_at);
    let revisions: Vec<_> = page.notifications.iter().map(|row| row.revision).collect();
    assert_eq!(revisions, [5, 5, 4]);
}

async fn recent(client: &mut Client, request: GetRecentRequest) -> GetRecentResponse {
    client.get_recent(request).await.unwrap().into_inner()
}

fn sequences(page: &GetRecentResponse) -> Vec<u64> {
    page.notifications.iter().map(|row| row.sequence).collect()
}

/// Fills an inbox by sends at once.
async fn fill(server: &Server, user: &str, count: usize, request: &SendInAppRequest) {
    let sender = server.sender().await;
    let mut sends = JoinSet::new();
    for _ in 0..count {
        let mut sender = sender.clone();
        let mut request = request.clone();
        request.recipient_user_id = user.into();
        sends.spawn(async move { sender.send_in_app(request).await });
    }
    while let Some(answer) = sends.join_next().await {
        answer.unwrap().unwrap();
    }
}

#[tokio::test]
async fn a_page_has_the_limit_that_is_asked_for() {
    let server = Setup::new().start();
    fill(&server, "ann", 105, &send("acme", "ann", "Hello")).await;
    let mut ann = server.user("acme", "ann").await;
    for (limit, rows) in [(0, 20), (1, 1), (20, 20), (99, 99), (100, 100), (101, 100)] {
        let page = recent(
            &mut ann,
            GetRecentRequest {
                limit,
                ..Default::default()
            },
        )
        .await;
        let newest_first: Vec<_> = (1..=105).rev().take(rows).collect();
        assert_eq!(sequences(&page), newest_first, "limit {limit}");
        assert_eq!(counts(page.head), (105, 105));
        assert!(!page.next_page_token.is_empty());
    }
    for limit in [-1, i32::MIN] {
        let request = GetRecentRequest {
            limit,
            ..Default::default()
        };
        assert_invalid(ann.get_recent(request).await, &["limit"]);
    }
    let most = GetRecentRequest {
        limit: i32::MAX,
        ..Default::default()
    };
    assert_eq!(sequences(&recent(&mut ann, most).await).len(), 100);

    // To the end, whatever the size of the pages.
    let mut request = GetRecentRequest {
        limit: 35,
        ..Default::default()
    };
    let mut all = Vec::new();
    for last in [false, false, true] {
        let page = recent(&mut ann, request.clone()).await;
        all.extend(sequences(&page));
        assert_eq!(page.next_page_token.is_empty(), last);
        request.page_token = page.next_page_token;
    }
    assert_eq!(all, (1..=105).rev().collect::<Vec<_>>());
}

#[tokio::test]
async fn an_empty_inbox_has_a_head_and_an_epoch() {
    let server = Setup::new().start();
    let mut ann = server.user("acme", "ann").await;
    let page = recent(&mut ann, GetRecentRequest::default()).await;
    assert_eq!(counts(page.head), (0, 0));
    assert!(page.notifications.is_empty() && page.next_page_token.is_empty());
    assert!(!page.epoch.is_empty());
    let count = ann
        .get_unread_count(GetUnreadCountRequest::default())
        .await
        .unwrap();
    let count = count.into_inner();
    assert_eq!(counts(count.head), (0, 0));
}

#[tokio::test]
async fn since_and_unread_only_choose_and_the_head_is_of_all() {
    let server = Setup::new().start();
    let mut ann = Inbox::new(&server, "acme", "ann").await;
    let mut created = Vec::new();
    for title in ["1", "2", "3", "4", "5"] {
        created.push(ann.send(title).await.created_at.unwrap());
    }
    let ids = ann.ids.clone();
    ann.mark(&[ids[1], ids[4]]).await;
    let page = async |client: &mut Client, request| {
        let page = recent(client, request).await;
        assert_eq!(counts(page.head), (6, 3));
        sequences(&page)
    };
    let since = |since: Timestamp| GetRecentRequest {
        since: Some(since),
        ..Default::default()
    };
    let just_before = |mut time: Timestamp| {
        time.nanos -= 1;
        if time.nanos < 0 {
            time = Timestamp {
                seconds: time.seconds - 1,
                nanos: 999_999_999,
            };
        }
        time
    };
    assert_eq!(page(&mut ann.reader, since(created[2])).await, [5, 4]);
    assert_eq!(page(&mut ann.reader, since(created[4])).await, [0; 0]);
    let fractional = since(just_before(created[2]));
    assert_eq!(page(&mut ann.reader, fractional).await, [5, 4, 3]);
    let unread = GetRecentRequest {
        unread_only: true,
        ..Default::default()
    };
    assert_eq!(page(&mut ann.reader, unread.clone()).await, [4, 3, 1]);
    let both = GetRecentRequest {
        unread_only: true,
        ..since(created[0])
    };
    assert_eq!(page(&mut ann.reader, both).await, [4, 3]);
    let one = GetRecentRequest { limit: 2, ..unread };
    let first = recent(&mut ann.reader, one.clone()).await;
    assert_eq!(sequences(&first), [4, 3]);
    let second = GetRecentRequest {
        page_token: first.next_page_token,
        ..one
    };
    let second = recent(&mut ann.reader, second).await;
    assert_eq!(sequences(&second), [1]);
    assert_eq!(second.next_page_token, "");

    for (seconds, nanos, is_good) in [
        (-62_135_596_800, 0, true),
        (-62_135_596_801, 0, false),
        (253_402_300_799, 999_999_999, true),
        (253_402_300_800, 0, false),
        (i64::MAX, 0, false),
        (i64::MIN, 0, false),
        (0, -1, false),
        (0, 1_000_000_000, false),
    ] {
        let answer = ann
            .reader
            .get_recent(since(Timestamp { seconds, nanos }))
            .await;
        if is_good {
            assert!(answer.is_ok(), "{seconds} {nanos}: {answer:?}");
        } else {
            assert_invalid(answer, &["since"]);
        }
    }
}

#[tokio::test]
async fn types_are_twenty_at_most_in_each_question() {
    let server = Setup::new().start();
    let mut ann = server.user("acme", "ann").await;
    let types = |count: usize| (0..count).map(|n| n.to_string()).collect::<Vec<_>>();
    for (count, is_good) in [(20, true), (21, false)] {
        let list = GetRecentRequest {
            types: types(count),
            ..GetRecentRequest::default()
        };
        let listed = ann.get_recent(list).await.map(|_| ());
        let tally = GetUnreadCountRequest {
            types: types(count),
        };
        let counted = ann.get_unread_count(tally).await.map(|_| ());
        for answer in [listed, counted] {
            if is_good {
                answer.unwrap();
            } else {
                assert_invalid(answer, &["types"]);
            }
        }
    }
}

/// The token of a page goes on with the question that it answered, and with no other.
#[tokio::test]
async fn a_page_token_is_of_one_question() {
    let server = Setup::new().start();
    let mut sender = server.sender().await;
    let mut ann = server.user("acme", "ann").await;
    for title in ["one", "two", "three"] {
        let sent = sender.send_in_app(send("acme", "ann", title)).await;
        sent.unwrap();
    }
    let question = GetRecentRequest {
        limit: 1,
        ..GetRecentRequest::default()
    };
    let page = ann.get_recent(question.clone()).await.unwrap().into_inner();
    let next = GetRecentRequest {
        page_token: page.next_page_token,
        ..question
    };
    let mut larger = next.clone();
    larger.limit = 2;
    assert_eq!(
        sequences(&ann.get_recent(larger).await.unwrap().into_inner()),
        [2, 1]
    );
    let others: [fn(&mut GetRecentRequest); 5] = [
        |question| question.unread_only = true,
        |question| question.set_view(View::All),
        |question| question.types = vec!["test".into()],
        |question| {
            question.about = Some(About {
                entity_type: "post".into(),
                entity_id: "7".into(),
            });
        },
        |question| question.since = Some(prost_types::Timestamp::default()),
    ];
    for change in others {
        let mut other = next.clone();
        change(&mut other);
        assert_invalid(ann.get_recent(other).await, &["page_token"]);
    }
}

#[tokio::test]
async fn a_page_token_is_of_one_inbox() {
    let server = Setup::new().start();
    let mut tokens = BTreeMap::new();
    for (organization, user) in [("acme", "ann"), ("acme", "bob"), ("globex", "ann")] {
        let mut inbox = Inbox::new(&server, organization, user).await;
        inbox.send("One").await;
        inbox.send("Two").await;
        let request = GetRecentRequest {
            limit: 1,
            ..Default::default()
        };
        let page = recent(&mut inbox.reader, request).await;
        tokens.insert((organization, user), page.next_page_token);
    }
    let mut ann = server.user("acme", "ann").await;
    let with = |token: &str| GetRecentRequest {
        page_token: token.into(),
        ..Default::default()
    };
    let own = &tokens[&("acme", "ann")];
    assert_eq!(sequences(&recent(&mut ann, with(own)).await), [1]);
    let (last, tag) = own.split_at(own.len() / 2);
    for forged in [
        tokens[&("acme", "bob")].as_str(),
        &tokens[&("globex", "ann")],
        "x",
        &own[1..],
        &format!("{own}0"),
        &format!(
            "{last}{}",
            tag.replace(&tag[..1], if &tag[..1] == "0" { "1" } else { "0" })
        ),
        &"é".repeat(16),
        &letters(20_000),
    ] {
        assert_invalid(ann.get_recent(with(forged)).await, &["page_token"]);
    }
    // Who makes up a place within its own inbox sees what is its own.
    for (place, rows) in [("f", vec![2, 1]), ("0", vec![])] {
        let made_up = format!("{}{tag}", place.repeat(16));
        assert_eq!(sequences(&recent(&mut ann, with(&made_up)).await), rows);
    }
}

#[tokio::test]
async fn a_page_has_at_most_1_mib() {
    const MOST: usize = 1 << 20;
    let server = Setup::new().start();
    let texts = SendInAppRequest {
        body: Some(letters(8 * 1024)),
        data: Some(object([("k", text(letters(16_000)))])),
        ..send("acme", "text", "Hello")
    };
    // Small as JSON, and large on the wire.
    let numbers = of_bytes(32 * 1024 - 100);
    for (user, request) in [("text", texts), ("numbers", numbers)] {
        fill(&server, user, 60, &request).await;
        let mut reader = server.user("acme", user).await;
        let mut all = Vec::new();
        let mut request = GetRecentRequest {
            limit: 100,
            ..Default::default()
        };
        loop {
            let page = recent(&mut reader, request.clone()).await;
            assert!(page.encoded_len() <= MOST, "{user}: {}", page.encoded_len());
            // As much as fits: no page is needlessly short.
            assert!(
                page.encoded_len() > MOST / 2 || page.next_page_token.is_empty(),
                "{user}: {}",
                page.encoded_len()
            );
            all.extend(sequences(&page));
            if page.next_page_token.is_empty() {
                break;
            }
            request.page_token = page.next_page_token;
        }
        assert_eq!(all, (1..=60).rev().collect::<Vec<_>>(), "{user}");
    }
}

#[tokio::test]
async fn a_stream_says_first_where_it_stands() {
    let server = Setup::new().with("HEARTBEAT_INTERVAL", "7s").start();
    let mut ann = Inbox::new(&server, "acme", "ann").await;
    ann.send("One").await;
    ann.send("Two").await;
    let epoch = epoch(&mut ann.reader).await;
    let expires_at = in_seconds(1000);
    let token = signed(&serde_json::json!({
        "organizationId": "acme", "userId": "ann", "exp": expires_at,
    }));
    let mut client = server.client(&token).await;
    let mut open = async |request| client.subscribe(request).await.unwrap().into_inner();

    for (request, position) in [
        (SubscribeRequest::default(), 2),
        (after(0), 0),
        (after(1), 1),
        (after(2), 2),
        (
            SubscribeRequest {
                after_revision: Some(1),
                epoch: Some(epoch.clone()),
            },
            1,
        ),
        // An epoch alone claims nothing.
        (
            SubscribeRequest {
                after_revision: None,
                epoch: Some("other".into()),
            },
            2,
        ),
    ] {
        let mut stream = open(request.clone()).await;
        let first = next(&mut stream).await;
        assert_eq!(head(&first), (position, 2, 2, false), "{request:?}");
        let Some(Event::Connected(connected)) = first.event else {
            panic!("{first:?}")
        };
        assert_eq!(connected.epoch, epoch);
        assert_eq!(connected.heartbeat_interval.unwrap().seconds, 7);
        let ends = connected.token_expires_at.unwrap();
        assert_eq!((ends.seconds, ends.nanos), (expires_at, 0));
        if request.after_revision.is_none() {
            continue;
        }
        let replay = until_caught_up(&mut stream).await;
        let (caught_up, rows) = replay.split_last().unwrap();
        assert_eq!(head(caught_up), (2, 2, 2, false));
        let positions: Vec<_> = rows.iter().map(head).collect();
        let expected: Vec<_> = (position + 1..=2).map(|at| (at, 2, 2, false)).collect();
        assert_eq!(positions, expected);
    }
    for epoch in [String::new(), letters(65), "\0".into()] {
        let request = SubscribeRequest {
            after_revision: Some(0),
            epoch: Some(epoch),
        };
        assert_invalid(client.subscribe(request).await, &["epoch"]);
    }
    let longest = SubscribeRequest {
        after_revision: Some(0),
        epoch: Some(letters(64)),
    };
    assert!(client.subscribe(longest).await.is_ok());
}

#[tokio::test]
async fn a_silent_stream_gives_signs_of_life_at_its_position() {
    let server = Setup::new().with("HEARTBEAT_INTERVAL", "1s").start();
    let mut ann = Inbox::new(&server, "acme", "ann").await;
    ann.send("One").await;
    let mut stream = ann.subscribe(SubscribeRequest::default()).await;
    next(&mut stream).await;
    for _ in 0..3 {
        let beat = next(&mut stream).await;
        assert!(matches!(beat.event, Some(Event::Heartbeat(_))), "{beat:?}");
        assert_eq!(head(&beat), (1, 1, 1, false));
    }
    ann.send("Two").await;
    let mut message = next(&mut stream).await;
    while matches!(message.event, Some(Event::Heartbeat(_))) {
        message = next(&mut stream).await;
    }
    assert_eq!(head(&message), (2, 2, 2, true));
    assert_eq!(head(&next(&mut stream).await), (2, 2, 2, false));
}

async fn assert_reset(client: &mut Client, request: SubscribeRequest, epoch: &str) {
    let position = request.after_revision.unwrap();
    let mut stream = client
        .subscribe(request.clone())
        .await
        .unwrap()
        .into_inner();
    let (messages, end) = rest(&mut stream).await;
    end.unwrap();
    let [connected, reset] = &messages[..] else {
        panic!("{request:?}: {messages:?}")
    };
    assert!(matches!(&connected.event, Some(Event::Connected(said)) if said.epoch == epoch));
    assert!(matches!(&reset.event, Some(Event::Reset(said)) if said.epoch == epoch));
    assert_eq!((connected.position, reset.position), (position, position));
    assert_eq!(reset.head, connected.head);
}

#[tokio::test]
async fn what_cannot_be_served_is_reset() {
    let server = Setup::new().start();
    let mut ann = Inbox::new(&server, "acme", "ann").await;
    ann.send("One").await;
    let epoch = epoch(&mut ann.reader).await;
    let other_epoch = |at| SubscribeRequest {
        after_revision: Some(at),
        epoch: Some("other".into()),
    };
    for request in [other_epoch(0), other_epoch(1), after(2), after(u64::MAX)] {
        assert_reset(&mut ann.reader, request, &epoch).await;
    }
    // An inbox that was never written to.
    let mut bob = server.user("acme", "bob").await;
    assert_reset(&mut bob, after(1), &epoch).await;
    assert_reset(&mut bob, other_epoch(0), &epoch).await;
}

#[tokio::test]
async fn a_replay_has_as_many_rows_as_the_limit_and_not_one_more() {
    // Pages below the limit, and a page above it.
    for page in [2, 100] {
        let server = Setup::new()
            .with("REPLAY_LIMIT", 5)
            .with("REPLAY_PAGE", page)
            .start();
        let mut ann = Inbox::new(&server, "acme", "ann").await;
        for title in ["1", "2", "3", "4", "5", "6"] {
            ann.send(title).await;
        }
        // Rows count, not changes.
        let ids = ann.ids.clone();
        ann.mark(&ids[1..3]).await;
        ann.mark(&ids[3..]).await;
        let epoch = epoch(&mut ann.reader).await;
        assert_reset(&mut ann.reader, after(0), &epoch).await;
        let mut stream = ann.subscribe(after(1)).await;
        assert_eq!(until_caught_up(&mut stream).await.len(), 1 + 5 + 1);
    }
}

/// Cut after each message of a replay over many pages, while the inbox changes,
/// and resumed there: nothing is missed.
#[tokio::test]
async fn a_replay_that_is_cut_anywhere_misses_nothing() {
    let server = Setup::new().with("REPLAY_PAGE", 3).start();
    let mut ann = Inbox::new(&server, "acme", "ann").await;
    for number in 0..16 {
        ann.send(&number.to_string()).await;
    }
    let ids = ann.ids.clone();
    // Rows that share a revision: within a page, over pages, at the end.
    ann.mark(&ids[0..2]).await;
    ann.mark(&ids[4..11]).await;
    ann.send("between").await;
    ann.mark(&ids[12..16]).await;
    let mut shared = 0;
    let mut cuts = 0;
    for start in [0, 5, 17] {
        let mut whole = ann.subscribe(after(start)).await;
        let messages = until_caught_up(&mut whole).await;
        for cut in 1..=messages.len() {
            let mut screen = Screen::default();
            let mut stream = ann.subscribe(after(start)).await;
            let mut last = None;
            for _ in 0..cut {
                let message = next(&mut stream).await;
                screen.see(&Told::from(&message), Some(start)).unwrap();
                if let Some(Event::Notification(row)) = &message.event {
                    shared += usize::from(row.revision > message.position);
                }
                last = Some(message.position);
            }
            drop(stream);
            screen.cut();
            // Some changes while it is away.
            if cut % 4 == 0 {
                ann.send("away").await;
            }
            if cut % 8 == 0 {
                let latest = [*ann.ids.last().unwrap()];
                ann.mark(&latest).await;
            }
            let position = last.unwrap();
            let mut stream = ann.subscribe(after(position)).await;
            for message in until_caught_up(&mut stream).await {
                screen.see(&Told::from(&message), Some(position)).unwrap();
            }
            assert_eq!(screen.position, Some(ann.history.head().revision));
            screen.check(&ann.history).unwrap();
            cuts += 1;
        }
    }
    ann.history.check().unwrap();
    assert!(shared > 0, "no cut was between rows that share a revision");
    assert!(cuts > 30, "{cuts} cuts");
}

#[tokio::test]
async fn a_stream_without_a_position_that_is_cut_at_once_resumes_there() {
    let server = Setup::new().start();
    let mut ann = Inbox::new(&server, "acme", "ann").await;
    ann.send("One").await;
    let mut screen = Screen::default();
    let mut stream = ann.subscribe(SubscribeRequest::default()).await;
    let connected = next(&mut stream).await;
    screen.see(&Told::from(&connected), None).unwrap();
    drop(stream);
    screen.cut();
    ann.send("Two").await;
    let mut stream = ann.subscribe(after(connected.position)).await;
    let replay = until_caught_up(&mut stream).await;
    assert_eq!(replay.len(), 3);
    for message in &replay {
        screen
            .see(&Told::from(message), Some(connected.position))
            .unwrap();
    }
    // Live from here on, and told from what was replayed.
    ann.send("Three").await;
    let live = next(&mut stream).await;
    screen
        .see(&Told::from(&live), Some(connected.position))
        .unwrap();
    assert_eq!(head(&live), (3, 3, 3, true));
    screen.check(&ann.history).unwrap();
}

#[tokio::test]
async fn rights_are_checked_before_contents() {
    let server = Setup::new().start();
    let mut user = server.user("acme", "ann").await;
    let answer = user.send_in_app(SendInAppRequest::default()).await;
    assert_refused(answer, Code::PermissionDenied, "NOT_A_SENDER");
    let mut sender = server.client(&sender_token("acme")).await;
    let answer = sender.mark_read(mark([])).await;
    assert_refused(answer, Code::PermissionDenied, "NOT_A_READER");
    let answer = sender.send_in_app(send("globex", "ann", "Hello")).await;
    assert_refused(answer, Code::PermissionDenied, "WRONG_ORGANIZATION");
    assert!(
        sender
            .send_in_app(send("acme", "ann", "Hello"))
            .await
            .is_ok()
    );
}

#[tokio::test]
async fn what_passes_says_when_to_come_back() {
    let server = Setup::new().with("MAX_STREAMS_PER_USER", 1).start();
    let mut ann = server.user("acme", "ann").await;
    let _one = ann.subscribe(SubscribeRequest::default()).await.unwrap();
    let refused = assert_refused(
        ann.subscribe(SubscribeRequest::default()).await,
        Code::ResourceExhausted,
        "TOO_MANY_STREAMS",
    );
    let wait = refused.retry.expect("RetryInfo");
    assert!(wait > Duration::ZERO && wait < Duration::from_secs(60));
    let terminal: Status = ann.mark_read(mark([])).await.unwrap_err();
    assert_eq!(refusal(&terminal).retry, None);
}

/// A send about a thing.
fn about(user: &str, entity_type: &str, entity_id: &str) -> SendInAppRequest {
    SendInAppRequest {
        entity_type: Some(entity_type.into()),
        entity_id: Some(entity_id.into()),
        ..send("acme", user, "About")
    }
}

fn mark_about(entity_type: &str, entity_id: &str) -> MarkReadRequest {
    MarkReadRequest {
        about: Some(About {
            entity_type: entity_type.into(),
            entity_id: entity_id.into(),
        }),
        ..MarkReadRequest::default()
    }
}

async fn marked(client: &mut Client, request: MarkReadRequest) -> MarkReadResponse {
    client.mark_read(request).await.unwrap().into_inner()
}

/// The sequences and revisions that a `changed` tells, all of them read.
fn told_read(message: &SubscribeResponse) -> Vec<(u64, u64)> {
    let Some(Event::Changed(changed)) = &message.event else {
        panic!("{message:?}")
    };
    assert!(!message.ring);
    let rows = changed.notifications.iter();
    rows.map(|row| {
        assert!(row.read_at.is_some() && row.archived_at.is_none() && row.removed_at.is_none());
        (row.sequence, row.revision)
    })
    .collect()
}

#[tokio::test]
async fn who_opens_a_thing_has_read_what_is_about_it() {
    let server = Setup::new().start();
    let mut ann = Inbox::new(&server, "acme", "ann").await;
    let mut ids = Vec::new();
    for request in [
        about("ann", "invoice", "7"),
        about("ann", "invoice", "8"),
        about("ann", "order", "7"),
        send("acme", "ann", "About nothing"),
        about("ann", "invoice", "7"),
        about("bob", "invoice", "7"),
        about("ann", "invoice", "7"),
    ] {
        let answer = ann.sender.send_in_app(request).await.unwrap().into_inner();
        ids.push(answer.notification.unwrap().id);
    }
    marked(&mut ann.reader, mark([ids[4].clone()])).await;
    let mut stream = ann.subscribe(SubscribeRequest::default()).await;
    next(&mut stream).await;
    let answer = marked(&mut ann.reader, mark_about("invoice", "7")).await;
    assert_eq!((answer.changed_count, answer.more), (2, false));
    assert_eq!(counts(answer.head), (8, 3));
    let told = next(&mut stream).await;
    assert_eq!(head(&told), (8, 8, 3, false));
    assert_eq!(told_read(&told), [(1, 8), (6, 8)]);
    // Again, and about what nothing is about: nothing changes.
    for (entity_type, entity_id) in [("invoice", "7"), ("invoice", "9"), ("Invoice", "8")] {
        let answer = marked(&mut ann.reader, mark_about(entity_type, entity_id)).await;
        assert_eq!((answer.changed_count, counts(answer.head)), (0, (8, 3)));
    }
    let mut bob = server.user("acme", "bob").await;
    let head = bob.get_unread_count(GetUnreadCountRequest::default()).await;
    assert_eq!(counts(head.unwrap().into_inner().head), (1, 1));
}

#[tokio::test]
async fn what_is_put_away_comes_back_and_is_removed_on_every_screen() {
    let server = Setup::new().start();
    let mut ann = Inbox::new(&server, "acme", "ann").await;
    let mut ids = Vec::new();
    for request in [about("ann", "order", "7"), send("acme", "ann", "Else")] {
        let answer = ann.sender.send_in_app(request).await.unwrap().into_inner();
        ids.push(answer.notification.unwrap().id);
    }
    let mut stream = ann.subscribe(SubscribeRequest::default()).await;
    next(&mut stream).await;
    let archive = ArchiveRequest {
        about: mark_about("order", "7").about,
        ..ArchiveRequest::default()
    };
    let answer = ann.reader.archive(archive).await.unwrap().into_inner();
    assert_eq!((answer.changed_count, counts(answer.head)), (1, (3, 1)));
    let told = next(&mut stream).await;
    assert_eq!(head(&told), (3, 3, 1, false));
    let archived = GetRecentRequest {
        view: View::Archived.into(),
        ..GetRecentRequest::default()
    };
    let page = recent(&mut ann.reader, archived.clone()).await;
    assert_eq!(sequences(&page), [1]);
    assert_eq!(
        sequences(&recent(&mut ann.reader, GetRecentRequest::default()).await),
        [2]
    );

    // It comes back whole, and does not ring.
    let unarchive = UnarchiveRequest {
        notification_ids: ids.clone(),
        ..UnarchiveRequest::default()
    };
    let answer = ann.reader.unarchive(unarchive).await.unwrap().into_inner();
    assert_eq!((answer.changed_count, counts(answer.head)), (1, (4, 2)));
    let told = next(&mut stream).await;
    let Some(Event::Changed(changed)) = &told.event else {
        panic!("{told:?}")
    };
    let whole = changed.notifications[0].notification.as_ref();
    assert_eq!(whole.map(|whole| whole.sequence), Some(1));
    assert!(!told.ring);

    marked(&mut ann.reader, mark([ids[1].clone()])).await;
    next(&mut stream).await;
    let unread = MarkUnreadRequest {
        notification_ids: ids.clone(),
        ..MarkUnreadRequest::default()
    };
    let answer = ann.reader.mark_unread(unread).await.unwrap().into_inner();
    assert_eq!((answer.changed_count, counts(answer.head)), (1, (6, 2)));
    assert!(!next(&mut stream).await.ring);

    // What empties the inbox leaves the archive as it is.
    let archive = ArchiveRequest {
        notification_ids: vec![ids[0].clone()],
        ..ArchiveRequest::default()
    };
    ann.reader.archive(archive).await.unwrap();
    next(&mut stream).await;
    let epoch = page.epoch.clone();
    let remove = RemoveRequest {
        through: mark_through(7, &epoch, &[]).through,
        ..RemoveRequest::default()
    };
    let answer = ann.reader.remove(remove).await.unwrap().into_inner();
    assert_eq!((answer.changed_count, counts(answer.head)), (1, (8, 0)));
    let told = next(&mut stream).await;
    let Some(Event::Changed(changed)) = &told.event else {
        panic!("{told:?}")
    };
    let row = &changed.notifications[0];
    assert_eq!((row.sequence, row.removal_cause()), (2, RemovalCause::User));
    assert_eq!(sequences(&recent(&mut ann.reader, archived).await), [1]);
}

#[tokio::test]
async fn what_was_sent_is_corrected_and_taken_back() {
    let server = Setup::new().start();
    let mut ann = Inbox::new(&server, "acme", "ann").await;
    let mut request = send("acme", "ann", "Frist");
    request.body = Some("a body".into());
    request.idempotency_key = Some("k".into());
    request.actions = vec![Action {
        label: "Open".into(),
        url: "/open".into(),
        is_primary: true,
    }];
    let sent = ann.sender.send_in_app(request.clone()).await.unwrap();
    let sent = sent.into_inner().notification.unwrap();
    assert_eq!(sent.actions, request.actions);
    let mut stream = ann.subscribe(SubscribeRequest::default()).await;
    next(&mut stream).await;
    let update = |title: &str, paths: &[&str]| UpdateInAppRequest {
        organization_id: "acme".into(),
        recipient_user_id: "ann".into(),
        idempotency_key: Some("k".into()),
        content: Some(Content {
            title: title.into(),
            ..Content::default()
        }),
        update_mask: Some(prost_types::FieldMask {
            paths: paths.iter().map(|path| (*path).to_owned()).collect(),
        }),
        ..UpdateInAppRequest::default()
    };
    let answer = ann
        .sender
        .update_in_app(update("First", &["title", "body"]))
        .await;
    let answer = answer.unwrap().into_inner();
    assert_eq!((answer.changed, counts(answer.head)), (true, (2, 1)));
    let told = next(&mut stream).await;
    let Some(Event::Notification(row)) = &told.event else {
        panic!("{told:?}")
    };
    assert_eq!(
        (row.title.as_str(), &row.body, row.sequence),
        ("First", &None, 1)
    );
    assert_eq!(row.actions, sent.actions);
    assert!(!told.ring);
    let refused = ann
        .sender
        .update_in_app(update("", &["title", "colour"]))
        .await;
    let refused = refused.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert!(
        refused.message().contains("content.title: is required"),
        "{refused}"
    );
    assert!(refused.message().contains("`colour`"), "{refused}");

    let retract = RetractInAppRequest {
        organization_id: "acme".into(),
        recipient_user_id: "ann".into(),
        idempotency_key: Some("k".into()),
        ..RetractInAppRequest::default()
    };
    let answer = ann
        .sender
        .retract_in_app(retract)
        .await
        .unwrap()
        .into_inner();
    assert_eq!((answer.changed_count, counts(answer.head)), (1, (3, 0)));
    let told = next(&mut stream).await;
    assert_eq!(head(&told), (3, 3, 0, false));
    let refused = ann.sender.update_in_app(update("Again", &["title"])).await;
    assert_eq!(refused.unwrap_err().code(), Code::FailedPrecondition);
    // A retry of the send makes no second one.
    let again = ann.sender.send_in_app(request).await.unwrap().into_inner();
    let notification = again.notification.unwrap();
    assert!(again.duplicate && notification.removed_at.is_some());
    assert_eq!(
        (notification.id, notification.title),
        (sent.id, String::new())
    );
}

#[tokio::test]
async fn who_polls_knows_what_is_to_be_heard() {
    let server = Setup::new().start();
    let mut ann = Inbox::new(&server, "acme", "ann").await;
    for (title, silent) in [("Ring", false), ("Hush", true), ("Ring again", false)] {
        let mut request = send("acme", "ann", title);
        request.silent = silent;
        request.idempotency_key = Some(title.into());
        ann.sender.send_in_app(request).await.unwrap();
    }
    for (key, ring) in [("Ring", false), ("Hush", true)] {
        let update = UpdateInAppRequest {
            organization_id: "acme".into(),
            recipient_user_id: "ann".into(),
            idempotency_key: Some(key.into()),
            content: Some(Content {
                title: "Corrected".into(),
                ..Content::default()
            }),
            ring,
            ..UpdateInAppRequest::default()
        };
        ann.sender.update_in_app(update).await.unwrap();
    }
    let page = recent(&mut ann.reader, GetRecentRequest::default()).await;
    let newest = mark([page.notifications[0].id.clone()]);
    ann.reader.mark_read(newest).await.unwrap();
    let page = recent(&mut ann.reader, GetRecentRequest::default()).await;
    let rows = page.notifications.iter();
    let heard = rows.map(|row| (row.sequence, row.revision, row.ring_revision));
    // Read, corrected with a ring though it was silent, and corrected without one.
    assert_eq!(heard.collect::<Vec<_>>(), [(3, 6, 3), (2, 5, 5), (1, 4, 1)]);
}

#[tokio::test]
async fn what_expired_is_not_sent_and_what_collapses_is_one() {
    let server = Setup::new().start();
    let mut ann = Inbox::new(&server, "acme", "ann").await;
    let mut late = send("acme", "ann", "Late");
    late.expire_time = Some(Timestamp {
        seconds: 1,
        nanos: 0,
    });
    let answer = ann.sender.send_in_app(late).await.unwrap().into_inner();
    assert_eq!(answer.suppressed(), Suppressed::Expired);
    assert_eq!((answer.notification, counts(answer.head)), (None, (0, 0)));

    let mut stream = ann.subscribe(SubscribeRequest::default()).await;
    next(&mut stream).await;
    let mut like = send("acme", "ann", "A like");
    like.collapse_key = Some("likes".into());
    for (revision, count) in [(1, 0), (2, 1), (3, 2)] {
        let answer = ann
            .sender
            .send_in_app(like.clone())
            .await
            .unwrap()
            .into_inner();
        assert_eq!(counts(answer.head), (revision, 1));
        assert_eq!(answer.notification.unwrap().collapsed_count, count);
        let told = next(&mut stream).await;
        assert_eq!(head(&told), (revision, revision, 1, true));
    }
    let mut silent = send("acme", "ann", "Hush");
    silent.silent = true;
    ann.sender.send_in_app(silent).await.unwrap();
    assert!(!next(&mut stream).await.ring);
    let counted = GetUnreadCountRequest {
        types: vec!["greeting".into(), "none".into()],
    };
    let answer = ann
        .reader
        .get_unread_count(counted)
        .await
        .unwrap()
        .into_inner();
    let types = answer
        .types
        .iter()
        .map(|count| (count.unread_count, count.more));
    assert_eq!(types.collect::<Vec<_>>(), [(2, false), (0, false)]);
}

#[tokio::test]
async fn what_came_or_changed_since_it_was_shown_stays_unread() {
    let server = Setup::new().start();
    let mut ann = Inbox::new(&server, "acme", "ann").await;
    for title in ["1", "2", "3", "4"] {
        ann.send(title).await;
    }
    let shown = recent(&mut ann.reader, GetRecentRequest::default()).await;
    let revision = shown.head.unwrap().revision;
    ann.send("5").await;
    // Another version of what was shown: as an update makes it.
    let url = format!("sqlite://{}", server.database().display());
    let mut database = SqliteConnection::connect(&url).await.unwrap();
    sqlx::raw_sql(
        "BEGIN IMMEDIATE; UPDATE notifications SET title = 'new', revision = 6 WHERE sequence = 2; \
         UPDATE inboxes SET revision = 6; COMMIT",
    )
    .execute(&mut database)
    .await
    .unwrap();
    let mut stream = ann.subscribe(SubscribeRequest::default()).await;
    next(&mut stream).await;
    let answer = marked(&mut ann.reader, mark_through(revision, &shown.epoch, &[])).await;
    assert_eq!((answer.changed_count, answer.more), (3, false));
    assert_eq!(counts(answer.head), (7, 2));
    let told = next(&mut stream).await;
    assert_eq!(told_read(&told), [(1, 7), (3, 7), (4, 7)]);
    let unread = GetRecentRequest {
        unread_only: true,
        ..GetRecentRequest::default()
    };
    let page = recent(&mut ann.reader, unread).await;
    assert_eq!(sequences(&page), [5, 2]);
    // Again: nothing changes. Then what is shown by now.
    let answer = marked(&mut ann.reader, mark_through(revision, &shown.epoch, &[])).await;
    assert_eq!((answer.changed_count, counts(answer.head)), (0, (7, 2)));
    let answer = marked(&mut ann.reader, mark_through(7, &shown.epoch, &[])).await;
    assert_eq!((answer.changed_count, counts(answer.head)), (2, (8, 0)));
}

#[tokio::test]
async fn all_of_some_types_is_marked_and_the_others_are_not() {
    let server = Setup::new().start();
    let mut ann = Inbox::new(&server, "acme", "ann").await;
    for kind in ["a", "b", "c", "a", "aa"] {
        let request = SendInAppRequest {
            r#type: kind.into(),
            ..send("acme", "ann", "Of a type")
        };
        ann.sender.send_in_app(request).await.unwrap();
    }
    let epoch = epoch(&mut ann.reader).await;
    let mut stream = ann.subscribe(SubscribeRequest::default()).await;
    next(&mut stream).await;
    let answer = marked(&mut ann.reader, mark_through(4, &epoch, &["a", "c", "z"])).await;
    assert_eq!((answer.changed_count, counts(answer.head)), (3, (6, 2)));
    assert_eq!(
        told_read(&next(&mut stream).await),
        [(1, 6), (3, 6), (4, 6)]
    );
    let twenty: Vec<_> = (0..20).map(|number| format!("t{number}")).collect();
    let twenty: Vec<_> = twenty.iter().map(String::as_str).collect();
    let answer = marked(&mut ann.reader, mark_through(6, &epoch, &twenty)).await;
    assert_eq!((answer.changed_count, counts(answer.head)), (0, (6, 2)));
}

#[tokio::test]
async fn a_selection_is_one_of_three_and_well_formed() {
    let server = Setup::new().start();
    let mut ann = Inbox::new(&server, "acme", "ann").await;
    ann.send("One").await;
    let epoch = epoch(&mut ann.reader).await;
    let ids = || mark([ann.ids[0].to_string()]);
    let two_at_once = [
        MarkReadRequest {
            about: mark_about("invoice", "7").about,
            ..ids()
        },
        MarkReadRequest {
            through: mark_through(1, &epoch, &[]).through,
            ..ids()
        },
        MarkReadRequest {
            through: mark_through(1, &epoch, &[]).through,
            ..mark_about("invoice", "7")
        },
        MarkReadRequest::default(),
    ];
    let of_types = |count: usize| mark_through(1, &epoch, &vec!["t"; count]);
    let longest = letters(128);
    let too_long = letters(129);
    let wrong = [
        (of_types(21), vec!["through.types"]),
        (
            mark_through(1, &epoch, &["t", ""]),
            vec!["through.types[1]"],
        ),
        (
            mark_through(1, &epoch, &[&too_long]),
            vec!["through.types[0]"],
        ),
        (mark_through(1, "", &[]), vec!["through.epoch"]),
        (mark_through(1, &letters(65), &[]), vec!["through.epoch"]),
        (
            mark_about("", ""),
            vec!["about.entity_type", "about.entity_id"],
        ),
        (mark_about(&too_long, "7"), vec!["about.entity_type"]),
        (mark_about("invoice", &too_long), vec!["about.entity_id"]),
    ];
    let two_at_once = two_at_once.map(|request| (request, vec!["notification_ids"]));
    for (request, fields) in two_at_once.into_iter().chain(wrong) {
        assert_invalid(ann.reader.mark_read(request).await, &fields);
    }
    // What cannot have been shown here.
    for request in [
        mark_through(1, "another", &[]),
        mark_through(2, &epoch, &[]),
        mark_through(u64::MAX, &epoch, &["t"]),
    ] {
        let answer = ann.reader.mark_read(request).await;
        assert_refused(answer, Code::FailedPrecondition, "POSITION_INVALID");
    }
    // At the bounds, and nothing was marked by any of the others.
    for request in [
        of_types(20),
        mark_about(&longest, &longest),
        mark_through(0, &epoch, &[&longest]),
    ] {
        let answer = marked(&mut ann.reader, request).await;
        assert_eq!((answer.changed_count, counts(answer.head)), (0, (1, 1)));
    }
    let answer = marked(&mut ann.reader, mark_through(1, &epoch, &[])).await;
    assert_eq!((answer.changed_count, counts(answer.head)), (1, (2, 0)));
}

/// Others come between the changes of one call, and every count is that of its
/// revision.
#[tokio::test]
async fn all_of_a_large_inbox_is_marked_change_by_change() {
    const ROWS: u64 = 250;
    let server = Setup::new().start();
    for _ in 0..ROWS / 50 {
        fill(&server, "ann", 50, &send("acme", "ann", "Hello")).await;
    }
    let mut ann = server.user("acme", "ann").await;
    let epoch = epoch(&mut ann).await;
    let mut stream = ann
        .subscribe(SubscribeRequest::default())
        .await
        .unwrap()
        .into_inner();
    next(&mut stream).await;
    let request = send("acme", "ann", "Meanwhile");
    let meanwhile = fill(&server, "ann", 20, &request);
    let all = mark_through(ROWS, &epoch, &[]);
    let (answer, ()) = tokio::join!(marked(&mut ann, all), meanwhile);
    assert_eq!(
        (u64::from(answer.changed_count), answer.more),
        (ROWS, false)
    );

    let (mut unread, mut read, mut pieces) = (ROWS, Vec::new(), Vec::new());
    for revision in ROWS + 1..=ROWS + 6 + 20 {
        let message = next(&mut stream).await;
        if message.ring {
            unread += 1;
        } else {
            let told = told_read(&message);
            assert!(told.iter().all(|(_, at)| *at == revision), "{told:?}");
            unread -= told.len() as u64;
            pieces.push(told.len());
            read.extend(told.into_iter().map(|(sequence, _)| sequence));
        }
        let said = Head::from(message.head);
        assert_eq!((message.position, said.revision), (revision, revision));
        let unseen = u64::from(said.unseen_count);
        assert_eq!((u64::from(said.unread_count), unseen), (unread, unread));
    }
    assert_eq!(pieces, [48, 48, 48, 48, 48, 10]);
    assert_eq!(read, (1..=ROWS).collect::<Vec<_>>());
    let head = ann.get_unread_count(GetUnreadCountRequest::default()).await;
    let head = counts(head.unwrap().into_inner().head);
    assert_eq!(head, (ROWS + 6 + 20, 20));
}

fn look(through_sequence: u64, epoch: &str) -> MarkSeenRequest {
    MarkSeenRequest {
        through_sequence,
        epoch: epoch.into(),
    }
}

#[tokio::test]
async fn who_has_looked_has_seen_and_not_read() {
    let server = Setup::new().start();
    let mut ann = Inbox::new(&server, "acme", "ann").await;
    for title in ["1", "2", "3"] {
        ann.send(title).await;
    }
    let ids = ann.ids.clone();
    ann.mark(&ids[..1]).await;
    let epoch = epoch(&mut ann.reader).await;
    let mut stream = ann.subscribe(SubscribeRequest::default()).await;
    next(&mut stream).await;
    let seen = async |client: &mut Client, through| {
        let answer = client.mark_seen(look(through, &epoch)).await.unwrap();
        let head = Head::from(answer.into_inner().head);
        let counts = (head.unread_count, head.unseen_count);
        (head.revision, counts, head.seen_through)
    };
    // Each raises it; what does not takes no revision.
    assert_eq!(seen(&mut ann.reader, 2).await, (5, (2, 1), 2));
    assert_eq!(seen(&mut ann.reader, 2).await, (5, (2, 1), 2));
    assert_eq!(seen(&mut ann.reader, 0).await, (5, (2, 1), 2));
    assert_eq!(seen(&mut ann.reader, 3).await, (6, (2, 0), 3));
    assert_eq!(seen(&mut ann.reader, 1).await, (6, (2, 0), 3));
    for (request, reason) in [
        (look(7, &epoch), "POSITION_INVALID"),
        (look(u64::MAX, &epoch), "POSITION_INVALID"),
        (look(1, "another"), "POSITION_INVALID"),
        (look(5, "another"), "POSITION_INVALID"),
    ] {
        let answer = ann.reader.mark_seen(request).await;
        assert_refused(answer, Code::FailedPrecondition, reason);
    }
    for epoch in [String::new(), letters(65), "\0".into()] {
        assert_invalid(ann.reader.mark_seen(look(1, &epoch)).await, &["epoch"]);
    }
    // What comes later is unseen again; any revision of the inbox may be told.
    ann.sender
        .send_in_app(send("acme", "ann", "4"))
        .await
        .unwrap();
    assert_eq!(seen(&mut ann.reader, 6).await, (8, (3, 1), 6));
    assert_eq!(seen(&mut ann.reader, 8).await, (9, (3, 0), 8));

    // One event for each that raised it, and none rings but what came.
    for (revision, counts, through) in [
        (5, (2, 1), 2),
        (6, (2, 0), 3),
        (7, (3, 1), 3),
        (8, (3, 1), 6),
        (9, (3, 0), 8),
    ] {
        let message = next(&mut stream).await;
        let said = Head::from(message.head);
        assert_eq!((message.position, said.revision), (revision, revision));
        assert_eq!((said.unread_count, said.unseen_count), counts);
        assert_eq!((said.seen_through, message.ring), (through, revision == 7));
        let is_seen = matches!(message.event, Some(Event::Seen(_)));
        assert_eq!(is_seen, revision != 7, "{message:?}");
    }
    // It is about no notification: each is as it was.
    let page = recent(&mut ann.reader, GetRecentRequest::default()).await;
    let revisions: Vec<_> = page.notifications.iter().map(|row| row.revision).collect();
    assert_eq!(revisions, [7, 3, 2, 4]);
    assert_eq!(Head::from(page.head).seen_through, 8);
    let answer = ann.sender.mark_seen(look(1, &epoch)).await;
    assert_refused(answer, Code::PermissionDenied, "NOT_A_READER");
}

/// A replay tells what is there: the head says how far the person has looked.
#[tokio::test]
async fn a_replay_over_looks_ends_at_the_head_and_never_rings() {
    let server = Setup::new().start();
    let mut ann = Inbox::new(&server, "acme", "ann").await;
    ann.send("1").await;
    ann.send("2").await;
    let epoch = epoch(&mut ann.reader).await;
    ann.reader.mark_seen(look(1, &epoch)).await.unwrap();
    for (position, rows) in [(0, 2), (1, 1), (2, 0), (3, 0)] {
        let mut stream = ann.subscribe(after(position)).await;
        let messages = until_caught_up(&mut stream).await;
        assert_eq!(messages.len(), 1 + rows + 1, "after {position}");
        assert!(messages.iter().all(|message| !message.ring));
        let said = Head::from(messages.last().unwrap().head);
        assert_eq!((said.revision, said.unread_count), (3, 2));
        assert_eq!((said.unseen_count, said.seen_through), (1, 1));
        assert_eq!(messages.last().unwrap().position, 3);
    }
}
