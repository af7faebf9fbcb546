//! `doorbell dev`: what it keeps between two starts, and what it says.
//!
//! The signing secret is made once, so that pasted tokens outlive a restart. A
//! secret that others could have read is not used.

use std::{
    fmt::Write as _,
    fs::{self, DirBuilder, OpenOptions},
    io::{self, Write as _},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _},
    path::Path,
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use secrecy::SecretString;

use crate::{
    config::{Error, dev_secret_file},
    random::Random,
};

const SECRET_BYTES: usize = 32;

/// The organization and user of the first token.
pub const ALICE: (&str, &str) = ("acme", "alice");
/// The organization and user of the second token.
pub const BOB: (&str, &str) = ("globex", "bob");
/// The role of operators, where no other is set.
pub const OPERATOR_ROLE: &str = "operator";

/// Makes the data directory, for nobody else to look into, where it is missing.
///
/// # Errors
///
/// When it cannot be made.
pub fn make_data_dir(data_dir: &Path) -> Result<(), Error> {
    let make = || {
        let missing = data_dir.ancestors().take_while(|path| !path.exists());
        let missing: Vec<_> = missing.filter(|path| *path != Path::new("")).collect();
        let mut builder = DirBuilder::new();
        builder.recursive(true).mode(0o700).create(data_dir)?;
        // A new entry is on disk once the directory that holds it is.
        missing.iter().try_for_each(|path| {
            let parent = path.parent().filter(|parent| *parent != Path::new(""));
            fs::File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
        })
    };
    make().map_err(|error: io::Error| {
        Error::new(
            "data-dir",
            format!("cannot be made: {}: {error}", data_dir.display()),
        )
    })
}

/// The secret of this data directory, made at the first call.
///
/// # Errors
///
/// When the file cannot be made or read, or when others may read it.
pub fn secret(data_dir: &Path, random: &dyn Random) -> Result<SecretString, Error> {
    let file = dev_secret_file(data_dir);
    if !fs::exists(&file).unwrap_or(true) {
        make_secret(data_dir, &file, random).map_err(|error| {
            Error::new(
                "data-dir",
                format!("takes no secret: {}: {error}", file.display()),
            )
        })?;
    }
    read_secret(data_dir)
}

/// The secret that [`secret`] made before.
///
/// # Errors
///
/// When there is none, or it cannot be read, or others may read it.
pub fn read_secret(data_dir: &Path) -> Result<SecretString, Error> {
    let file = dev_secret_file(data_dir);
    let refused = |problem: String| {
        Error::new(
            "data-dir",
            format!("has no secret to use: {}: {problem}", file.display()),
        )
    };
    let read = || -> io::Result<(String, u32)> {
        let mode = fs::metadata(&file)?.mode();
        Ok((fs::read_to_string(&file)?, mode))
    };
    let (text, mode) = read().map_err(|error| refused(error.to_string()))?;
    if mode & 0o077 != 0 {
        return Err(refused(format!(
            "others may read it (mode {:03o}); delete it, or chmod 600 it if nobody has",
            mode & 0o777
        )));
    }
    let text = text.trim_end();
    if text.len() < SECRET_BYTES {
        return Err(refused(format!(
            "it has fewer than {SECRET_BYTES} bytes; delete it for a new one"
        )));
    }
    Ok(text.into())
}

/// Puts a new secret at `file` at once, whole and durable, unless another
/// process was first: then that one's stays.
fn make_secret(data_dir: &Path, file: &Path, random: &dyn Random) -> io::Result<()> {
    let mut bytes = [0; SECRET_BYTES];
    random.fill(&mut bytes);
    let mut name = [0; 8];
    random.fill(&mut name);
    let draft = data_dir.join(format!("jwt-secret.{:016x}", u64::from_be_bytes(name)));
    let write = || -> io::Result<()> {
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&draft)?;
        writeln!(file, "{}", URL_SAFE_NO_PAD.encode(bytes))?;
        file.sync_all()
    };
    let linked = write().and_then(|()| match fs::hard_link(&draft, file) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        linked => linked,
    });
    let removed = fs::remove_file(&draft);
    linked?;
    removed?;
    fs::File::open(data_dir)?.sync_all()
}

/// What there is to say once the service listens.
#[derive(Clone, Debug)]
pub struct Welcome {
    /// Where it listens.
    pub address: SocketAddr,
    /// Where operators are served.
    pub operator_address: Option<SocketAddr>,
    /// Where its certificate is, if it speaks TLS.
    pub certificate: Option<String>,
    /// Where its data is.
    pub data_dir: String,
    /// How this program was called.
    pub program: String,
    /// A token that sends into all organizations.
    pub sender: String,
    /// The token of [`ALICE`].
    pub alice: String,
    /// The token of [`BOB`].
    pub bob: String,
    /// A token of an operator of all organizations.
    pub operator: String,
}

