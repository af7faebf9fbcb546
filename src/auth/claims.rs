//! What a token says, turned into a [`Caller`].
//!
//! Parse, don't validate: a caller that reads has an inbox, a caller that sends
//! has a scope, and there is nothing in between. The signature was checked
//! before; the time is checked by who asks, at each use.

use std::{sync::Arc, time::Duration};

use serde_json::{Map, Value};

use super::{Error, SettingsError};
use crate::{
    clock::Timestamp,
    config::AuthSettings,
    model::{InboxKey, OrganizationId, UserId},
};

/// The most bytes of `sub` (OpenID Connect Core, section 2).
pub const MAX_SUBJECT_BYTES: usize = 255;

/// The organization of a sender that may send into all of them.
pub const ANY_ORGANIZATION: &str = "*";

/// How far the issuer's clock may be ahead. For `nbf` alone: `exp` has none.
const NOT_BEFORE_LEEWAY: Duration = Duration::from_secs(60);

/// The last of the year 9999: RFC 3339 and protobuf can write no later one.
const LAST_SECOND: i64 = 253_402_300_799;

/// Who calls, as a verified token says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// Who the token was made for: `sub`, else the user claim, else the
    /// sender's role. Not empty, without control characters.
    pub subject: Arc<str>,
    /// The moment from which the token is worth nothing.
    pub expires_at: Timestamp,
    /// What it may do.
    pub right: Right,
}

/// What a caller may do: one thing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Right {
    /// To send, and to read nothing.
    Send(Scope),
    /// To read and mark one inbox, and to send nothing.
    Read(InboxKey),
}

/// Where a sender may send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Into one organization.
    One(OrganizationId),
    /// Into any.
    Any,
}

impl Scope {
    /// Whether it includes `organization_id`.
    pub fn covers(&self, organization_id: &OrganizationId) -> bool {
        match self {
            Self::One(own) => own == organization_id,
            Self::Any => true,
        }
    }
}

impl Caller {
    /// Where it may send; a reader may not.
    pub fn scope(&self) -> Option<&Scope> {
        match &self.right {
            Right::Send(scope) => Some(scope),
            Right::Read(_) => None,
        }
    }

    /// The inbox that it may read; a sender has none.
    pub fn inbox(&self) -> Option<&InboxKey> {
        match &self.right {
            Right::Send(_) => None,
            Right::Read(inbox) => Some(inbox),
        }
    }

    /// Whether its token is over at `now`. The moment of `exp` itself is over.
    pub fn is_expired(&self, now: Timestamp) -> bool {
        now >= self.expires_at
    }
}

/// A caller, and from when on.
#[derive(Clone, Debug)]
pub(super) struct Verified {
    pub(super) caller: Arc<Caller>,
    not_before: Option<Timestamp>,
}

impl Verified {
    /// The caller, if its token counts at `now`.
    pub(super) fn at(&self, now: Timestamp) -> Result<&Arc<Caller>, Error> {
        if self.caller.is_expired(now) {
            return Err(Error::Expired);
        }
        match self.not_before {
            Some(from) if from.since(now) > NOT_BEFORE_LEEWAY => Err(Error::Invalid(
                "it is not valid yet (the claim `nbf`)".into(),
            )),
            _ => Ok(&self.caller),
        }
    }
}

/// What the claims are called, and what they must be.
#[derive(Clone, Debug)]
pub struct Rules {
    pub(super) organization_claim: String,
    pub(super) user_claim: String,
    pub(super) role_claim: String,
    pub(super) sender_role: String,
    pub(super) issuer: Option<String>,
    pub(super) audience: Option<String>,
}

