//! Plans for hybrid connections that belong to no cluster, and for authorization rules: what tools
//! change through Azure Relay's own API. What belongs to a cluster is out of their reach.

use std::collections::BTreeMap;

use super::model::Entity;
use super::plan::{EntityWish, Random, Refusal, bounded, new_rule};
use super::{Change, Registry};
use crate::auth::sas::{Rights, Rule};
use crate::limits::{ENTITIES_MAX, ENTITY_NAME_MAX, RULES_MAX, TEXT_MAX};
use crate::role::relay::authority::Deadlines;
use crate::secret::Secret;

impl Registry {
    pub(super) fn plan_put_entity(
        &self,
        name: String,
        wish: EntityWish,
        unix_now: u64,
    ) -> Result<Vec<Change>, Refusal> {
        check_entity_name(&name)?;
        let known = self.entity(&name);
        if known.is_some() {
            self.own_entity(Some(&name))?;
        } else {
            let own = self.entities.len().saturating_sub(self.clusters.len());
            bounded(own, ENTITIES_MAX, "hybrid connections")?;
        }
        let fresh = || Entity {
            name,
            cluster: None,
            requires_client_authorization: true,
            http: true,
            deadlines: Deadlines::default(),
            user_metadata: String::new(),
            created_at: unix_now,
            updated_at: unix_now,
            rules: BTreeMap::new(),
        };
        let mut entity =
            known.map_or_else(fresh, |known| Entity { rules: BTreeMap::new(), ..known.clone() });
        let needs_token = wish.requires_client_authorization;
        entity.requires_client_authorization =
            needs_token.unwrap_or(entity.requires_client_authorization);
        entity.user_metadata = wish.user_metadata.unwrap_or(entity.user_metadata);
        entity.http = wish.http.unwrap_or(entity.http);
        let own = &mut entity.deadlines;
        own.accept = wish.accept.unwrap_or(own.accept);
        own.response = wish.response.unwrap_or(own.response);
        own.body_gap = wish.body_gap.unwrap_or(own.body_gap);
        entity.updated_at = unix_now;
        Ok(vec![Change::Entity(entity)])
    }

    pub(super) fn plan_put_rule(
        &self,
        entity: Option<String>,
        name: String,
        rights: Rights,
        random: &mut Random<'_>,
    ) -> Result<Vec<Change>, Refusal> {
        let rules = self.own_entity(entity.as_deref())?;
        let letter = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        if name.is_empty() || name.len() > TEXT_MAX || !name.bytes().all(letter) {
            return Err(Refusal::BadName);
        }
        if rights == Rights::default() || (rights.manage && rights != Rights::ALL) {
            return Err(Refusal::BadRights);
        }
        let rule = match rules.get(&name.to_ascii_lowercase()) {
            Some(known) => Rule { rights, ..Rule::clone(known) },
            None => {
                bounded(rules.len(), RULES_MAX, "authorization rules")?;
                new_rule(&name, rights, random)
            }
        };
        Ok(vec![Change::Rule(entity, rule)])
    }

    pub(super) fn plan_remove_entity(&self, name: String) -> Result<Vec<Change>, Refusal> {
        self.own_entity(Some(&name))?;
        Ok(vec![Change::EntityRemoved(name)])
    }

    pub(super) fn plan_remove_rule(
        &self,
        entity: Option<String>,
        name: String,
    ) -> Result<Vec<Change>, Refusal> {
        let rules = self.own_entity(entity.as_deref())?;
        rules.get(&name.to_ascii_lowercase()).ok_or(Refusal::UnknownRule)?;
        Ok(vec![Change::RuleRemoved(entity, name)])
    }

    pub(super) fn plan_new_key(
        &self,
        entity: Option<String>,
        name: &str,
        primary: bool,
        key: Secret<String>,
    ) -> Result<Vec<Change>, Refusal> {
        let rules = self.own_entity(entity.as_deref())?;
        let rule = rules.get(&name.to_ascii_lowercase()).ok_or(Refusal::UnknownRule)?;
        let rule = match primary {
            true => Rule { primary: key, ..Rule::clone(rule) },
            false => Rule { secondary: key, ..Rule::clone(rule) },
        };
        Ok(vec![Change::Rule(entity, rule)])
    }

    /// The rules of the namespace, or of a hybrid connection that belongs to no cluster.
    pub(super) fn own_entity(
        &self,
        name: Option<&str>,
    ) -> Result<&BTreeMap<String, Box<Rule>>, Refusal> {
        let owner = name.and_then(|name| self.entity(name)).and_then(|it| it.cluster.as_ref());
        if owner.is_some() {
            return Err(Refusal::OfCluster);
        }
        self.rules(name).ok_or(Refusal::UnknownEntity)
    }
}

/// First path segments that mean something else on the relay's port.
const RESERVED: [&str; 7] =
    ["$hc", "subscriptions", "providers", "download", "healthz", "metrics", "status"];

fn check_entity_name(name: &str) -> Result<(), Refusal> {
    let letter = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    let edge = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric());
    let good = |segment: &str| {
        segment.bytes().all(letter) && edge(segment.bytes().next()) && edge(segment.bytes().last())
    };
    let first = name.split('/').next().unwrap_or_default();
    let reserved = RESERVED.iter().any(|word| word.eq_ignore_ascii_case(first))
        || first.eq_ignore_ascii_case("microsoft.kubernetes");
    if name.len() > ENTITY_NAME_MAX || reserved || !name.split('/').all(good) {
        return Err(Refusal::BadName);
    }
    Ok(())
}
