//! Whom the client trusts: the CA of each cluster's auth proxy, by fingerprint, as first seen.
//!
//! The relay hands out that CA, so on first contact the relay is believed, unless the fingerprint
//! was given. From then on it is not: another CA is refused until somebody accepts it.

use std::fmt;

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::auth::certify::Fingerprint;

/// The file of known clusters: a line each of id, fingerprint, and time first seen.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Known {
    lines: Vec<Line>,
}

#[derive(Clone, Debug, Eq, PartialEq)]
enum Line {
    /// Empty, or a person's remark.
    Remark(String),
    Cluster {
        id: String,
        fingerprint: Fingerprint,
        first_seen: String,
    },
}

/// A line that cannot be read, by its number.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Unreadable(pub usize);

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {} is not a cluster id, a fingerprint and a time", self.0)
    }
}

impl std::error::Error for Unreadable {}

/// Why a CA is trusted.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Trust {
    /// It is the one in the file.
    Known,
    /// It is the first: to be written down.
    First,
    /// It is another one, and was accepted: to be written down.
    Accepted,
}

/// A CA that is not trusted.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Distrust {
    /// The file has another one.
    Changed {
        /// What the file has.
        known: Fingerprint,
        /// What was offered.
        offered: Fingerprint,
    },
    /// The command line has another one.
    Unexpected {
        /// What the command line has.
        expected: Fingerprint,
        /// What was offered.
        offered: Fingerprint,
    },
}

impl fmt::Display for Distrust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Changed { known, offered } => write!(
                f,
                "the cluster's CA has changed: this machine knows {known}, the relay now says \
                 {offered}"
            ),
            Self::Unexpected { expected, offered } => write!(
                f,
                "the cluster's CA is not the one that was given: --ca-fingerprint says {expected}, \
                 the relay says {offered}"
            ),
        }
    }
}

impl std::error::Error for Distrust {}

impl Known {
    /// Reads the file.
    ///
    /// # Errors
    ///
    /// [`Unreadable`]; a damaged file must not make every cluster unknown.
    pub fn parse(text: &str) -> Result<Self, Unreadable> {
        let mut known = Self::default();
        for (at, line) in text.lines().enumerate() {
            let unreadable = Unreadable(at.saturating_add(1));
            if line.trim().is_empty() || line.starts_with('#') {
                known.lines.push(Line::Remark(line.to_owned()));
                continue;
            }
            let mut words = line.split_ascii_whitespace();
            let (Some(id), Some(print), Some(first_seen), None) =
                (words.next(), words.next(), words.next(), words.next())
            else {
                return Err(unreadable);
            };
            let fingerprint = Fingerprint::parse(print).ok_or(unreadable)?;
            if !is_cluster_id(id) || known.fingerprint(id).is_some() {
                return Err(unreadable);
            }
            let (id, first_seen) = (id.to_owned(), first_seen.to_owned());
            known.lines.push(Line::Cluster { id, fingerprint, first_seen });
        }
        Ok(known)
    }

    /// The CA that is known for a cluster.
    #[must_use]
    pub fn fingerprint(&self, cluster: &str) -> Option<Fingerprint> {
        self.lines.iter().find_map(|line| match line {
            Line::Cluster { id, fingerprint, .. } if id == cluster => Some(*fingerprint),
            Line::Cluster { .. } | Line::Remark(_) => None,
        })
    }

    /// Whether to trust the CA that is `offered` for `cluster`. What was `expected` on the command
    /// line decides alone.
    ///
    /// # Errors
    ///
    /// [`Distrust`], with both fingerprints.
    pub fn judge(
        &self,
        cluster: &str,
        offered: Fingerprint,
        expected: Option<Fingerprint>,
        accept_new: bool,
    ) -> Result<Trust, Distrust> {
        if let Some(expected) = expected.filter(|expected| *expected != offered) {
            return Err(Distrust::Unexpected { expected, offered });
        }
        match self.fingerprint(cluster) {
            None => Ok(Trust::First),
            Some(known) if known == offered => Ok(Trust::Known),
            Some(_) if accept_new || expected.is_some() => Ok(Trust::Accepted),
            Some(known) => Err(Distrust::Changed { known, offered }),
        }
    }

