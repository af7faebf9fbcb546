//! What parses outside input, given bytes of chance, and requests and claims that
//! are nearly right. The functions are those that libFuzzer runs (`fuzz/`).
//!
//! proptest prints and shrinks what fails.

use doorbell::{
    grpc::convert,
    model::{InboxKey, Revision},
    proto::{
        About, Action, FollowUpOptions, GetRecentRequest, MarkReadRequest, MarkSeenRequest,
        SendInAppRequest, SubscribeRequest, Through,
    },
    store::Edit,
};
use proptest::{collection::vec, option, prelude::*, sample::Index};
use prost::Message as _;
use prost_types::{ListValue, Struct, Timestamp, Value, value::Kind};
use serde_json::json;
use uuid::Uuid;

#[path = "../../fuzz/src/lib.rs"]
mod fuzz;

/// Text that is at a border of something.
fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => "[a-z]{1,8}",
        2 => any::<String>(),
        1 => Just(String::new()),
        1 => Just("*".to_owned()),
        1 => Just("a\0b".to_owned()),
        1 => Just("/orders/7".to_owned()),
        1 => Just("https://example.com/a?b#c".to_owned()),
        1 => (0..3_usize, prop_oneof![Just(128_usize), Just(512), Just(2048), Just(8192)])
            .prop_map(|(more, most)| "x".repeat(most - 1 + more)),
    ]
}

fn number() -> impl Strategy<Value = f64> {
    prop_oneof![
        any::<f64>(),
        any::<i32>().prop_map(f64::from),
        Just(-0.0),
        Just(2_f64.powi(53)),
        Just(2_f64.powi(53) * 1001.0),
        Just(f64::MIN_POSITIVE),
        Just(f64::NAN),
        Just(f64::INFINITY),
    ]
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        8 => number().prop_map(Kind::NumberValue),
        8 => text().prop_map(Kind::StringValue),
        4 => any::<bool>().prop_map(Kind::BoolValue),
        4 => any::<i32>().prop_map(Kind::NullValue),
    ];
    let leaf = option::weighted(0.98, leaf).prop_map(|kind| Value { kind });
    let tree = leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(|values| Kind::ListValue(ListValue { values })),
            vec((text(), inner), 0..4).prop_map(|fields| {
                Kind::StructValue(Struct {
                    fields: fields.into_iter().collect(),
                })
            }),
        ]
        .prop_map(|kind| Value { kind: Some(kind) })
    });
    // And as deep as is allowed, or a little deeper.
    let around = prop_oneof![3 => vec(any::<bool>(), 0..2), 1 => vec(any::<bool>(), 10..18)];
    (tree, around).prop_map(|(value, around)| {
        around.into_iter().fold(value, |inner, is_list| {
            let kind = if is_list {
                Kind::ListValue(ListValue {
                    values: vec![inner],
                })
            } else {
                Kind::StructValue(Struct {
                    fields: [("in".to_owned(), inner)].into(),
                })
            };
            Value { kind: Some(kind) }
        })
    })
}

fn follow_up() -> impl Strategy<Value = FollowUpOptions> {
    let month = 30 * 24 * 60 * 60_i64;
    let seconds = prop_oneof![8 => 1..month, 1 => any::<i64>(), 1 => month..=month];
    let after = (seconds, prop_oneof![Just(0), any::<i32>()])
        .prop_map(|(seconds, nanos)| prost_types::Duration { seconds, nanos });
    let after = option::weighted(0.9, after);
    (after, -1..4).prop_map(|(after, unless)| FollowUpOptions { after, unless })
}

