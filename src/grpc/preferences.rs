//! `doorbell.v1.PreferenceService`: authorise, convert, call the [`Preferences`].

use std::{collections::BTreeSet, sync::Arc};

use tonic::{Request, Response, Status};
use tonic_types::FieldViolation;

use super::{
    caller, convert, covers, reader, sender, server::preference_service_server::PreferenceService,
    status,
};
use crate::{
    config::ContentLimits,
    preferences::{NotNoted, Preferences},
    proto::{
        self, GetPreferencesRequest, GetPreferencesResponse, GetTypeDefaultsRequest,
        GetTypeDefaultsResponse, Preference, UpdatePreferencesRequest, UpdatePreferencesResponse,
        UpdateTypeDefaultsRequest, UpdateTypeDefaultsResponse,
    },
    store::preferences::{Chosen, TypeDefaults},
};

/// The service.
pub struct Service {
    preferences: Arc<Preferences>,
    limits: ContentLimits,
}

impl Service {
    /// The service of `preferences`.
    pub fn new(preferences: Arc<Preferences>, limits: ContentLimits) -> Self {
        Self {
            preferences,
            limits,
        }
    }
}

/// What holds for a person, by type.
fn told(chosen: &Chosen, defaults: &TypeDefaults) -> Vec<Preference> {
    let types: BTreeSet<&String> = chosen.keys().chain(defaults.keys()).collect();
    let preference = |kind: &String| {
        let (own, default) = (chosen.get(kind), defaults.get(kind));
        let required = default.is_some_and(|default| default.is_required);
        let by_default = default.is_none_or(|default| default.is_on);
        Preference {
            r#type: kind.clone(),
            on: required || own.copied().unwrap_or(by_default),
            required,
            chosen: own.is_some(),
        }
    };
    types.into_iter().map(preference).collect()
}

/// What an organization says, by type.
fn defaults_told(defaults: &TypeDefaults) -> Vec<proto::TypeDefault> {
    let mut told: Vec<_> = defaults
        .iter()
        .map(|(kind, of)| proto::TypeDefault {
            r#type: kind.clone(),
            on: of.is_on,
            required: of.is_required,
        })
        .collect();
    told.sort_unstable_by(|one, other| one.r#type.cmp(&other.r#type));
    told
}

fn not_noted(field: &str, why: &NotNoted) -> Status {
    status::invalid(vec![FieldViolation::new(field, why.to_string())])
}

#[tonic::async_trait]
impl PreferenceService for Service {
    async fn get_preferences(
        &self,
        request: Request<GetPreferencesRequest>,
    ) -> Result<Response<GetPreferencesResponse>, Status> {
        let inbox = reader(&request)?;
        let preferences = self.preferences.get(&inbox).await;
        let (chosen, defaults) = preferences.map_err(|error| status::of(&error))?;
        Ok(Response::new(GetPreferencesResponse {
            preferences: told(&chosen, &defaults),
        }))
    }

    async fn update_preferences(
        &self,
        request: Request<UpdatePreferencesRequest>,
    ) -> Result<Response<UpdatePreferencesResponse>, Status> {
        let inbox = reader(&request)?;
        convert::check_size(request.get_ref(), &self.limits)?;
        let choices = convert::choices(request.into_inner().choices)?;
        let noted = self.preferences.choose(&inbox, &choices).await;
        let noted = noted.map_err(|error| status::of(&error))?;
        let (chosen, defaults) = noted.map_err(|why| not_noted("choices", &why))?;
        Ok(Response::new(UpdatePreferencesResponse {
            preferences: told(&chosen, &defaults),
        }))
    }

    async fn get_type_defaults(
        &self,
        request: Request<GetTypeDefaultsRequest>,
    ) -> Result<Response<GetTypeDefaultsResponse>, Status> {
        let caller = caller(&request)?;
        let scope = sender(&caller)?;
        convert::check_size(request.get_ref(), &self.limits)?;
        let organization = convert::organization(&request.get_ref().organization_id)?;
        covers(scope, &organization)?;
        let defaults = self.preferences.defaults(&organization).await;
        Ok(Response::new(GetTypeDefaultsResponse {
            defaults: defaults_told(&defaults.map_err(|error| status::of(&error))?),
        }))
    }

    async fn update_type_defaults(
        &self,
        request: Request<UpdateTypeDefaultsRequest>,
    ) -> Result<Response<UpdateTypeDefaultsResponse>, Status> {
        let caller = caller(&request)?;
        let scope = sender(&caller)?;
        let request = request.into_inner();
        convert::check_size(&request, &self.limits)?;
        let (organization, of) = convert::type_defaults(request)?;
        covers(scope, &organization)?;
        let noted = self.preferences.set_defaults(&organization, &of).await;
        let noted = noted.map_err(|error| status::of(&error))?;
        let defaults = noted.map_err(|why| not_noted("defaults", &why))?;
        Ok(Response::new(UpdateTypeDefaultsResponse {
            defaults: defaults_told(&defaults),
        }))
    }
}
