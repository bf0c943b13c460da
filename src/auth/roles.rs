//! Roles on the data plane: who may listen and send with a token of their own issuer, in place of a
//! shared key. The three roles are Azure's, and so are their ids.

use std::collections::{BTreeMap, BTreeSet};

use super::assignments::{Grant, Holder};
use super::sas::{Right, Rights};

/// What a role allows.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Role {
    /// Everything.
    Owner,
    /// Holding a control channel.
    Listener,
    /// Connecting, and sending HTTP requests.
    Sender,
}

impl Role {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Owner, Self::Listener, Self::Sender];

    /// The id of Azure's role definition.
    pub const fn id(self) -> &'static str {
        match self {
            Self::Owner => "2787bf04-f1f5-4bfe-8383-c8a24483ee38",
            Self::Listener => "26e0b698-aa6d-4085-9386-aadae190014d",
            Self::Sender => "26baccc8-eea7-41f1-98f4-1762cc7f685d",
        }
    }

    /// Its name, for people.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Owner => "Azure Relay Owner",
            Self::Listener => "Azure Relay Listener",
            Self::Sender => "Azure Relay Sender",
        }
    }

    /// The role whose id stands at the end of `text`: alone, or behind the path of a role
    /// definition.
    pub fn parse(text: &str) -> Option<Self> {
        let id = text.rsplit_once("/roleDefinitions/").map_or(text, |(_, id)| id);
        Self::ALL.into_iter().find(|role| role.id().eq_ignore_ascii_case(id))
    }

    /// What it allows.
    pub const fn rights(self) -> Rights {
        match self {
            Self::Owner => Rights::ALL,
            Self::Listener => Rights::LISTEN,
            Self::Sender => Rights::SEND,
        }
    }
}

/// What kind of principal somebody said it is; for display alone.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum PrincipalKind {
    /// A person.
    User,
    /// Everybody whose token lists this group.
    Group,
    /// A program.
    ServicePrincipal,
}

impl PrincipalKind {
    /// Azure's word for it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::User => "User",
            Self::Group => "Group",
            Self::ServicePrincipal => "ServicePrincipal",
        }
    }

    /// The kind with this word.
    pub fn parse(word: &str) -> Option<Self> {
        [Self::User, Self::Group, Self::ServicePrincipal]
            .into_iter()
            .find(|kind| kind.word().eq_ignore_ascii_case(word))
    }
}

/// That somebody has a role somewhere.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RoleAssignment {
    /// A GUID of the caller's choice, in lower case.
    pub name: String,
    /// Who.
    pub holder: Holder,
    /// What they are said to be.
    pub kind: PrincipalKind,
    /// What they may do.
    pub role: Role,
    /// Where, as it was written.
    pub scope: String,
    /// The hybrid connection that the scope names, in lower case; `None`: all that belong to no
    /// cluster.
    pub entity: Option<String>,
    /// When and by whom.
    pub grant: Grant,
}

/// All role assignments on the data plane.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct RoleAssignments {
    by_name: BTreeMap<String, Box<RoleAssignment>>,
    by_holder: BTreeMap<Holder, BTreeSet<String>>,
}

impl RoleAssignments {
    /// Adds one, or replaces the one of that name.
    pub fn put(&mut self, assignment: RoleAssignment) {
        self.remove(&assignment.name);
        let names = self.by_holder.entry(assignment.holder.clone()).or_default();
        names.insert(assignment.name.clone());
        self.by_name.insert(assignment.name.clone(), Box::new(assignment));
    }

    /// Takes one away; false if there was none.
    pub fn remove(&mut self, name: &str) -> bool {
        let Some(gone) = self.by_name.remove(name) else { return false };
        if let Some(names) = self.by_holder.get_mut(&gone.holder) {
            names.remove(name);
            if names.is_empty() {
                self.by_holder.remove(&gone.holder);
            }
        }
        true
    }

    /// Takes all away that were for this hybrid connection (its name in lower case): one that is
    /// made anew under the name is another one.
    pub fn remove_entity(&mut self, entity: &str) {
        let of = |it: &&RoleAssignment| it.entity.as_deref() == Some(entity);
        let gone: Vec<String> = self.iter().filter(of).map(|it| it.name.clone()).collect();
        gone.iter().for_each(|name| {
            self.remove(name);
        });
    }

