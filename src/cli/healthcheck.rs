//! `doorbell healthcheck`: is the service there, and does it serve?
//!
//! For containers that have no other program to ask with. It needs no token.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};

use clap::Args;
use tonic::transport::Endpoint;
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

use super::{command::Failure, text};
use crate::{client, config};

/// Whom to ask.
#[derive(Args, Clone, Debug)]
pub struct HealthcheckArgs {
    /// The service [default: the one of this machine, as its settings have it]
    #[arg(long, env = "DOORBELL_URL", value_name = "URL")]
    pub url: Option<String>,
    /// Where the service of this machine listens
    #[arg(
        long,
        env = "DOORBELL_LISTEN",
        value_name = "ADDRESS",
        default_value = "127.0.0.1:50051"
    )]
    pub listen: SocketAddr,
    /// The certificate of the service of this machine: it is asked over TLS
    #[arg(long, env = "DOORBELL_TLS_CERT_FILE", value_name = "FILE")]
    pub tls_cert_file: Option<PathBuf>,
    /// The certificates to trust, as PEM [default: the system's]
    #[arg(long, env = "DOORBELL_CA_FILE", value_name = "FILE")]
    pub ca_file: Option<PathBuf>,
    /// The name the certificate must have [default: the URL's host]
    #[arg(long, env = "DOORBELL_SERVER_NAME", value_name = "NAME")]
    pub server_name: Option<String>,
    /// How long to wait for the answer
    #[arg(long, value_name = "DURATION", default_value = "5s")]
    pub timeout: humantime::Duration,
}

impl HealthcheckArgs {
    fn url(&self) -> String {
        if let Some(url) = &self.url {
            return url.clone();
        }
        let scheme = match self.tls_cert_file {
            Some(_) => "https",
            None => "http",
        };
        // Who listens on all addresses does so on that of loopback.
        let ip = match self.listen.ip() {
            IpAddr::V4(Ipv4Addr::UNSPECIFIED) => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(Ipv6Addr::UNSPECIFIED) => Ipv6Addr::LOCALHOST.into(),
            ip => ip,
        };
        format!("{scheme}://{}", SocketAddr::new(ip, self.listen.port()))
    }
}

/// Asks once.
///
/// # Errors
///
/// [`Failure::Failed`] unless the service says that it serves;
/// [`Failure::Refused`] when it cannot be asked for what the arguments are.
pub async fn run(args: &HealthcheckArgs) -> Result<(), Failure> {
    let url = &args.url();
    let endpoint = endpoint(url, args)?;
    let patience: Duration = args.timeout.into();
    let asked = async {
        let channel = endpoint.connect().await.map_err(|error| {
            Failure::Failed(format!("{url} is not there: {}", text::with_causes(&error)))
        })?;
        let request = HealthCheckRequest {
            service: String::new(),
        };
        let answer = HealthClient::new(channel).check(request).await;
        let answer = answer.map_err(|status| {
            Failure::Failed(format!(
                "{url} did not tell its health: {:?}: {}",
                status.code(),
                text::line(status.message())
            ))
        })?;
        Ok::<_, Failure>(answer.into_inner().status())
    };
    let answer = tokio::time::timeout(patience, asked)
        .await
        .map_err(|_| Failure::Failed(format!("{url} did not answer within {}", args.timeout)))?;
    match answer? {
        ServingStatus::Serving => Ok(()),
        status => Err(Failure::Failed(format!(
            "{url} is {}",
            status.as_str_name()
        ))),
    }
}

