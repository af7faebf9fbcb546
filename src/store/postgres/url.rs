//! The URL of a Postgres.
//!
//! It may hold a password anywhere: no error repeats what is not known to be harmless.
//! What the driver would ignore is refused: a parameter that is misspelled could be the
//! one that asks for TLS.

use std::str::FromStr as _;

use sqlx::postgres::PgConnectOptions;

use crate::store::Error;

/// The parameters that the driver takes.
const PARAMETERS: &[&str] = &[
    "dbname",
    "host",
    "hostaddr",
    "options",
    "password",
    "port",
    "ssl-ca",
    "ssl-cert",
    "ssl-key",
    "ssl-mode",
    "ssl-root-cert",
    "sslcert",
    "sslkey",
    "sslmode",
    "sslrootcert",
    "statement-cache-capacity",
    "user",
];
const SSL_MODES: &[&str] = &[
    "disable",
    "allow",
    "prefer",
    "require",
    "verify-ca",
    "verify-full",
];

/// Reads the URL that `variable` holds.
pub(super) fn parse(variable: &str, text: &str) -> Result<PgConnectOptions, Error> {
    let refused = |problem: String| Error::Open(format!("{variable} {problem}"));
    let no_url =
        |error: &dyn std::fmt::Display| refused(format!("is no URL of a Postgres: {error}"));
    let url = url::Url::parse(text).map_err(|error| no_url(&error))?;
    // A password that is not written with percent signs ends the host early, and would
    // be taken for a port, a database or a parameter.
    let (_, after) = text.split_once("://").unwrap_or_default();
    let host_ends = after.find(['/', '?', '#']).unwrap_or(after.len());
    if after[host_ends..].contains(['@', '#']) {
        return Err(refused(
            "has an `@` or `#` after its host: write such a character of a password, or of \
             anything else, with a percent sign (`%40`, `%23`)"
                .into(),
        ));
    }
    for (name, value) in url.query_pairs() {
        let is_option = name.starts_with("options[") && name.ends_with(']');
        if !PARAMETERS.contains(&&*name) && !is_option {
            let is_word = |c: char| c.is_ascii_alphanumeric() || "_-".contains(c);
            let name = if name.chars().all(is_word) && name.len() <= 40 {
                format!("the parameter `{name}`")
            } else {
                "a parameter".to_owned()
            };
            return Err(refused(format!(
                "has {name}, which would be ignored; there are {}",
                PARAMETERS.join(", ")
            )));
        }
        if matches!(&*name, "sslmode" | "ssl-mode") && !SSL_MODES.contains(&&*value) {
            return Err(refused(format!(
                "has an `{name}` that is none of {}",
                SSL_MODES.join(", ")
            )));
        }
    }
    PgConnectOptions::from_str(text)
        .map(|options| options.extra_float_digits(None))
        .map_err(|error| no_url(&error))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(text: &str) -> String {
        let error = parse("THE_URL", text).expect_err(text).to_string();
        assert!(error.starts_with("THE_URL "), "{error}");
        assert_eq!(error.lines().count(), 1, "{error}");
        assert!(!error.contains("hunter2"), "{error}");
        error
    }

    #[test]
    fn what_would_be_ignored_is_refused_by_its_name() {
        for (query, named) in [
            ("ssl=true", "`ssl`"),
            ("channel_binding=require", "`channel_binding`"),
            ("SSLMODE=require", "`SSLMODE`"),
            ("sslmode=Require", "`sslmode`"),
            ("sslmode=", "`sslmode`"),
            ("sslpassword=hunter2", "`sslpassword`"),
            ("application_name=mine", "`application_name`"),
            ("user=ann&hunter2!=x", "a parameter"),
        ] {
            let problem = problem(&format!("postgres://ann:hunter2@db/doorbell?{query}"));
            assert!(problem.contains(named), "{problem}");
        }
        for query in [
            "sslmode=require",
            "sslmode=verify-full&sslrootcert=/etc/ssl/db.pem",
            "user=ann&password=hunter2&port=5433&dbname=x&hostaddr=127.0.0.1",
            "options[search_path]=doorbell&options=-c%20work_mem%3D1MB",
            "",
        ] {
            let text = format!("postgres://ann:hun%40ter2@db/doorbell?{query}");
            assert!(parse("THE_URL", &text).is_ok(), "{text}");
        }
    }

    #[test]
    fn a_password_is_never_repeated_wherever_it_stands() {
        for text in [
            "postgres://ann:hunter2@db:no/x",
            "postgres://ann:1/hunter2@db/x",
            "postgres://ann:1?hunter2@db/x",
            "postgres://ann:1#hunter2@db/x",
            "postgres://ann:a@1/hunter2@db/x",
            "postgres://db/x?password=hunter2&port=hunter2",
            "postgres://db/x?password=hunter2&hostaddr=hunter2",
            "postgres://db/x?password=hunter2&statement-cache-capacity=hunter2",
            "postgres://db/x?password=hunter2&hunter2.=",
            "host=db password=hunter2",
        ] {
            problem(text);
        }
    }
}
