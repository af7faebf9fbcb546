//! The database: whether a node could work on it, and what would hurt later.

use std::path::Path;

use super::{Finding, clocks};
use crate::{
    clock::Clock,
    config::Config,
    store::{
        self, Inspection,
        inspection::{File, Postgres, Schema, Sqlite},
    },
};

const ABOUT: &str = "database";
/// With less than this SQLite and its log run full soon.
const LITTLE_BYTES: u64 = 1 << 30;
/// With less than this a node does not get far.
const TOO_LITTLE_BYTES: u64 = 64 << 20;

/// File systems whose locks and syncs do not hold, as `statfs` numbers them.
const REMOTE: &[(u64, &str)] = &[
    (0x6969, "NFS"),
    (0x517b, "SMB"),
    (0xff53_4d42, "CIFS"),
    (0xfe53_4d42, "SMB"),
    (0x0102_1997, "9p"),
    (0x00c3_6400, "Ceph"),
    (0x5346_414f, "AFS"),
    (0x6573_5546, "FUSE"),
];
/// Those that end with the machine or with a container.
const PASSING: &[(u64, &str)] = &[(0x0102_1994, "tmpfs"), (0x794c_7630, "overlay")];

/// Looks at the database that the settings name.
pub(super) async fn examine(config: &Config, clock: &dyn Clock) -> Vec<Finding> {
    match store::inspect(&config.store, clock).await {
        Err(error) => vec![Finding::fault(
            ABOUT,
            error.to_string(),
            advice(&error.to_string()),
        )],
        Ok(Inspection::Sqlite(found)) => sqlite(&found),
        Ok(Inspection::Postgres(found)) => postgres(&found, config),
    }
}

/// What to do about a database that cannot be reached.
fn advice(problem: &str) -> &'static str {
    let has = |words: &[&str]| words.iter().any(|word| problem.contains(word));
    if has(&["password", "authentication", "pg_hba.conf", "role \""]) {
        "look at the user and the password in DOORBELL_DATABASE_URL, with percent signs for \
         special characters, and at pg_hba.conf"
    } else if has(&["does not exist"]) {
        "make the database, or look at its name in DOORBELL_DATABASE_URL"
    } else if has(&["TLS", "tls", "certificate"]) {
        "look at sslmode and sslrootcert in DOORBELL_DATABASE_URL"
    } else if has(&[
        "refused",
        "within",
        "lookup",
        "resolve",
        "timed out",
        "os error",
    ]) {
        "is it running, and are host and port in DOORBELL_DATABASE_URL right? A firewall?"
    } else {
        "look at DOORBELL_DATABASE_URL; docs/operations.md says what it may be"
    }
}

fn schema(found: &Schema) -> Finding {
    let Schema {
        made,
        known,
        problem,
    } = found;
    match problem {
        Some(problem) => Finding::fault(
            ABOUT,
            format!("its schema cannot be used: {problem}"),
            "use the newer doorbell that made it, or restore a backup",
        ),
        None if *made == 0 => Finding::ok(ABOUT, "it is empty: the first start makes the schema"),
        None if made < known => Finding::warning(
            ABOUT,
            format!("its schema is older (migration {made} of {known})"),
            "the next start of this version migrates it: back up first; see the changelog",
        ),
        None if made > known => Finding::ok(
            ABOUT,
            format!("its schema is newer (migration {made}, known are {known}) and can be used"),
        ),
        None => Finding::ok(
            ABOUT,
            format!("its schema is up to date (migration {made})"),
        ),
    }
}

