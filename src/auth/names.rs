//! Which names may become a Kubernetes user or group. A name that may not is refused with its
//! whole request, never trimmed, folded or dropped: the name that is checked is the name that is
//! sent, and a quiet change would hide an attack.

use std::fmt;

use super::alphabet;
use crate::limits::NAME_BYTES;

/// Which characters names of an issuer may have.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Alphabet {
    /// Printable ASCII.
    #[default]
    Ascii,
    /// Printable ASCII, and letters and digits of common scripts that Unicode normalisation leaves
    /// as they are and that combine with nothing.
    Letters,
}

/// Checks that `name` can be carried in one header field and means there what it means here.
///
/// # Errors
/// [`NameFault`] with the rule that is broken.
pub fn check(name: &str, alphabet: Alphabet) -> Result<(), NameFault> {
    if name.is_empty() {
        return Err(NameFault::Empty);
    }
    if NAME_BYTES < name.len() {
        return Err(NameFault::TooLong(name.len()));
    }
    if is_reserved(name) {
        return Err(NameFault::Reserved);
    }
    // HTTP parsers trim blanks at both ends, so " admin" would arrive as "admin".
    if name.starts_with(' ') || name.ends_with(' ') {
        return Err(NameFault::Blank);
    }
    match name.chars().find(|&letter| !is_allowed(letter, alphabet)) {
        Some(letter) => Err(NameFault::Character(letter)),
        None => Ok(()),
    }
}

/// Whether the name lies in the space that Kubernetes keeps for itself: `system:`, in any case,
/// and in the full-width forms that compatibility normalisation maps to it.
#[must_use]
pub fn is_reserved(name: &str) -> bool {
    let mut letters = name.chars().map(fold);
    "system:".chars().all(|own| letters.next() == Some(own))
}

fn fold(letter: char) -> char {
    let narrow = match u32::from(letter) {
        wide @ 0xFF01..=0xFF5E => char::from_u32(wide - 0xFEE0).unwrap_or(letter),
        _ => letter,
    };
    narrow.to_ascii_lowercase()
}

fn is_allowed(letter: char, alphabet: Alphabet) -> bool {
    let printable = matches!(letter, ' '..='~');
    match alphabet {
        Alphabet::Ascii => printable,
        Alphabet::Letters => printable || alphabet::is_stable_letter(letter),
    }
}

/// Which rule a name breaks.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum NameFault {
    /// It has no characters.
    Empty,
    /// It has this many bytes.
    TooLong(usize),
    /// It begins or ends with a blank.
    Blank,
    /// It has this character.
    Character(char),
    /// It begins with `system:`.
    Reserved,
}

impl fmt::Display for NameFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("is empty"),
            Self::TooLong(len) => write!(f, "has {len} bytes, more than {NAME_BYTES}"),
            Self::Blank => f.write_str("begins or ends with a blank"),
            Self::Character(letter) => write!(f, "has the character {letter:?}"),
            Self::Reserved => f.write_str("begins with \"system:\""),
        }
    }
}

impl std::error::Error for NameFault {}

#[cfg(test)]
mod tests {
    use super::*;

    fn ascii(name: &str) -> Result<(), NameFault> {
        check(name, Alphabet::Ascii)
    }

    #[test]
    fn ordinary_names_pass_unchanged() {
        for name in ["ana@contoso.example", "a, b", "o'neil-x_y!#^~", "System", "systems:x", "-"] {
            assert_eq!(ascii(name), Ok(()), "{name}");
        }
        assert_eq!(ascii(&"n".repeat(NAME_BYTES)), Ok(()));
        assert_eq!(ascii(&"n".repeat(NAME_BYTES + 1)), Err(NameFault::TooLong(NAME_BYTES + 1)));
    }

    #[test]
    fn names_of_kubernetes_are_reserved_in_any_spelling() {
        for name in [
            "system:admin",
            "system:masters",
            "System:admin",
            "SYSTEM:serviceaccount:a:b",
            "system:",
            "\u{ff53}ystem:admin",
            "\u{ff33}\u{ff39}stem\u{ff1a}x",
        ] {
            assert_eq!(ascii(name), Err(NameFault::Reserved), "{name}");
            assert_eq!(check(name, Alphabet::Letters), Err(NameFault::Reserved), "{name}");
        }
    }

    #[test]
    fn what_a_header_field_would_change_or_split_is_refused() {
        assert_eq!(ascii(""), Err(NameFault::Empty));
        for name in [" ", " admin", "admin "] {
            assert_eq!(ascii(name), Err(NameFault::Blank), "{name:?}");
        }
        for name in ["\tadmin", "a\tb", "ana\r\nImpersonate-Group: x", "a\0", "a\x7f", "a\x1b[0m"] {
            for alphabet in [Alphabet::Ascii, Alphabet::Letters] {
                let refused = check(name, alphabet);
                assert!(matches!(refused, Err(NameFault::Character(_))), "{name:?}");
            }
        }
    }

    #[test]
    fn ascii_is_the_default_and_letters_are_an_option() {
        for name in ["m\u{fc}ller", "\u{4f50}\u{85e4}", "\u{430}\u{43d}\u{44f}"] {
            assert!(matches!(ascii(name), Err(NameFault::Character(_))), "{name}");
            assert_eq!(check(name, Alphabet::Letters), Ok(()), "{name}");
        }
    }

    #[test]
    fn invisible_combining_and_compatibility_characters_are_never_letters() {
        for letter in [
            '\u{202e}',
            '\u{200b}',
            '\u{200d}',
            '\u{a0}',
            '\u{ad}',
            '\u{301}',
            '\u{2028}',
            '\u{feff}',
            '\u{e000}',
            '\u{85}',
            '\u{212a}',
            '\u{ff41}',
            '\u{1d41a}',
            '\u{17f}',
            '\u{fb01}',
            '\u{1100}',
            '\u{f900}',
            '\u{3000}',
            '\u{e0041}',
            '\u{115f}',
            '\u{3164}',
        ] {
            let name = format!("a{letter}b");
            let refused = check(&name, Alphabet::Letters);
            assert_eq!(refused, Err(NameFault::Character(letter)));
        }
    }
}
