//! `doorbell dev`, `doorbell serve` and `doorbell migrate`.

use std::{
    io::Write as _,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::{
    command::{Failure, MigrateArgs},
    dev::{self, Welcome},
    token,
};
use crate::{
    app::{self, App, OPERATOR_CONNECTIONS},
    auth::mint::Grant,
    clock::{Clock, SystemClock},
    config::{self, Config, StoreSettings},
    random::{Random, SystemRandom},
    store::{self, Sharing},
    telemetry,
};

/// Files that are open beside the connections: the store's, the pages', the log and the like.
const OTHER_FILES: u64 = 64;
/// How long the tokens that `dev` prints are valid.
const DEV_LIFETIME: Duration = Duration::from_secs(7 * 24 * 3600);

/// Serves until it is told to stop by SIGTERM or SIGINT; told again, it stops at
/// once.
pub async fn serve(config: Config) -> Result<(), Failure> {
    let _log = telemetry::init(&config.log)?;
    make_data_dir(&config.store)?;
    run(config, false, |_, _| Ok(())).await
}

/// Serves as [`serve`] does, with a secret of its own, and says what to do next.
pub async fn dev(mut config: Config) -> Result<(), Failure> {
    let _log = telemetry::init(&config.log)?;
    if config.auth.single_organization.is_some() {
        let problem = "is for `doorbell serve`: `doorbell dev` shows two organizations";
        return Err(config::Error::new("single-organization", problem).into());
    }
    dev::make_data_dir(&config.store.data_dir)?;
    if config.auth.jwt_secret.is_none() && config.auth.jwt_secret_file.is_none() {
        config.auth.jwt_secret = Some(dev::secret(&config.store.data_dir, &SystemRandom)?);
    }
    let operator = || dev::OPERATOR_ROLE.to_owned();
    config.auth.operator_role.get_or_insert_with(operator);
    config.http.reflection = true;
    config.http.live_page = true;
    let any_port = || SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    config.http.operator_listen.get_or_insert_with(any_port);
    // Nobody balances load to it, and somebody waits for it to end.
    config.server.drain_delay = Duration::ZERO.into();

    let minter = token::minter(&config.auth)?;
    let now = SystemClock.now();
    let mint = |organization: &str, user: Option<&str>, role: Option<&str>| {
        let grant = Grant {
            organization: organization.to_owned(),
            user: user.map(str::to_owned),
            role: role.map(str::to_owned),
            subject: None,
            lifetime: DEV_LIFETIME,
        };
        minter
            .mint(&grant, now)
            .map_err(|error| Failure::Failed(error.to_string()))
    };
    let sender = mint("*", None, Some(&config.auth.sender_role))?;
    let alice = mint(dev::ALICE.0, Some(dev::ALICE.1), None)?;
    let bob = mint(dev::BOB.0, Some(dev::BOB.1), None)?;
    let operator = mint("*", None, config.auth.operator_role.as_deref())?;
    let data_dir = config.store.data_dir.display().to_string();
    let certificate = &config.server.tls_cert_file;
    let certificate = certificate.as_ref().map(|file| file.display().to_string());
    run(config, true, move |address, operator_address| {
        let program = std::env::args()
            .next()
            .unwrap_or_else(|| "doorbell".to_owned());
        let welcome = Welcome {
            address,
            operator_address,
            certificate,
            data_dir,
            program,
            sender,
            alice,
            bob,
            operator,
        };
        let mut out = std::io::stdout().lock();
        out.write_all(dev::welcome(&welcome).as_bytes())
            .and_then(|()| out.flush())
            .map_err(|error| Failure::Failed(format!("cannot write the output: {error}")))
    })
    .await
}

/// Brings the schema up to date, and renews the epoch if it is asked to.
pub async fn migrate(args: MigrateArgs) -> Result<(), Failure> {
    let _log = telemetry::init(&args.log)?;
    args.store
        .check()
        .map_err(|error| Failure::Refused(error.to_string()))?;
    make_data_dir(&args.store)?;
    let store = store::open(&args.store, Sharing::Beside, &SystemRandom).await?;
    tracing::info!("the schema is up to date");
    if args.new_epoch {
        store.renew_epoch(&store::new_epoch(&SystemRandom)).await?;
        tracing::info!("the epoch is new: all clients load anew");
    }
    store.close().await;
    Ok(())
}

/// Makes the directory of the default database; one that was named elsewhere is
/// not ours to make.
fn make_data_dir(store: &StoreSettings) -> Result<(), Failure> {
    if store.database_url.is_none() {
        dev::make_data_dir(&store.data_dir)?;
    }
    Ok(())
}

async fn run(
    mut config: Config,
    local: bool,
    listening: impl FnOnce(SocketAddr, Option<SocketAddr>) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let stop = Stop::listen()?;
    let open_files = raise_open_files();
    let max_connections = config.server.max_connections;
    let needed = files_needed(&config);
    if let Some(files) = open_files {
        config.server.max_connections = max_connections.min(connections_of(&config, files));
    }
    let (clock, random): (Arc<dyn Clock>, Arc<dyn Random>) =
        (Arc::new(SystemClock), Arc::new(SystemRandom));
    let address = config.server.listen;
    let mut app = tokio::select! {
        built = App::build(config, clock, random, local) => built?,
        () = stop.asked.cancelled() => {
            tracing::info!("was told to stop before it had started");
            return Ok(());
        }
    };
    let listener = app::listen(address).await?;
    let address = listener.local_addr().unwrap_or(address);
    let operator_address = app.listen_for_operators().await?;
    if let Some(address) = operator_address {
        tracing::info!(%address, "listening for operators");
    }
    tracing::info!(%address, "listening");
    if let Some(open_files) = open_files
        && open_files < needed
    {
        tracing::warn!(
            open_files,
            max_connections,
            "fewer files may be open than that many connections need, and so many fewer are \
             taken: raise the limit (ulimit -n, LimitNOFILE), or lower DOORBELL_MAX_CONNECTIONS"
        );
    }
    listening(address, operator_address)?;
    tokio::select! {
        done = app.run(listener, stop.asked.cancelled()) => Ok(done?),
        () = stop.told_again.cancelled() => {
            Err(Failure::Failed("was told to stop twice, and did not drain".to_owned()))
        }
    }
}

/// How many files are open where there are all the connections that there may be.
pub(super) fn files_needed(config: &Config) -> u64 {
    let connections = config.server.max_connections;
    let of_operators = match config.http.operator_listen {
        None => 0,
        Some(_) => connections.min(OPERATOR_CONNECTIONS),
    };
    u64::from(connections) + u64::from(of_operators) + OTHER_FILES
}

/// For how many connections so many files are enough.
fn connections_of(config: &Config, files: u64) -> u32 {
    let rest = files.saturating_sub(OTHER_FILES);
    let own = match config.http.operator_listen {
        None => rest,
        // Of few, operators have as many.
        Some(_) => (rest / 2).max(rest.saturating_sub(OPERATOR_CONNECTIONS.into())),
    };
    u32::try_from(own).unwrap_or(u32::MAX).max(1)
}

/// Takes as many file descriptors as the system gives, since each connection needs
/// one and many systems give a process few until it asks. How many; `None`: without
/// a limit.
fn raise_open_files() -> Option<u64> {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        ..limit
    };
    match setrlimit(Resource::Nofile, raised) {
        Ok(()) => raised.current,
        Err(_) => limit.current,
    }
}