/// What to do next, to copy and paste.
pub fn welcome(welcome: &Welcome) -> String {
    const SERVICE: &str = "doorbell.v1.NotificationService";
    let address = within_reach(welcome.address);
    let certificate = welcome.certificate.as_deref().map(quoted);
    let own = |command: &str, token: &str, rest: &str| {
        let program = quoted(&welcome.program);
        let url = match (&certificate, address.to_string().as_str()) {
            // The default of the other commands.
            (None, "127.0.0.1:50051") => String::new(),
            (None, address) => format!(" --url http://{address}"),
            (Some(file), address) => format!(" --url https://{address} --ca-file {file}"),
        };
        format!("{program} {command}{url} --token \"${token}\"{rest}")
    };
    let grpcurl = |call: &str, token: &str, message: &str| {
        let message = match message {
            "" => String::new(),
            message => format!(" -d {message}"),
        };
        let way = match &certificate {
            None => "-plaintext".to_owned(),
            Some(file) => format!("-cacert {file}"),
        };
        format!(
            "grpcurl {way} -H \"authorization: Bearer ${token}\"{message} \
             {address} {SERVICE}/{call}"
        )
    };
    let curl = |call: &str, token: &str, message: &str| {
        let (way, scheme) = match &certificate {
            None => (String::new(), "http"),
            Some(file) => (format!("--cacert {file} "), "https"),
        };
        format!(
            "curl {way}-H \"authorization: Bearer ${token}\" \
             -H 'content-type: application/json' -d {message} \
             {scheme}://{address}/{SERVICE}/{call}"
        )
    };
    let (organization, user) = ALICE;
    let send = format!(
        "'{{\"organization_id\": \"{organization}\", \"recipient_user_id\": \"{user}\", \
         \"type\": \"greeting\", \"title\": \"Hello\"}}'"
    );
    let own_send =
        format!(" --organization {organization} --user {user} --type greeting --title Hello");
    // Not from grpcurl: who has only this program reads too.
    let own_newest = format!(
        "$({} | grep -o '\"id\":\"[^\"]*' | cut -d'\"' -f4)",
        own("recent", "ALICE", " --limit 1 --json")
    );
    let first_id = format!(
        "ID=$({} | grep -m1 '\"id\"' | cut -d'\"' -f4)",
        grpcurl("GetRecent", "ALICE", "'{\"limit\": 1}'")
    );
    let epoch = format!(
        "EPOCH=$({} | grep -m1 '\"epoch\"' | cut -d'\"' -f4)",
        grpcurl("GetRecent", "ALICE", "'{\"limit\": 1}'")
    );
    let look = "'{\"through_sequence\": 1, \"epoch\": \"'$EPOCH'\"}'";
    let steps = [
        (
            "Watch Alice's inbox; it stays open:".to_owned(),
            vec![grpcurl("Subscribe", "ALICE", ""), own("watch", "ALICE", "")],
        ),
        (
            "In another terminal, with the tokens pasted there too, ring it:".to_owned(),
            vec![
                curl("SendInApp", "SENDER", &send),
                own("send", "SENDER", &own_send),
            ],
        ),
        (
            "How many are unread:".to_owned(),
            vec![
                grpcurl("GetUnreadCount", "ALICE", ""),
                own("count", "ALICE", ""),
            ],
        ),
        (
            "The newest:".to_owned(),
            vec![
                grpcurl("GetRecent", "ALICE", "'{\"limit\": 10}'"),
                own("recent", "ALICE", ""),
            ],
        ),
        (
            "Mark the newest as read, and see it in the first terminal:".to_owned(),
            vec![
                first_id,
                grpcurl("MarkRead", "ALICE", "'{\"notification_ids\": [\"'$ID'\"]}'"),
                own("read", "ALICE", &format!(" {own_newest}")),
            ],
        ),
        (
            "Say that Alice has looked at the first, then at all:".to_owned(),
            vec![
                epoch,
                grpcurl("MarkSeen", "ALICE", look),
                own("seen", "ALICE", ""),
            ],
        ),
        (
            "Bob is of another organization and sees nothing of it:".to_owned(),
            vec![grpcurl("GetRecent", "BOB", ""), own("recent", "BOB", "")],
        ),
    ];

    let mut text = String::new();
    // Writing into a String does not fail.
    let _ = writeln!(
        text,
        "\nDoorbell listens on {address}: gRPC, gRPC-web and Connect, for development.\n\
         Its data is in {}.\n\n\
         See it live, with two bells:\n\n  {}\n\n{}\
         Tokens for a week: a sender, {user} of {organization}, {} of {}, an operator.\n\n  \
         SENDER='{}'\n  ALICE='{}'\n  BOB='{}'\n  OPERATOR='{}'",
        welcome.data_dir,
        live_page(welcome, address),
        operator_page(welcome),
        BOB.1,
        BOB.0,
        welcome.sender,
        welcome.alice,
        welcome.bob,
        welcome.operator
    );
    for (title, lines) in steps {
        let _ = writeln!(text, "\n{title}\n\n  {}", lines.join("\n  "));
    }
    text
}

