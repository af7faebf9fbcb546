//! What is wanted of types of notifications: by people, and by organizations for those
//! who said nothing.
//!
//! A send is judged by all of it: what is required everybody has; else what a person said
//! holds, and what the organization says where they said nothing. What a person said is
//! read in the transaction of the send; what an organization says is known here, for ten
//! seconds at most.

use std::{collections::HashMap, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::{sync::OnceCell, time::Instant};

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

/// What is known of an organization, since this was asked for. Read once for all who ask
/// meanwhile.
struct Known {
    since: Instant,
    defaults: Arc<OnceCell<TypeDefaults>>,
}

/// All preferences of the service.
pub struct Preferences {
    store: Arc<dyn Database>,
    known: Mutex<HashMap<OrganizationId, Known>>,
    /// Held by who counts the types and then notes more: of two at once on a node, each
    /// counts what the other noted.
    noting: tokio::sync::Mutex<()>,
}

impl Preferences {
    /// The preferences in `store`.
    pub fn new(store: Arc<dyn Database>) -> Self {
        Self {
            store,
            known: Mutex::default(),
            noting: tokio::sync::Mutex::default(),
        }
    }

    /// What the organization says of a type. Cancel safe.
    pub async fn wanted(&self, organization: &OrganizationId, kind: &str) -> Result<Wanted, Error> {
        let known = self.known(organization);
        let read = || self.store.type_defaults(organization);
        let default = known.get_or_try_init(read).await?.get(kind).copied();
        Ok(default.map(TypeDefault::wanted).unwrap_or_default())
    }

    fn known(&self, organization: &OrganizationId) -> Arc<OnceCell<TypeDefaults>> {
        let mut all = self.known.lock();
        if let Some(known) = all.get(organization).filter(|known| known.is_fresh()) {
            return known.defaults.clone();
        }
        know(&mut all, organization, OnceCell::new())
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
        let _noting = self.noting.lock().await;
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
        let _noting = self.noting.lock().await;
        let said = self.store.type_defaults(organization).await?;
        if is_too_many(said.keys(), of) {
            return Ok(Err(NotNoted::TooMany));
        }
        let said = self.store.set_type_defaults(organization, of).await?;
        // A read that is under way is of those who asked before.
        let now = OnceCell::new_with(Some(said.clone()));
        know(&mut self.known.lock(), organization, now);
        Ok(Ok(said))
    }
}

impl Known {
    fn is_fresh(&self) -> bool {
        self.since.elapsed() < KNOWN_FOR
    }
}

fn know(
    all: &mut HashMap<OrganizationId, Known>,
    organization: &OrganizationId,
    defaults: OnceCell<TypeDefaults>,
) -> Arc<OnceCell<TypeDefaults>> {
    if all.len() >= MOST_KNOWN {
        all.retain(|_, known| known.is_fresh());
    }
    if all.len() >= MOST_KNOWN {
        all.clear();
    }
    let defaults = Arc::new(defaults);
    let known = Known {
        since: Instant::now(),
        defaults: defaults.clone(),
    };
    all.insert(organization.clone(), known);
    defaults
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