impl Rules {
    /// The rules of these settings.
    pub fn new(settings: &AuthSettings) -> Result<Self, SettingsError> {
        let filled = |setting: &'static str, text: &str| match text {
            "" => Err(SettingsError::Empty(setting)),
            text => Ok(text.to_owned()),
        };
        let optional = |setting, text: &Option<String>| {
            text.as_deref()
                .map(|text| filled(setting, text))
                .transpose()
        };
        let rules = Self {
            organization_claim: filled(
                "DOORBELL_JWT_ORGANIZATION_CLAIM",
                &settings.jwt_organization_claim,
            )?,
            user_claim: filled("DOORBELL_JWT_USER_CLAIM", &settings.jwt_user_claim)?,
            role_claim: filled("DOORBELL_JWT_ROLE_CLAIM", &settings.jwt_role_claim)?,
            sender_role: filled("DOORBELL_SENDER_ROLE", &settings.sender_role)?,
            issuer: optional("DOORBELL_JWT_ISSUER", &settings.jwt_issuer)?,
            audience: optional("DOORBELL_JWT_AUDIENCE", &settings.jwt_audience)?,
        };
        if rules.organization_claim == rules.user_claim
            || rules.organization_claim == rules.role_claim
            || rules.user_claim == rules.role_claim
        {
            return Err(SettingsError::SameClaim);
        }
        Ok(rules)
    }

    /// The caller that these claims make, whatever the time.
    pub(super) fn read(&self, claims: &Map<String, Value>) -> Result<Verified, Error> {
        self.check_issuer(claims)?;
        self.check_audience(claims)?;
        let expires_at = seconds(claims, "exp")?
            .ok_or_else(|| Error::Invalid("the claim `exp` is missing".into()))?;
        let not_before = seconds(claims, "nbf")?;
        let subject = text(claims, "sub")?;
        let user = text(claims, &self.user_claim)?;
        let is_sender = text(claims, &self.role_claim)? == Some(&self.sender_role);
        let organization = text(claims, &self.organization_claim)?.ok_or_else(|| {
            Error::Invalid(format!("the claim `{}` is missing", self.organization_claim).into())
        })?;
        let in_organization_claim = |error| {
            Error::Invalid(format!("the claim `{}` {error}", self.organization_claim).into())
        };

        let (right, name) = if is_sender {
            let scope = if organization == ANY_ORGANIZATION {
                Scope::Any
            } else {
                Scope::One(OrganizationId::parse(organization).map_err(in_organization_claim)?)
            };
            (
                Right::Send(scope),
                subject.or(user).unwrap_or(&self.sender_role),
            )
        } else {
            let (claim, user) = user
                .map(|user| (self.user_claim.as_str(), user))
                .or(subject.map(|subject| ("sub", subject)))
                .ok_or_else(|| {
                    let claim = &self.user_claim;
                    Error::Invalid(
                        format!("it names no user: the claims `{claim}` and `sub` are missing")
                            .into(),
                    )
                })?;
            let inbox = InboxKey {
                organization_id: OrganizationId::parse(organization)
                    .map_err(in_organization_claim)?,
                user_id: UserId::parse(user).map_err(|error| {
                    Error::Invalid(format!("the claim `{claim}` {error}").into())
                })?,
            };
            (Right::Read(inbox), subject.unwrap_or(user))
        };
        if name.is_empty() || name.len() > MAX_SUBJECT_BYTES || name.chars().any(char::is_control) {
            return Err(Error::Invalid(
                format!(
                    "who it is for (the claim `sub`) must have 1 to {MAX_SUBJECT_BYTES} bytes \
                     without control characters"
                )
                .into(),
            ));
        }
        Ok(Verified {
            caller: Arc::new(Caller {
                subject: name.into(),
                expires_at,
                right,
            }),
            not_before,
        })
    }

    fn check_issuer(&self, claims: &Map<String, Value>) -> Result<(), Error> {
        match &self.issuer {
            Some(issuer) if claims.get("iss").and_then(Value::as_str) != Some(issuer) => Err(
                Error::Invalid("it has another issuer (the claim `iss`)".into()),
            ),
            _ => Ok(()),
        }
    }

    fn check_audience(&self, claims: &Map<String, Value>) -> Result<(), Error> {
        let Some(audience) = &self.audience else {
            return Ok(());
        };
        let is_ours = |value: &Value| value.as_str() == Some(audience);
        let is_among = match claims.get("aud") {
            Some(Value::Array(list)) => list.iter().any(is_ours),
            Some(value) => is_ours(value),
            None => false,
        };
        if is_among {
            Ok(())
        } else {
            Err(Error::Invalid(
                "it is for another audience (the claim `aud`)".into(),
            ))
        }
    }
}