/// Where it is reached from this machine.
fn within_reach(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        address.set_ip(IpAddr::V4(Ipv4Addr::LOCALHOST));
    }
    address
}

fn scheme(welcome: &Welcome) -> &'static str {
    match welcome.certificate {
        None => "http",
        Some(_) => "https",
    }
}

/// Where the operators' page is. Its token is for pasting: a link would be in the history.
fn operator_page(welcome: &Welcome) -> String {
    let Some(address) = welcome.operator_address.map(within_reach) else {
        return String::new();
    };
    let scheme = scheme(welcome);
    format!(
        "Look into it as its operator, with the token OPERATOR below:\n\n  \
         {scheme}://{address}/operator\n\n"
    )
}

/// The link to the live page, with the tokens in the fragment: a browser sends that
/// to nobody.
fn live_page(welcome: &Welcome, address: SocketAddr) -> String {
    let scheme = scheme(welcome);
    format!(
        "{scheme}://{address}/#sender={}&{}={}&{}-organization={}&{}={}&{}-organization={}",
        welcome.sender, ALICE.1, welcome.alice, ALICE.1, ALICE.0, BOB.1, welcome.bob, BOB.1, BOB.0
    )
}

/// A word as the shell needs it.
fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-+".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use std::{os::unix::fs::PermissionsExt as _, sync::Arc};

    use secrecy::ExposeSecret as _;

    use super::*;
    use crate::random::SeededRandom;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o777
    }

    #[test]
    fn the_secret_is_made_once_and_for_nobody_else() {
        let parent = tempfile::tempdir().unwrap();
        let data_dir = parent.path().join("a/b");
        make_data_dir(&data_dir).unwrap();
        make_data_dir(&data_dir).unwrap();
        assert_eq!(mode(&data_dir), 0o700);
        assert!(read_secret(&data_dir).is_err());

        let random = SeededRandom::new(1);
        let first = secret(&data_dir, &random).unwrap();
        assert_eq!(mode(&dev_secret_file(&data_dir)), 0o600);
        let bytes = URL_SAFE_NO_PAD.decode(first.expose_secret()).unwrap();
        assert_eq!(bytes.len(), 32);
        let second = secret(&data_dir, &random).unwrap();
        assert_eq!(first.expose_secret(), second.expose_secret());
        let third = read_secret(&data_dir).unwrap();
        assert_eq!(first.expose_secret(), third.expose_secret());
        // No draft is left.
        assert_eq!(fs::read_dir(&data_dir).unwrap().count(), 1);
    }

    #[test]
    fn of_many_first_starts_one_makes_the_secret() {
        let dir = tempfile::tempdir().unwrap();
        let random = Arc::new(SeededRandom::new(2));
        let secrets: Vec<_> = (0..8)
            .map(|_| {
                let (dir, random) = (dir.path().to_owned(), Arc::clone(&random));
                std::thread::spawn(move || secret(&dir, &*random).unwrap())
            })
            .collect::<Vec<_>>()
            .into_iter()
            .map(|started| started.join().unwrap().expose_secret().to_owned())
            .collect();
        assert!(secrets.iter().all(|secret| *secret == secrets[0]));
    }

    #[test]
    fn a_secret_that_others_may_read_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        secret(dir.path(), &SeededRandom::new(3)).unwrap();
        let file = dev_secret_file(dir.path());
        for (mode, refused) in [(0o640, true), (0o604, true), (0o400, false)] {
            fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
            let read = secret(dir.path(), &SeededRandom::new(3));
            assert_eq!(read.is_err(), refused, "{mode:o}");
            if let Err(error) = read {
                let text = error.to_string();
                assert!(
                    text.starts_with("--data-dir (DOORBELL_DATA_DIR) "),
                    "{text}"
                );
                assert!(text.contains(&format!("mode {mode:o}")), "{text}");
                assert!(text.contains("chmod 600"), "{text}");
            }
        }
    }

    #[test]
    fn a_secret_that_was_cut_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        secret(dir.path(), &SeededRandom::new(4)).unwrap();
        let file = dev_secret_file(dir.path());
        for (length, refused) in [(31, true), (32, false)] {
            fs::write(&file, format!("{}\n", "x".repeat(length))).unwrap();
            assert_eq!(read_secret(dir.path()).is_err(), refused, "{length}");
        }
    }

    #[test]
    fn a_data_directory_that_cannot_be_is_refused_in_one_line() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, "").unwrap();
        for refused in [
            make_data_dir(&file.join("below")).unwrap_err(),
            secret(&dir.path().join("missing"), &SeededRandom::new(5)).unwrap_err(),
        ] {
            let text = refused.to_string();
            assert!(
                text.starts_with("--data-dir (DOORBELL_DATA_DIR) "),
                "{text}"
            );
            assert_eq!(text.lines().count(), 1);
        }
    }

    fn example() -> Welcome {
        Welcome {
            address: "127.0.0.1:50051".parse().unwrap(),
            operator_address: Some("127.0.0.1:50052".parse().unwrap()),
            certificate: None,
            data_dir: "doorbell-data".to_owned(),
            program: "target/release/doorbell".to_owned(),
            sender: "s.s.s".to_owned(),
            alice: "a.a.a".to_owned(),
            bob: "b.b.b".to_owned(),
            operator: "o.o.o".to_owned(),
        }
    }

    #[test]
    fn the_welcome_has_each_call_of_the_tour_twice() {
        let text = welcome(&example());
        for line in [
            "SENDER='s.s.s'",
            "ALICE='a.a.a'",
            "BOB='b.b.b'",
            "OPERATOR='o.o.o'",
            "http://127.0.0.1:50052/operator",
            "grpcurl -plaintext -H \"authorization: Bearer $ALICE\" 127.0.0.1:50051 \
             doorbell.v1.NotificationService/Subscribe",
            "target/release/doorbell watch --token \"$ALICE\"",
            "curl -H \"authorization: Bearer $SENDER\" -H 'content-type: application/json' -d \
             '{\"organization_id\": \"acme\", \"recipient_user_id\": \"alice\", \
             \"type\": \"greeting\", \"title\": \"Hello\"}' \
             http://127.0.0.1:50051/doorbell.v1.NotificationService/SendInApp",
            "target/release/doorbell send --token \"$SENDER\" --organization acme \
             --user alice --type greeting --title Hello",
            "target/release/doorbell count --token \"$ALICE\"",
            "target/release/doorbell recent --token \"$ALICE\"",
            "target/release/doorbell read --token \"$ALICE\" \
             $(target/release/doorbell recent --token \"$ALICE\" --limit 1 --json \
             | grep -o '\"id\":\"[^\"]*' | cut -d'\"' -f4)",
        ] {
            assert!(
                text.lines().any(|found| found == format!("  {line}")),
                "missing: {line}\n{text}"
            );
        }
        // The tour: more of them would hide the first ones.
        for call in [
            "Subscribe",
            "SendInApp",
            "GetUnreadCount",
            "GetRecent",
            "MarkRead",
            "MarkSeen",
        ] {
            let path = format!("doorbell.v1.NotificationService/{call}");
            assert!(text.contains(&path), "{path} is missing");
        }
        // Each token stands in the link and in the variable, which all lines use.
        assert_eq!(text.matches("a.a.a").count(), 2);
        // An operator's, in no link.
        assert_eq!(text.matches("o.o.o").count(), 1);
        assert!(text.contains("/#sender="), "{text}");
    }

    #[test]
    fn the_welcome_fits_another_address_and_program() {
        let text = welcome(&Welcome {
            address: "0.0.0.0:6000".parse().unwrap(),
            program: "/opt/my tools/doorbell".to_owned(),
            ..example()
        });
        assert!(text.contains("'/opt/my tools/doorbell' watch --url http://127.0.0.1:6000 "));
        assert!(text.contains(" 127.0.0.1:6000 doorbell.v1.NotificationService/GetRecent"));
        assert!(!text.contains("0.0.0.0"));
    }

    #[test]
    fn with_a_certificate_the_lines_speak_tls() {
        let text = welcome(&Welcome {
            certificate: Some("my cert.pem".to_owned()),
            ..example()
        });
        assert!(!text.contains("http://") && !text.contains("-plaintext"));
        assert!(text.contains("https://127.0.0.1:50051/#sender="));
        assert!(text.contains("https://127.0.0.1:50052/operator\n"));
        assert!(text.contains("grpcurl -cacert 'my cert.pem' -H "));
        assert!(text.contains("curl --cacert 'my cert.pem' -H "));
        assert!(
            text.contains(" https://127.0.0.1:50051/doorbell.v1.NotificationService/SendInApp")
        );
        assert!(text.contains(" watch --url https://127.0.0.1:50051 --ca-file 'my cert.pem' "));
    }

    #[test]
    fn words_are_quoted_for_the_shell() {
        assert_eq!(quoted("target/debug/doorbell"), "target/debug/doorbell");
        assert_eq!(quoted("a'b"), r"'a'\''b'");
        assert_eq!(quoted(""), "''");
    }
}
