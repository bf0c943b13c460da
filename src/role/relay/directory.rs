//! Principals that have shown a valid token: where a grant by name finds the subject that the name
//! stands for. Names come and go, so nothing here decides an access.

use std::collections::BTreeMap;

use crate::limits::{PRINCIPAL_REFRESH, PRINCIPALS_MAX};

/// One principal, as its last token described it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Principal {
    /// The issuer of its tokens.
    pub issuer: String,
    /// What the issuer gives to nobody else.
    pub subject: String,
    /// The name that grants use: a user principal name, an e-mail address.
    pub user: String,
    /// For people.
    pub display: String,
    /// Unix time of the token that said so.
    pub seen_at: u64,
}

/// All principals seen, up to a bound: the one not seen for longest makes room.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Directory(BTreeMap<(String, String), Principal>);

impl Directory {
    /// Whether `seen` says something that is worth writing down.
    pub fn is_news(&self, seen: &Principal) -> bool {
        let known = self.0.get(&key(seen));
        known.is_none_or(|known| {
            let refresh_at = known.seen_at.saturating_add(PRINCIPAL_REFRESH.as_secs());
            known.user != seen.user || known.display != seen.display || seen.seen_at >= refresh_at
        })
    }

    /// Writes `seen` down.
    pub fn note(&mut self, seen: Principal) {
        self.0.insert(key(&seen), seen);
        while self.0.len() > PRINCIPALS_MAX {
            let oldest = self.0.iter().min_by_key(|(key, entry)| (entry.seen_at, *key));
            let Some(oldest) = oldest.map(|(key, _)| key.clone()) else { return };
            self.0.remove(&oldest);
        }
    }

    /// Everybody who goes by this name, of one issuer or of all. More than one means that the name
    /// has changed hands, or that two issuers use it: then only the subject will do.
    pub fn named(&self, user: &str, issuer: Option<&str>) -> Vec<&Principal> {
        let of_issuer = |entry: &&Principal| issuer.is_none_or(|issuer| entry.issuer == issuer);
        let all = self.0.values().filter(of_issuer);
        all.filter(|entry| !user.is_empty() && entry.user.eq_ignore_ascii_case(user)).collect()
    }

    /// All entries, in order.
    pub fn iter(&self) -> impl Iterator<Item = &Principal> {
        self.0.values()
    }
}

fn key(of: &Principal) -> (String, String) {
    (of.issuer.clone(), of.subject.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(subject: &str, user: &str, seen_at: u64) -> Principal {
        let issuer = "https://login.example".to_owned();
        let (subject, user) = (subject.to_owned(), user.to_owned());
        Principal { issuer, subject, display: user.clone(), user, seen_at }
    }

    #[test]
    fn a_name_that_has_changed_hands_names_two() {
        let mut all = Directory::default();
        all.note(seen("1", "alice@contoso.com", 10));
        assert_eq!(all.named("Alice@Contoso.com", None).len(), 1);
        all.note(seen("2", "alice@contoso.com", 20));
        assert_eq!(all.named("alice@contoso.com", None).len(), 2);
        assert_eq!(all.named("alice@contoso.com", Some("https://other")).len(), 0);
        assert_eq!(all.named("", None).len(), 0);
    }

    #[test]
    fn the_same_token_again_is_no_news_until_a_day_has_passed() {
        let mut all = Directory::default();
        all.note(seen("1", "alice", 10));
        assert!(!all.is_news(&seen("1", "alice", 86_409)));
        assert!(all.is_news(&seen("1", "alice", 86_410)));
        assert!(all.is_news(&seen("1", "alicia", 11)));
        assert!(all.is_news(&seen("2", "alice", 11)));
    }

    #[test]
    fn a_flood_of_principals_is_bounded_and_drops_the_oldest() {
        let mut all = Directory::default();
        (0..=PRINCIPALS_MAX as u64).for_each(|n| all.note(seen(&n.to_string(), "x", n)));
        assert_eq!(all.iter().count(), PRINCIPALS_MAX);
        assert!(all.is_news(&seen("0", "x", 0)) && !all.is_news(&seen("1", "x", 1)));
    }
}
