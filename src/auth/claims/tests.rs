use serde_json::json;

use super::*;

fn rules() -> Rules {
    Rules::new(&AuthSettings::default()).unwrap()
}

fn read(rules: &Rules, claims: Value) -> Result<Caller, Error> {
    let Value::Object(claims) = claims else {
        panic!("not an object");
    };
    rules
        .read(&claims)
        .map(|verified| (*verified.caller).clone())
}

fn refusal(rules: &Rules, claims: Value) -> String {
    match read(rules, claims) {
        Err(Error::Invalid(reason)) => reason.into_owned(),
        other => panic!("not refused as invalid: {other:?}"),
    }
}

fn acme(user: &str) -> Right {
    Right::Read(InboxKey::parse("acme", user).unwrap())
}

#[test]
fn a_user_reads_one_inbox_and_sends_nothing() {
    let claims = json!({"organizationId": "acme", "userId": "ann", "sub": "s1", "exp": 10});
    let caller = read(&rules(), claims).unwrap();
    assert_eq!(caller.right, acme("ann"));
    assert_eq!(&*caller.subject, "s1");
    assert_eq!(caller.expires_at, Timestamp::from_seconds(10));
}

#[test]
fn sub_stands_in_for_a_missing_user_and_for_no_other() {
    let claims = json!({"organizationId": "acme", "sub": "ann", "exp": 10});
    assert_eq!(read(&rules(), claims).unwrap().right, acme("ann"));
    let claims = json!({"organizationId": "acme", "userId": null, "sub": "ann", "exp": 10});
    assert_eq!(read(&rules(), claims).unwrap().right, acme("ann"));
    let claims = json!({"organizationId": "acme", "userId": [7], "sub": "ann", "exp": 10});
    assert!(refusal(&rules(), claims).contains("`userId` must be a string"));
    let claims = json!({"organizationId": "acme", "userId": "", "sub": "ann", "exp": 10});
    assert!(refusal(&rules(), claims).contains("`userId` must not be empty"));
    let claims = json!({"organizationId": "acme", "exp": 10});
    assert!(refusal(&rules(), claims).contains("names no user"));
}

#[test]
fn a_sender_sends_and_reads_nothing() {
    let claims = json!({
        "organizationId": "acme", "userRole": "service", "sub": "billing", "exp": 10
    });
    let caller = read(&rules(), claims).unwrap();
    let Right::Send(scope) = &caller.right else {
        panic!("{caller:?}");
    };
    assert!(scope.covers(&OrganizationId::parse("acme").unwrap()));
    assert!(!scope.covers(&OrganizationId::parse("other").unwrap()));
    assert_eq!(&*caller.subject, "billing");

    let nameless = json!({"organizationId": "*", "userRole": "service", "exp": 10});
    let caller = read(&rules(), nameless).unwrap();
    assert_eq!(caller.right, Right::Send(Scope::Any));
    assert!(Scope::Any.covers(&OrganizationId::parse("other").unwrap()));
    assert_eq!(&*caller.subject, "service");
}

#[test]
fn an_operator_is_one_where_a_role_is_set_and_sends_nothing() {
    let claims = |role: Value| json!({"organizationId": "*", "userRole": role, "exp": 10});
    let operators = |role: &str| {
        Rules::new(&AuthSettings {
            operator_role: Some(role.into()),
            ..AuthSettings::default()
        })
    };
    let rules_with = operators("support").unwrap();
    let caller = read(&rules_with, claims(json!(["admin", "support"]))).unwrap();
    assert_eq!(caller.right, Right::Operate(Scope::Any));
    assert_eq!(&*caller.subject, "support");
    // Who has both is a sender, and who has neither has no wildcard.
    let both = read(&rules_with, claims(json!(["support", "service"]))).unwrap();
    assert_eq!(both.right, Right::Send(Scope::Any));
    let neither = json!({"organizationId": "*", "userId": "ann", "userRole": "support", "exp": 10});
    assert!(refusal(&rules(), neither).contains("organizationId"));
    let error = operators("service").unwrap_err().to_string();
    assert!(
        error.contains("DOORBELL_OPERATOR_ROLE") && error.contains("SENDER_ROLE"),
        "{error}"
    );
}

