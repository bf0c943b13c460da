//! Letters outside ASCII that are safe in a name: no table of all of Unicode, but the common
//! scripts in which a letter stands for itself.
//!
//! Each of them is a letter or decimal digit that is its own NFC and NFKC form and composes with
//! no letter before it, so a text made of them is normalised already. Left out are therefore
//! combining marks, invisible and formatting characters, compatibility forms (full-width,
//! mathematical, ligatures) and all scripts that need vowel signs. Letters that look alike across
//! scripts remain: who allows more than ASCII accepts that.

/// Whether `letter` is such a letter or digit.
#[must_use]
pub(super) fn is_stable_letter(letter: char) -> bool {
    let code = u32::from(letter);
    STABLE.iter().any(|&(first, last)| (first..=last).contains(&code))
}

/// First and last code point of each run, in order.
const STABLE: [(u32, u32); 40] = [
    // Latin
    (0x00C0, 0x00D6),
    (0x00D8, 0x00F6),
    (0x00F8, 0x0131),
    (0x0134, 0x013E),
    (0x0141, 0x0148),
    (0x014A, 0x017E),
    (0x0180, 0x01C3),
    (0x01CD, 0x01F0),
    (0x01F4, 0x02AF),
    // Greek
    (0x0370, 0x0373),
    (0x0376, 0x0377),
    (0x037B, 0x037D),
    (0x037F, 0x037F),
    (0x0386, 0x0386),
    (0x0388, 0x038A),
    (0x038C, 0x038C),
    (0x038E, 0x03A1),
    (0x03A3, 0x03CF),
    (0x03D7, 0x03EF),
    (0x03F3, 0x03F3),
    (0x03F7, 0x03F8),
    // Greek and Cyrillic
    (0x03FA, 0x0481),
    (0x048A, 0x052F),
    // Armenian
    (0x0531, 0x0556),
    (0x0560, 0x0586),
    (0x0588, 0x0588),
    // Hebrew
    (0x05D0, 0x05EA),
    // Arabic
    (0x0620, 0x063F),
    (0x0641, 0x064A),
    (0x0660, 0x0669),
    (0x0671, 0x0674),
    (0x0679, 0x06D3),
    // Georgian
    (0x10D0, 0x10FA),
    (0x10FD, 0x10FF),
    // Latin, Vietnamese
    (0x1E00, 0x1E99),
    (0x1E9C, 0x1EFF),
    // Hiragana, Katakana
    (0x3041, 0x3096),
    (0x30A1, 0x30FA),
    // Han
    (0x4E00, 0x9FFF),
    // Hangul
    (0xAC00, 0xD7A3),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_runs_are_in_order_and_hold_letters_and_digits_only() {
        let mut before = 0x7F;
        for (first, last) in STABLE {
            assert!(before < first && first <= last, "{first:#X}");
            before = last;
            for code in first..=last {
                let letter = char::from_u32(code).expect("a character");
                assert!(letter.is_alphanumeric(), "{code:#X}");
            }
        }
    }
}
