//! What a database is like, for who asks before a node works on it, or beside one.
//!
//! It is only read: nothing is made, migrated or written, and no lock is taken that a
//! node waits for.

use std::{path::PathBuf, time::Duration};

use sqlx::migrate::Migrator;

use super::{Error, postgres, sqlite};
use crate::{clock::Clock, config::StoreSettings};

/// What was found.
#[derive(Clone, Debug)]
pub enum Inspection {
    /// Of a file.
    Sqlite(Sqlite),
    /// Of a server.
    Postgres(Postgres),
}

/// Looks at the database that `settings` name; `clock` is what its own is held against.
///
/// # Errors
///
/// [`Error::Open`] where it cannot be reached or read at all, in one line without a
/// password.
pub async fn inspect(settings: &StoreSettings, clock: &dyn Clock) -> Result<Inspection, Error> {
    match super::engine(&settings.database_url())? {
        super::Engine::Sqlite => {
            let found = sqlite::inspect(&settings.database_url()).await?;
            Ok(Inspection::Sqlite(found))
        }
        super::Engine::Postgres => {
            let found = postgres::inspect(settings, clock).await?;
            Ok(Inspection::Postgres(found))
        }
    }
}

/// How many bytes are free for the SQLite file that `settings` name; `None` where they
/// name none, or the system does not say. Blocks for a moment.
pub fn free_bytes(settings: &StoreSettings) -> Option<u64> {
    match super::engine(&settings.database_url()).ok()? {
        super::Engine::Sqlite => sqlite::free_bytes(&settings.database_url()),
        super::Engine::Postgres => None,
    }
}

/// How far a database's schema is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Schema {
    /// The last migration that was made; 0 where there was none.
    pub made: i64,
    /// The last one that this program knows.
    pub known: i64,
    /// Why this program would refuse it.
    pub problem: Option<String>,
}

/// A migration as the database keeps it.
pub(super) struct Made {
    pub(super) version: i64,
    pub(super) is_done: bool,
    pub(super) checksum: Vec<u8>,
}

/// It as [`super::MIGRATIONS_MADE`] answers.
pub(super) type MadeRow = (i64, bool, Vec<u8>);

impl From<MadeRow> for Made {
    fn from((version, is_done, checksum): MadeRow) -> Self {
        Self {
            version,
            is_done,
            checksum,
        }
    }
}

impl Schema {
    /// That of a database in which these migrations were made, the last one last.
    pub(super) fn of(made: &[Made], migrator: &Migrator) -> Self {
        let known = migrator.iter().map(|migration| migration.version).max();
        let undone = made.iter().find(|migration| !migration.is_done);
        let altered = made.iter().find(|migration| {
            let ours = migrator
                .iter()
                .find(|ours| ours.version == migration.version);
            ours.is_some_and(|ours| *ours.checksum != *migration.checksum)
        });
        let problem = match (undone, altered) {
            (Some(undone), _) => Some(format!("migration {} was begun and failed", undone.version)),
            (None, Some(altered)) => Some(format!(
                "migration {} is another than this doorbell's",
                altered.version
            )),
            (None, None) => None,
        };
        Self {
            made: made.last().map_or(0, |migration| migration.version),
            known: known.unwrap_or_default(),
            problem,
        }
    }

    /// Refuses what needs a newer program, unless there is a reason already.
    pub(super) fn refused_if(mut self, is_too_new: bool) -> Self {
        if is_too_new && self.problem.is_none() {
            self.problem = Some(format!(
                "it has migration {}, and this doorbell knows those up to {}",
                self.made, self.known
            ));
        }
        self
    }
}

/// An SQLite file and where it is.
#[derive(Clone, Debug)]
pub struct Sqlite {
    /// The file.
    pub path: PathBuf,
    /// None where there is no file yet.
    pub file: Option<File>,
    /// The directory it is in, or the nearest one that is there.
    pub directory: PathBuf,
    /// Whether the directory of the file is there.
    pub has_directory: bool,
    /// Whether this process may make files in `directory`.
    pub may_make: bool,
    /// The type of the file system, as `statfs` numbers it.
    pub file_system: u64,
    /// Bytes that are free for this process.
    pub free_bytes: u64,
}

/// An SQLite file that is there.
#[derive(Clone, Debug)]
pub struct File {
    /// Whether this process may read and write it.
    pub may_write: bool,
    /// Who owns it.
    pub owner: u32,
    /// Its mode, such as `0o600`.
    pub mode: u32,
    /// Its bytes, without the log beside it.
    pub bytes: u64,
    /// How far its schema is, or why it cannot be read.
    pub schema: Result<Schema, String>,
}

/// A Postgres, by a connection of its own.
#[derive(Clone, Debug)]
pub struct Postgres {
    /// `host:port/database`.
    pub place: String,
    /// As it says it.
    pub version: String,
    /// Whether the connection is encrypted.
    pub is_tls: bool,
    /// Why a node would not work on it.
    pub refusal: Option<String>,
    /// Why no connection can be had as a node makes them for its work.
    pub lanes_refusal: Option<String>,
    /// How far the schema is.
    pub schema: Schema,
    /// Whether the user may make tables in the schema.
    pub may_create: bool,
    /// How far its clock is ahead of ours, in microseconds; negative where it is behind.
    pub ahead_micros: i64,
    /// By how much that may be wrong.
    pub uncertain: Duration,
    /// The most connections that this user can have to this database.
    pub most_connections: i64,
    /// Those that clients have, of doorbell and of others, without those of the inspection.
    pub connections: i64,
    /// Those of them that are of nodes with NATS.
    pub shared: i64,
    /// Those of them that are of nodes without.
    pub alone: i64,
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use sqlx::{
        SqlSafeStr as _,
        migrate::{Migration, MigrationType},
    };

    use super::*;

    fn migrator() -> Migrator {
        let migration = |version| {
            let text = "SELECT 1".into_sql_str();
            let name = Cow::Borrowed("one");
            Migration::new(version, name, MigrationType::Simple, text, false)
        };
        Migrator::with_migrations(vec![migration(1), migration(2)])
    }

    fn made(versions: &[i64]) -> Vec<Made> {
        let checksum = migrator().iter().next().unwrap().checksum.to_vec();
        let made = versions.iter().map(|version| Made {
            version: *version,
            is_done: true,
            checksum: checksum.clone(),
        });
        made.collect()
    }

    #[test]
    fn a_schema_is_none_old_whole_altered_or_half() {
        let none = Schema::of(&[], &migrator());
        assert_eq!((none.made, none.known, none.problem), (0, 2, None));
        let old = Schema::of(&made(&[1]), &migrator());
        assert_eq!((old.made, old.problem), (1, None));
        let whole = Schema::of(&made(&[1, 2]), &migrator());
        assert_eq!((whole.made, whole.problem), (2, None));

        let mut altered = made(&[1, 2]);
        altered[0].checksum = vec![0];
        let problem = Schema::of(&altered, &migrator()).problem.unwrap();
        assert!(problem.contains("migration 1 is another"), "{problem}");
        let mut half = made(&[1, 2]);
        half[1].is_done = false;
        let problem = Schema::of(&half, &migrator()).problem.unwrap();
        assert!(problem.contains("migration 2 was begun"), "{problem}");
        let newer = Schema::of(&made(&[1, 2, 3]), &migrator());
        assert_eq!(newer.problem, None);
        let problem = newer.refused_if(true).problem.unwrap();
        assert!(problem.contains("it has migration 3"), "{problem}");
    }
}
