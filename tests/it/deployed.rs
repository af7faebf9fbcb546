//! What is there to deploy, against the program: settings, commands, ports, users, probes
//! and metrics that the files name are those that there are.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    net::SocketAddr,
    path::Path,
    time::Duration,
};

use doorbell::{cli::command::commands, config::Config};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use yaml_rust2::{Yaml, YamlLoader};

use crate::{
    calls::eventually,
    programs::of_the_checkout,
    server::{Setup, free_port},
};

const PREFIX: &str = "DOORBELL_";
/// Of a claim, a secret and so on, where a file names where the value is.
const ELSEWHERE: &str = "elsewhere";

fn read(path: &str) -> String {
    fs::read_to_string(of_the_checkout(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn documents(path: &str) -> Vec<Yaml> {
    YamlLoader::load_from_str(&read(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn text(yaml: &Yaml) -> String {
    match yaml {
        Yaml::String(text) | Yaml::Real(text) => text.clone(),
        Yaml::Integer(number) => number.to_string(),
        Yaml::Boolean(is) => is.to_string(),
        other => panic!("no text: {other:?}"),
    }
}

fn list(yaml: &Yaml) -> &[Yaml] {
    yaml.as_vec().map_or(&[], Vec::as_slice)
}

fn number(yaml: &Yaml) -> u64 {
    u64::try_from(yaml.as_i64().unwrap()).unwrap()
}

/// Fails unless `serve` takes these settings; answers what it makes of them.
fn settings(path: &str, variables: &BTreeMap<String, String>) -> Config {
    use clap::FromArgMatches as _;
    let command = commands();
    let serve = command.find_subcommand("serve").unwrap();
    let mut words = vec!["doorbell".to_owned(), "serve".to_owned()];
    for (name, value) in variables {
        let known = serve
            .get_arguments()
            .find(|arg| arg.get_env().is_some_and(|env| env == name.as_str()));
        let known = known.unwrap_or_else(|| panic!("{path}: there is no setting {name}"));
        let flag = known.get_long().unwrap();
        if value != ELSEWHERE {
            words.push(format!("--{flag}={value}"));
        } else if flag == "database-url" {
            // What is kept elsewhere is that of several nodes.
            words.push(format!("--{flag}=postgres://elsewhere/doorbell"));
        }
    }
    let matches = command
        .try_get_matches_from(words)
        .unwrap_or_else(|error| panic!("{path}: {error}"));
    let (_, matches) = matches.subcommand().unwrap();
    let config = Config::from_arg_matches(matches).unwrap();
    config
        .check()
        .unwrap_or_else(|error| panic!("{path}: {error}"));
    config
}

/// How long a node may take to stop, by these settings: its drain and the close after it.
fn stops_within(config: &Config) -> Duration {
    const CLOSE: Duration = Duration::from_secs(2);
    *config.server.drain_delay + *config.server.drain_timeout + CLOSE
}

/// The variables of a container; those that are deleted are left out.
fn variables(container: &Yaml) -> BTreeMap<String, String> {
    let all = list(&container["env"]).iter();
    all.filter(|one| one["$patch"].is_badvalue())
        .map(|one| {
            let value = match &one["value"] {
                Yaml::BadValue => ELSEWHERE.to_owned(),
                value => text(value),
            };
            (text(&one["name"]), value)
        })
        .collect()
}

fn only_container(deployment: &Yaml) -> &Yaml {
    let containers = list(&deployment["spec"]["template"]["spec"]["containers"]);
    let [container] = containers else {
        panic!("{containers:?}")
    };
    container
}

fn of_kind<'y>(documents: &'y [Yaml], kind: &str) -> &'y Yaml {
    let mut found = documents
        .iter()
        .filter(|one| one["kind"].as_str() == Some(kind));
    found.next().unwrap_or_else(|| panic!("no {kind}"))
}

/// What a page answers, once its port listens: a node says that it listens to calls before
/// it does for pages.
async fn get(address: SocketAddr, path: &str) -> String {
    let mut stream = None;
    eventually("the pages are there", async || {
        stream = TcpStream::connect(address).await.ok();
        stream.is_some()
    })
    .await;
    let mut stream = stream.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn the_resources_of_kubernetes_name_what_there_is() {
    const FILE: &str = "deploy/base/kubernetes.yaml";
    let documents = documents(FILE);
    let deployment = of_kind(&documents, "Deployment");
    let container = only_container(deployment);
    let config = settings(FILE, &variables(container));
    assert!(config.bus.nats_url.is_some());
    let words: Vec<_> = list(&container["args"]).iter().map(text).collect();
    assert_eq!(words, ["serve"]);

    let pod = &deployment["spec"]["template"]["spec"];
    let grace = Duration::from_secs(number(&pod["terminationGracePeriodSeconds"]));
    assert!(grace > stops_within(&config), "{grace:?}");
    // Services named as we are would look like settings that are none.
    assert_eq!(pod["enableServiceLinks"].as_bool(), Some(false));
    let user = container["securityContext"]["runAsUser"].as_i64();
    assert_eq!(user.map(|user| user.to_string()), Some(Image::read().user));

    let ports: BTreeMap<_, _> = list(&container["ports"])
        .iter()
        .map(|port| (text(&port["name"]), number(&port["containerPort"])))
        .collect();
    assert_eq!(ports["grpc"], u64::from(config.server.listen.port()));
    let pages = config.http.metrics_listen.unwrap();
    assert_eq!(ports["metrics"], u64::from(pages.port()));
    let service = of_kind(&documents, "Service");
    let [port] = list(&service["spec"]["ports"]) else {
        panic!("{service:?}")
    };
    assert!(ports.contains_key(&text(&port["targetPort"])), "{port:?}");
    let labels = &deployment["spec"]["template"]["metadata"]["labels"]["app"];
    for selector in [
        &service["spec"]["selector"]["app"],
        &deployment["spec"]["selector"]["matchLabels"]["app"],
        &of_kind(&documents, "PodDisruptionBudget")["spec"]["selector"]["matchLabels"]["app"],
    ] {
        assert_eq!(selector, labels);
    }

    // The probes' pages are those of a node that serves.
    let pages = free_port();
    let _server = Setup::new().with("METRICS_LISTEN", pages).start();
    for probe in ["startupProbe", "livenessProbe", "readinessProbe"] {
        let asked = &container[probe]["httpGet"];
        assert_eq!(text(&asked["port"]), "metrics");
        let path = text(&asked["path"]);
        // A node is ready a moment after it is there.
        eventually(&path, async || {
            let answer = get(pages, &path).await;
            answer.starts_with("HTTP/1.1 200 ")
        })
        .await;
    }
    assert!(get(pages, "/nowhere").await.starts_with("HTTP/1.1 404 "));
    // A draining node is noticed before it takes no calls any more.
    let ready = &container["readinessProbe"];
    let notices = number(&ready["periodSeconds"]) * number(&ready["failureThreshold"]);
    assert!(Duration::from_secs(notices) < *config.server.drain_delay);
}

#[test]
fn kustomizations_name_files_that_there_are_and_patch_what_there_is() {
    let base = documents("deploy/base/kubernetes.yaml");
    for directory in ["deploy", "deploy/base", "deploy/single"] {
        let file = format!("{directory}/kustomization.yaml");
        let [kustomization] = &documents(&file)[..] else {
            panic!("{file}")
        };
        assert_eq!(kustomization["kind"].as_str(), Some("Kustomization"));
        let exists = |name: &Yaml| {
            let path = Path::new(directory).join(text(name));
            assert!(
                of_the_checkout(path.to_str().unwrap()).exists(),
                "{file}: {path:?}"
            );
            path
        };
        let resources = list(&kustomization["resources"]);
        assert!(!resources.is_empty(), "{file}");
        for resource in resources {
            let path = exists(resource);
            // kustomize takes no root that holds this one.
            assert!(!Path::new(directory).starts_with(&path), "{file}: {path:?}");
        }
        for image in list(&kustomization["images"]) {
            let tag = text(&image["newTag"]);
            assert_eq!(tag, env!("CARGO_PKG_VERSION"), "{file}");
        }
        for patch in list(&kustomization["patches"]) {
            let patches = match &patch["path"] {
                Yaml::BadValue => YamlLoader::load_from_str(&text(&patch["patch"])).unwrap(),
                path => documents(exists(path).to_str().unwrap()),
            };
            for patch in &patches {
                let patched = of_kind(&base, patch["kind"].as_str().unwrap());
                assert_eq!(
                    patch["metadata"]["name"], patched["metadata"]["name"],
                    "{file}"
                );
            }
        }
    }
}

/// What `kubectl kustomize` makes of it was looked at; here is what it comes to.
#[test]
fn the_single_node_has_a_file_on_a_volume_and_neither_postgres_nor_nats() {
    let base = documents("deploy/base/kubernetes.yaml");
    let patches = documents("deploy/single/node.yaml");
    let patch = only_container(&patches[0]);
    let mut all = variables(only_container(of_kind(&base, "Deployment")));
    for one in list(&patch["env"]) {
        if !one["$patch"].is_badvalue() {
            let removed = all.remove(&text(&one["name"]));
            assert!(removed.is_some(), "{one:?} is not there to be deleted");
        }
    }
    all.extend(variables(patch));
    let config = settings("deploy/single/node.yaml", &all);
    assert!(config.bus.nats_url.is_none() && config.store.database_url.is_none());
    let [mount] = list(&patch["volumeMounts"]) else {
        panic!("{patch:?}")
    };
    assert_eq!(
        text(&mount["mountPath"]),
        config.store.data_dir.display().to_string()
    );
    let pod = &patches[0]["spec"]["template"]["spec"];
    let [volume] = list(&pod["volumes"]) else {
        panic!("{pod:?}")
    };
    assert_eq!(volume["name"], mount["name"]);
    let claim = &documents("deploy/single/volume.yaml")[0];
    assert_eq!(
        volume["persistentVolumeClaim"]["claimName"],
        claim["metadata"]["name"]
    );
    // The file has one owner.
    assert_eq!(number(&patches[0]["spec"]["replicas"]), 1);
    assert_eq!(
        patches[0]["spec"]["strategy"]["type"].as_str(),
        Some("Recreate")
    );
    let group = pod["securityContext"]["fsGroup"].as_i64();
    assert_eq!(
        group.map(|group| group.to_string()),
        Some(Image::read().user)
    );
}

#[test]
fn the_services_of_compose_name_what_there_is() {
    const FILE: &str = "compose.yaml";
    let compose = &documents(FILE)[0];
    let node = &compose["x-node"];
    let image = format!("doorbell:{}", env!("CARGO_PKG_VERSION"));
    assert_eq!(text(&node["image"]), image);
    let environment = node["environment"].as_hash().unwrap();
    let variables: BTreeMap<_, _> = environment
        .iter()
        .map(|(name, value)| {
            let value = text(value);
            let is_elsewhere = value.starts_with("${");
            let value = if is_elsewhere {
                ELSEWHERE.into()
            } else {
                value
            };
            (text(name), value)
        })
        .collect();
    let config = settings(FILE, &variables);
    let test: Vec<_> = list(&node["healthcheck"]["test"])
        .iter()
        .map(text)
        .collect();
    assert_eq!(test[0], "CMD");
    commands().try_get_matches_from(&test[1..]).unwrap();
    let grace = text(&node["stop_grace_period"]);
    let grace: humantime::Duration = grace.parse().unwrap();
    assert!(*grace > stops_within(&config));
    for name in ["one", "two"] {
        let [port] = list(&compose["services"][name]["ports"]) else {
            panic!("{name}")
        };
        let inside = text(port).rsplit(':').next().unwrap().to_owned();
        assert_eq!(inside, config.server.listen.port().to_string());
    }
}

/// What the Dockerfile says of the image.
struct Image {
    lines: Vec<String>,
    user: String,
}

impl Image {
    fn read() -> Self {
        let text = read("Dockerfile").replace("\\\n", " ");
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        let lines: Vec<_> = lines.map(str::to_owned).collect();
        let user = Self::of(&lines, "USER");
        Self { lines, user }
    }

    /// The last one of such an instruction.
    fn of(lines: &[String], instruction: &str) -> String {
        let mut found = lines.iter().rev();
        let found = found.find_map(|line| line.strip_prefix(&format!("{instruction} ")));
        found
            .unwrap_or_else(|| panic!("no {instruction}"))
            .to_owned()
    }

    fn get(&self, instruction: &str) -> String {
        Self::of(&self.lines, instruction)
    }

    /// The words of an instruction that is written as a list.
    fn words(&self, instruction: &str) -> Vec<String> {
        let text = self.get(instruction);
        let at = text.find('[').unwrap();
        serde_json::from_str(&text[at..]).unwrap()
    }
}

#[test]
fn the_image_is_that_of_this_repository() {
    let cargo = read("Cargo.toml");
    let of_cargo = |name: &str| {
        let mut lines = cargo.lines();
        let line = lines.find_map(|line| line.strip_prefix(&format!("{name} = ")));
        line.unwrap().trim_matches('"').to_owned()
    };
    let image = Image::read();
    let built_by = &image.lines[0];
    let version = of_cargo("rust-version");
    assert!(
        built_by.starts_with(&format!("FROM rust:{version}-")),
        "{built_by}: {version}"
    );
    // Both stages are of one Debian: the binary finds the C library that it was built with.
    let debian = built_by.split(['-', ' ']).nth(2).unwrap();
    let run_by = image.get("FROM");
    assert!(run_by.starts_with(&format!("debian:{debian}-")), "{run_by}");
    // An ignored file would be missing, and one that names a toolchain would fetch it.
    let ignored = read(".dockerignore");
    let ignored: Vec<_> = ignored.lines().collect();
    assert!(ignored.contains(&"rust-toolchain.toml") && ignored.contains(&"target"));

    let built = image.get("RUN cargo");
    let mut words = built.split(' ');
    let binary = words
        .by_ref()
        .skip_while(|word| *word != "--bin")
        .nth(1)
        .unwrap();
    assert!(cargo.contains(&format!("[[bin]]\nname = \"{binary}\"")));
    let copied = image.get("COPY");
    assert!(copied.contains(&format!("/target/release/{binary} /usr/local/bin/{binary}")));
    assert_eq!(image.words("ENTRYPOINT"), [binary]);
    for instruction in ["CMD", "HEALTHCHECK"] {
        let mut words = image.words(instruction);
        // That of a health check has the program's name.
        if words[0] != binary {
            words.insert(0, binary.to_owned());
        }
        commands()
            .try_get_matches_from(&words)
            .unwrap_or_else(|error| panic!("{instruction}: {error}"));
    }

    let environment = image.get("ENV");
    let environment = environment.split(' ').filter(|word| !word.is_empty());
    let variables = environment.map(|word| word.split_once('=').unwrap());
    let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let config = settings("Dockerfile", &variables.collect());
    let home = config.store.data_dir.display().to_string();
    assert_eq!(image.get("VOLUME"), home);
    let made = image.get("RUN apt-get");
    let user = &image.user;
    assert!(made.contains(&format!("--uid {user}")), "{made}");
    assert!(
        made.contains(&format!("--owner={user} --mode=700 {home}")),
        "{made}"
    );
    let exposed = image.get("EXPOSE");
    let deployed = documents("deploy/base/kubernetes.yaml");
    let ports = &only_container(of_kind(&deployed, "Deployment"))["ports"];
    let ports: Vec<_> = list(ports)
        .iter()
        .map(|port| text(&port["containerPort"]))
        .collect();
    assert_eq!(exposed.split(' ').collect::<Vec<_>>(), ports);
    assert_eq!(ports[0], config.server.listen.port().to_string());
}

/// The values of a key in a unit or of a variable in a file of them.
fn assignments(text: &str) -> Vec<(String, String)> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines
        .filter_map(|line| line.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

#[test]
fn the_unit_and_its_settings_are_those_of_the_program() {
    const ENVIRONMENT: &str = "deploy/doorbell.env";
    let unit = assignments(&read("deploy/doorbell.service"));
    let values = |name: &str| -> Vec<&str> {
        let found = unit.iter().filter(|(key, _)| key == name);
        found.map(|(_, value)| value.as_str()).collect()
    };
    let one = |name: &str| match values(name)[..] {
        [value] => value,
        ref other => panic!("{name}: {other:?}"),
    };
    let started = one("ExecStart");
    let words: Vec<_> = started.split(' ').collect();
    assert!(words[0].ends_with("/doorbell"));
    commands().try_get_matches_from(&words).unwrap();

    let file = format!("/etc/doorbell/{}", ENVIRONMENT.rsplit('/').next().unwrap());
    assert_eq!(one("EnvironmentFile"), format!("-{file}"));
    let mut variables: BTreeMap<_, _> = assignments(&read(ENVIRONMENT)).into_iter().collect();
    // What is commented out for several nodes is taken with it.
    let commented = read(ENVIRONMENT).replace(&format!("#{PREFIX}"), PREFIX);
    let all: BTreeMap<_, _> = assignments(&commented).into_iter().collect();
    assert!(all.len() > variables.len());
    settings(ENVIRONMENT, &all);
    for value in values("Environment") {
        let (name, value) = value.split_once('=').unwrap();
        variables.insert(name.to_owned(), value.to_owned());
    }
    let config = settings("deploy/doorbell.service", &variables);
    // It writes where systemd lets it, and nowhere else.
    let home = format!("/var/lib/{}", one("StateDirectory"));
    assert_eq!(config.store.data_dir.display().to_string(), home);
    assert_eq!(one("ProtectSystem"), "strict");
    for hardened in ["DynamicUser", "NoNewPrivileges", "ProtectHome"] {
        assert_eq!(one(hardened), "yes", "{hardened}");
    }
    let files: u32 = one("LimitNOFILE").parse().unwrap();
    assert!(files >= config.server.max_connections + 64);
    let stop: u64 = one("TimeoutStopSec").parse().unwrap();
    assert!(Duration::from_secs(stop) > stops_within(&config));
    assert_eq!(one("Restart"), "on-failure");
}

/// The metrics that a scrape shows, with the series of histograms.
fn metrics() -> BTreeSet<String> {
    let source = read("src/metrics.rs");
    let (source, _) = source
        .split_once("#[cfg(test)]\npub(crate) mod tests")
        .unwrap();
    let (before, histograms) = source.rsplit_once("    histograms {").unwrap();
    let names = |text: &str| -> Vec<String> {
        let found = text.match_indices("\"doorbell_").map(|(at, _)| {
            let name = &text[at + 1..];
            name[..name.find('"').unwrap()].to_owned()
        });
        found.collect()
    };
    let mut all: BTreeSet<_> = names(before).into_iter().collect();
    let mut of_histograms = names(histograms);
    of_histograms.push("doorbell_rpc_duration_seconds".into());
    for name in of_histograms {
        all.remove(&name);
        all.extend(["bucket", "sum", "count"].map(|part| format!("{name}_{part}")));
    }
    assert!(all.len() > 30, "{all:?}");
    all
}

/// The metrics that an expression names.
fn named(expression: &str) -> Vec<String> {
    let is_word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    let found = expression.match_indices("doorbell_");
    found
        .map(|(at, _)| {
            expression[at..]
                .chars()
                .take_while(|c| is_word(*c))
                .collect()
        })
        .collect()
}

/// The values of a label that an expression asks for.
fn label_values(expression: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for part in expression.split(['{', ',']) {
        let Some((label, value)) = part.split_once(['=', '!']) else {
            continue;
        };
        let value = value.trim_start_matches(['=', '~']).trim_start();
        let Some(value) = value.strip_prefix('"').and_then(|it| it.split('"').next()) else {
            continue;
        };
        found.extend(
            value
                .split('|')
                .map(|one| (label.trim().to_owned(), one.to_owned())),
        );
    }
    found
}

/// Every expression of the rules and of the dashboard, with where it stands.
fn expressions() -> Vec<(String, String)> {
    let mut found = Vec::new();
    let rules = &documents("deploy/alerts.yaml")[0];
    for group in list(&rules["groups"]) {
        for rule in list(&group["rules"]) {
            found.push((text(&rule["alert"]), text(&rule["expr"])));
        }
    }
    let alerts = found.len();
    assert!(alerts >= 10, "{found:?}");
    let dashboard: Value = serde_json::from_str(&read("deploy/grafana.json")).unwrap();
    for panel in dashboard["panels"].as_array().unwrap() {
        let title = panel["title"].as_str().unwrap();
        for target in panel["targets"].as_array().into_iter().flatten() {
            let expression = target["expr"].as_str().unwrap();
            found.push((title.to_owned(), expression.to_owned()));
        }
    }
    assert!(found.len() >= alerts + 20);
    found
}

#[tokio::test]
async fn rules_and_dashboard_name_metrics_and_labels_that_there_are() {
    let metrics = metrics();
    // Those without labels, and the values of the others that are there from the start.
    let pages = free_port();
    let _server = Setup::new().with("METRICS_LISTEN", pages).start();
    let scraped = get(pages, "/metrics").await;
    let mut shown = BTreeSet::new();
    for (place, expression) in expressions() {
        let names = named(&expression);
        assert!(!names.is_empty(), "{place} names no metric: {expression}");
        for name in names {
            assert!(metrics.contains(&name), "{place}: there is no {name}");
            shown.insert(name);
        }
        for (label, value) in label_values(&expression) {
            if value.starts_with('$') {
                continue;
            }
            let is_there = match label.as_str() {
                "code" => doorbell::metrics::CODES.contains(&value.as_str()),
                "method" => doorbell::proto::Method::ALL
                    .iter()
                    .any(|method| method.name() == value),
                _ => scraped.contains(&format!("{label}=\"{value}\"")),
            };
            assert!(is_there, "{place}: nothing has {label}=\"{value}\"");
        }
    }
    // A metric that nobody looks at need not be there.
    let unseen: Vec<_> = metrics
        .iter()
        .filter(|name| !name.ends_with("_sum") && !name.ends_with("_count"))
        .filter(|name| !shown.contains(*name))
        .collect();
    assert!(unseen.is_empty(), "no panel and no rule shows {unseen:?}");
}

#[test]
fn each_rule_says_what_to_do() {
    let rules = &documents("deploy/alerts.yaml")[0];
    let mut names = BTreeSet::new();
    for group in list(&rules["groups"]) {
        for rule in list(&group["rules"]) {
            let name = text(&rule["alert"]);
            for said in ["summary", "description"] {
                let words = text(&rule["annotations"][said]);
                assert!(words.split(' ').count() > 3, "{name}: {words}");
            }
            let severity = text(&rule["labels"]["severity"]);
            assert!(
                ["warning", "critical"].contains(&severity.as_str()),
                "{name}"
            );
            // The settings that it names exist.
            let described = text(&rule["annotations"]["description"]);
            for (at, _) in described.match_indices(PREFIX) {
                let is_word = |c: &char| c.is_ascii_uppercase() || *c == '_';
                let variable: String = described[at..].chars().take_while(is_word).collect();
                settings("alerts.yaml", &[(variable, ELSEWHERE.into())].into());
            }
            assert!(names.insert(name));
        }
    }
    // What is tried of them (promtool test rules) is of rules that there are.
    for test in list(&documents("deploy/alerts_test.yaml")[0]["tests"]) {
        for rule in list(&test["alert_rule_test"]) {
            assert!(names.contains(&text(&rule["alertname"])), "{rule:?}");
        }
    }
}
