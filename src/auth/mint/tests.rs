use super::*;
use crate::{
    auth::{
        Right, Scope,
        test_support::{SECRET, fixture, verifier_of},
    },
    config::AuthSettings,
    model::InboxKey,
};

const NOW: Timestamp = Timestamp::from_micros(1_000_500_000);

fn grant() -> Grant {
    Grant {
        organization: "acme".into(),
        user: Some("ann".into()),
        role: None,
        subject: None,
        lifetime: Duration::from_secs(60),
    }
}

fn settings() -> AuthSettings {
    AuthSettings {
        jwt_secret: Some(SECRET.into()),
        jwt_organization_claim: "tenant".into(),
        jwt_user_claim: "uid".into(),
        jwt_role_claim: "role".into(),
        sender_role: "backend".into(),
        jwt_issuer: Some("us".into()),
        jwt_audience: Some("them".into()),
        ..AuthSettings::default()
    }
}

fn minter(settings: &AuthSettings) -> Minter {
    let secret = Secret::load(settings).unwrap().unwrap();
    Minter::from_secret(&secret, Rules::new(settings).unwrap())
}

#[test]
fn what_is_minted_is_accepted() {
    let settings = settings();
    let verifier = verifier_of(&settings, NOW);
    let token = minter(&settings).mint(&grant(), NOW).unwrap();
    let caller = verifier.verify_now(&token).unwrap();
    assert_eq!(
        caller.right,
        Right::Read(InboxKey::parse("acme", "ann").unwrap())
    );
    assert_eq!(&*caller.subject, "ann");
    assert_eq!(caller.expires_at, Timestamp::from_seconds(1060));

    let sender = Grant {
        organization: "*".into(),
        user: None,
        role: Some("backend".into()),
        subject: Some("billing".into()),
        lifetime: Duration::from_millis(1),
    };
    let token = minter(&settings).mint(&sender, NOW).unwrap();
    let caller = verifier.verify_now(&token).unwrap();
    assert_eq!(caller.right, Right::Send(Scope::Any));
    assert_eq!(&*caller.subject, "billing");
    assert_eq!(caller.expires_at, Timestamp::from_seconds(1001));
}

#[test]
fn private_keys_sign_what_their_public_half_verifies() {
    for (private, public) in [
        ("rsa-a.private.pem", "rsa-a.public.pem"),
        ("rsa-a.traditional.private.pem", "rsa-a.pkcs1.public.pem"),
        ("ec-a.private.pem", "ec-a.public.pem"),
        ("ed-a.private.pem", "ed-a.public.pem"),
    ] {
        let settings = AuthSettings {
            jwt_public_key_file: Some(crate::auth::test_support::fixture_path(public)),
            ..AuthSettings::default()
        };
        let rules = Rules::new(&settings).unwrap();
        let minter = Minter::from_private_key(&fixture(private), None, rules).unwrap();
        let token = minter.mint(&grant(), NOW).unwrap();
        assert!(
            verifier_of(&settings, NOW).verify_now(&token).is_ok(),
            "{private}"
        );
    }
}

#[test]
fn what_would_be_refused_is_not_minted() {
    let minter = minter(&AuthSettings {
        jwt_secret: Some(SECRET.into()),
        ..AuthSettings::default()
    });
    let refused = |grant: Grant| minter.mint(&grant, NOW).unwrap_err();
    let wildcard = Grant {
        organization: "*".into(),
        ..grant()
    };
    assert!(matches!(refused(wildcard), Error::Grant(_)));
    let nobody = Grant {
        user: None,
        ..grant()
    };
    assert!(matches!(refused(nobody), Error::Grant(_)));
    let endless = Grant {
        lifetime: Duration::MAX,
        ..grant()
    };
    assert!(matches!(refused(endless), Error::Grant(_)));
    let over = Grant {
        lifetime: Duration::ZERO,
        ..grant()
    };
    assert_eq!(refused(over), Error::Lifetime);
}

#[test]
fn a_key_that_cannot_sign_is_refused_in_words() {
    let rules = || Rules::new(&AuthSettings::default()).unwrap();
    for file in ["rsa-a.public.pem", "certificate.pem", "README"] {
        let refused = Minter::from_private_key(&fixture(file), None, rules());
        assert!(matches!(refused, Err(Error::Key(_))), "{file}");
    }
}
