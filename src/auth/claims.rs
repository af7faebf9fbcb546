//! What a token says, turned into a [`Caller`].
//!
//! Parse, don't validate: a caller that reads has an inbox, a caller that sends
//! has a scope, and there is nothing in between. The signature was checked
//! before; the time is checked by who asks, at each use.

use std::{borrow::Cow, collections::HashSet, fmt, sync::Arc, time::Duration};

use serde_json::{Map, Value};

use super::Error;
use crate::{
    clock::Timestamp,
    config::{self, AuthSettings},
    model::{ALL_ORGANIZATIONS, InboxKey, OrganizationId, UserId},
};

/// The most bytes of `sub` (OpenID Connect Core, section 2).
pub const MAX_SUBJECT_BYTES: usize = 255;

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
    /// To look into inboxes and to erase them, and to send nothing.
    Operate(Scope),
    /// To read and mark one inbox, and to send nothing.
    Read(InboxKey),
}

/// Where a sender or an operator may do what they may.
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
    /// That of every caller, whatever the claims say.
    single_organization: Option<OrganizationId>,
    pub(super) organization_claim: String,
    pub(super) user_claim: String,
    pub(super) role_claim: String,
    pub(super) sender_role: String,
    /// None: nobody is an operator.
    operator_role: Option<String>,
    pub(super) issuer: Option<String>,
    pub(super) audience: Option<String>,
}

impl Rules {
    /// The rules of these settings.
    pub fn new(settings: &AuthSettings) -> Result<Self, config::Error> {
        let filled = |flag: &str, text: &str| match text {
            "" => Err(config::Error::new(flag, "is set, but empty")),
            text => Ok(text.to_owned()),
        };
        let optional = |flag, text: &Option<String>| {
            let text = text.as_deref();
            text.map(|text| filled(flag, text)).transpose()
        };
        let single = settings.single_organization.as_deref();
        let single = single.map(OrganizationId::parse).transpose();
        let rules = Self {
            single_organization: single
                .map_err(|error| config::Error::new("single-organization", error.to_string()))?,
            organization_claim: filled("jwt-organization-claim", &settings.jwt_organization_claim)?,
            user_claim: filled("jwt-user-claim", &settings.jwt_user_claim)?,
            role_claim: filled("jwt-role-claim", &settings.jwt_role_claim)?,
            sender_role: filled("sender-role", &settings.sender_role)?,
            operator_role: optional("operator-role", &settings.operator_role)?,
            issuer: optional("jwt-issuer", &settings.jwt_issuer)?,
            audience: optional("jwt-audience", &settings.jwt_audience)?,
        };
        let claims = [
            &rules.organization_claim,
            &rules.user_claim,
            &rules.role_claim,
        ];
        if HashSet::from(claims).len() < claims.len() {
            return Err(config::Error::new(
                "jwt-organization-claim",
                "and the claims of user (DOORBELL_JWT_USER_CLAIM) and role \
                 (DOORBELL_JWT_ROLE_CLAIM) must be three different ones",
            ));
        }
        if rules.operator_role.as_ref() == Some(&rules.sender_role) {
            return Err(config::Error::new(
                "operator-role",
                "must be another role than that of senders (DOORBELL_SENDER_ROLE)",
            ));
        }
        Ok(rules)
    }

    /// The caller that these claims make, whatever the time. A claim that is not used
    /// never refuses.
    pub(super) fn read(&self, claims: &Map<String, Value>) -> Result<Verified, Error> {
        self.check_issuer(claims)?;
        self.check_audience(claims)?;
        let expires_at = seconds(claims, "exp")?
            .ok_or_else(|| Error::Invalid("the claim `exp` is missing".into()))?;
        let not_before = seconds(claims, "nbf")?;
        // For the log, where it can be.
        let subject = text(claims, "sub")
            .ok()
            .flatten()
            .filter(|name| is_name(name));
        let has = |role: &&String| has_role(claims, &self.role_claim, role);
        let sender = Some(&self.sender_role).filter(has);
        let role = sender.or(self.operator_role.as_ref().filter(has));
        let (right, name) = if let Some(role) = role {
            let user = text(claims, &self.user_claim).ok().flatten();
            let name = subject.or(user.filter(|name| is_name(name)));
            let name = name.unwrap_or(Cow::Borrowed(role));
            let scope = self.scope(claims)?;
            let right = match sender {
                Some(_) => Right::Send(scope),
                None => Right::Operate(scope),
            };
            (right, name)
        } else {
            let inbox = InboxKey {
                organization_id: self.organization(claims)?,
                user_id: self.user(claims)?,
            };
            let user = inbox.user_id.as_str().to_owned();
            (Right::Read(inbox), subject.unwrap_or(Cow::Owned(user)))
        };
        Ok(Verified {
            caller: Arc::new(Caller {
                subject: name.into(),
                expires_at,
                right,
            }),
            not_before,
        })
    }