    /// The one of this name.
    pub fn get(&self, name: &str) -> Option<&RoleAssignment> {
        self.by_name.get(name).map(Box::as_ref)
    }

    /// The assignment that gives this principal `right` at `entity` (its name in lower case;
    /// `None` where there is nothing), its own before those of its groups.
    pub fn find(
        &self,
        issuer: &str,
        subject: &str,
        groups: &[String],
        right: Right,
        entity: Option<&str>,
    ) -> Option<&RoleAssignment> {
        if issuer.is_empty() || subject.is_empty() {
            return None;
        }
        let groups = groups.iter().filter(|group| !group.is_empty());
        let holders = std::iter::once(Holder::user(issuer, subject))
            .chain(groups.map(|group| Holder::group(issuer, group)));
        let names = holders.filter_map(|holder| self.by_holder.get(&holder)).flatten();
        names.filter_map(|name| self.get(name)).find(|it| {
            let covers = it.entity.is_none() || it.entity.as_deref() == entity;
            covers && it.role.rights().allow(right)
        })
    }

    /// All of them, by name.
    pub fn iter(&self) -> impl Iterator<Item = &RoleAssignment> {
        self.by_name.values().map(Box::as_ref)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.by_name.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assignment(name: &str, holder: Holder, role: Role, entity: Option<&str>) -> RoleAssignment {
        RoleAssignment {
            name: name.into(),
            holder,
            kind: PrincipalKind::User,
            role,
            scope: "/subscriptions/s".into(),
            entity: entity.map(str::to_owned),
            grant: Grant::default(),
        }
    }

    #[test]
    fn a_role_gives_its_rights_where_it_was_given_and_nowhere_else() {
        let mut all = RoleAssignments::default();
        let (bob, ops) = (Holder::user("https://a", "bob"), Holder::group("https://a", "ops"));
        all.put(assignment("1", bob, Role::Listener, Some("hc")));
        all.put(assignment("2", ops, Role::Sender, None));
        let groups = ["ops".to_owned()];
        let name = |subject, groups: &[String], right, entity| {
            all.find("https://a", subject, groups, right, entity).map(|it| &it.name[..])
        };
        assert_eq!(name("bob", &[], Right::Listen, Some("hc")), Some("1"));
        assert_eq!(name("bob", &[], Right::Send, Some("hc")), None, "none implies another");
        assert_eq!(name("bob", &[], Right::Listen, Some("hc2")), None);
        assert_eq!(name("bob", &[], Right::Listen, None), None);
        assert_eq!(name("bob", &groups, Right::Send, Some("hc2")), Some("2"));
        assert_eq!(name("eve", &groups, Right::Send, None), Some("2"));
        assert_eq!(name("eve", &groups, Right::Listen, Some("hc")), None);
        assert_eq!(name("ops", &[], Right::Send, Some("hc")), None, "a subject is no group");
        assert_eq!(all.find("https://b", "bob", &groups, Right::Listen, Some("hc")), None);
        assert_eq!(all.find("", "", &groups, Right::Send, None), None);
    }

    #[test]
    fn what_is_taken_away_is_gone_from_both_tables() {
        let mut all = RoleAssignments::default();
        let bob = || Holder::user("https://a", "bob");
        all.put(assignment("1", bob(), Role::Owner, Some("hc")));
        all.put(assignment("1", Holder::user("https://a", "eve"), Role::Owner, None));
        assert_eq!(all.find("https://a", "bob", &[], Right::Send, Some("hc")), None, "replaced");
        all.put(assignment("2", bob(), Role::Owner, Some("hc")));
        all.remove_entity("hc");
        assert_eq!(all.find("https://a", "bob", &[], Right::Send, Some("hc")), None);
        assert!(all.remove("1") && !all.remove("1") && all.is_empty());
        assert_eq!(all, RoleAssignments::default());
    }

    #[test]
    fn a_definition_is_named_by_its_id_alone_or_at_the_end_of_a_path() {
        for role in Role::ALL {
            let path = format!("/subscriptions/s/providers/X/roleDefinitions/{}", role.id());
            assert_eq!(Role::parse(&path), Some(role));
            assert_eq!(Role::parse(&role.id().to_uppercase()), Some(role));
        }
        for text in
            ["", "Azure Relay Owner", "/roleDefinitions/", "b24988ac-6180-42a0-ab88-20f7382dd24c"]
        {
            assert_eq!(Role::parse(text), None, "{text}");
        }
    }
}
