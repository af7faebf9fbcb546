//! What is known of a Postgres before a node works on it.
//!
//! By the way that migrations take, in a session that is read only, and once by the way
//! of the lanes, as a node would go it.

use std::time::Duration;

use sqlx::{Connection as _, PgConnection, Row as _, postgres::PgRow};

use super::{ALONE, SHARED, Ways, connect, connections::Connections, migrator, refuse_unsafe};
use crate::{
    clock::{Clock, Timestamp, ahead},
    config::StoreSettings,
    store::{
        Error, MIGRATIONS_MADE,
        inspection::{Made, MadeRow, Postgres, Schema},
    },
};

/// What clients have counts without the session that asks. What the reserve is for, and
/// what has no limit (-1), is none of a node's.
const FACTS: &str = "SELECT current_setting('server_version') AS version, \
     coalesce((SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()), false) AS is_tls, \
     coalesce(has_schema_privilege(current_schema(), 'CREATE'), false) AS may_create, \
     to_regclass('_sqlx_migrations') IS NOT NULL AS has_schema, \
     least(current_setting('max_connections')::bigint \
     - current_setting('superuser_reserved_connections')::bigint, \
     (SELECT nullif(rolconnlimit, -1) FROM pg_roles WHERE rolname = current_user), \
     (SELECT nullif(datconnlimit, -1) FROM pg_database \
     WHERE datname = current_database())) AS most, \
     (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' \
     AND pid <> pg_backend_pid()) AS connections, \
     (SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() \
     AND application_name = $1) AS shared, \
     (SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() \
     AND application_name = $2) AS alone";

const TAKES_NO_WRITES: &str = "SELECT current_setting('default_transaction_read_only')::boolean";
const NOW: &str = "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint";

/// Looks at the server that `settings` name.
pub(in crate::store) async fn inspect(
    settings: &StoreSettings,
    clock: &dyn Clock,
) -> Result<Postgres, Error> {
    let ways = Ways::new(settings, super::BESIDE)?;
    let within: Duration = settings.database_connect_timeout.into();
    let mut connection = connect(&ways.direct, within)
        .await
        .map_err(|problem| ways.cannot_use(&problem))?;
    let asked = async {
        let takes_no_writes: bool = sqlx::query_scalar(TAKES_NO_WRITES)
            .fetch_one(&mut connection)
            .await?;
        sqlx::query("SET default_transaction_read_only = on")
            .execute(&mut connection)
            .await?;
        let refusal = refuse_unsafe(&mut connection)
            .await
            .err()
            .or_else(|| takes_no_writes.then(|| "it is set to be read only".to_owned()));
        let facts = sqlx::query(FACTS)
            .bind(SHARED)
            .bind(ALONE)
            .fetch_one(&mut connection)
            .await?;
        let before = clock.now();
        let now: i64 = sqlx::query_scalar(NOW).fetch_one(&mut connection).await?;
        let now = (Timestamp::from_micros(now), before, clock.now());
        let schema = if facts.try_get("has_schema")? {
            schema(&mut connection).await?
        } else {
            Schema::of(&[], &migrator())
        };
        Ok::<_, sqlx::Error>((refusal, facts, now, schema))
    };
    let asked = tokio::time::timeout(*settings.database_statement_timeout, asked).await;
    let (refusal, facts, (now, before, after), schema) = asked
        .map_err(|_| ways.cannot_use("it does not answer in time"))?
        .map_err(|error| ways.cannot_use(&error.to_string()))?;
    // Its end is noticed by the server where it cannot be said.
    let _ = tokio::time::timeout(within, connection.close()).await;

    let lanes = Connections::open(ways.lanes.clone(), 1, within, !settings.database_pooler).await;
    let lanes_refusal = match lanes {
        Ok(lanes) => {
            lanes.close().await;
            None
        }
        Err(error) => Some(error.to_string()),
    };
    let (ahead_micros, uncertain) = ahead(now, before, after);
    let read = |row: &PgRow| {
        Ok::<_, sqlx::Error>(Postgres {
            place: ways.place.clone(),
            version: row.try_get("version")?,
            is_tls: row.try_get("is_tls")?,
            refusal,
            lanes_refusal,
            schema,
            may_create: row.try_get("may_create")?,
            ahead_micros,
            uncertain,
            most_connections: row.try_get("most")?,
            connections: row.try_get("connections")?,
            shared: row.try_get("shared")?,
            alone: row.try_get("alone")?,
        })
    };
    read(&facts).map_err(|error| ways.cannot_use(&error.to_string()))
}

async fn schema(connection: &mut PgConnection) -> Result<Schema, sqlx::Error> {
    let made: Vec<MadeRow> = sqlx::query_as(MIGRATIONS_MADE)
        .fetch_all(&mut *connection)
        .await?;
    let made: Vec<_> = made.into_iter().map(Made::from).collect();
    let schema = Schema::of(&made, &migrator());
    if schema.made <= schema.known {
        return Ok(schema);
    }
    // A newer program may have left it usable for this one.
    let oldest: i64 = sqlx::query_scalar("SELECT oldest_schema FROM doorbell WHERE id = 1")
        .fetch_one(connection)
        .await?;
    let is_too_new = schema.known < oldest;
    Ok(schema.refused_if(is_too_new))
}