    /// Where a sender or an operator may do what they may.
    fn scope(&self, claims: &Map<String, Value>) -> Result<Scope, Error> {
        let claim = text(claims, &self.organization_claim);
        match (&self.single_organization, claim) {
            (None, Ok(Some(any))) if any == ALL_ORGANIZATIONS => Ok(Scope::Any),
            _ => self.organization(claims).map(Scope::One),
        }
    }

    fn organization(&self, claims: &Map<String, Value>) -> Result<OrganizationId, Error> {
        let name = &self.organization_claim;
        match (&self.single_organization, text(claims, name)) {
            (Some(single), _) => Ok(single.clone()),
            (None, claim) => {
                let claim = claim?.ok_or_else(|| wrong(name, "is missing"))?;
                OrganizationId::parse(&claim).map_err(|error| wrong(name, error))
            }
        }
    }

    fn user(&self, claims: &Map<String, Value>) -> Result<UserId, Error> {
        for name in [&self.user_claim, "sub"] {
            if let Some(user) = text(claims, name)? {
                return UserId::parse(&user).map_err(|error| wrong(name, error));
            }
        }
        let name = &self.user_claim;
        Err(Error::Invalid(
            format!("it names no user: the claims `{name}` and `sub` are missing").into(),
        ))
    }

    fn check_issuer(&self, claims: &Map<String, Value>) -> Result<(), Error> {
        let is_ours = |issuer| claims.get("iss").and_then(Value::as_str) == Some(issuer);
        match self.issuer.as_deref().is_none_or(is_ours) {
            true => Ok(()),
            false => Err(Error::Invalid(
                "it has another issuer (the claim `iss`)".into(),
            )),
        }
    }

    fn check_audience(&self, claims: &Map<String, Value>) -> Result<(), Error> {
        let is_ours = |audience: &String| match claims.get("aud") {
            Some(Value::Array(list)) => list.iter().any(|one| one == audience),
            one => one.is_some_and(|one| one == audience),
        };
        match self.audience.as_ref().is_none_or(is_ours) {
            true => Ok(()),
            false => Err(Error::Invalid(
                "it is for another audience (the claim `aud`)".into(),
            )),
        }
    }
}

/// A claim by its name, else by its path: the names of objects in one another with dots
/// between them. Names may have dots of their own. What is `null` is absent.
fn find<'a>(claims: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    let literal = claims.get(name).filter(|value| !value.is_null());
    literal.or_else(|| {
        name.match_indices('.').find_map(|(dot, _)| {
            let inner = claims.get(&name[..dot])?.as_object()?;
            find(inner, &name[dot + 1..])
        })
    })
}

/// Whether the claim is this role, or a list that has it.
fn has_role(claims: &Map<String, Value>, claim: &str, role: &str) -> bool {
    let is_role = |value: &Value| as_text(value).is_some_and(|text| text == role);
    match find(claims, claim) {
        Some(Value::Array(roles)) => roles.iter().any(is_role),
        value => value.is_some_and(is_role),
    }
}

/// A string as it is, and a whole number in decimal digits.
fn as_text(value: &Value) -> Option<Cow<'_, str>> {
    match value {
        Value::String(text) => Some(Cow::Borrowed(text)),
        Value::Number(number) if !number.is_f64() => Some(Cow::Owned(number.to_string())),
        _ => None,
    }
}

/// A claim that is a text, or absent.
fn text<'a>(claims: &'a Map<String, Value>, name: &str) -> Result<Option<Cow<'a, str>>, Error> {
    find(claims, name)
        .map(|value| {
            as_text(value).ok_or_else(|| wrong(name, "must be a string or a whole number"))
        })
        .transpose()
}

fn wrong(claim: &str, problem: impl fmt::Display) -> Error {
    Error::Invalid(format!("the claim `{claim}` {problem}").into())
}

/// Whether a text can name somebody in a log.
fn is_name(text: &str) -> bool {
    (1..=MAX_SUBJECT_BYTES).contains(&text.len()) && !text.chars().any(char::is_control)
}

/// A claim that is a NumericDate of RFC 7519, or absent. Fractions are cut off.
pub(super) fn seconds(claims: &Map<String, Value>, name: &str) -> Result<Option<Timestamp>, Error> {
    let Some(value) = claims.get(name) else {
        return Ok(None);
    };
    let Value::Number(number) = value else {
        return Err(wrong(name, "must be a number of seconds"));
    };
    let whole = number.as_i64().or_else(|| number.as_f64().and_then(floor));
    match whole {
        Some(seconds @ 0..=LAST_SECOND) => Ok(Some(Timestamp::from_seconds(seconds))),
        _ => Err(wrong(name, "must lie between the years 1970 and 9999")),
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
mod tests;