    /// Writes a CA down, in the place of another one.
    pub fn remember(&mut self, cluster: &str, fingerprint: Fingerprint, unix_now: u64) {
        let seconds = i64::try_from(unix_now).unwrap_or_default();
        let moment = OffsetDateTime::from_unix_timestamp(seconds);
        let first_seen = moment.ok().and_then(|moment| moment.format(&Rfc3339).ok());
        let first_seen = first_seen.unwrap_or_else(|| "-".to_owned());
        let entry = Line::Cluster { id: cluster.to_owned(), fingerprint, first_seen };
        let same = |line: &&mut Line| matches!(line, Line::Cluster { id, .. } if id == cluster);
        match self.lines.iter_mut().find(same) {
            Some(line) => *line = entry,
            None => self.lines.push(entry),
        }
    }
}

impl fmt::Display for Known {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in &self.lines {
            match line {
                Line::Remark(text) => writeln!(f, "{text}")?,
                Line::Cluster { id, fingerprint, first_seen } => {
                    writeln!(f, "{id} {fingerprint} {first_seen}")?;
                }
            }
        }
        Ok(())
    }
}

fn is_cluster_id(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_795_471_380;

    fn id(digit: char) -> String {
        digit.to_string().repeat(64)
    }

    fn one() -> Fingerprint {
        Fingerprint::of(b"one")
    }

    fn other() -> Fingerprint {
        Fingerprint::of(b"other")
    }

    #[test]
    fn first_contact_is_believed_and_written_down() {
        let mut known = Known::parse("# mine\n\n").unwrap();
        assert_eq!(known.judge(&id('a'), one(), None, false), Ok(Trust::First));
        known.remember(&id('a'), one(), NOW);
        let text = known.to_string();
        assert_eq!(text, format!("# mine\n\n{} {} 2026-11-23T22:03:00Z\n", id('a'), one()));
        assert_eq!(Known::parse(&text).unwrap(), known);
        assert_eq!(known.judge(&id('a'), one(), None, false), Ok(Trust::Known));
        assert_eq!(known.judge(&id('b'), other(), None, false), Ok(Trust::First));
    }

    #[test]
    fn a_changed_ca_is_refused_with_both_fingerprints() {
        let mut known = Known::default();
        known.remember(&id('a'), one(), NOW);
        let refused = known.judge(&id('a'), other(), None, false).unwrap_err();
        assert_eq!(refused, Distrust::Changed { known: one(), offered: other() });
        let shown = refused.to_string();
        assert!(shown.contains(&one().to_string()) && shown.contains(&other().to_string()));
    }

    #[test]
    fn a_changed_ca_is_taken_when_it_is_accepted_or_was_expected() {
        let mut known = Known::default();
        known.remember(&id('a'), one(), NOW);
        assert_eq!(known.judge(&id('a'), other(), None, true), Ok(Trust::Accepted));
        assert_eq!(known.judge(&id('a'), other(), Some(other()), false), Ok(Trust::Accepted));
        known.remember(&id('a'), other(), NOW);
        assert_eq!(known.judge(&id('a'), other(), None, false), Ok(Trust::Known));
        assert_eq!(known.to_string().lines().count(), 1);
    }

    #[test]
    fn what_the_command_line_says_decides_alone() {
        let mut known = Known::default();
        let refused = known.judge(&id('a'), other(), Some(one()), true).unwrap_err();
        assert_eq!(refused, Distrust::Unexpected { expected: one(), offered: other() });
        known.remember(&id('a'), other(), NOW);
        assert!(known.judge(&id('a'), other(), Some(one()), true).is_err());
    }

    #[test]
    fn a_damaged_file_is_an_error_and_not_an_empty_one() {
        let good = format!("{} {} 2026-11-23T22:03:00Z\n", id('a'), one());
        for (line, text) in [
            (1, "x".to_owned()),
            (1, format!("{} {}\n", id('a'), one())),
            (1, format!("{} sha256:00 t\n", id('a'))),
            (1, format!("{} {} t more\n", id('a'), one())),
            (1, format!("{} {} t\n", id('A'), one())),
            (1, format!("{} {} t\n", &id('a')[1..], one())),
            (2, format!("{good}\u{0}\n")),
            (2, format!("{good}{} {} t\n", id('a'), other())),
        ] {
            assert_eq!(Known::parse(&text), Err(Unreadable(line)), "{text}");
        }
    }
}