fn send() -> impl Strategy<Value = SendInAppRequest> {
    let data = vec((text(), value()), 0..4).prop_map(|fields| Struct {
        fields: fields.into_iter().collect(),
    });
    let optional = || option::of(text());
    let words = (text(), text(), text(), text());
    let others = (optional(), optional(), optional(), optional(), optional());
    let action = (text(), text(), any::<bool>()).prop_map(|(label, url, is_primary)| Action {
        label,
        url,
        is_primary,
    });
    // Mostly none, so that a send is mostly judged by what it has besides.
    let more = (
        option::weighted(0.1, text()),
        prop_oneof![8 => Just(Vec::new()), 1 => vec(action, 1..5)],
        option::weighted(0.1, time()),
        option::weighted(0.1, text()),
        any::<bool>(),
        option::weighted(0.1, time()),
        option::weighted(0.1, follow_up()),
    );
    // On the heap: nested as it is, it is too large for a test's stack.
    let data = option::of(data).boxed();
    (words, others, data, more.boxed()).prop_map(
        |(
            (organization_id, recipient_user_id, kind, title),
            (body, entity_type, entity_id, action_url, idempotency_key),
            data,
            (image_url, actions, expire_time, collapse_key, silent, deliver_time, follow_up),
        )| SendInAppRequest {
            organization_id,
            recipient_user_id,
            r#type: kind,
            title,
            body,
            entity_type,
            entity_id,
            action_url,
            data,
            idempotency_key,
            image_url,
            actions,
            expire_time,
            collapse_key,
            silent,
            deliver_time,
            follow_up,
        },
    )
}

fn page_token() -> impl Strategy<Value = String> {
    let of = |user: &str, last: u64| {
        let inbox = InboxKey::parse("acme", user).unwrap();
        convert::page_token(&GetRecentRequest::default(), &inbox, Revision::new(last))
    };
    prop_oneof![
        any::<u64>().prop_map(move |last| of("ann", last)),
        any::<u64>().prop_map(move |last| of("bob", last).to_uppercase()),
        any::<u64>().prop_map(move |last| of("cat", last)),
        "[0-9a-fA-F]{32}",
        text(),
    ]
}

fn time() -> impl Strategy<Value = Timestamp> {
    let time = prop_oneof![
        (any::<i64>(), any::<i32>()),
        (-70_000_000_000_i64..300_000_000_000, -2..1_000_000_002)
    ];
    time.prop_map(|(seconds, nanos)| Timestamp { seconds, nanos })
}

/// What to mark: one of three, or more of them.
fn selection() -> impl Strategy<Value = MarkReadRequest> {
    let id = prop_oneof![
        any::<u128>().prop_map(|id| Uuid::from_u128(id).to_string()),
        any::<u128>().prop_map(|id| Uuid::from_u128(id).to_string().to_uppercase()),
        any::<u128>().prop_map(|id| Uuid::from_u128(id).simple().to_string()),
        text(),
    ];
    let some_ids = vec(id, 0..4);
    let many_ids = (498..503_usize).prop_map(|count| vec![Uuid::nil().to_string(); count]);
    let about = (text(), text())
        .prop_map(|(entity_type, entity_id)| About {
            entity_type,
            entity_id,
        })
        .boxed();
    let types = prop_oneof![4 => vec(text(), 0..3), 1 => vec("[a-z]{1,8}", 19..22)];
    let through = (any::<u64>(), text(), types)
        .prop_map(|(revision, epoch, types)| Through {
            revision,
            epoch,
            types,
        })
        .boxed();
    prop_oneof![
        4 => prop_oneof![some_ids, many_ids].prop_map(|ids| MarkReadRequest {
            notification_ids: ids,
            ..MarkReadRequest::default()
        }),
        4 => about.clone().prop_map(|about| MarkReadRequest {
            about: Some(about),
            ..MarkReadRequest::default()
        }),
        4 => through.clone().prop_map(|through| MarkReadRequest {
            through: Some(through),
            ..MarkReadRequest::default()
        }),
        1 => (option::of(about), option::of(through)).prop_map(|(about, through)| MarkReadRequest {
            about,
            through,
            ..MarkReadRequest::default()
        }),
    ]
}

