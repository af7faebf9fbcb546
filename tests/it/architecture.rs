//! The walls that `ARCHITECTURE.md` names, as far as a program can see them.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

/// What each module may use. A module that is not here fails the test.
const MAY_USE: &[(&str, &[&str])] = &[
    ("clock", &[]),
    ("config", &[]),
    ("proto", &[]),
    ("sabotage", &[]),
    ("metrics", &["proto"]),
    ("random", &["clock"]),
    ("telemetry", &["config", "metrics"]),
    ("live", &[]),
    ("tries", &[]),
    ("operator_page", &[]),
    ("model", &["clock"]),
    ("wire", &["clock", "model", "proto"]),
    ("hub", &["model", "wire"]),
    (
        "bus",
        &[
            "clock", "config", "hub", "metrics", "model", "random", "sabotage", "wire",
        ],
    ),
    ("store", &["clock", "config", "model", "random", "sabotage"]),
    (
        "inbox",
        &[
            "bus", "clock", "config", "hub", "metrics", "model", "random", "sabotage", "store",
            "wire",
        ],
    ),
    ("preferences", &["inbox", "model", "store"]),
    ("topics", &["inbox", "model", "store"]),
    ("follow_ups", &["clock", "inbox", "model", "store"]),
    (
        "retractions",
        &["clock", "inbox", "metrics", "model", "store", "tries"],
    ),
    (
        "sends",
        &[
            "clock",
            "inbox",
            "metrics",
            "model",
            "preferences",
            "sabotage",
            "store",
            "tries",
        ],
    ),
    (
        "sweeper",
        &[
            "clock",
            "config",
            "follow_ups",
            "inbox",
            "metrics",
            "model",
            "random",
            "retractions",
            "sends",
            "store",
        ],
    ),
    ("operators", &["clock", "inbox", "model", "store"]),
    ("node", &["clock", "inbox", "metrics"]),
    ("auth", &["clock", "config", "model", "random"]),
    ("server", &["config", "telemetry"]),
    (
        "grpc",
        &[
            "auth",
            "clock",
            "config",
            "follow_ups",
            "hub",
            "inbox",
            "metrics",
            "model",
            "node",
            "operators",
            "preferences",
            "proto",
            "random",
            "retractions",
            "sends",
            "store",
            "telemetry",
            "topics",
            "wire",
        ],
    ),
    ("client", &["clock", "config", "proto", "random"]),
    (
        "app",
        &[
            "auth",
            "bus",
            "clock",
            "config",
            "follow_ups",
            "grpc",
            "inbox",
            "live",
            "metrics",
            "node",
            "operator_page",
            "operators",
            "preferences",
            "proto",
            "random",
            "retractions",
            "sends",
            "server",
            "store",
            "sweeper",
            "telemetry",
            "topics",
        ],
    ),
    (
        "cli",
        &[
            "app",
            "auth",
            "bus",
            "client",
            "clock",
            "config",
            "proto",
            "random",
            "server",
            "store",
            "telemetry",
        ],
    ),
    ("lib", &[]),
    ("main", &[]),
];

/// The crates that stay behind a wall, and who may name them.
const BEHIND_A_WALL: &[(&str, &[&str])] = &[
    (
        "tonic",
        &[
            "grpc",
            "proto",
            "client",
            "app",
            "server",
            "cli/healthcheck",
        ],
    ),
    ("sqlx", &["store"]),
    ("async_nats", &["bus/nats"]),
];

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|end| end == "rs") {
            files.push(path);
        }
    }
    files
}

/// The code of each file of `src`, by its path without the end: no comments, and
/// nothing from the tests on.
fn sources() -> BTreeMap<String, String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    rust_files(&root)
        .into_iter()
        .filter(|path| path.file_stem().is_none_or(|name| name != "tests"))
        .map(|path| {
            let name = path.strip_prefix(&root).unwrap().with_extension("");
            let text = fs::read_to_string(&path).unwrap();
            let code = text
                .split("#[cfg(test)]\nmod tests {")
                .next()
                .unwrap_or_default();
            let lines = code
                .lines()
                .map(|line| line.split("//").next().unwrap_or_default());
            (
                name.to_str().unwrap().to_owned(),
                lines.collect::<Vec<_>>().join("\n"),
            )
        })
        .collect()
}

fn is_word(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_alphanumeric() || c == '_')
}

/// The modules of the crate that `code` names after `crate::`.
fn used_modules(code: &str) -> Vec<String> {
    let mut used = Vec::new();
    for after in code.split("crate::").skip(1) {
        if let Some(group) = after.strip_prefix('{') {
            // The first name of each entry of the outermost group.
            let (mut depth, mut entry) = (1, String::new());
            for c in group.chars() {
                match c {
                    '{' => depth += 1,
                    '}' => depth -= 1,
                    _ => {}
                }
                if depth == 0 || (depth == 1 && c == ',') {
                    used.push(
                        entry
                            .trim()
                            .split("::")
                            .next()
                            .unwrap_or_default()
                            .to_owned(),
                    );
                    entry.clear();
                } else {
                    entry.push(c);
                }
                if depth == 0 {
                    break;
                }
            }
        } else {
            let end = after.find(|c: char| !c.is_alphanumeric() && c != '_');
            used.push(after[..end.unwrap_or(after.len())].to_owned());
        }
    }
    used.retain(|module| is_word(module));
    used
}