#[test]
fn only_the_sender_role_bears_the_wildcard() {
    for role in [json!("admin"), json!("Service"), json!(""), Value::Null] {
        let claims = json!({"organizationId": "*", "userId": "ann", "userRole": role, "exp": 10});
        assert!(refusal(&rules(), claims).contains("`organizationId` must name one"));
    }
    let claims = json!({"organizationId": "*", "userId": "ann", "exp": 10});
    assert!(refusal(&rules(), claims).contains("`organizationId` must name one"));
}

#[test]
fn ids_are_well_formed_or_refused() {
    for (name, id) in [
        ("organizationId", json!("")),
        ("organizationId", json!("a\nb")),
        ("organizationId", json!("a".repeat(129))),
        ("organizationId", json!(["acme"])),
        ("organizationId", Value::Null),
        ("userId", json!("a\u{0}b")),
        ("userId", json!("a\u{7f}")),
        ("userId", json!("a".repeat(129))),
        ("userId", json!(1.5)),
        ("userId", json!(true)),
        ("userId", json!({"id": "ann"})),
    ] {
        let mut claims = json!({"organizationId": "acme", "userId": "ann", "exp": 10});
        assert!(read(&rules(), claims.clone()).is_ok());
        claims[name] = id.clone();
        let reason = refusal(&rules(), claims);
        assert!(
            reason.contains(&format!("`{name}`")),
            "{name} = {id}: {reason}"
        );
    }
    let claims = json!({
        "organizationId": "o".repeat(128), "userId": "u".repeat(128), "sub": "s".repeat(255),
        "exp": 10
    });
    assert!(read(&rules(), claims).is_ok());
}

#[test]
fn exp_is_a_number_of_seconds_of_our_era() {
    for (exp, expected) in [
        (json!(0), Some(0)),
        (json!(10), Some(10)),
        (json!(10.9), Some(10)),
        (json!(253_402_300_799_i64), Some(253_402_300_799)),
        (json!(253_402_300_799.5), Some(253_402_300_799)),
        (json!(253_402_300_800_i64), None),
        (json!(-1), None),
        (json!(-0.5), None),
        (json!(i64::MAX), None),
        (json!(u64::MAX), None),
        (json!(1e300), None),
        (json!("10"), None),
        (json!([10]), None),
        (json!({}), None),
        (json!(true), None),
        (Value::Null, None),
    ] {
        let claims = json!({"organizationId": "acme", "userId": "ann", "exp": exp});
        match expected {
            Some(seconds) => assert_eq!(
                read(&rules(), claims).unwrap().expires_at,
                Timestamp::from_seconds(seconds)
            ),
            None => assert!(refusal(&rules(), claims).contains("`exp` must"), "{exp}"),
        }
    }
    let claims = json!({"organizationId": "acme", "userId": "ann"});
    assert!(refusal(&rules(), claims).contains("`exp` is missing"));
}

#[test]
fn exp_has_no_leeway_and_nbf_has_a_minute() {
    let rules = rules();
    let claims = json!({"organizationId": "a", "userId": "b", "exp": 1000, "nbf": 500.5});
    let verified = rules.read(claims.as_object().unwrap()).unwrap();
    let at = |micros| verified.at(Timestamp::from_micros(micros)).map(|_| ());
    assert_eq!(at(999_999_999), Ok(()));
    assert_eq!(at(1_000_000_000), Err(Error::Expired));
    assert_eq!(at(440_000_000), Ok(()));
    assert!(matches!(at(439_999_999), Err(Error::Invalid(reason)) if reason.contains("nbf")));

    for nbf in [json!("500"), json!(-1), json!(u64::MAX), Value::Null] {
        let claims = json!({"organizationId": "a", "userId": "b", "exp": 1000, "nbf": nbf});
        assert!(refusal(&rules, claims).contains("`nbf` must"));
    }
}