/// A request of the own inbox, as bytes.
fn read() -> impl Strategy<Value = Vec<u8>> {
    let recent = (
        any::<i32>(),
        option::of(time()),
        page_token(),
        any::<bool>(),
    );
    prop_oneof![
        (option::of(any::<u64>()), option::of(text())).prop_map(|(after_revision, epoch)| {
            SubscribeRequest {
                after_revision,
                epoch,
            }
            .encode_to_vec()
        }),
        recent.prop_map(|(limit, since, page_token, unread_only)| {
            GetRecentRequest {
                limit,
                since,
                page_token,
                unread_only,
                ..GetRecentRequest::default()
            }
            .encode_to_vec()
        }),
        selection().prop_map(|request| request.encode_to_vec()),
        (any::<u64>(), text()).prop_map(|(through_sequence, epoch)| {
            MarkSeenRequest {
                through_sequence,
                epoch,
            }
            .encode_to_vec()
        }),
    ]
}

/// A request as JSON: of the fields that there are, and of what may be in them.
fn json() -> impl Strategy<Value = Vec<u8>> {
    let value = prop_oneof![
        4 => text().prop_map(serde_json::Value::from),
        2 => any::<u64>().prop_map(|number| json!(number)),
        1 => any::<u64>().prop_map(|number| json!(number.to_string())),
        1 => any::<f64>().prop_map(|number| json!(number)),
        1 => any::<bool>().prop_map(|is| json!(is)),
        1 => Just(json!(null)),
        1 => Just(json!("2026-11-23T04:06:21.056939+01:00")),
        1 => Just(json!("90.5s")),
        1 => Just(json!("title,entityId")),
        1 => Just(json!("VIEW_ALL")),
        1 => Just(json!("FOLLOW_UP_UNLESS_READ")),
    ];
    const NAMES: &[&str] = &[
        "organizationId",
        "recipient_user_id",
        "type",
        "title",
        "body",
        "data",
        "actions",
        "isPrimary",
        "label",
        "expireTime",
        "deliverTime",
        "followUp",
        "after",
        "unless",
        "content",
        "updateMask",
        "limit",
        "view",
        "since",
        "notificationIds",
        "through",
        "revision",
        "epoch",
    ];
    let tree = value.prop_recursive(4, 32, 6, |inner| {
        let name = proptest::sample::select(NAMES);
        prop_oneof![
            1 => vec(inner.clone(), 0..4).prop_map(serde_json::Value::from),
            3 => vec((name, inner), 0..6).prop_map(|fields| {
                let fields = fields.into_iter();
                fields.map(|(name, value)| (name.to_owned(), value)).collect()
            }),
        ]
    });
    tree.prop_map(|value| value.to_string().into_bytes())
}

/// Some JSON where a claim is expected.
fn claim() -> impl Strategy<Value = serde_json::Value> {
    prop_oneof![
        4 => text().prop_map(serde_json::Value::from),
        1 => Just(json!(null)),
        1 => any::<i64>().prop_map(|number| json!(number)),
        1 => any::<f64>().prop_map(|number| json!(number)),
        2 => (1_799_999_990_i64..1_800_000_010).prop_map(|time| json!(time)),
        1 => Just(json!(["a"])),
        1 => Just(json!({"a": 1})),
        1 => Just(json!("service")),
    ]
}

fn claims() -> impl Strategy<Value = Vec<u8>> {
    let name = prop_oneof![
        Just("organizationId"),
        Just("userId"),
        Just("userRole"),
        Just("sub"),
        Just("exp"),
        Just("nbf"),
        Just("iss"),
        Just("aud"),
    ];
    let exp = prop_oneof![
        4 => Just(json!(1_800_000_060)),
        1 => Just(json!(1_800_000_000)),
        1 => claim(),
    ];
    (exp, vec((name, claim()), 0..6)).prop_map(|(exp, others)| {
        let mut claims = serde_json::Map::new();
        claims.insert("organizationId".into(), json!("acme"));
        claims.insert("userId".into(), json!("ann"));
        claims.insert("exp".into(), exp);
        claims.extend(
            others
                .into_iter()
                .map(|(name, claim)| (name.to_owned(), claim)),
        );
        serde_json::Value::Object(claims).to_string().into_bytes()
    })
}

fn header() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        Just(json!({"alg": "HS256", "typ": "JWT"})),
        Just(json!({"alg": "HS256", "kid": "k"})),
        Just(json!({"alg": "HS256", "jku": "https://example.com"})),
        Just(json!({"alg": "none"})),
        Just(json!({"alg": "RS256"})),
        (text(), claim()).prop_map(|(name, claim)| json!({"alg": "HS256", name: claim})),
    ]
    .prop_map(|header| header.to_string().into_bytes())
}

