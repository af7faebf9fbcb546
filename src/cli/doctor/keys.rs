//! The keys: whether they parse, whether the JWKS is to be had, and what is weak.

use std::sync::Arc;

use super::{Finding, certificates::open_to_others, clocks};
use crate::{
    auth::{
        Secret, TokenVerifier,
        inspection::{Jwks, Keys, Published},
    },
    clock::{Clock, SystemClock, Timestamp},
    config::AuthSettings,
    random::SystemRandom,
};

const ABOUT: &str = "keys";

/// Looks at the keys that the settings name.
pub(super) async fn examine(settings: &AuthSettings, clock: &dyn Clock) -> Vec<Finding> {
    let opened = TokenVerifier::open(settings, Arc::new(SystemClock), Arc::new(SystemRandom));
    let verifier = match opened {
        Ok(verifier) => verifier,
        Err(error) => {
            let advice = "`doorbell serve` refuses to start: change the setting, or its file";
            return vec![Finding::fault(ABOUT, error.to_string(), advice)];
        }
    };
    let before = clock.now();
    let keys = verifier.inspect().await;
    let mut findings = fixed(&keys, settings);
    if let Some(jwks) = &keys.jwks {
        findings.extend(of_jwks(jwks, before, clock));
    }
    findings.extend(names(&keys, settings));
    findings
}

/// The secret and the key of a file, which were read already.
fn fixed(keys: &Keys, settings: &AuthSettings) -> Vec<Finding> {
    let mut findings = Vec::new();
    if !keys.fixed.is_empty() {
        let algorithms = keys.fixed.join(" and ");
        findings.push(Finding::ok(
            ABOUT,
            format!("tokens signed with {algorithms} are verified"),
        ));
    }
    if let Ok(Some(secret)) = Secret::load(settings)
        && secret.is_guessable()
    {
        findings.push(Finding::warning(
            ABOUT,
            "the secret reads like words, and not like chance: who guesses it is everybody",
            "take a random one (openssl rand -base64 48), here and where tokens are signed",
        ));
    }
    let file = settings.jwt_secret_file.as_deref();
    findings.extend(file.and_then(|file| open_to_others(ABOUT, file)));
    findings
}

fn of_jwks(jwks: &Jwks, before: Timestamp, clock: &dyn Clock) -> Vec<Finding> {
    let place = &jwks.place;
    let Published {
        algorithms,
        nameless,
        left_out,
        date,
    } = match &jwks.read {
        Ok(published) => published,
        Err(problem) => {
            return vec![Finding::fault(
                ABOUT,
                format!("the JWKS at {place} cannot be used: {problem}"),
                "open it with curl from this machine: a node without keys is not ready",
            )];
        }
    };
    let mut findings = vec![Finding::ok(
        ABOUT,
        format!(
            "the JWKS at {place} has {} to verify with: {}",
            match algorithms.len() {
                1 => "1 key".to_owned(),
                many => format!("{many} keys"),
            },
            algorithms.join(", ")
        ),
    )];
    if *nameless > 0 && algorithms.len() > 1 {
        findings.push(Finding::warning(
            ABOUT,
            format!("{nameless} of the keys at {place} have no name (kid)"),
            "name them: a token is tried with at most four keys",
        ));
    }
    for reason in left_out {
        findings.push(Finding::warning(
            ABOUT,
            format!("a key at {place} is left out: {reason}"),
            "no matter where no token for this service is signed with it",
        ));
    }
    let date = date.as_deref();
    let judged =
        date.and_then(|date| clocks::judge_date(&format!("{place}'s server"), date, before, clock));
    findings.extend(judged);
    findings
}

/// A key that signs for several services should not open all of them.
fn names(keys: &Keys, settings: &AuthSettings) -> Option<Finding> {
    let is_shared = keys.jwks.is_some() || settings.jwt_public_key_file.is_some();
    let says = match (&settings.jwt_issuer, &settings.jwt_audience) {
        (Some(_), Some(_)) => return None,
        (None, None) => "neither an issuer nor an audience is asked for",
        (None, Some(_)) => "no issuer is asked for",
        (Some(_), None) => "no audience is asked for",
    };
    is_shared.then(|| {
        Finding::warning(
            ABOUT,
            format!("{says}: tokens that are meant for other services are taken"),
            "set DOORBELL_JWT_ISSUER and DOORBELL_JWT_AUDIENCE as your tokens have them",
        )
    })
}