#[test]
fn issuer_and_audience_are_checked_when_set() {
    let rules = Rules::new(&AuthSettings {
        jwt_issuer: Some("https://id".into()),
        jwt_audience: Some("doorbell".into()),
        ..AuthSettings::default()
    })
    .unwrap();
    let claims = |iss: Value, aud: Value| json!({"organizationId": "a", "userId": "b", "exp": 10, "iss": iss, "aud": aud});
    let right = json!("https://id");
    for aud in [json!("doorbell"), json!(["other", "doorbell"])] {
        assert!(read(&rules, claims(right.clone(), aud)).is_ok());
    }
    for aud in [
        json!("other"),
        json!(["other"]),
        json!([]),
        json!({"doorbell": 1}),
        json!([["doorbell"]]),
        Value::Null,
    ] {
        assert!(refusal(&rules, claims(right.clone(), aud)).contains("`aud`"));
    }
    for iss in [
        json!("https://id/"),
        json!(["https://id"]),
        json!(""),
        Value::Null,
    ] {
        assert!(refusal(&rules, claims(iss, json!("doorbell"))).contains("`iss`"));
    }
    let without = json!({"organizationId": "a", "userId": "b", "exp": 10});
    assert!(refusal(&rules, without).contains("`iss`"));
    // Not set: not looked at.
    assert!(read(&self::rules(), claims(json!(5), json!("other"))).is_ok());
}

#[test]
fn the_claims_have_the_names_that_the_settings_say() {
    let rules = Rules::new(&AuthSettings {
        jwt_organization_claim: "tenant".into(),
        jwt_user_claim: "uid".into(),
        jwt_role_claim: "role".into(),
        sender_role: "backend".into(),
        ..AuthSettings::default()
    })
    .unwrap();
    let user = json!({"tenant": "acme", "uid": "ann", "role": "service", "exp": 10});
    assert_eq!(read(&rules, user).unwrap().right, acme("ann"));
    let sender = json!({"tenant": "*", "role": "backend", "exp": 10});
    assert_eq!(read(&rules, sender).unwrap().right, Right::Send(Scope::Any));
    let usual = json!({"organizationId": "acme", "userId": "ann", "exp": 10});
    assert!(refusal(&rules, usual).contains("`tenant` is missing"));
}

#[test]
fn a_claim_is_found_by_its_name_and_else_by_its_path() {
    let claims = json!({
        "o": {"id": "acme", "a.b": {"c": 1}, "none": null, "text": "x"},
        "o.text": "literal",
        "o.none": null,
        "https://id.example/claims": {"org_id": "other"},
        "https://id.example/org": "flat",
    });
    let found = |name: &str| find(claims.as_object().unwrap(), name).cloned();
    for (name, value) in [
        ("o.id", Some(json!("acme"))),
        ("o.a.b.c", Some(json!(1))),
        ("o.a.b", Some(json!({"c": 1}))),
        ("o.text", Some(json!("literal"))),
        ("o.none", None),
        ("o.missing", None),
        ("o.id.more", None),
        ("o.", None),
        (".", None),
        ("https://id.example/org", Some(json!("flat"))),
        ("https://id.example/claims.org_id", Some(json!("other"))),
    ] {
        assert_eq!(found(name), value, "{name}");
    }
}

#[test]
fn whole_numbers_are_their_digits() {
    for (id, digits) in [
        (json!(0), "0"),
        (json!(-7), "-7"),
        (json!(9_007_199_254_740_993_u64), "9007199254740993"),
        (json!(u64::MAX), "18446744073709551615"),
    ] {
        let claims = json!({"organizationId": id, "sub": id, "exp": 10});
        let caller = read(&rules(), claims).unwrap();
        assert_eq!(
            caller.right,
            Right::Read(InboxKey::parse(digits, digits).unwrap())
        );
        assert_eq!(&*caller.subject, digits);
    }
}

