//! Who may fetch a credential for a cluster: role assignments, bound to what an issuer never gives
//! to anybody else. A name that people read is kept for display and never compared.

use std::collections::{BTreeMap, BTreeSet};

use ring::digest::{SHA256, digest};

use crate::wire::resource::hex;

/// What an assignment is bound to.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Kind {
    /// One principal, by its subject.
    User,
    /// Everybody whose token lists this group.
    Group,
}

impl Kind {
    /// The word for it in JSON.
    pub const fn word(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Group => "group",
        }
    }

    /// The kind with this word.
    pub fn parse(word: &str) -> Option<Self> {
        [Self::User, Self::Group].into_iter().find(|kind| kind.word() == word)
    }
}

/// Whom an assignment names.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Holder {
    /// The issuer of the tokens.
    pub issuer: String,
    /// What `name` is.
    pub kind: Kind,
    /// A subject (for Entra ID the object id) or a group, exactly as in tokens.
    pub name: String,
}

impl Holder {
    /// The holder for one principal.
    pub fn user(issuer: &str, subject: &str) -> Self {
        Self { issuer: issuer.into(), kind: Kind::User, name: subject.into() }
    }

    /// The holder for a group.
    pub fn group(issuer: &str, group: &str) -> Self {
        Self { issuer: issuer.into(), kind: Kind::Group, name: group.into() }
    }

    /// 32 hexadecimal digits that stand for this holder in the rule name of a Send token.
    pub fn tag(&self) -> String {
        let text = format!("{}\n{}\n{}", self.kind.word(), self.issuer, self.name);
        let mut tag = hex(digest(&SHA256, text.as_bytes()).as_ref());
        tag.truncate(TAG_LEN);
        tag
    }
}

/// Characters of [`Holder::tag`].
pub const TAG_LEN: usize = 32;

/// What is known about an assignment.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Grant {
    /// For people: the name at the time of the grant.
    pub display: String,
    /// Unix time.
    pub granted_at: u64,
    /// For people: who granted.
    pub granted_by: String,
}

/// The role assignments of one cluster.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Assignments {
    grants: BTreeMap<Holder, Grant>,
    tags: BTreeSet<String>,
}

impl Assignments {
    /// Adds an assignment, or replaces what is known about it.
    pub fn grant(&mut self, holder: Holder, grant: Grant) {
        self.tags.insert(holder.tag());
        self.grants.insert(holder, grant);
    }

    /// Takes an assignment away; false if there was none.
    pub fn revoke(&mut self, holder: &Holder) -> bool {
        self.tags.remove(&holder.tag());
        self.grants.remove(holder).is_some()
    }

    /// Whether this very holder has one.
    pub fn get(&self, holder: &Holder) -> Option<&Grant> {
        self.grants.get(holder)
    }

    /// The assignment by which this principal may come in, its own before those of its groups.
    pub fn find(&self, issuer: &str, subject: &str, groups: &[String]) -> Option<&Holder> {
        if issuer.is_empty() || subject.is_empty() {
            return None;
        }
        let own = Holder::user(issuer, subject);
        let entry = self.grants.get_key_value(&own).or_else(|| {
            let mut named = groups.iter().filter(|group| !group.is_empty());
            named.find_map(|group| self.grants.get_key_value(&Holder::group(issuer, group)))
        });
        entry.map(|(holder, _)| holder)
    }

    /// Whether the assignment with this tag still stands.
    pub fn has_tag(&self, tag: &str) -> bool {
        self.tags.contains(tag)
    }

    /// All of them, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&Holder, &Grant)> {
        self.grants.iter()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.grants.len()
    }

    /// Whether nobody may come in.
    pub fn is_empty(&self) -> bool {
        self.grants.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn granted(holders: &[Holder]) -> Assignments {
        let mut all = Assignments::default();
        holders.iter().for_each(|holder| all.grant(holder.clone(), Grant::default()));
        all
    }

    #[test]
    fn a_principal_comes_in_by_itself_or_by_a_group_of_the_same_issuer() {
        let all = granted(&[Holder::user("https://a", "7"), Holder::group("https://a", "ops")]);
        let ops = ["ops".to_owned()];
        assert_eq!(all.find("https://a", "7", &ops), Some(&Holder::user("https://a", "7")));
        assert_eq!(all.find("https://a", "8", &ops), Some(&Holder::group("https://a", "ops")));
        assert_eq!(all.find("https://a", "8", &[]), None);
    }

    #[test]
    fn the_same_subject_or_group_of_another_issuer_stays_out() {
        let all = granted(&[Holder::user("https://a", "7"), Holder::group("https://a", "ops")]);
        assert_eq!(all.find("https://b", "7", &["ops".to_owned()]), None);
    }

    #[test]
    fn a_group_called_like_a_subject_is_another_holder() {
        let all = granted(&[Holder::group("https://a", "7")]);
        assert_eq!(all.find("https://a", "7", &[]), None);
        let all = granted(&[Holder::user("https://a", "ops")]);
        assert_eq!(all.find("https://a", "8", &["ops".to_owned()]), None);
    }

    #[test]
    fn names_are_compared_exactly_and_empty_ones_never() {
        let all = granted(&[Holder::user("https://a", "Bob"), Holder::user("", "")]);
        assert_eq!(all.find("https://a", "bob", &[]), None);
        assert_eq!(all.find("", "", &[String::new()]), None);
    }

    #[test]
    fn a_tag_dies_with_its_assignment() {
        let holder = Holder::user("https://a", "7");
        let mut all = granted(std::slice::from_ref(&holder));
        assert!(all.has_tag(&holder.tag()));
        assert_eq!(holder.tag().len(), TAG_LEN);
        assert_ne!(holder.tag(), Holder::group("https://a", "7").tag());
        assert!(all.revoke(&holder) && !all.revoke(&holder));
        assert!(!all.has_tag(&holder.tag()));
    }
}
