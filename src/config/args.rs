//! The options of one command, held against its manual page. What the page does not list is an
//! error, and so is an option given twice or without its value.

use std::ffi::OsString;
use std::path::PathBuf;

use pico_args::Arguments;

use super::errors::{Code, Error};
use super::manual::Page;
use crate::io::files;
use crate::limits::SECRET_FILE_MAX;
use crate::secret::Secret;

/// Variables of the environment, by name.
pub type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

/// The options of one command that have not been read yet.
pub struct Args<'a> {
    page: &'static Page,
    rest: Arguments,
    environment: Environment<'a>,
}

impl std::fmt::Debug for Args<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The arguments may hold a token.
        f.debug_struct("Args").field("command", &self.page.command).finish_non_exhaustive()
    }
}

/// A secret, or the file that has it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum SecretSource {
    /// From the environment, or from the command line where that is allowed.
    Inline(Secret<String>),
    /// Read when it is needed.
    File(PathBuf),
}

impl SecretSource {
    /// The secret, without white space around it.
    ///
    /// # Errors
    ///
    /// `FILE_UNREADABLE`, `FILE_EXPOSED`, `FILE_TOO_LARGE`.
    pub fn read(&self) -> Result<Secret<String>, Error> {
        match self {
            Self::Inline(secret) => Ok(secret.clone()),
            Self::File(path) => Ok(files::read_secret_text(path, SECRET_FILE_MAX)?),
        }
    }
}

/// What an option's text means, or why it means nothing.
pub type Parsed<T> = Result<T, String>;

impl<'a> Args<'a> {
    /// The arguments after the command's own words.
    #[must_use]
    pub fn new(
        page: &'static Page,
        arguments: Vec<OsString>,
        environment: Environment<'a>,
    ) -> Self {
        Self { page, rest: Arguments::from_vec(arguments), environment }
    }

    /// The environment that this command runs in.
    #[must_use]
    pub fn variable(&self, name: &str) -> Option<String> {
        (self.environment)(name).filter(|value| !value.is_empty())
    }

    /// Whether a switch is there.
    pub fn switch(&mut self, name: &'static str) -> bool {
        self.listed(name);
        self.rest.contains(name)
    }

    /// The text of an option.
    ///
    /// # Errors
    ///
    /// `USAGE` when the option has no value.
    pub fn text(&mut self, name: &'static str) -> Result<Option<String>, Error> {
        self.value(name, |text| Ok(text.to_owned()))
    }