#[test]
fn a_list_of_roles_has_a_role_or_has_it_not() {
    for (role, sends) in [
        (json!("service"), true),
        (json!(["admin", "service"]), true),
        (json!(["admin"]), false),
        (json!([]), false),
        (json!([["service"], {"service": true}, 5, null]), false),
        (json!({"service": true}), false),
        (json!("service admin"), false),
        (json!(true), false),
        (json!(7), false),
        (Value::Null, false),
    ] {
        let claims =
            json!({"organizationId": "acme", "userId": "ann", "userRole": role, "exp": 10});
        let is_sender = matches!(read(&rules(), claims).unwrap().right, Right::Send(_));
        assert_eq!(is_sender, sends, "{role}");
    }
}

#[test]
fn a_claim_that_is_not_used_never_refuses() {
    for odd in [
        json!([7]),
        json!({"a": 1}),
        json!("a\nb"),
        json!(""),
        json!("s".repeat(256)),
        json!(1.5),
    ] {
        let reader = json!({
            "organizationId": "acme", "userId": "ann", "exp": 10,
            "sub": odd, "iat": odd, "iss": odd, "aud": odd, "jti": odd, "email": odd,
        });
        let caller = read(&rules(), reader).unwrap();
        assert_eq!(
            (caller.right, &*caller.subject),
            (acme("ann"), "ann"),
            "{odd}"
        );
        let sender = json!({
            "organizationId": "acme", "userRole": "service", "exp": 10, "sub": odd, "userId": odd,
        });
        let caller = read(&rules(), sender).unwrap();
        assert_eq!(&*caller.subject, "service", "{odd}");
    }
}

#[test]
fn a_single_organization_is_that_of_everybody() {
    let single = |id: &str| {
        Rules::new(&AuthSettings {
            single_organization: Some(id.into()),
            ..AuthSettings::default()
        })
    };
    let rules = single("acme").unwrap();
    for claim in [
        Value::Null,
        json!("other"),
        json!("*"),
        json!(["a"]),
        json!("acme"),
    ] {
        let reader = json!({"organizationId": claim, "sub": "ann", "exp": 10});
        assert_eq!(read(&rules, reader).unwrap().right, acme("ann"));
        let sender = json!({"organizationId": claim, "userRole": "service", "exp": 10});
        let only = Scope::One(OrganizationId::parse("acme").unwrap());
        assert_eq!(read(&rules, sender).unwrap().right, Right::Send(only));
    }
    for wrong in ["*", "", "a\nb", &"o".repeat(129)] {
        let error = single(wrong).unwrap_err().to_string();
        assert!(
            error.contains("(DOORBELL_SINGLE_ORGANIZATION) must"),
            "{error}"
        );
    }
}

#[test]
fn settings_that_name_nothing_are_refused() {
    for (settings, expected) in [
        (
            AuthSettings {
                jwt_issuer: Some(String::new()),
                ..AuthSettings::default()
            },
            "(DOORBELL_JWT_ISSUER) is set, but empty",
        ),
        (
            AuthSettings {
                jwt_audience: Some(String::new()),
                ..AuthSettings::default()
            },
            "(DOORBELL_JWT_AUDIENCE) is set, but empty",
        ),
        (
            AuthSettings {
                sender_role: String::new(),
                ..AuthSettings::default()
            },
            "(DOORBELL_SENDER_ROLE) is set, but empty",
        ),
        (
            AuthSettings {
                jwt_user_claim: "userRole".into(),
                ..AuthSettings::default()
            },
            "three different",
        ),
    ] {
        let refused = Rules::new(&settings).unwrap_err().to_string();
        assert!(refused.contains(expected), "{refused}");
    }
}
