//! What is known of an SQLite file before it is opened for work.
//!
//! The lock beside it is left alone, and the file is opened to be read. Without a log
//! beside it nobody works on it, and it is read as what does not change: then SQLite
//! makes no files of its own.

use std::{
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use rustix::fs::{Access, AtFlags, CWD, StatFs, accessat, statfs};
use sqlx::{ConnectOptions as _, Connection as _, sqlite::SqliteConnectOptions};

use super::{BUSY_TIMEOUT, files::beside, migrator, options};
use crate::store::{
    Error,
    inspection::{File, Made, MadeRow, Schema, Sqlite},
};

/// Looks at the file of `url`.
pub(in crate::store) async fn inspect(url: &str) -> Result<Sqlite, Error> {
    let (options, path) = options(url)?;
    let cannot = |what: &Path, error: &dyn std::fmt::Display| {
        Error::Open(format!(
            "cannot look at the database {}: {}: {error}",
            path.display(),
            what.display()
        ))
    };
    let home = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    };
    let directory = home.ancestors().find(|directory| directory.is_dir());
    let directory = match directory {
        Some(directory) => directory.to_owned(),
        // A relative path of directories that are all to be made.
        None => PathBuf::from("."),
    };
    let system = statfs(&directory).map_err(|error| cannot(&directory, &error))?;
    let file = match fs::metadata(&path) {
        Ok(metadata) => Some(File {
            may_write: may(&path, Access::READ_OK | Access::WRITE_OK),
            owner: metadata.uid(),
            mode: metadata.mode() & 0o777,
            bytes: metadata.len(),
            schema: schema(options, &path).await,
        }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(cannot(&path, &error)),
    };
    Ok(Sqlite {
        file,
        has_directory: home.is_dir(),
        may_make: may(&directory, Access::WRITE_OK | Access::EXEC_OK),
        // 32 bits, whatever size and sign the system gives them.
        file_system: u64::try_from(system.f_type & 0xffff_ffff).unwrap_or_default(),
        free_bytes: free(&system),
        directory,
        path,
    })
}

fn free(system: &StatFs) -> u64 {
    system
        .f_bavail
        .saturating_mul(system.f_bsize.unsigned_abs())
}

/// How many bytes are free for the file of `url`.
pub(in crate::store) fn free_bytes(url: &str) -> Option<u64> {
    let (_, path) = options(url).ok()?;
    Some(free(&statfs(path).ok()?))
}

fn may(path: &Path, access: Access) -> bool {
    accessat(CWD, path, access, AtFlags::EACCESS).is_ok()
}

async fn schema(options: SqliteConnectOptions, path: &Path) -> Result<Schema, String> {
    let is_at_rest = !beside(path, "-wal").exists();
    let options = options
        .read_only(true)
        .immutable(is_at_rest)
        .busy_timeout(BUSY_TIMEOUT);
    let read = async {
        let mut connection = options.connect().await?;
        let is_ours: i64 = sqlx::query_scalar(
            "SELECT count(*) FROM sqlite_schema WHERE name = '_sqlx_migrations'",
        )
        .fetch_one(&mut connection)
        .await?;
        let made: Vec<MadeRow> = if is_ours == 0 {
            Vec::new()
        } else {
            sqlx::query_as(crate::store::MIGRATIONS_MADE)
                .fetch_all(&mut connection)
                .await?
        };
        connection.close().await?;
        Ok::<_, sqlx::Error>(made)
    };
    let made = read.await.map_err(|error| error.to_string())?;
    let made: Vec<_> = made.into_iter().map(Made::from).collect();
    let schema = Schema::of(&made, &migrator());
    // A file is of one program: it takes none that it does not know.
    let is_too_new = schema.made > schema.known;
    Ok(schema.refused_if(is_too_new))
}
