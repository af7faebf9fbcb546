use rstest::rstest;

use super::*;

fn parse_line(line: &str, variables: &[&str]) -> Result<Parsed, Failure> {
    parse(
        line.split_whitespace().map(OsString::from),
        variables.iter().map(OsString::from),
    )
}

fn refusal(line: &str) -> String {
    let failure = parse_line(line, &[]).err().unwrap();
    assert_eq!(failure.exit_code(), 2);
    let text = failure.to_string();
    assert_eq!(text.lines().count(), 1, "{text}");
    text
}

fn config(line: &str) -> Box<Config> {
    if let Parsed::Run(command) = parse_line(line, &[]).unwrap()
        && let Command::Serve(config) | Command::Dev(config) = *command
    {
        return config;
    }
    panic!("{line} is another command")
}

#[test]
fn the_command_tree_is_consistent() {
    commands().debug_assert();
}

#[test]
fn every_setting_is_a_flag_and_the_variable_of_that_name() {
    let command = commands();
    for arg in arguments(&command) {
        if let Some(name) = arg.get_env() {
            let flag = arg.get_long().unwrap();
            assert_eq!(name.to_string_lossy(), config::variable(flag));
            let name = name.to_str().unwrap();
            assert!(!is_service_link(name), "{name}");
            assert!(arg.get_help().is_some(), "{flag} has no help");
        }
    }
    for name in ["dev", "serve", "migrate"] {
        for arg in command.find_subcommand(name).unwrap().get_arguments() {
            let id = arg.get_id();
            // What is done once is no setting.
            let is_setting = arg.get_env().is_some() || id == "new_epoch";
            assert!(is_setting, "{id} of {name} has no variable");
        }
    }
}

#[test]
fn settings_are_read() {
    let config = config(
        "doorbell serve --write-batch 7 --heartbeat-interval 5s --reflection \
         --cors-origins https://a.example,https://b.example \
         --metrics-listen 127.0.0.1:9100 --log-format json",
    );
    assert_eq!(config.writer.write_batch, 7);
    assert_eq!(
        *config.feed.heartbeat_interval,
        std::time::Duration::from_secs(5)
    );
    assert!(config.http.reflection);
    assert_eq!(config.http.cors_origins.len(), 2);
    assert!(config.http.metrics_listen.is_some());
    assert_eq!(config.log.log_format, config::LogFormat::Json);
}

#[rstest]
#[case("doorbell serve", false)]
#[case("doorbell serve --reflection", true)]
#[case("doorbell serve --reflection=true", true)]
#[case("doorbell serve --reflection=1", true)]
#[case("doorbell serve --reflection=false", false)]
fn a_flag_of_yes_and_no_is_read(#[case] line: &str, #[case] expected: bool) {
    assert_eq!(config(line).http.reflection, expected);
}

#[rstest]
#[case(
    "doorbell serve --heartbeat-intervall 5s",
    "unexpected argument '--heartbeat-intervall' found; \
     tip: a similar argument exists: '--heartbeat-interval'"
)]
#[case(
    "doorbell serve --write-batch many",
    "invalid value 'many' for --write-batch (DOORBELL_WRITE_BATCH): \
     must be a whole number from 1 to 10000"
)]
#[case(
    "doorbell serve --write-batch 0",
    "invalid value '0' for --write-batch (DOORBELL_WRITE_BATCH): \
     must be a whole number from 1 to 10000"
)]
#[case(
    "doorbell serve --log-format pretty",
    "invalid value 'pretty' for --log-format (DOORBELL_LOG_FORMAT); \
     [possible values: auto, human, json]"
)]
#[case(
    "doorbell serve --cors-origins https://a.example/",
    "invalid value 'https://a.example/' for --cors-origins (DOORBELL_CORS_ORIGINS): \
     write it as browsers send it: https://a.example"
)]
#[case(
    "doorbell healthchek",
    "unrecognized subcommand 'healthchek'; tip: a similar subcommand exists: 'healthcheck'"
)]
#[case(
    "doorbell token --organization acme --user ann --lifetime 0s",
    "invalid value '0s' for '--lifetime <DURATION>': must be from 1s to ten years"
)]
#[case(
    "doorbell token",
    "the following required arguments were not provided: \
     --organization <ORGANIZATION>; --user <USER>"
)]
fn a_refusal_is_one_line(#[case] line: &str, #[case] expected: &str) {
    assert_eq!(refusal(line), expected);
}

#[test]
fn without_a_command_it_names_those_there_are() {
    let text = refusal("doorbell");
    assert!(text.starts_with("say what to do: dev, serve, "), "{text}");
    assert!(text.ends_with("; `doorbell --help` tells more"), "{text}");
}

#[rstest]
#[case("doorbell --help")]
#[case("doorbell serve --help")]
#[case("doorbell --version")]
fn help_is_no_refusal(#[case] line: &str) {
    assert!(matches!(
        parse_line(line, &["DOORBELL_UNKNOWN"]),
        Ok(Parsed::Show(_))
    ));
}

#[test]
fn an_unknown_variable_is_refused_and_a_typing_error_is_guessed() {
    let refusal = |name| {
        let failure = parse_line("doorbell serve", &["PATH", name]).err().unwrap();
        assert_eq!(failure.exit_code(), 2);
        failure.to_string()
    };
    assert_eq!(
        refusal("DOORBELL_HEARTBEAT_INTERVALL"),
        "there is no setting DOORBELL_HEARTBEAT_INTERVALL: \
         did you mean DOORBELL_HEARTBEAT_INTERVAL?"
    );
    assert!(refusal("DOORBELL_X").ends_with("for those there are"));
    assert!(refusal("DOORBELL_").ends_with("for those there are"));
    assert_eq!(
        refusal("DOORBELL_COFFEE_STRENGTH"),
        "there is no setting DOORBELL_COFFEE_STRENGTH: \
         unset it, or see `doorbell serve --help` for those there are"
    );
}