/// A change of one byte, or an end in the middle.
#[derive(Clone, Debug)]
enum Spoil {
    Not,
    Set(Index, u8),
    Cut(Index),
    Insert(Index, u8),
}

fn spoiled(bytes: impl Strategy<Value = Vec<u8>>) -> impl Strategy<Value = Vec<u8>> {
    let spoil = prop_oneof![
        4 => Just(Spoil::Not),
        1 => (any::<Index>(), any::<u8>()).prop_map(|(at, byte)| Spoil::Set(at, byte)),
        1 => any::<Index>().prop_map(Spoil::Cut),
        1 => (any::<Index>(), any::<u8>()).prop_map(|(at, byte)| Spoil::Insert(at, byte)),
    ];
    (bytes, spoil).prop_map(|(mut bytes, spoil)| {
        match spoil {
            Spoil::Not => {}
            Spoil::Set(at, byte) if !bytes.is_empty() => {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            Spoil::Set(..) => {}
            Spoil::Cut(at) => bytes.truncate(at.index(bytes.len() + 1)),
            Spoil::Insert(at, byte) => bytes.insert(at.index(bytes.len() + 1), byte),
        }
        bytes
    })
}

fn config() -> ProptestConfig {
    ProptestConfig {
        cases: 2000,
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn bytes_of_chance_are_refused_or_taken(bytes in vec(any::<u8>(), 0..300)) {
        fuzz::send(&bytes);
        fuzz::subscribe_recent(&bytes);
        fuzz::token(&bytes);
        fuzz::json(&bytes);
    }

    #[test]
    fn json_that_is_nearly_right_is_refused_or_comes_back(bytes in spoiled(json())) {
        fuzz::json(&bytes);
    }

    #[test]
    fn a_send_that_is_nearly_right_is_refused_or_comes_back(
        bytes in spoiled(send().prop_map(|request| request.encode_to_vec()))
    ) {
        fuzz::send(&bytes);
    }

    #[test]
    fn a_read_that_is_nearly_right_is_refused_or_is_what_was_asked(bytes in spoiled(read())) {
        fuzz::subscribe_recent(&bytes);
    }

    #[test]
    fn claims_that_are_nearly_right_make_no_caller_that_they_do_not_name(
        bytes in spoiled(claims()),
        header in spoiled(header()),
    ) {
        fuzz::token(&bytes);
        fuzz::token(&[&header[..], b"\0", &bytes].concat());
    }
}

/// That the strategies reach what they are for: a good part is taken.
#[test]
fn what_is_nearly_right_is_often_right() {
    use proptest::{strategy::ValueTree as _, test_runner::TestRunner};
    let mut runner = TestRunner::deterministic();
    let limits = doorbell::config::ContentLimits::default();
    let inbox = InboxKey::parse("acme", "ann").unwrap();
    let (mut sends, mut pages, mut marks) = (0, 0, 0);
    for _ in 0..2000 {
        let request = send().new_tree(&mut runner).unwrap().current();
        sends += usize::from(
            convert::send(
                request,
                &limits,
                Uuid::nil(),
                "s".into(),
                crate::support::at(0),
            )
            .is_ok(),
        );
        let request = selection().new_tree(&mut runner).unwrap().current();
        let (about, through) = (request.about, request.through);
        let verb = convert::verb(Edit::Read, &request.notification_ids, about, through);
        marks += usize::from(verb.is_ok());
        let page_token = page_token().new_tree(&mut runner).unwrap().current();
        let request = GetRecentRequest {
            page_token,
            ..GetRecentRequest::default()
        };
        pages += usize::from(convert::recent(&request, &inbox).is_ok_and(|q| q.before.is_some()));
    }
    assert!(sends > 20, "{sends} sends are taken");
    assert!(pages > 100, "{pages} page tokens are taken");
    assert!(marks > 400, "{marks} selections are taken");
}