/// A claim that is a string, or absent (`null` is absent).
fn text<'a>(claims: &'a Map<String, Value>, name: &str) -> Result<Option<&'a str>, Error> {
    match claims.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(Error::Invalid(
            format!("the claim `{name}` must be a string").into(),
        )),
    }
}

/// A claim that is a NumericDate of RFC 7519, or absent. Fractions are cut off.
fn seconds(claims: &Map<String, Value>, name: &str) -> Result<Option<Timestamp>, Error> {
    let Some(value) = claims.get(name) else {
        return Ok(None);
    };
    let Value::Number(number) = value else {
        return Err(Error::Invalid(
            format!("the claim `{name}` must be a number of seconds").into(),
        ));
    };
    let whole = number.as_i64().or_else(|| number.as_f64().and_then(floor));
    match whole {
        Some(seconds @ 0..=LAST_SECOND) => Ok(Some(Timestamp::from_seconds(seconds))),
        _ => Err(Error::Invalid(
            format!("the claim `{name}` must lie between the years 1970 and 9999").into(),
        )),
    }
}

/// The whole number at or below `number`, where `i64` has it.
#[expect(clippy::cast_possible_truncation, reason = "checked to be in range")]
fn floor(number: f64) -> Option<i64> {
    // 2^53: up to here each whole number is one f64.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    let whole = number.floor();
    (whole.abs() <= EXACT).then_some(whole as i64)
}

#[cfg(test)]
mod tests {
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
        assert_eq!(caller.scope(), None);
        assert_eq!(caller.inbox(), InboxKey::parse("acme", "ann").ok().as_ref());
    }

    #[test]
    fn sub_stands_in_for_a_missing_user_and_for_no_other() {
        let claims = json!({"organizationId": "acme", "sub": "ann", "exp": 10});
        assert_eq!(read(&rules(), claims).unwrap().right, acme("ann"));
        let claims = json!({"organizationId": "acme", "userId": null, "sub": "ann", "exp": 10});
        assert_eq!(read(&rules(), claims).unwrap().right, acme("ann"));
        let claims = json!({"organizationId": "acme", "userId": 7, "sub": "ann", "exp": 10});
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
        let scope = caller.scope().unwrap();
        assert!(scope.covers(&OrganizationId::parse("acme").unwrap()));
        assert!(!scope.covers(&OrganizationId::parse("other").unwrap()));
        assert_eq!(caller.inbox(), None);
        assert_eq!(&*caller.subject, "billing");

        let nameless = json!({"organizationId": "*", "userRole": "service", "exp": 10});
        let caller = read(&rules(), nameless).unwrap();
        assert_eq!(caller.right, Right::Send(Scope::Any));
        assert!(Scope::Any.covers(&OrganizationId::parse("other").unwrap()));
        assert_eq!(&*caller.subject, "service");
    }

    #[test]
    fn only_the_sender_role_bears_the_wildcard() {
        for role in [json!("admin"), json!("Service"), json!(""), Value::Null] {
            let claims =
                json!({"organizationId": "*", "userId": "ann", "userRole": role, "exp": 10});
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
            ("userRole", json!(["service"])),
            ("sub", json!(3)),
            ("sub", json!("a\nb")),
            ("sub", json!("")),
            ("sub", json!("s".repeat(256))),
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
    fn settings_that_name_nothing_are_refused() {
        for (settings, expected) in [
            (
                AuthSettings {
                    jwt_issuer: Some(String::new()),
                    ..AuthSettings::default()
                },
                SettingsError::Empty("DOORBELL_JWT_ISSUER"),
            ),
            (
                AuthSettings {
                    jwt_audience: Some(String::new()),
                    ..AuthSettings::default()
                },
                SettingsError::Empty("DOORBELL_JWT_AUDIENCE"),
            ),
            (
                AuthSettings {
                    sender_role: String::new(),
                    ..AuthSettings::default()
                },
                SettingsError::Empty("DOORBELL_SENDER_ROLE"),
            ),
            (
                AuthSettings {
                    jwt_user_claim: "userRole".into(),
                    ..AuthSettings::default()
                },
                SettingsError::SameClaim,
            ),
        ] {
            assert_eq!(
                Rules::new(&settings).unwrap_err().to_string(),
                expected.to_string()
            );
        }
    }
}
