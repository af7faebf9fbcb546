//! Programs that are not ours.
//!
//! `./test` installs them below `target/tools` and `tests/foreign/web`; where one
//! is missing, the test fails and says so.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use super::server::DOORBELL;

/// A path in the repository.
pub fn of_the_checkout(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// A tool that `./test` installs.
fn tool(path: &str) -> PathBuf {
    let tool = of_the_checkout(path);
    assert!(
        tool.exists(),
        "{path} is missing; install it with: ./test --prepare"
    );
    tool
}

/// The real grpcurl.
pub fn grpcurl_binary() -> PathBuf {
    tool("target/tools/bin/grpcurl")
}

/// The real nats-server.
pub fn nats_server() -> PathBuf {
    tool("target/tools/bin/nats-server")
}

/// The real buf.
pub fn buf() -> Command {
    let mut buf = Command::new(of_npm("buf"));
    buf.env("BUF_CACHE_DIR", of_the_checkout("target/tools/buf"));
    buf
}

/// The Python that has `doorbell-client`.
pub fn python() -> Command {
    Command::new(tool("target/tools/python/bin/python"))
}

/// A program of the npm packages.
pub fn of_npm(name: &str) -> PathBuf {
    tool(&format!("tests/foreign/web/node_modules/.bin/{name}"))
}

/// A shell with grpcurl and our own binary at hand, in which first the tokens and then these lines
/// are pasted.
pub fn paste(tokens: &str, lines: &str) -> Command {
    let directory = grpcurl_binary().parent().unwrap().to_owned();
    let others = std::env::var_os("PATH").unwrap();
    let own = Path::new(DOORBELL).parent().unwrap().to_owned();
    let path = [directory, own].into_iter();
    let path = path.chain(std::env::split_paths(&others));
    let mut shell = Command::new("sh");
    shell
        .args(["-ec", &format!("{tokens}\n{lines}")])
        .env("PATH", std::env::join_paths(path).unwrap());
    shell
}