/// SIGTERM and SIGINT. SIGHUP only reads the certificates anew, and does not end
/// a server that has none.
struct Stop {
    asked: CancellationToken,
    told_again: CancellationToken,
}

impl Stop {
    fn listen() -> Result<Self, Failure> {
        let signal = |kind| {
            signal(kind).map_err(|error| Failure::Failed(format!("cannot hear signals: {error}")))
        };
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut hangup = signal(SignalKind::hangup())?;
        let (asked, told_again) = (CancellationToken::new(), CancellationToken::new());
        let stop = Self {
            asked: asked.clone(),
            told_again: told_again.clone(),
        };
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    _ = terminate.recv() => {}
                    _ = interrupt.recv() => {}
                    _ = hangup.recv() => continue,
                }
                if asked.is_cancelled() {
                    return told_again.cancel();
                }
                asked.cancel();
            }
        });
        Ok(stop)
    }
}

impl From<app::Error> for Failure {
    fn from(error: app::Error) -> Self {
        match error {
            app::Error::Internal(_) => Self::Failed(error.to_string()),
            _ => Self::Refused(error.to_string()),
        }
    }
}

impl From<store::Error> for Failure {
    fn from(error: store::Error) -> Self {
        match error {
            store::Error::Open(_) => Self::Refused(error.to_string()),
            _ => Self::Failed(error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_for_the_connections_of_both_ports() {
        let mut config = Config::default();
        for (is_for_operators, files, connections) in [
            (false, 164, 100),
            (true, 164, 50),
            (true, 576, 256),
            (true, 1320, 1000),
        ] {
            let address = (Ipv4Addr::LOCALHOST, 0).into();
            config.http.operator_listen = is_for_operators.then_some(address);
            assert_eq!(connections_of(&config, files), connections);
            config.server.max_connections = connections;
            assert_eq!(files_needed(&config), files);
        }
        assert_eq!(connections_of(&config, 10), 1);
    }
}
