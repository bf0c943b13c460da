//! What single words on the command line mean.

use std::fmt::Display;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use super::args::{Args, Parsed, SecretSource};
use super::errors::{Code, Error};
use crate::wire::resource::ResourceId;
use crate::wire::url::Url;

/// A place to listen at or connect to.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Place {
    /// `address:port`.
    Tcp(SocketAddr),
    /// `unix:PATH`.
    Unix(PathBuf),
}

/// How much to log.
pub type Level = log::LevelFilter;

/// Where results go and in which form.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Output {
    /// For people.
    #[default]
    Table,
    /// For scripts.
    Json,
}

/// `10m`, `1h30m`, `3600` (seconds).
///
/// # Errors
///
/// A sentence.
pub fn duration(text: &str) -> Parsed<Duration> {
    let wrong = || "not a time such as 30s, 10m, 12h or 7d".to_owned();
    let (mut total, mut rest) = (0_u64, text);
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let (number, tail) = rest.split_at_checked(digits).ok_or_else(wrong)?;
        let number: u64 = number.parse().map_err(|_| wrong())?;
        let seconds = match tail.chars().next() {
            None | Some('s') => 1,
            Some('m') => 60,
            Some('h') => 3600,
            Some('d') => 24 * 3600,
            Some(_) => return Err(wrong()),
        };
        let part = number.checked_mul(seconds).ok_or_else(wrong)?;
        total = total.checked_add(part).ok_or_else(wrong)?;
        rest = tail.get(1..).unwrap_or_default();
    }
    match total {
        0 => Err("must be longer than nothing".to_owned()),
        total if LONGEST < total => Err("must be shorter than ten years".to_owned()),
        total => Ok(Duration::from_secs(total)),
    }
}

const LONGEST: u64 = 10 * 365 * 24 * 3600;

/// `ADDRESS:PORT`, `:PORT` (every address), `PORT` (the same).
///
/// # Errors
///
/// A sentence.
pub fn listen_address(text: &str) -> Parsed<SocketAddr> {
    let port = text.strip_prefix(':').unwrap_or(text);
    if let Ok(port) = port.parse::<u16>() {
        return Ok(SocketAddr::from(([0; 16], port)));
    }
    let text = match text.strip_prefix("localhost:") {
        Some(port) => format!("127.0.0.1:{port}"),
        None => text.to_owned(),
    };
    text.parse().map_err(|_| "not an address and a port, as in 0.0.0.0:443".to_owned())
}

/// `ADDRESS:PORT` or `unix:PATH`.
///
/// # Errors
///
/// A sentence.
pub fn place(text: &str) -> Parsed<Place> {
    match text.strip_prefix("unix:") {
        Some("") => Err("unix: needs a path".to_owned()),
        Some(path) => Ok(Place::Unix(PathBuf::from(path))),
        None => listen_address(text).map(Place::Tcp),
    }
}

/// The relay's URL. `https://` may be left out; without TLS it must be this machine.
///
/// # Errors
///
/// A sentence.
pub fn relay_url(text: &str) -> Parsed<Url> {
    let whole = if text.contains("://") { text.to_owned() } else { format!("https://{text}") };
    let url = Url::parse(&whole).map_err(|why| why.to_string())?;
    if !url.path.is_empty() {
        return Err("the relay's URL has no path".to_owned());
    }
    if !url.tls && !url.is_loopback() {
        return Err("http:// is for a relay on this machine alone; use https://".to_owned());
    }
    Ok(url)
}

/// A whole number in a range.
///
/// # Errors
///
/// A sentence.
pub fn number<T: Copy + FromStr + PartialOrd + Display>(
    text: &str,
    least: T,
    most: T,
) -> Parsed<T> {
    match text.parse() {
        Ok(number) if (least..=most).contains(&number) => Ok(number),
        _ => Err(format!("not a number from {least} to {most}")),
    }
}

/// One of a few words.
///
/// # Errors
///
/// A sentence that lists them.
pub fn one_of<T: Copy>(text: &str, words: &[(&str, T)]) -> Parsed<T> {
    let found = words.iter().find(|(word, _)| *word == text).map(|&(_, value)| value);
    found.ok_or_else(|| {
        let words: Vec<&str> = words.iter().map(|&(word, _)| word).collect();
        format!("not one of {}", words.join(", "))
    })
}

/// A cluster by name, `group/name` or resource id; `group` is for a name that has none.
///
/// # Errors
///
/// `RESOURCE_INVALID`.
pub fn cluster(name: &str, group: Option<&str>) -> Result<ResourceId, Error> {
    let whole = match group {
        Some(group) if !name.contains('/') => format!("{group}/{name}"),
        Some(_) | None => name.to_owned(),
    };
    ResourceId::parse(&whole).map_err(|why| {
        Error::new(Code::ResourceInvalid, format!("{name:?} names no cluster: {why}"))
            .hint("give a name, group/name, or a whole resource id")
    })
}