    /// The text of an option that has a short form.
    ///
    /// # Errors
    ///
    /// `USAGE` when the option has no value.
    pub fn text_either(&mut self, names: [&'static str; 2]) -> Result<Option<String>, Error> {
        self.listed(names[0]);
        let all = self.rest.values_from_fn(names, owned);
        self.single(names[1], all)
    }

    /// The path that an option names.
    ///
    /// # Errors
    ///
    /// `USAGE` when the option has no value.
    pub fn path(&mut self, name: &'static str) -> Result<Option<PathBuf>, Error> {
        self.value(name, |text| Ok(PathBuf::from(text)))
    }

    /// What an option says.
    ///
    /// # Errors
    ///
    /// `USAGE` when it says nothing that `parse` understands.
    pub fn value<T>(
        &mut self,
        name: &'static str,
        parse: impl FnOnce(&str) -> Parsed<T>,
    ) -> Result<Option<T>, Error> {
        self.listed(name);
        let all = self.rest.values_from_fn(name, owned);
        let Some(text) = self.single(name, all)? else { return Ok(None) };
        parse(&text).map(Some).map_err(|why| self.wrong(&format!("{name} {text:?}: {why}")))
    }

    /// What an option says that may come several times.
    ///
    /// # Errors
    ///
    /// `USAGE` when one says nothing that `parse` understands.
    pub fn values<T>(
        &mut self,
        name: &'static str,
        parse: impl Fn(&str) -> Parsed<T>,
    ) -> Result<Vec<T>, Error> {
        self.listed(name);
        let all = self.rest.values_from_fn(name, owned);
        let all = self.utf8(name, all)?;
        let parsed = all
            .iter()
            .map(|text| parse(text).map_err(|why| self.wrong(&format!("{name} {text:?}: {why}"))));
        parsed.collect()
    }

    /// A secret from the file that an option names, or else from the environment.
    ///
    /// # Errors
    ///
    /// `USAGE` when the option has no value.
    pub fn secret(
        &mut self,
        name: &'static str,
        variable: &str,
    ) -> Result<Option<SecretSource>, Error> {
        if let Some(path) = self.path(name)? {
            return Ok(Some(SecretSource::File(path)));
        }
        let value = self.variable(variable);
        Ok(value.map(|value| SecretSource::Inline(Secret::new(value.trim().to_owned()))))
    }

    /// The next argument that is no option. Options with values must have been read before.
    ///
    /// # Errors
    ///
    /// `USAGE` when it is an unknown option or not UTF-8.
    pub fn free(&mut self) -> Result<Option<String>, Error> {
        let next = self.rest.opt_free_from_os_str(|text| {
            text.to_str().map(str::to_owned).ok_or_else(|| "not UTF-8".to_owned())
        });
        match next.map_err(|why| self.wrong(&why.to_string()))? {
            Some(text) if text.starts_with('-') && text.len() > 1 => Err(self.unknown(&text)),
            other => Ok(other),
        }
    }

    /// A wrong command line.
    #[must_use]
    pub fn wrong(&self, message: &str) -> Error {
        Error::usage(self.page.command, message)
    }

    /// An option that must be there is not.
    #[must_use]
    pub fn missing(&self, name: &str) -> Error {
        self.wrong(&format!("{name} is needed"))
    }

    /// Ends the reading: nothing may be left.
    ///
    /// # Errors
    ///
    /// `USAGE` with the first thing that is left, and what may have been meant.
    pub fn finish(self) -> Result<(), Error> {
        let (page, rest) = (self.page, self.rest.finish());
        match rest.first().map(|text| text.to_string_lossy().into_owned()) {
            None => Ok(()),
            Some(text) if text.starts_with('-') && text.len() > 1 => Err(unknown(page, &text)),
            // It may be a token that lost its option.
            Some(text) if 64 < text.len() => {
                Err(Error::usage(page.command, "an argument too many, and a long one"))
            }
            Some(text) => Err(Error::usage(page.command, format!("{text:?} is too much"))),
        }
    }

    fn single(
        &self,
        name: &'static str,
        all: Result<Vec<String>, pico_args::Error>,
    ) -> Result<Option<String>, Error> {
        let mut all = self.utf8(name, all)?;
        if 1 < all.len() {
            return Err(self.wrong(&format!("{name} comes twice")));
        }
        Ok(all.pop())
    }

    fn utf8(
        &self,
        name: &'static str,
        all: Result<Vec<String>, pico_args::Error>,
    ) -> Result<Vec<String>, Error> {
        let all = all.map_err(|why| match why {
            pico_args::Error::NonUtf8Argument => {
                self.wrong(&format!("the value of {name} is not UTF-8"))
            }
            _ => self.wrong(&format!("{name} needs a value")),
        })?;
        // What looks like an option is one: --relay --listen has lost its value.
        match all.iter().any(|text| text.starts_with("--") || text.is_empty()) {
            true => Err(self.wrong(&format!("{name} needs a value"))),
            false => Ok(all),
        }
    }

    fn unknown(&self, text: &str) -> Error {
        unknown(self.page, text)
    }

    /// An option that the manual does not have must not exist.
    fn listed(&self, name: &'static str) {
        debug_assert!(
            self.page.options().any(|option| option == name),
            "{name} is not in the manual page of {}",
            self.page.command
        );
    }
}

fn owned(text: &str) -> Result<String, std::convert::Infallible> {
    Ok(text.to_owned())
}

fn unknown(page: &'static Page, text: &str) -> Error {
    // What follows = may be a secret.
    let name = text.split('=').next().unwrap_or(text);
    let known = page.options().any(|option| option == name);
    let message =
        if known { format!("{name} comes twice") } else { format!("unknown option {name}") };
    let near = page.options().filter(|o| o.starts_with("--")).map(|o| (distance(o, name), o));
    match near.min() {
        Some((1..=3, option)) => Error::new(Code::Usage, message)
            .hint(format!("did you mean {option}? see cluster-connect {} --help", page.command)),
        _ => Error::usage(page.command, message),
    }
}

/// How many letters must be put in, taken out or exchanged.
fn distance(one: &str, other: &str) -> usize {
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (i, a) in one.bytes().enumerate() {
        let mut diagonal = i;
        let mut left = i.saturating_add(1);
        for (b, cell) in other.bytes().zip(row.iter_mut().skip(1)) {
            let above = *cell;
            let changed = diagonal.saturating_add(usize::from(a != b));
            *cell = changed.min(above.saturating_add(1)).min(left.saturating_add(1));
            (diagonal, left) = (above, *cell);
        }
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    static PAGE: Page = Page {
        command: "test",
        parts: &[
            "  -n, --name NAME       a name\n  --relay URL            where\n",
            "  --fast            switch; not --slow\n",
        ],
    };

    fn args(words: &[&str]) -> Args<'static> {
        Args::new(&PAGE, words.iter().map(OsString::from).collect(), &|name| {
            (name == "SECRET").then(|| " s3cret\n".to_owned())
        })
    }

    #[test]
    fn values_come_after_a_space_or_an_equals_sign() {
        let mut words = args(&["--relay=https://a", "-n", "edge", "--fast"]);
        assert_eq!(words.text("--relay").unwrap().as_deref(), Some("https://a"));
        assert_eq!(words.text_either(["-n", "--name"]).unwrap().as_deref(), Some("edge"));
        assert!(words.switch("--fast"));
        assert!(words.finish().is_ok());
    }

    #[test]
    fn an_option_without_value_or_given_twice_is_an_error() {
        for words in [
            &["--relay"][..],
            &["--relay", "--fast"],
            &["--relay", ""],
            &["--relay="],
            &["--relay", "a", "--relay", "b"],
        ] {
            assert_eq!(args(words).text("--relay").unwrap_err().code, Code::Usage, "{words:?}");
        }
        let mut words = args(&["--fast", "--fast"]);
        assert!(words.switch("--fast"));
        assert_eq!(words.finish().unwrap_err().message, "--fast comes twice");
    }

    #[test]
    fn what_is_not_known_is_an_error_that_guesses() {
        let error = args(&["--relai=secret"]).finish().unwrap_err();
        assert_eq!(error.message, "unknown option --relai");
        assert!(error.hint.unwrap().contains("did you mean --relay?"));
        let error = args(&["--completely-different"]).finish().unwrap_err();
        assert_eq!(error.hint.as_deref(), Some("see cluster-connect test --help"));
        assert_eq!(args(&["stray"]).finish().unwrap_err().message, "\"stray\" is too much");
        let lost = "eyJ".repeat(50);
        assert!(!args(&[&lost]).finish().unwrap_err().message.contains("eyJ"));
        assert!(args(&["--unknown"]).free().is_err());
    }

    #[test]
    fn a_value_that_means_nothing_says_which_and_why() {
        let mut words = args(&["--relay", "x"]);
        let error = words.value("--relay", |_| Err::<(), _>("not a URL".to_owned())).unwrap_err();
        assert_eq!(error.message, "--relay \"x\": not a URL");
    }

    #[test]
    fn a_secret_comes_from_the_file_first_and_then_from_the_environment() {
        let file = args(&["--relay", "/f"]).secret("--relay", "SECRET").unwrap();
        assert_eq!(file, Some(SecretSource::File("/f".into())));
        let inline = args(&[]).secret("--relay", "SECRET").unwrap();
        assert_eq!(inline, Some(SecretSource::Inline(Secret::new("s3cret".to_owned()))));
        assert_eq!(args(&[]).secret("--relay", "OTHER").unwrap(), None);
        assert!(SecretSource::File("/nonexistent".into()).read().is_err());
    }

    #[test]
    fn arguments_that_are_not_utf8_are_refused() {
        use std::os::unix::ffi::OsStringExt;
        let bad = vec![OsString::from("--relay"), OsString::from_vec(vec![0xff])];
        let mut words = Args::new(&PAGE, bad, &|_| None);
        assert_eq!(words.text("--relay").unwrap_err().code, Code::Usage);
        let bad = vec![OsString::from_vec(vec![0xff])];
        assert!(Args::new(&PAGE, bad.clone(), &|_| None).free().is_err());
        assert!(Args::new(&PAGE, bad, &|_| None).finish().is_err());
    }

    #[test]
    fn options_are_found_in_a_page() {
        let found: Vec<&str> = PAGE.options().collect();
        assert_eq!(found, ["-n", "--name", "--relay", "--fast"]);
        assert_eq!((distance("--relay", "--relai"), distance("", "abc")), (1, 3));
    }
}
