//! Real proxies before the real binary, with the lines that docs/proxies.md shows.

use std::{net::SocketAddr, path::Path, process::Command};

use serde_json::json;
use tempfile::TempDir;

use crate::{
    commands::doorbell,
    process::{Running, run},
    programs::{buf, grpcurl_binary, of_the_checkout},
    server::{SECRET, Server, Setup, free_port, sender_token, user_token},
    support::write,
};

/// A proxy before a server, and what its clients trust.
pub struct Proxied {
    /// It ends first.
    proxy: Running,
    _server: Server,
    pub address: SocketAddr,
    pub certificate: String,
    _directory: TempDir,
}

/// The lines of the docs for a proxy, with the addresses and files of this test.
fn lines(language: &str, server: &Server, address: SocketAddr, directory: &Path) -> String {
    let page = std::fs::read_to_string(of_the_checkout("docs/proxies.md")).unwrap();
    let (_, rest) = page.split_once(&format!("```{language}\n")).unwrap();
    let (lines, _) = rest.split_once("```").unwrap();
    let mut lines = lines.to_owned();
    for (shown, ours) in [
        ("127.0.0.1:50051", server.setup.listen.to_string()),
        ("listen 443", format!("listen {address}")),
        ("bind :443", format!("bind {address}")),
        ("/etc/ssl", directory.display().to_string()),
    ] {
        lines = lines.replace(shown, &ours);
    }
    lines
}

/// An nginx with these lines in its `http`.
pub fn nginx(directory: &TempDir, lines: &str) -> Command {
    let at = directory.path().display();
    let file = write(
        directory,
        "nginx.conf",
        &format!(
            "daemon off; master_process off; pid {at}/nginx.pid;\n\
             events {{}}\n\
             http {{ access_log off; client_body_temp_path {at}/a; proxy_temp_path {at}/b;\n\
             fastcgi_temp_path {at}/c; uwsgi_temp_path {at}/d; scgi_temp_path {at}/e;\n\
             {lines} }}"
        ),
    );
    let mut nginx = Command::new("/usr/sbin/nginx");
    nginx.args(["-e", "stderr", "-p", &at.to_string(), "-c", &file]);
    nginx
}

impl Proxied {
    fn start(command: impl FnOnce(&Server, SocketAddr, &TempDir) -> Command) -> Self {
        let server = Setup::new().with("HEARTBEAT_INTERVAL", "1s").start();
        let directory = tempfile::tempdir().unwrap();
        let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
        let (certificate, key) = (made.cert.pem(), made.signing_key.serialize_pem());
        write(&directory, "doorbell.key", &key);
        // HAProxy wants both in one file; nginx takes the certificates from it.
        write(&directory, "doorbell.pem", &format!("{certificate}{key}"));
        let certificate = write(&directory, "ca.pem", &certificate);
        let address = free_port();
        let proxy = Running::start(&mut command(&server, address, &directory));
        Self {
            proxy,
            _server: server,
            address,
            certificate,
            _directory: directory,
        }
    }

    pub fn nginx() -> Self {
        Self::start(|server, address, directory| {
            nginx(
                directory,
                &lines("nginx", server, address, directory.path()),
            )
        })
    }

    pub fn haproxy() -> Self {
        Self::start(|server, address, directory| {
            let lines = lines("haproxy", server, address, directory.path());
            let file = write(directory, "haproxy.cfg", &lines);
            let mut haproxy = Command::new("/usr/sbin/haproxy");
            haproxy.args(["-db", "-f", &file]);
            haproxy
        })
    }

    fn grpcurl(&self, token: &str, more: &[&str]) -> Command {
        let mut command = Command::new(grpcurl_binary());
        command
            .args(["-cacert", &self.certificate, "-connect-timeout", "20"])
            .args(["-import-path", "proto"])
            .args(["-proto", "doorbell/v1/notifications.proto"])
            .args(["-proto", "doorbell/v1/preferences.proto"])
            .args(["-proto", "doorbell/v1/sends.proto"])
            .args(["-H", &format!("authorization: Bearer {token}")])
            .args(&more[..more.len() - 1])
            .arg(self.address.to_string())
            .arg(format!("doorbell.v1.{}", more.last().unwrap()))
            .current_dir(of_the_checkout(""));
        command
    }

