//! NATS: whether its servers are there, let this node in, and pass on what it publishes.

use super::Finding;
use crate::{
    bus::nats::inspection::{self, Found, Server},
    config::Config,
    random::Random,
};

const ABOUT: &str = "nats";
/// What one transaction says of one inbox may be as large; it is the default of NATS.
const USUAL_PAYLOAD_BYTES: usize = 1 << 20;

/// Looks at the servers that the settings name.
pub(super) async fn examine(config: &Config, random: &dyn Random) -> Vec<Finding> {
    if config.bus.nats_url.is_none() {
        return Vec::new();
    }
    match inspection::inspect(&config.bus, random).await {
        Ok(servers) => judge(&servers, config),
        Err(error) => vec![Finding::fault(
            ABOUT,
            error.to_string(),
            "`doorbell serve` refuses to start: change the setting",
        )],
    }
}

fn judge(servers: &[Server], config: &Config) -> Vec<Finding> {
    let is_there = |server: &&Server| server.found.is_ok();
    let there = servers.iter().filter(is_there).count();
    let first = servers
        .iter()
        .find(is_there)
        .map(|server| server.address.clone());
    let mut findings = Vec::new();
    for server in servers {
        match &server.found {
            Err(problem) => findings.push(away(server, problem, there > 0)),
            Ok(found) => findings.extend(of_server(
                server,
                found,
                config,
                first.as_deref().unwrap_or_default(),
            )),
        }
    }
    findings
}

/// One that is not to be had: events still go by another, where there is one.
fn away(server: &Server, problem: &str, has_another: bool) -> Finding {
    let says = format!("{} is not to be had: {problem}", server.address);
    let is_refused = ["authorization", "nonce", "Authorization"]
        .iter()
        .any(|word| problem.contains(word));
    let advice = if is_refused {
        "look at the user and the password in DOORBELL_NATS_URL, or at DOORBELL_NATS_CREDS_FILE"
    } else {
        "is it running, and is DOORBELL_NATS_URL right? TLS wants tls:// and a certificate that \
         DOORBELL_NATS_CA_FILE or the system trusts"
    };
    if has_another {
        Finding::warning(ABOUT, says, advice)
    } else {
        Finding::fault(ABOUT, says, advice)
    }
}

fn of_server(server: &Server, found: &Found, config: &Config, first: &str) -> Vec<Finding> {
    let address = &server.address;
    let Found {
        version,
        max_payload_bytes,
        ..
    } = found;
    let prefix = &config.bus.nats_prefix;
    let mut findings = Vec::new();
    match &found.mute {
        None => findings.push(Finding::ok(
            ABOUT,
            format!("{address} ({version}) passes on what is published"),
        )),
        Some(complaint) => {
            let complaint = match complaint.as_str() {
                "" => String::new(),
                complaint => format!(": {complaint}"),
            };
            findings.push(Finding::fault(
                ABOUT,
                format!("{address} does not pass on what is published{complaint}"),
                format!("let this user publish and subscribe on {prefix}.organization.*"),
            ));
        }
    }
    if found.mute.is_none() && !found.reaches_first {
        findings.push(Finding::fault(
            ABOUT,
            format!("what {address} is given does not come out of {first}"),
            "servers of one DOORBELL_NATS_URL must be one cluster: nodes would not hear one \
             another",
        ));
    }
    let least = config.content.max_request_bytes.saturating_mul(2);
    let says = format!("{address} takes messages of {max_payload_bytes} bytes (max_payload)");
    let advice =
        format!("raise max_payload to {USUAL_PAYLOAD_BYTES}, which is the default of NATS");
    if *max_payload_bytes < least {
        findings.push(Finding::fault(ABOUT, says, advice));
    } else if *max_payload_bytes < USUAL_PAYLOAD_BYTES {
        findings.push(Finding::warning(ABOUT, says, advice));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::{super::Level, *};

    fn server(found: Result<Found, String>) -> Server {
        Server {
            address: "nats:4222".into(),
            found,
        }
    }

    fn found() -> Found {
        Found {
            version: "2.10".into(),
            max_payload_bytes: 1 << 20,
            mute: None,
            reaches_first: true,
        }
    }

    fn worst(servers: &[Server]) -> Level {
        let findings = judge(servers, &Config::default());
        findings.iter().map(|finding| finding.level).max().unwrap()
    }

    #[test]
    fn a_server_that_is_away_is_a_fault_where_there_is_no_other() {
        let away = || server(Err("IO error".into()));
        assert_eq!(worst(&[server(Ok(found()))]), Level::Ok);
        assert_eq!(worst(&[away()]), Level::Fault);
        assert_eq!(worst(&[away(), server(Ok(found()))]), Level::Warning);
    }

    #[test]
    fn servers_that_do_not_know_one_another_are_a_fault() {
        let mut other = found();
        other.reaches_first = false;
        assert_eq!(
            worst(&[server(Ok(found())), server(Ok(other))]),
            Level::Fault
        );
    }

    #[test]
    fn a_server_takes_what_a_request_can_hold_and_better_what_a_transaction_can() {
        for (bytes, level) in [
            ((64 << 10) - 1, Level::Fault),
            (64 << 10, Level::Warning),
            ((1 << 20) - 1, Level::Warning),
            (1 << 20, Level::Ok),
        ] {
            let mut found = found();
            found.max_payload_bytes = bytes;
            assert_eq!(worst(&[server(Ok(found))]), level, "{bytes}");
        }
    }
}