fn sqlite(found: &Sqlite) -> Vec<Finding> {
    let path = found.path.display();
    let mut findings = Vec::new();
    match &found.file {
        Some(file) => findings.extend(file_of(&found.path, file)),
        None => {
            let place = if found.has_directory {
                format!("SQLite at {path}, which is not there yet")
            } else {
                format!("SQLite at {path}, whose directory is not there yet")
            };
            findings.push(Finding::ok(
                ABOUT,
                format!("{place}: the first start makes it"),
            ));
        }
    }
    if !found.may_make {
        findings.push(Finding::fault(
            ABOUT,
            format!(
                "this user may make no files in {}",
                found.directory.display()
            ),
            "SQLite keeps its log and a lock there: give the directory to the user of the service",
        ));
    }
    let named = |list: &[(u64, &'static str)]| {
        let found = list.iter().find(|(number, _)| *number == found.file_system);
        found.map(|(_, name)| *name)
    };
    if let Some(name) = named(REMOTE) {
        findings.push(Finding::fault(
            ABOUT,
            format!(
                "{} is on {name}, where locks and syncs may not hold",
                found.directory.display()
            ),
            "put DOORBELL_DATA_DIR on a local disk, or use Postgres",
        ));
    }
    if let Some(name) = named(PASSING) {
        findings.push(Finding::warning(
            ABOUT,
            format!(
                "{} is on {name}, which ends with the machine or the container",
                found.directory.display()
            ),
            "put DOORBELL_DATA_DIR on a disk, or on a volume",
        ));
    }
    findings.push(disk(found.free_bytes));
    findings
}

fn file_of(path: &Path, file: &File) -> Vec<Finding> {
    let shown = path.display();
    let mut findings = Vec::new();
    match &file.schema {
        Ok(found) => {
            let mib = file.bytes.div_ceil(1 << 20);
            findings.push(Finding::ok(ABOUT, format!("SQLite at {shown}, {mib} MiB")));
            findings.push(schema(found));
        }
        Err(problem) => findings.push(Finding::fault(
            ABOUT,
            format!("SQLite at {shown} cannot be read: {problem}"),
            "run this as the user of the service; where it is damaged, restore a backup",
        )),
    }
    if !file.may_write {
        findings.push(Finding::fault(
            ABOUT,
            format!(
                "this user may not write {shown}, which is that of uid {}",
                file.owner
            ),
            "run this and the service as that user, or give the file to the service's",
        ));
    }
    if file.mode & 0o077 != 0 {
        findings.push(Finding::warning(
            ABOUT,
            format!("{shown} is open to others (mode {:o})", file.mode),
            format!("chmod 600 {shown}"),
        ));
    }
    findings
}

fn disk(free_bytes: u64) -> Finding {
    let mib = free_bytes >> 20;
    let says = format!("{mib} MiB of the disk are free");
    if free_bytes < TOO_LITTLE_BYTES {
        Finding::fault(ABOUT, says, "make room: sends are about to fail")
    } else if free_bytes < LITTLE_BYTES {
        Finding::warning(ABOUT, says, "make room: a full disk fails every send")
    } else {
        Finding::ok(ABOUT, says)
    }
}

fn postgres(found: &Postgres, config: &Config) -> Vec<Finding> {
    let Postgres {
        place,
        version,
        is_tls,
        ..
    } = found;
    let way = if *is_tls { "by TLS" } else { "in the clear" };
    let mut findings = vec![Finding::ok(
        ABOUT,
        format!("Postgres {version} at {place}, {way}"),
    )];
    if let Some(problem) = &found.refusal {
        findings.push(Finding::fault(
            ABOUT,
            format!("it cannot be used: {problem}"),
            "change the server, or take another: `doorbell serve` refuses this one",
        ));
    }
    match &found.lanes_refusal {
        Some(problem) => findings.push(Finding::fault(
            ABOUT,
            format!("no connection for the service can be had: {problem}"),
            "look at DOORBELL_DATABASE_URL, and where it leads to a pooler at \
             DOORBELL_DATABASE_POOLER and DOORBELL_DATABASE_DIRECT_URL",
        )),
        // Said above why not.
        None if found.refusal.is_some() => {}
        None if config.store.database_pooler => findings.push(Finding::ok(
            ABOUT,
            "the pooler takes connections; each transaction asks for synchronous_commit",
        )),
        None => findings.push(Finding::ok(
            ABOUT,
            "fsync and synchronous_commit are on: what is acknowledged is kept",
        )),
    }
    findings.push(schema(&found.schema));
    let is_to_migrate = found.schema.made < found.schema.known;
    if is_to_migrate && !found.may_create {
        findings.push(Finding::fault(
            ABOUT,
            "the schema is to be made or migrated, and the user may create nothing",
            "GRANT CREATE ON SCHEMA public TO the user",
        ));
    }
    findings.push(connections(found, config));
    findings.extend(nodes(found, config.bus.nats_url.is_some()));
    findings.push(clocks::judge(
        "the database",
        found.ahead_micros,
        found.uncertain,
    ));
    findings
}

/// Whether there is room for the connections of a node.
fn connections(found: &Postgres, config: &Config) -> Finding {
    let store = &config.store;
    // One more at the start, for the migrations.
    let needed = i64::try_from(store.database_readers + store.database_writers + 1);
    let needed = needed.unwrap_or(i64::MAX);
    let most = found.most_connections;
    let free = most - found.connections;
    let says = format!(
        "a node needs {needed} connections; there may be {most}, and {free} of them are free"
    );
    let advice = "raise max_connections (or the limit of the role or the database), lower \
                  DOORBELL_DATABASE_READERS and DOORBELL_DATABASE_WRITERS, or use a pooler";
    let runs_already = found.shared + found.alone > 0;
    if needed > most || needed > free && !runs_already {
        Finding::fault(ABOUT, says, advice)
    } else if needed > free {
        // What is taken may be taken by the node that this is run beside.
        Finding::warning(ABOUT, format!("{says}: none for one node more"), advice)
    } else {
        Finding::ok(ABOUT, says)
    }
}

/// Who else works on it, where that does not go together with these settings.
fn nodes(found: &Postgres, has_nats: bool) -> Option<Finding> {
    let (others, those) = match has_nats {
        true => (found.alone, "without NATS"),
        false => (found.shared, "with NATS"),
    };
    (others > 0).then(|| {
        Finding::warning(
            ABOUT,
            format!("nodes {those} work on it, and these settings are otherwise"),
            "give all nodes the same DOORBELL_NATS_URL: they refuse to start beside each other",
        )
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{super::Level, *};

    fn sqlite_at(file_system: u64, free_bytes: u64) -> Sqlite {
        Sqlite {
            path: "/data/doorbell.db".into(),
            file: None,
            directory: "/data".into(),
            has_directory: true,
            may_make: true,
            file_system,
            free_bytes,
        }
    }

    fn worst(findings: &[Finding]) -> Level {
        findings.iter().map(|finding| finding.level).max().unwrap()
    }

    #[test]
    fn a_file_wants_a_local_disk_with_room() {
        const EXT4: u64 = 0xef53;
        for (file_system, free, level) in [
            (EXT4, 1 << 30, Level::Ok),
            (EXT4, (1 << 30) - 1, Level::Warning),
            (EXT4, 64 << 20, Level::Warning),
            (EXT4, (64 << 20) - 1, Level::Fault),
            (0x6969, 1 << 40, Level::Fault),
            (0x0102_1994, 1 << 40, Level::Warning),
        ] {
            let findings = sqlite(&sqlite_at(file_system, free));
            assert_eq!(
                worst(&findings),
                level,
                "{file_system:x} {free}: {findings:?}"
            );
        }
        let mut found = sqlite_at(EXT4, 1 << 40);
        found.may_make = false;
        assert_eq!(worst(&sqlite(&found)), Level::Fault);
    }

    #[test]
    fn a_file_is_for_its_user_alone() {
        let mut file = File {
            may_write: true,
            owner: 10001,
            mode: 0o600,
            bytes: 4096,
            schema: Ok(Schema {
                made: 9,
                known: 9,
                problem: None,
            }),
        };
        let path = Path::new("/data/doorbell.db");
        assert_eq!(worst(&file_of(path, &file)), Level::Ok);
        file.mode = 0o640;
        assert_eq!(worst(&file_of(path, &file)), Level::Warning);
        file.may_write = false;
        assert_eq!(worst(&file_of(path, &file)), Level::Fault);
    }

    #[test]
    fn a_schema_is_judged_by_what_a_start_would_do() {
        let of = |made, known, problem: Option<&str>| {
            let problem = problem.map(str::to_owned);
            schema(&Schema {
                made,
                known,
                problem,
            })
            .level
        };
        assert_eq!(of(0, 9, None), Level::Ok);
        assert_eq!(of(8, 9, None), Level::Warning);
        assert_eq!(of(9, 9, None), Level::Ok);
        assert_eq!(of(10, 9, None), Level::Ok);
        assert_eq!(of(10, 9, Some("it is too new")), Level::Fault);
    }

    #[test]
    fn connections_are_counted_against_what_a_node_needs() {
        let config = Config::default();
        let of = |most_connections, connections, shared| {
            let found = Postgres {
                place: "db:5432/doorbell".into(),
                version: "15.1".into(),
                is_tls: true,
                refusal: None,
                lanes_refusal: None,
                schema: Schema::default(),
                may_create: true,
                ahead_micros: 0,
                uncertain: Duration::ZERO,
                most_connections,
                connections,
                shared,
                alone: 0,
            };
            super::connections(&found, &config).level
        };
        // 4 + 4 + 1.
        assert_eq!(of(9, 0, 0), Level::Ok);
        assert_eq!(of(8, 0, 0), Level::Fault);
        assert_eq!(of(9, 1, 0), Level::Fault);
        assert_eq!(of(100, 91, 0), Level::Ok);
        assert_eq!(of(100, 92, 0), Level::Fault);
        assert_eq!(of(100, 92, 8), Level::Warning);
    }
}
