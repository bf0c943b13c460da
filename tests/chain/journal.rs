//! A journal in memory, which wants to be written anew now and then.

use cluster_connect::role::{Note, Outcome};

pub(crate) fn keep(journal: &mut Vec<Vec<u8>>, note: &Note) -> Outcome {
    match note {
        Note::Append(record) => journal.push(record.clone()),
        Note::Rewrite(state) => *journal = state.records().collect(),
    }
    Outcome::Noted(Ok(matches!(note, Note::Append(_)) && journal.len() % 8 == 7))
}
