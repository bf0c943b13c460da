//! Roles on the data plane in the registry: how they come, go, and decide.

use super::plan::{Refusal, bounded};
use super::{Authorized, Bearer, Change, Registry, caller_of};
use crate::auth::Principal;
use crate::auth::assignments::Holder;
use crate::auth::roles::{RoleAssignment, RoleAssignments};
use crate::auth::sas::{self, Right};
use crate::limits::ROLE_ASSIGNMENTS_MAX;

impl Registry {
    /// Who may listen and send with a token of their own issuer.
    pub const fn roles(&self) -> &RoleAssignments {
        &self.roles
    }

    /// Whether `who` has `right` at `path` (decoded, without a leading slash). Whether there is
    /// anything at `path` is another question. Clusters are out of reach: their agents prove their
    /// keys, and their users fetch credentials, of which the audit log tells.
    ///
    /// # Errors
    ///
    /// [`sas::Refusal::Right`].
    pub fn authorize_principal(
        &self,
        who: &Principal,
        path: &str,
        right: Right,
    ) -> Result<Authorized, sas::Refusal> {
        let entity = self.resolve(path).map(|(entity, _)| entity);
        if entity.is_some_and(|entity| entity.cluster.is_some()) {
            return Err(sas::Refusal::Right(right));
        }
        let name = entity.map(|entity| entity.name.to_ascii_lowercase());
        let found = self.roles.find(&who.issuer, &who.subject, &who.groups, right, name.as_deref());
        let name = found.ok_or(sas::Refusal::Right(right))?.name.clone();
        let caller = caller_of(&Holder::user(&who.issuer, &who.subject).tag());
        let (rule, bearer) = (name.clone(), Bearer::Role(name));
        Ok(Authorized { rule, bearer, caller, expires: who.expires })
    }

    pub(super) fn plan_put_role(&self, wish: RoleAssignment) -> Result<Vec<Change>, Refusal> {
        if let Some(entity) = &wish.entity {
            self.own_entity(Some(entity))?;
        }
        let same = |it: &&RoleAssignment| {
            it.holder == wish.holder && it.role == wish.role && it.entity == wish.entity
        };
        match (self.roles.get(&wish.name), self.roles.iter().find(same)) {
            (Some(named), Some(same)) if named.name == same.name => return Ok(Vec::new()),
            (Some(_), _) => return Err(Refusal::RoleIsAnother),
            (None, Some(_)) => return Err(Refusal::RoleExists),
            (None, None) => {}
        }
        bounded(self.roles.len(), ROLE_ASSIGNMENTS_MAX, "role assignments")?;
        Ok(vec![Change::Role(Box::new(wish))])
    }

    pub(super) fn plan_remove_role(&self, name: String) -> Result<Vec<Change>, Refusal> {
        self.roles.get(&name).ok_or(Refusal::NotAssigned)?;
        Ok(vec![Change::RoleRemoved(name)])
    }
}