fn endpoint(url: &str, args: &HealthcheckArgs) -> Result<Endpoint, Failure> {
    let refused = |error: tonic::transport::Error| {
        config::Error::new(
            "url",
            format!("cannot be used: {}", text::with_causes(&error)),
        )
    };
    let endpoint = Endpoint::from_shared(url.to_owned()).map_err(refused)?;
    let is_tls = match endpoint.uri().scheme_str() {
        Some("http") => false,
        Some("https") => true,
        _ => {
            let problem = "must be an http:// or https:// URL";
            return Err(config::Error::new("url", problem).into());
        }
    };
    if !is_tls {
        return Ok(endpoint);
    }
    let untrusted = |error: &dyn std::fmt::Display| {
        let file = args.ca_file.as_deref().unwrap_or_else(|| Path::new(""));
        let problem = format!("cannot be read: {}: {error}", file.display());
        config::Error::new("ca-file", problem)
    };
    let pem = args.ca_file.as_ref().map(std::fs::read).transpose();
    let pem = pem.map_err(|error| untrusted(&error))?;
    let mut tls = client::tls(pem.as_deref()).map_err(|error| untrusted(&error))?;
    if let Some(name) = &args.server_name {
        tls = tls.domain_name(name);
    }
    Ok(endpoint.tls_config(tls).map_err(refused)?)
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use tokio::net::TcpListener;
    use tokio_stream::wrappers::TcpListenerStream;
    use tonic_health::{ServingStatus as Status, server::health_reporter};

    use super::*;

    fn args(url: &str) -> HealthcheckArgs {
        HealthcheckArgs {
            url: Some(url.to_owned()),
            listen: SocketAddr::from(([127, 0, 0, 1], 50051)),
            tls_cert_file: None,
            ca_file: None,
            server_name: None,
            timeout: Duration::from_secs(5).into(),
        }
    }

    async fn service(status: Status) -> SocketAddr {
        let (reporter, server) = health_reporter();
        reporter.set_service_status("", status).await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let served = tonic::transport::Server::builder()
            .add_service(server)
            .serve_with_incoming(TcpListenerStream::new(listener));
        tokio::spawn(served);
        address
    }

    #[tokio::test]
    async fn a_service_that_serves_is_well() {
        let address = service(Status::Serving).await;
        assert!(run(&args(&format!("http://{address}"))).await.is_ok());
    }

    #[test]
    fn without_a_url_it_is_where_the_service_of_this_machine_listens() {
        for (listen, is_tls, expected) in [
            ("127.0.0.1:50051", false, "http://127.0.0.1:50051"),
            ("0.0.0.0:7", false, "http://127.0.0.1:7"),
            ("[::]:7", true, "https://[::1]:7"),
            ("10.0.0.7:443", true, "https://10.0.0.7:443"),
        ] {
            let mut args = args("http://elsewhere");
            args.listen = listen.parse().unwrap();
            args.tls_cert_file = is_tls.then(|| "certificate.pem".into());
            assert_eq!(args.url(), "http://elsewhere");
            args.url = None;
            assert_eq!(args.url(), expected);
        }
    }

    #[tokio::test]
    async fn a_service_that_does_not_serve_is_not() {
        let address = service(Status::NotServing).await;
        let failure = run(&args(&format!("http://{address}"))).await.unwrap_err();
        assert_eq!(failure.exit_code(), 1);
        assert_eq!(
            failure.to_string(),
            format!("http://{address} is NOT_SERVING")
        );
    }

    #[tokio::test]
    async fn nobody_there_is_a_failure() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let failure = run(&args(&format!("http://{address}"))).await.unwrap_err();
        assert_eq!(failure.exit_code(), 1);
        let text = failure.to_string();
        assert!(
            text.contains("is not there") && text.contains("refused"),
            "{text}"
        );
    }

    #[tokio::test]
    async fn silence_is_a_failure() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut args = args(&format!("http://{address}"));
        args.timeout = Duration::from_millis(50).into();
        let failure = run(&args).await.unwrap_err();
        assert_eq!(failure.exit_code(), 1);
        assert!(failure.to_string().ends_with("did not answer within 50ms"));
    }

    #[tokio::test]
    async fn arguments_that_cannot_be_are_refused() {
        let failure = run(&args("ftp://127.0.0.1")).await.unwrap_err();
        assert_eq!(failure.exit_code(), 2);
        assert_eq!(
            failure.to_string(),
            "--url (DOORBELL_URL) must be an http:// or https:// URL"
        );
        let mut args = args("https://127.0.0.1:1");
        args.ca_file = Some("/nowhere/ca.pem".into());
        let failure = run(&args).await.unwrap_err();
        assert_eq!(failure.exit_code(), 2);
        let text = failure.to_string();
        assert!(
            text.starts_with("--ca-file (DOORBELL_CA_FILE) cannot be read: /nowhere/ca.pem: "),
            "{text}"
        );
    }
}
