//! Certificates: whether they can serve, and for how long.

use std::{os::unix::fs::MetadataExt as _, path::Path, time::Duration};

use super::Finding;
use crate::{
    clock::{Clock, Timestamp},
    config::ServerSettings,
    server::tls,
};

const ABOUT: &str = "tls";
/// What renews a certificate by itself has done so by then.
const SOON: Duration = Duration::from_secs(14 * 24 * 60 * 60);

/// Looks at the certificate and the key of the port, where it speaks TLS.
pub(super) fn examine(settings: &ServerSettings, clock: &dyn Clock) -> Vec<Finding> {
    let (Some(certificate), Some(key)) = (&settings.tls_cert_file, &settings.tls_key_file) else {
        return Vec::new();
    };
    if let Err(error) = tls::Acceptor::load(certificate, key) {
        let advice = "`doorbell serve` refuses to start: give it the chain and its key, as PEM";
        return vec![Finding::fault(ABOUT, error.to_string(), advice)];
    }
    let expiry = match tls::expires_at(certificate) {
        Ok(seconds) => expiry(&certificate.display().to_string(), seconds, clock),
        Err(error) => Finding::warning(ABOUT, error.to_string(), "look at it with openssl x509"),
    };
    [Some(expiry), open_to_others(ABOUT, key)]
        .into_iter()
        .flatten()
        .collect()
}

/// How long the certificate of `whose` is still valid that ends at these seconds since the
/// Unix epoch.
pub(super) fn expiry(whose: &str, end_seconds: u64, clock: &dyn Clock) -> Finding {
    let end = Timestamp::from_seconds(i64::try_from(end_seconds).unwrap_or(i64::MAX));
    let left = end.since(clock.now());
    let says = format!("the certificate of {whose} is valid until {}", day(end));
    if left.is_zero() {
        let says = format!("the certificate of {whose} has ended on {}", day(end));
        Finding::fault(ABOUT, says, "renew it: no client connects")
    } else if left < SOON {
        Finding::warning(ABOUT, says, "renew it: what should have done so has not")
    } else {
        Finding::ok(ABOUT, says)
    }
}

fn day(moment: Timestamp) -> String {
    let text = moment.to_string();
    text.split('T').next().unwrap_or_default().to_owned()
}

/// A finding where a file with something secret can be read by others.
pub(super) fn open_to_others(about: &'static str, file: &Path) -> Option<Finding> {
    let mode = std::fs::metadata(file).ok()?.mode() & 0o777;
    let shown = file.display();
    (mode & 0o007 != 0).then(|| {
        let says = format!("{shown} is open to everybody (mode {mode:o})");
        Finding::warning(about, says, format!("chmod o-rwx {shown}"))
    })
}

#[cfg(test)]
mod tests {
    use super::{
        super::{Level, tests::At},
        *,
    };

    #[test]
    fn a_certificate_is_renewed_before_it_ends() {
        const DAY: i64 = 24 * 60 * 60;
        let end = 100 * DAY;
        for (now, level) in [
            (0, Level::Ok),
            (end - 14 * DAY, Level::Ok),
            (end - 14 * DAY + 1, Level::Warning),
            (end - 1, Level::Warning),
            (end, Level::Fault),
            (end + DAY, Level::Fault),
        ] {
            let found = expiry("it", u64::try_from(end).unwrap(), &At(now));
            assert_eq!(found.level, level, "{now}: {found:?}");
        }
    }

    #[test]
    fn the_end_of_a_certificate_is_read_from_its_file() {
        let directory = tempfile::tempdir().unwrap();
        let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
        let file = directory.path().join("certificate.pem");
        std::fs::write(&file, made.cert.pem()).unwrap();
        // What rcgen gives where nothing is said: the first day of 4096.
        assert_eq!(tls::expires_at(&file).unwrap(), 67_090_118_400);
        std::fs::write(&file, "nothing").unwrap();
        let error = tls::expires_at(&file).unwrap_err().to_string();
        assert!(error.contains("holds no certificate"), "{error}");
    }
}