#[test]
fn known_variables_of_any_command_and_those_of_others_are_accepted() {
    let names = ["DOORBELL_DATA_DIR", "DOORBELL_URL", "DOORBELLS", "HOME"];
    assert!(parse_line("doorbell serve", &names).is_ok());
}

#[rstest]
#[case("DOORBELL_SERVICE_HOST", true)]
#[case("DOORBELL_SERVICE_PORT", true)]
#[case("DOORBELL_SERVICE_PORT_GRPC", true)]
#[case("DOORBELL_PORT", true)]
#[case("DOORBELL_PORT_50051_TCP", true)]
#[case("DOORBELL_PORT_50051_UDP_ADDR", true)]
#[case("DOORBELL_NATS_SERVICE_HOST", true)]
#[case("DOORBELL_NATS_PORT_4222_TCP_PROTO", true)]
#[case("DOORBELL_PORT_GRPC", false)]
#[case("DOORBELL_SERVICE_NAME", false)]
#[case("DOORBELL_NATS_PORTS", false)]
fn the_service_links_of_kubernetes_are_not_ours(#[case] name: &str, #[case] link: bool) {
    assert_eq!(is_service_link(name), link);
    assert_eq!(parse_line("doorbell serve", &[name]).is_ok(), link);
}

#[test]
fn what_no_eye_sees_at_the_ends_of_a_setting_is_refused() {
    let is_parsed = |flag: &str, value: &str| {
        let words = ["doorbell", "serve", flag, value].map(OsString::from);
        parse(words, [])
            .map(drop)
            .map_err(|failure| failure.to_string())
    };
    assert_eq!(is_parsed("--jwt-issuer", "https://id.example"), Ok(()));
    for end in [" ", "\n", "\r\n", "\t", "\u{feff}", "\u{a0}"] {
        for value in [
            format!("https://id.example{end}"),
            format!("{end}https://id.example"),
        ] {
            assert_eq!(
                is_parsed("--jwt-issuer", &value).unwrap_err(),
                format!("--jwt-issuer (DOORBELL_JWT_ISSUER) {}", config::BLANK_ENDS)
            );
        }
    }
    // Every setting, whatever its kind, but lists: they trim their members.
    let serve = commands().find_subcommand("serve").unwrap().clone();
    let is_one = |arg: &&Arg| arg.get_env().is_some() && arg.get_value_delimiter().is_none();
    for arg in serve.get_arguments().filter(is_one) {
        let flag = format!("--{}", arg.get_long().unwrap());
        for value in ["nats://a\n", "\u{feff}7"] {
            let mut words = vec!["doorbell".into(), "serve".into(), format!("{flag}={value}")];
            if flag.starts_with("--nats-c") {
                words.push("--nats-url=nats://a".into());
            }
            let words = words.into_iter().map(OsString::from);
            let refusal = parse(words, []).err().unwrap().to_string();
            assert!(refusal.contains(&flag), "{flag}: {refusal}");
            assert_eq!(refusal.lines().count(), 1);
        }
    }
    // What is no setting is left as it is.
    assert_eq!(
        is_parsed("--cors-origins", "https://a.example, https://b.example"),
        Ok(())
    );
    let title = [
        "doorbell",
        "send",
        "--organization",
        "a",
        "--user",
        "b",
        "--type",
        "t",
        "--title",
        " hi ",
    ];
    let parsed = parse(title.map(OsString::from), []);
    assert!(
        parsed.is_ok(),
        "{:?}",
        parsed.err().map(|failure| failure.to_string())
    );
}

#[test]
fn an_empty_variable_is_none() {
    let command = unset_empty(commands(), &|name| match name.to_str() {
        Some("DOORBELL_WRITE_BATCH") => Some(OsString::new()),
        Some("DOORBELL_WRITE_QUEUE") => Some("9".into()),
        _ => None,
    });
    let serve = command.find_subcommand("serve").unwrap();
    let has_variable = |id: &str| {
        let mut args = serve.get_arguments();
        args.find(|arg| arg.get_id() == id)
            .unwrap()
            .get_env()
            .is_some()
    };
    assert!(!has_variable("write_batch"));
    assert!(has_variable("write_queue"));
    assert!(has_variable("replay_limit"));
}

#[test]
fn a_secret_is_not_repeated() {
    let command = clap::Command::new("doorbell").arg(
        Arg::new("pin")
            .long("pin")
            .env("DOORBELL_PIN")
            .hide_env_values(true)
            .value_parser(clap::value_parser!(u16)),
    );
    let words = ["doorbell", "--pin", "hunter2"];
    let error = command.clone().try_get_matches_from(words).unwrap_err();
    assert_eq!(
        explain(&error, &command),
        "the value of --pin (DOORBELL_PIN) is refused"
    );
}

#[test]
fn a_failure_is_one_line_with_its_code() {
    let failure = Failure::Failed("the store\n  broke\n\n".to_owned());
    assert_eq!(failure.to_string(), "the store; broke");
    assert_eq!(failure.exit_code(), 1);
}
