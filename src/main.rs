//! The command line.
//!
//! Ends with 0, with 1 when the command went wrong, with 2 when it was not
//! begun; then one line on standard error says why.

use std::{env, process::ExitCode, time::Duration};

use doorbell::{
    cli::{
        broadcast,
        command::{self, Command, Failure, Parsed},
        doctor, erase, follow_ups, healthcheck, inbox, preferences, retract,
        selection::edit,
        send, sends, serve, shell, timeline, token, topic, update, watch,
    },
    client::Verb,
};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// A worker that has much to do looks after so many tasks into the queue of all
/// workers. What does not fit its own queue goes there; seldom looked into, it is where
/// a send waits longest while thousands of streams come back.
const GLOBAL_QUEUE_INTERVAL: u32 = 5;
/// How long what still runs may take after a command has ended.
const LINGER: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    match run() {
        Ok(()) | Err(Failure::Unread) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("doorbell: {failure}");
            ExitCode::from(failure.exit_code())
        }
    }
}

fn run() -> Result<(), Failure> {
    // One provider for all that speaks TLS or checks a token. It fails only
    // where one was installed before, and nothing came before.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let variables = env::vars_os().map(|(name, _)| name);
    let command = match command::parse(env::args_os(), variables)? {
        Parsed::Run(command) => *command,
        Parsed::Show(text) => {
            // It fails where nobody is there to read it.
            let _ = text.print();
            return Ok(());
        }
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .global_queue_interval(GLOBAL_QUEUE_INTERVAL)
        .build()
        .map_err(|error| Failure::Failed(format!("no threads to run on: {error}")))?;
    let outcome = runtime.block_on(execute(command));
    runtime.shutdown_timeout(LINGER);
    outcome
}

async fn execute(command: Command) -> Result<(), Failure> {
    match command {
        Command::Dev(config) => serve::dev(*config).await,
        Command::Serve(config) => serve::serve(*config).await,
        Command::Migrate(args) => serve::migrate(args).await,
        Command::Doctor(args) => doctor::run(*args).await,
        Command::Token(args) => token::run(args),
        Command::Send(args) => Ok(send::run(args).await?),
        Command::Schedule(args) => Ok(send::run(args.into()).await?),
        Command::Broadcast(args) => Ok(broadcast::run(args).await?),
        Command::Sends(args) => Ok(sends::run(args).await?),
        Command::Cancel(args) => Ok(sends::cancel(args).await?),
        Command::Topic(args) => Ok(topic::run(args).await?),
        Command::Update(args) => Ok(update::run(args).await?),
        Command::Retract(args) => Ok(retract::run(args).await?),
        Command::Watch(args) => Ok(watch::run(args).await?),
        Command::Count(args) => Ok(inbox::count(args).await?),
        Command::Recent(args) => Ok(inbox::recent(args).await?),
        Command::Read(args) => Ok(edit(Verb::Read, args).await?),
        Command::Unread(args) => Ok(edit(Verb::Unread, args).await?),
        Command::Archive(args) => Ok(edit(Verb::Archive, args).await?),
        Command::Unarchive(args) => Ok(edit(Verb::Unarchive, args).await?),
        Command::Remove(args) => Ok(edit(Verb::Remove, args).await?),
        Command::Seen(args) => Ok(inbox::mark_seen(args).await?),
        Command::Preferences(args) => Ok(preferences::run(args).await?),
        Command::TypeDefaults(args) => Ok(preferences::defaults(args).await?),
        Command::FollowUps(args) => Ok(follow_ups::run(args).await?),
        Command::Timeline(args) => Ok(timeline::run(args).await?),
        Command::Erase(args) => Ok(erase::run(args).await?),
        Command::Healthcheck(args) => healthcheck::run(&args).await,
        Command::Completions(args) => Ok(shell::completions(&args)?),
        Command::Man(args) => Ok(shell::man(&args)?),
    }
}
