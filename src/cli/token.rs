//! `doorbell token`: makes a token for given claims and lifetime.

use std::{
    io::Write as _,
    path::{Path, PathBuf},
    time::Duration,
};

use clap::Args;

use super::{command::Failure, dev};
use crate::{
    auth::{
        Rules, Secret,
        mint::{Grant, Minter},
    },
    clock::{Clock as _, SystemClock},
    config::{AuthSettings, StoreSettings},
};

/// Claims and lifetime of a token.
#[derive(Args, Clone, Debug)]
pub struct TokenArgs {
    /// The organization; `*` for a sender into all of them
    #[arg(
        long,
        value_name = "ORGANIZATION",
        required_unless_present = "single_organization"
    )]
    pub organization: Option<String>,
    /// The user
    #[arg(long, value_name = "USER", required_unless_present = "role")]
    pub user: Option<String>,
    /// The role; `service` may send, and that of operators look and erase
    #[arg(long, value_name = "ROLE")]
    pub role: Option<String>,
    /// The subject (`sub`), in place of the user; a sender's token has none unless it is given
    #[arg(long, value_name = "SUBJECT")]
    pub subject: Option<String>,
    /// How long the token is valid
    #[arg(long, value_name = "DURATION", default_value = "1h", value_parser = lifetime)]
    pub lifetime: humantime::Duration,
    /// Where `doorbell dev` keeps the secret to sign with, if no other is given
    #[arg(long, default_value_os_t = StoreSettings::default().data_dir)]
    pub data_dir: PathBuf,
    /// The private key to sign with in place of a secret, as PEM: RSA, P-256 or Ed25519
    #[arg(long, value_name = "FILE", conflicts_with_all = ["jwt_secret", "jwt_secret_file"])]
    pub private_key_file: Option<PathBuf>,
    /// The id of that key in the JWKS (`kid`)
    #[arg(long, value_name = "ID", requires = "private_key_file")]
    pub key_id: Option<String>,
    /// What signs it, and what its claims are called.
    #[command(flatten, next_help_heading = "Tokens")]
    pub auth: AuthSettings,
}

/// Prints a token, signed with the private key or the secret that is given, else with
/// that of `dev`.
pub fn run(mut args: TokenArgs) -> Result<(), Failure> {
    let minter = match &args.private_key_file {
        Some(file) => by_private_key(file, args.key_id.take(), &args.auth)?,
        None => {
            if args.auth.jwt_secret.is_none() && args.auth.jwt_secret_file.is_none() {
                let secret = dev::read_secret(&args.data_dir).map_err(|error| {
                    Failure::Refused(format!(
                        "{error}; to sign with another, give --jwt-secret-file or \
                         --private-key-file"
                    ))
                })?;
                args.auth.jwt_secret = Some(secret);
                let operator = || dev::OPERATOR_ROLE.to_owned();
                args.auth.operator_role.get_or_insert_with(operator);
            }
            minter(&args.auth)?
        }
    };
    let organization = args.organization.or(args.auth.single_organization);
    let grant = Grant {
        organization: organization.unwrap_or_default(),
        user: args.user,
        role: args.role,
        subject: args.subject,
        lifetime: args.lifetime.into(),
    };
    let token = minter
        .mint(&grant, SystemClock.now())
        .map_err(|error| Failure::Refused(error.to_string()))?;
    writeln!(std::io::stdout(), "{token}")
        .map_err(|error| Failure::Failed(format!("cannot write the output: {error}")))
}

fn refused(error: impl std::fmt::Display) -> Failure {
    Failure::Refused(error.to_string())
}

/// What signs with the secret of these settings.
pub(super) fn minter(auth: &AuthSettings) -> Result<Minter, Failure> {
    let secret = Secret::load(auth).map_err(refused)?;
    let secret = secret.ok_or_else(|| refused("there is no secret to sign tokens with"))?;
    Ok(Minter::from_secret(
        &secret,
        Rules::new(auth).map_err(refused)?,
    ))
}

/// What signs with the private key in `file`.
fn by_private_key(
    file: &Path,
    key_id: Option<String>,
    auth: &AuthSettings,
) -> Result<Minter, Failure> {
    let named = |problem: &dyn std::fmt::Display| {
        refused(format!("--private-key-file {}: {problem}", file.display()))
    };
    let pem = std::fs::read(file).map_err(|error| named(&error))?;
    let rules = Rules::new(auth).map_err(refused)?;
    Minter::from_private_key(&pem, key_id, rules).map_err(|error| named(&error))
}

fn lifetime(text: &str) -> Result<humantime::Duration, String> {
    const SECOND: Duration = Duration::from_secs(1);
    const TEN_YEARS: Duration = Duration::from_secs(10 * 366 * 24 * 3600);
    let lifetime: humantime::Duration = text
        .parse()
        .map_err(|error: humantime::DurationError| error.to_string())?;
    if (SECOND..=TEN_YEARS).contains(&*lifetime) {
        Ok(lifetime)
    } else {
        Err("must be from 1s to ten years".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lifetime_has_two_ends() {
        for (text, accepted) in [
            ("1s", true),
            ("999ms", false),
            ("24h", true),
            ("3660days", true),
            ("3660days 1s", false),
            ("forever", false),
        ] {
            assert_eq!(lifetime(text).is_ok(), accepted, "{text}");
        }
    }
}