/// The options that many commands share.
impl Args<'_> {
    /// `-n` and `-g`, both once.
    ///
    /// # Errors
    ///
    /// `USAGE`, `RESOURCE_INVALID`.
    pub fn cluster(&mut self) -> Result<Option<ResourceId>, Error> {
        let group = self.text_either(["-g", "--resource-group"])?;
        let name = self.text_either(["-n", "--name"])?;
        name.map(|name| cluster(&name, group.as_deref())).transpose()
    }

    /// `--relay`, or the environment's `CLUSTER_CONNECT_RELAY`.
    ///
    /// # Errors
    ///
    /// `USAGE` when it is neither.
    pub fn relay(&mut self) -> Result<Url, Error> {
        if let Some(url) = self.value("--relay", relay_url)? {
            return Ok(url);
        }
        match self.variable("CLUSTER_CONNECT_RELAY") {
            Some(text) => relay_url(&text)
                .map_err(|why| self.wrong(&format!("CLUSTER_CONNECT_RELAY {text:?}: {why}"))),
            None => Err(self.missing("--relay (or CLUSTER_CONNECT_RELAY)")),
        }
    }

    /// `--connection-string-file`, or the environment's `CLUSTER_CONNECT_CONNECTION_STRING`. It
    /// stands instead of `--relay`.
    ///
    /// # Errors
    ///
    /// `USAGE`.
    pub fn connection_string(&mut self) -> Result<Option<SecretSource>, Error> {
        let variable = "CLUSTER_CONNECT_CONNECTION_STRING";
        let source = self.secret("--connection-string-file", variable)?;
        if source.is_some() && self.text("--relay")?.is_some() {
            return Err(self.wrong("--relay and a connection string exclude each other"));
        }
        Ok(source)
    }

    /// `--relay-ca`, or the environment's `CLUSTER_CONNECT_RELAY_CA`.
    ///
    /// # Errors
    ///
    /// `USAGE`.
    pub fn relay_ca(&mut self) -> Result<Option<PathBuf>, Error> {
        let path = self.path("--relay-ca")?;
        Ok(path.or_else(|| self.variable("CLUSTER_CONNECT_RELAY_CA").map(PathBuf::from)))
    }

    /// `--log-level`, or the environment's `CLUSTER_CONNECT_LOG`.
    ///
    /// # Errors
    ///
    /// `USAGE`.
    pub fn log_level(&mut self) -> Result<Level, Error> {
        let level = |text: &str| {
            let levels = [
                ("off", Level::Off),
                ("error", Level::Error),
                ("warn", Level::Warn),
                ("info", Level::Info),
                ("debug", Level::Debug),
                ("trace", Level::Trace),
            ];
            one_of(text, &levels)
        };
        if let Some(level) = self.value("--log-level", level)? {
            return Ok(level);
        }
        let variable = self.variable("CLUSTER_CONNECT_LOG");
        match variable.map(|text| level(&text)) {
            None => Ok(Level::Info),
            Some(Ok(level)) => Ok(level),
            Some(Err(why)) => Err(self.wrong(&format!("CLUSTER_CONNECT_LOG: {why}"))),
        }
    }

    /// `-o table|json`.
    ///
    /// # Errors
    ///
    /// `USAGE`.
    pub fn output(&mut self) -> Result<Output, Error> {
        let word = self.text_either(["-o", "--output"])?;
        let words = [("table", Output::Table), ("json", Output::Json)];
        match word.map(|word| one_of(&word, &words)) {
            None => Ok(Output::Table),
            Some(output) => output.map_err(|why| self.wrong(&format!("--output: {why}"))),
        }
    }

    /// `--state-dir`, or what systemd gives.
    ///
    /// # Errors
    ///
    /// `USAGE`.
    pub fn state_dir(&mut self) -> Result<Option<PathBuf>, Error> {
        let path = self.path("--state-dir")?;
        Ok(path.or_else(|| self.variable("STATE_DIRECTORY").map(PathBuf::from)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_with_their_units() {
        for (text, seconds) in
            [("90", 90), ("30s", 30), ("10m", 600), ("1h30m", 5400), ("7d", 604_800)]
        {
            assert_eq!(duration(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for text in [
            "",
            "0",
            "0s",
            "h",
            "1x",
            "-1s",
            "1.5h",
            "1 h",
            "99999999999999999999s",
            "11y",
            "4000d",
            "ä",
        ] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn places_are_addresses_or_sockets() {
        assert_eq!(listen_address("443"), Ok("[::]:443".parse().unwrap()));
        assert_eq!(listen_address(":443"), Ok("[::]:443".parse().unwrap()));
        assert_eq!(listen_address("localhost:1"), Ok("127.0.0.1:1".parse().unwrap()));
        assert_eq!(listen_address("[::1]:1"), Ok("[::1]:1".parse().unwrap()));
        assert_eq!(place("unix:/run/a"), Ok(Place::Unix("/run/a".into())));
        for text in ["", "unix:", "0.0.0.0", "host:1", "1.2.3.4:99999", "::1:1x"] {
            assert!(place(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_relay_is_reached_over_tls_unless_it_is_this_machine() {
        assert_eq!(
            relay_url("relay.example:8443").unwrap().to_string(),
            "https://relay.example:8443"
        );
        assert_eq!(
            relay_url("https://relay.example/").unwrap().to_string(),
            "https://relay.example"
        );
        assert!(relay_url("http://127.0.0.1:8080").is_ok());
        for text in ["http://relay.example", "https://relay/path", "ftp://relay", "https://a@b", ""]
        {
            assert!(relay_url(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_group_is_for_names_that_have_none() {
        assert_eq!(cluster("edge-7", Some("berlin")).unwrap().group(), "berlin");
        assert_eq!(cluster("paris/edge-7", Some("berlin")).unwrap().group(), "paris");
        assert_eq!(cluster("edge-7", None).unwrap().group(), "default");
        assert_eq!(cluster("edge 7", None).unwrap_err().code, Code::ResourceInvalid);
        assert_eq!(cluster("edge-7", Some("../x")).unwrap_err().code, Code::ResourceInvalid);
    }

    #[test]
    fn numbers_and_words_have_ranges() {
        assert_eq!(number("5", 1, 9), Ok(5));
        for text in ["0", "10", "-1", "x", ""] {
            assert!(number(text, 1, 9).is_err());
        }
        assert_eq!(one_of("c", &[("a", 1), ("b", 2)]), Err("not one of a, b".to_owned()));
    }
}