#[test]
fn imports_go_downward() {
    let may_use: BTreeMap<_, _> = MAY_USE.iter().copied().collect();
    for (name, code) in sources() {
        let module = name.split('/').next().unwrap();
        let allowed = may_use
            .get(module)
            .unwrap_or_else(|| panic!("{module} is on no floor"));
        for used in used_modules(&code) {
            assert!(
                used == module || allowed.contains(&used.as_str()),
                "src/{name}.rs uses `{used}`, and {module} may use {allowed:?}"
            );
        }
    }
}

#[test]
fn no_floor_rests_on_one_above_it() {
    let floors: Vec<_> = MAY_USE.iter().map(|(module, _)| *module).collect();
    for (at, (module, uses)) in MAY_USE.iter().enumerate() {
        for used in *uses {
            let floor = floors.iter().position(|floor| floor == used);
            assert!(
                floor.is_some_and(|floor| floor < at),
                "{module} rests on {used}"
            );
        }
    }
}

#[test]
fn libraries_stay_behind_their_walls() {
    for (name, code) in sources() {
        for (library, allowed) in BEHIND_A_WALL {
            let named = code.contains(&format!("{library}::"));
            let may = allowed
                .iter()
                .any(|module| name == *module || name.starts_with(&format!("{module}/")));
            assert!(!named || may, "src/{name}.rs names {library}");
        }
    }
}

/// What has no reason was not made by us: `grpc/protocol` calls it the caller's fault.
#[test]
fn statuses_are_made_in_one_place() {
    for (name, code) in sources() {
        let made = ["new", "internal", "unknown", "unavailable", "with_details"]
            .iter()
            .any(|maker| code.contains(&format!(" Status::{maker}(")));
        assert!(!made, "src/{name}.rs makes a status beside grpc/status.rs");
    }
}

/// What is wrong with a statement, or a part of one, as the second wall between
/// tenants; `None` also where it touches no table of theirs.
fn crosses_the_wall(literal: &str) -> Option<String> {
    let text: Vec<_> = literal.split_whitespace().collect();
    let text = text.join(" ").replace("\\ ", "");
    let touches = |verbs: &[&str]| {
        verbs.iter().any(|verb| {
            ["inboxes", "notifications"]
                .iter()
                .any(|table| text.contains(&format!("{verb} {table}")))
        })
    };
    for column in ["organization_id", "user_id"] {
        // Rows that are found must be found by it, rows that are made must bear it.
        let is_found_by = text.contains(&format!("{column} = "))
            || text.contains("USING (organization_id, user_id")
            || text.contains("WHERE (organization_id, user_id, sequence) IN");
        let is_made_with = text.contains("(organization_id, user_id,")
            || text.contains("(organization_id, user_id)");
        if touches(&["FROM", "JOIN", "UPDATE"]) && !is_found_by {
            return Some(format!("{column} is in no predicate of: {text}"));
        }
        if touches(&["INTO"]) && !is_made_with {
            return Some(format!("{column} is in no row of: {text}"));
        }
    }
    let deletes_heads = text.contains("DELETE FROM inboxes") || touches(&["TRUNCATE"]);
    deletes_heads.then(|| format!("it deletes heads: {text}"))
}

#[test]
fn no_statement_of_a_store_touches_an_inbox_without_its_whole_key() {
    for engine in ["store/sqlite", "store/postgres"] {
        let sources = sources();
        let is_part = |name: &str| name == engine || name.starts_with(&format!("{engine}/"));
        let parts = sources.iter().filter(|(name, _)| is_part(name));
        let code = parts.map(|(_, code)| code.as_str()).collect::<String>();
        let mut statements = 0;
        // A string literal, wherever it is broken.
        for literal in code.split('"').skip(1).step_by(2) {
            if let Some(problem) = crosses_the_wall(literal) {
                panic!("src/{engine}.rs: {problem}");
            }
            let tables = [" inboxes", " notifications"];
            statements += usize::from(tables.iter().any(|table| literal.contains(table)));
        }
        // So that a change of the code's shape does not make the test see nothing.
        assert!(statements >= 8, "{engine}: only {statements} statements");
    }
}

#[test]
fn the_wall_is_seen_where_it_is_crossed() {
    for crossing in [
        "SELECT * FROM notifications WHERE user_id = $1",
        "SELECT * FROM notifications WHERE organization_id = $1",
        "UPDATE notifications AS n SET read_at = 1 WHERE n.id = $1",
        "SELECT n.organization_id, n.user_id FROM wanted JOIN notifications AS n USING (id)",
        "INSERT INTO inboxes (user_id, revision) VALUES ($1, 1)",
        "DELETE FROM notifications WHERE user_id = $1",
        "DELETE FROM inboxes WHERE organization_id = $1 AND user_id = $2",
    ] {
        assert!(crosses_the_wall(crossing).is_some(), "{crossing}");
    }
    let within = "SELECT 1 FROM notifications WHERE organization_id = $1 AND user_id = $2";
    assert_eq!(crosses_the_wall(within), None);
}

#[test]
fn the_map_names_every_file() {
    let map = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("ARCHITECTURE.md"));
    let map = map.unwrap();
    for name in sources().keys() {
        // Parts of a module without the folder that all are in, where it is named.
        let is_named = map.contains(&format!("`src/{name}.rs`"))
            || name.contains('/') && map.contains(&format!("`{name}.rs`"));
        assert!(
            is_named || name == "lib",
            "ARCHITECTURE.md does not name src/{name}.rs"
        );
    }
}
