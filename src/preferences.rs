//! What is wanted of types of notifications: by people, and by organizations for those
//! who said nothing.
//!
//! A send is judged by all of it: what is required everybody has; else what a person said
//! holds, and what the organization says where they said nothing. What a person said is
//! read in the transaction of the send; what an organization says is known here, for ten
//! seconds at most.

use std::{collections::HashMap, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::{
    inbox::Error,
    model::{InboxKey, OrganizationId, Wanted},
    store::{
        Database,
        preferences::{Chosen, TypeDefault, TypeDefaults},
    },
};

/// What an organization says is read again after so long.
const KNOWN_FOR: Duration = Duration::from_secs(10);
/// Of so many organizations it is known; where there are more, what is old is forgotten.
const MOST_KNOWN: usize = 10_000;
/// The most types of which an organization or a person says anything.
pub const MOST_TYPES: usize = 200;

/// Why something was not noted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotNoted {
    /// They said something of too many types.
    #[error("at most {MOST_TYPES} types can be told apart")]
    TooMany,
    /// Everybody has this type.
    #[error("the type `{0}` is required: it cannot be turned off")]
    Required(String),
}

/// What is known of an organization.
struct Known {
    since: Instant,
    defaults: Arc<TypeDefaults>,
}

/// All preferences of the service.
pub struct Preferences {
    store: Arc<dyn Database>,
    known: Mutex<HashMap<OrganizationId, Known>>,
}

impl Preferences {
    /// The preferences in `store`.
    pub fn new(store: Arc<dyn Database>) -> Self {
        Self {
            store,
            known: Mutex::default(),
        }
    }

    /// What the organization says of a type. Cancel safe.
    pub async fn wanted(&self, organization: &OrganizationId, kind: &str) -> Result<Wanted, Error> {
        let defaults = self.known(organization).await?;
        let default = defaults.get(kind).copied();
        Ok(default.map(TypeDefault::wanted).unwrap_or_default())
    }

    async fn known(&self, organization: &OrganizationId) -> Result<Arc<TypeDefaults>, Error> {
        if let Some(known) = self.known.lock().get(organization)
            && known.since.elapsed() < KNOWN_FOR
        {
            return Ok(known.defaults.clone());
        }
        let defaults = Arc::new(self.store.type_defaults(organization).await?);
        self.know(organization, &defaults);
        Ok(defaults)
    }

    fn know(&self, organization: &OrganizationId, defaults: &Arc<TypeDefaults>) {
        let mut all = self.known.lock();
        if all.len() >= MOST_KNOWN {
            all.retain(|_, known| known.since.elapsed() < KNOWN_FOR);
        }
        if all.len() >= MOST_KNOWN {
            all.clear();
        }
        let known = Known {
            since: Instant::now(),
            defaults: defaults.clone(),
        };
        all.insert(organization.clone(), known);
    }

    /// What a person said, and what their organization says. Cancel safe.
    pub async fn get(&self, inbox: &InboxKey) -> Result<(Chosen, TypeDefaults), Error> {
        let chosen = self.store.chosen(inbox).await?;
        let defaults = self.store.type_defaults(&inbox.organization_id).await?;
        Ok((chosen, defaults))
    }

    /// Notes what a person says. Cancel safe.
    pub async fn choose(
        &self,
        inbox: &InboxKey,
        of: &[(String, Option<bool>)],
    ) -> Result<Result<(Chosen, TypeDefaults), NotNoted>, Error> {
        let (chosen, defaults) = self.get(inbox).await?;
        let is_required = |kind: &str| defaults.get(kind).is_some_and(|of| of.is_required);
        if let Some((kind, _)) = of
            .iter()
            .find(|(kind, is_on)| *is_on == Some(false) && is_required(kind))
        {
            return Ok(Err(NotNoted::Required(kind.clone())));
        }
        if is_too_many(chosen.keys(), of) {
            return Ok(Err(NotNoted::TooMany));
        }
        Ok(Ok((self.store.choose(inbox, of).await?, defaults)))
    }

    /// What an organization says. Cancel safe.
    pub async fn defaults(&self, organization: &OrganizationId) -> Result<TypeDefaults, Error> {
        Ok(self.store.type_defaults(organization).await?)
    }

    /// Notes what an organization says: on this node at once, on others within ten
    /// seconds. Cancel safe.
    pub async fn set_defaults(
        &self,
        organization: &OrganizationId,
        of: &[(String, Option<TypeDefault>)],
    ) -> Result<Result<TypeDefaults, NotNoted>, Error> {
        let said = self.store.type_defaults(organization).await?;
        if is_too_many(said.keys(), of) {
            return Ok(Err(NotNoted::TooMany));
        }
        let said = self.store.set_type_defaults(organization, of).await?;
        self.know(organization, &Arc::new(said.clone()));
        Ok(Ok(said))
    }
}

/// Whether there are too many types once this is said of some.
fn is_too_many<'s, T>(
    said: impl Iterator<Item = &'s String>,
    of: &'s [(String, Option<T>)],
) -> bool {
    let is_taken_back = |kind: &str| of.iter().any(|(of, to)| of == kind && to.is_none());
    let stay = said.filter(|kind| !is_taken_back(kind));
    let more = of
        .iter()
        .filter(|(_, to)| to.is_some())
        .map(|(kind, _)| kind);
    let all: std::collections::HashSet<&String> = stay.chain(more).collect();
    all.len() > MOST_TYPES
}
