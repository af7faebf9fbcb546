//! The files of a database: who may open them, and whether they are still those
//! that were opened.

use std::{
    ffi::OsString,
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
};

use super::Error;

/// The files of one database, and the lock that keeps other processes away.
pub(super) struct Files {
    /// As it was named, perhaps by way of a link.
    named: PathBuf,
    /// Where it is: by whatever name it is opened, the lock is the same.
    database: PathBuf,
    /// Held as long as this is.
    _lock: File,
    /// What the names stood for when it was opened.
    watched: Vec<(PathBuf, Identity)>,
    is_gone: AtomicBool,
}

/// The device and the inode.
type Identity = (u64, u64);

fn identity(path: &Path) -> io::Result<Identity> {
    fs::metadata(path).map(|file| (file.dev(), file.ino()))
}

/// The file beside a database whose name ends so.
pub(super) fn beside(database: &Path, end: &str) -> PathBuf {
    let mut path = OsString::from(database);
    path.push(end);
    path.into()
}

impl Files {
    /// Locks the database at `named`, and makes an empty one if there is none, for
    /// this user alone. SQLite makes its log as it finds the database.
    pub(super) fn take(named: &Path) -> Result<Self, Error> {
        let refused = |what: &str, path: &Path, error: io::Error| {
            let (named, path) = (named.display(), path.display());
            Error::Open(format!(
                "cannot open the database {named}: {what} {path}: {error}"
            ))
        };
        let mut private = OpenOptions::new();
        private.create(true).truncate(false).write(true).mode(0o600);
        // One that is there is not opened: closing it again would end the locks that
        // SQLite may have on it in this process.
        let is_new = !named.exists();
        if is_new {
            private
                .open(named)
                .map_err(|error| refused("it cannot be made at", named, error))?;
        }
        let database =
            fs::canonicalize(named).map_err(|error| refused("it is not at", named, error))?;
        let lock_path = beside(&database, ".lock");
        let lock = private
            .open(&lock_path)
            .map_err(|error| refused("no lock file can be made at", &lock_path, error))?;
        lock.try_lock().map_err(|error| match error {
            fs::TryLockError::WouldBlock => Error::Open(format!(
                "the database {} is in use by another doorbell process (it holds {})",
                named.display(),
                lock_path.display()
            )),
            fs::TryLockError::Error(error) => refused("no lock can be had on", &lock_path, error),
        })?;
        if is_new && let Some(directory) = database.parent() {
            File::open(directory)
                .and_then(|directory| directory.sync_all())
                .map_err(|error| refused("no sync of", directory, error))?;
        }
        Ok(Self {
            named: named.to_owned(),
            database,
            _lock: lock,
            watched: Vec::new(),
            is_gone: AtomicBool::new(false),
        })
    }

    /// Where the database is.
    pub(super) fn database(&self) -> &Path {
        &self.database
    }

    /// Remembers the files, now that they are all there.
    pub(super) fn watched(mut self) -> Result<Self, Error> {
        let files = [
            self.named.clone(),
            beside(&self.database, "-wal"),
            beside(&self.database, ".lock"),
        ];
        for path in files {
            let identity = identity(&path).map_err(|error| {
                Error::Open(format!(
                    "cannot open the database {}: {error}",
                    path.display()
                ))
            })?;
            self.watched.push((path, identity));
        }
        Ok(self)
    }

    /// Fails once a file was deleted, or another is in its place, and from then on:
    /// what is written to a file that has no name is lost with the process.
    pub(super) fn check(&self) -> Result<(), Error> {
        let is_other = |(path, opened): &&(PathBuf, Identity)| match identity(path) {
            Ok(found) => found != *opened,
            Err(error) => error.kind() == io::ErrorKind::NotFound,
        };
        let gone = if self.is_gone.load(Ordering::Relaxed) {
            self.watched.first()
        } else {
            self.watched.iter().find(is_other)
        };
        let Some((path, _)) = gone else { return Ok(()) };
        let problem = "was deleted or replaced under this process, which writes no more: \
                       restore the files, and start it again";
        if !self.is_gone.swap(true, Ordering::Relaxed) {
            tracing::error!(path = %path.display(), "a file of the database {problem}");
        }
        let named = self.named.display();
        Err(Error::Unavailable(
            format!("a file of the database {named} {problem}").into(),
        ))
    }
}