    /// Waits until it takes connections.
    pub fn wait(&self) {
        wait_until_it_listens(&self.proxy, self.address);
    }

    /// Calls, streams that arrive at once, errors with their details: by gRPC, as
    /// a page does it, and by curl.
    fn carries_all(&self) {
        self.wait();
        // Its events are seen while it is open, or these steps do not go on.
        let directory = of_the_checkout("tests/foreign/web");
        run(buf().arg("generate").current_dir(&directory)).ok();
        let ran = run(Command::new("node")
            .args(["client.js", &format!("https://{}", self.address)])
            .env("SENDER", sender_token("*"))
            .env("ALICE", user_token("acme", "alice"))
            .env("SECRET", SECRET)
            .env("NODE_EXTRA_CA_CERTS", &self.certificate)
            .current_dir(&directory));
        assert_eq!(ran.ok(), "every step was taken\n", "{}", self.proxy.err());

        let bob = user_token("acme", "bob");
        let live = Running::start(&mut self.grpcurl(&bob, &["NotificationService/Subscribe"]));
        assert!(live.messages(1)[0].get("connected").is_some());
        let hello = json!({
            "organization_id": "acme", "recipient_user_id": "bob", "type": "t", "title": "Hello",
        });
        let sender = sender_token("acme");
        run(&mut self.grpcurl(
            &sender,
            &["-d", &hello.to_string(), "NotificationService/SendInApp"],
        ))
        .ok();
        live.wait_for("a ring", |text| text.contains("\"title\": \"Hello\""));
        let refused = run(&mut self.grpcurl(
            &bob,
            &["-d", &hello.to_string(), "NotificationService/SendInApp"],
        ));
        assert!(refused.failed().contains("Code: PermissionDenied"));

        // The other services, and what asks whether it is well.
        run(&mut self.grpcurl(&bob, &["PreferenceService/GetPreferences"])).ok();
        let list = [
            "-d",
            r#"{"organization_id": "acme"}"#,
            "SendService/ListSends",
        ];
        run(&mut self.grpcurl(&sender, &list)).ok();
        run(doorbell(&["healthcheck"])
            .env("DOORBELL_URL", format!("https://{}", self.address))
            .env("DOORBELL_CA_FILE", &self.certificate))
        .ok();

        // Plain HTTP with JSON, both ways.
        let curl = |message: &str| {
            let mut curl = Command::new("curl");
            curl.args(["-q", "-sS", "--cacert", &self.certificate, "--noproxy", "*"])
                .args(["-H", &format!("authorization: Bearer {bob}")])
                .args(["-H", "content-type: application/json", "-d", message])
                .arg(format!(
                    "https://{}/doorbell.v1.NotificationService/GetRecent",
                    self.address
                ));
            run(&mut curl).json()
        };
        assert_eq!(curl("{}")["notifications"][0]["title"], "Hello");
        let refused = curl(r#"{"limit": -1}"#);
        assert_eq!(refused["code"], "invalid_argument", "{refused}");

        // A token with much in it.
        let much = format!("x-much: {}", "x".repeat(11 * 1024));
        run(&mut self.grpcurl(&bob, &["-H", &much, "NotificationService/GetUnreadCount"])).ok();
    }
}

/// Waits until something takes connections there.
pub fn wait_until_it_listens(proxy: &Running, address: SocketAddr) {
    let deadline = std::time::Instant::now() + crate::process::PATIENCE;
    while std::net::TcpStream::connect(address).is_err() {
        assert!(std::time::Instant::now() < deadline, "{}", proxy.err());
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}

#[test]
fn nginx_carries_all_with_the_lines_of_the_docs() {
    Proxied::nginx().carries_all();
}

#[test]
fn haproxy_carries_all_with_the_lines_of_the_docs() {
    Proxied::haproxy().carries_all();
}
