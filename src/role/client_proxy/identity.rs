//! Where tokens come from. A source gives a token for an audience: one for the relay, another,
//! which the relay never sees, for the cluster.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::limits::{IDENTITY_TIMEOUT, SECRET_FILE_MAX};
use crate::role::{Exec, Job, Outcome};
use crate::secret::Secret;
use crate::wire::json;

/// A place that gives tokens.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Source {
    /// Two files, read anew each time: something else keeps them fresh.
    Files {
        /// The token for the relay; not needed beside a connection string.
        relay: Option<PathBuf>,
        /// The token for the cluster; not needed beside a Kubernetes token.
        cluster: Option<PathBuf>,
    },
    /// The variables [`RELAY_TOKEN`] and [`CLUSTER_TOKEN`], as they were at start.
    Fixed {
        /// The token for the relay; not needed beside a connection string.
        relay: Option<Secret<String>>,
        /// The token for the cluster.
        cluster: Option<Secret<String>>,
    },
    /// A command that prints a token for the audience in its environment.
    Command(String),
}

/// Has the token for the relay, with `--identity env`.
pub const RELAY_TOKEN: &str = "CLUSTER_CONNECT_RELAY_TOKEN";

/// Has the token for the cluster, with `--identity env`.
pub const CLUSTER_TOKEN: &str = "CLUSTER_CONNECT_CLUSTER_TOKEN";

/// Names the audience to the command of `--identity exec:`.
pub const AUDIENCE: &str = "CLUSTER_CONNECT_AUDIENCE";

/// What the token is for, to the command of `--identity exec:`.
pub const PURPOSE: &str = "CLUSTER_CONNECT_PURPOSE";

/// Whom a token is for.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Purpose {
    /// The relay's API.
    Relay,
    /// The cluster's auth proxy.
    Cluster,
}

/// A token, and when it ends if it says so.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Token {
    /// For an `Authorization` field.
    pub text: Secret<String>,
    /// Seconds since 1970.
    pub expires: Option<u64>,
}

/// How to get a token.
#[derive(Debug)]
pub enum Ask {
    /// It is here.
    Here(Token),
    /// By a job; its outcome goes to [`Token::from_outcome`].
    Job(Job),
}

/// Why a text names no source, or a source gives no token. Never holds a token.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Failure {
    /// No such source.
    Unknown(String),
    /// A source that this build has not.
    NotAvailable(String),
    /// A source without what it needs, as a sentence.
    Incomplete(&'static str),
    /// The source has no token for that purpose.
    Nothing(Purpose),
    /// It cannot be read, or the command failed: the reason.
    Broken(String),
    /// What came is not a token.
    NotAToken,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown(text) => write!(
                f,
                "{text:?} is no source of tokens: use file:RELAY_TOKEN,CLUSTER_TOKEN, env or \
                 exec:COMMAND"
            ),
            Self::NotAvailable(name) => {
                write!(f, "the source {name} is not in this build")
            }
            Self::Incomplete(what) => f.write_str(what),
            Self::Nothing(Purpose::Relay) => f.write_str("there is no token for the relay"),
            Self::Nothing(Purpose::Cluster) => f.write_str("there is no token for the cluster"),
            Self::Broken(why) => write!(f, "no token could be had: {why}"),
            Self::NotAToken => f.write_str("what the source gave is not a token"),
        }
    }
}

impl std::error::Error for Failure {}

impl Source {
    /// Reads `--identity`. `asks_relay` where the relay is asked for credentials, and so wants a
    /// token: without that a lone token is for the cluster. `variable` looks into the environment.
    ///
    /// # Errors
    ///
    /// [`Failure`]
    pub fn parse(
        text: &str,
        asks_relay: bool,
        variable: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, Failure> {
        if let Some(paths) = text.strip_prefix("file:") {
            let (relay, cluster) = match paths.split_once(',') {
                Some((relay, cluster)) => (Some(relay), Some(cluster)),
                None if asks_relay => (Some(paths), None),
                None => (None, Some(paths)),
            };
            if relay == Some("") || cluster == Some("") {
                return Err(Failure::Incomplete(if asks_relay {
                    "file: needs RELAY_TOKEN,CLUSTER_TOKEN"
                } else {
                    "file: needs CLUSTER_TOKEN"
                }));
            }
            let path = |text: Option<&str>| text.map(PathBuf::from);
            return Ok(Self::Files { relay: path(relay), cluster: path(cluster) });
        }
        if let Some(command) = text.strip_prefix("exec:") {
            return match command.trim() {
                "" => Err(Failure::Incomplete("exec: needs a command")),
                command => Ok(Self::Command(command.to_owned())),
            };
        }
        match text {
            "env" => {
                let token = |name: &str| variable(name).map(|text| token_text(&text)).transpose();
                let (relay, cluster) = (token(RELAY_TOKEN)?, token(CLUSTER_TOKEN)?);
                match (&relay, &cluster) {
                    (None, _) if asks_relay => {
                        Err(Failure::Incomplete("CLUSTER_CONNECT_RELAY_TOKEN is not set"))
                    }
                    (_, None) if !asks_relay => {
                        Err(Failure::Incomplete("CLUSTER_CONNECT_CLUSTER_TOKEN is not set"))
                    }
                    _ => Ok(Self::Fixed { relay, cluster }),
                }
            }
            "az" | "login" | "github" | "azure-pipelines" | "imds" => {
                Err(Failure::NotAvailable(text.to_owned()))
            }
            other => {
                // It may be a token that was put in the wrong place.
                let word = other.split(':').next().unwrap_or_default();
                Err(Failure::Unknown(word.chars().take(16).collect()))
            }
        }
    }

    /// How to get the token for `purpose`, whose audience is `audience`.
    ///
    /// # Errors
    ///
    /// [`Failure::Nothing`]
    pub fn ask(&self, purpose: Purpose, audience: &str) -> Result<Ask, Failure> {
        match self {
            Self::Files { relay, cluster } => {
                let path = match purpose {
                    Purpose::Relay => relay,
                    Purpose::Cluster => cluster,
                };
                let path = path.clone().ok_or(Failure::Nothing(purpose))?;
                Ok(Ask::Job(Job::Read { path, limit: SECRET_FILE_MAX }))
            }
            Self::Fixed { relay, cluster } => {
                let text = match purpose {
                    Purpose::Relay => relay,
                    Purpose::Cluster => cluster,
                };
                let text = text.as_ref().ok_or(Failure::Nothing(purpose))?;
                Ok(Ask::Here(Token { text: text.clone(), expires: expiry(text.expose()) }))
            }
            Self::Command(command) => {
                let word = match purpose {
                    Purpose::Relay => "relay",
                    Purpose::Cluster => "cluster",
                };
                let env = [(AUDIENCE, audience), (PURPOSE, word)];
                let env = env.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
                let (command, timeout) = (command.clone(), IDENTITY_TIMEOUT);
                Ok(Ask::Job(Job::Exec(Exec { command, env, timeout })))
            }
        }
    }

    /// A source that gives the same token for ever: nothing is gained by asking again.
    #[must_use]
    pub const fn is_fixed(&self) -> bool {
        matches!(self, Self::Fixed { .. })
    }
}

impl Token {
    /// The token in what a job of [`Source::ask`] gave: the text alone, or JSON as `az account
    /// get-access-token`, an OAuth endpoint or an exec plug-in of kubectl prints it.
    ///
    /// # Errors
    ///
    /// [`Failure::Broken`], [`Failure::NotAToken`].
    pub fn from_outcome(outcome: Outcome) -> Result<Self, Failure> {
        let text = match outcome {
            Outcome::Read(Ok(bytes)) => {
                let text = std::str::from_utf8(bytes.expose()).map_err(|_| Failure::NotAToken)?;
                Secret::new(text.to_owned())
            }
            Outcome::Exec(Ok(text)) => text,
            Outcome::Read(Err(why)) | Outcome::Exec(Err(why)) => return Err(Failure::Broken(why)),
            Outcome::Http(_) | Outcome::Written(_) | Outcome::Noted(_) => {
                return Err(Failure::NotAToken);
            }
        };
        let text = text.expose().trim();
        let text = if text.starts_with('{') { token_in_json(text)? } else { text.to_owned() };
        let text = token_text(&text)?;
        let expires = expiry(text.expose());
        Ok(Self { text, expires })
    }

    /// How long it lives from `unix_now`, if it says so.
    #[must_use]
    pub fn life(&self, unix_now: u64) -> Option<Duration> {
        self.expires.map(|at| Duration::from_secs(at.saturating_sub(unix_now)))
    }
}

/// One word of printable ASCII; a line break in it would end a header field.
fn token_text(text: &str) -> Result<Secret<String>, Failure> {
    let text = text.trim();
    let good = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
    if good { Ok(Secret::new(text.to_owned())) } else { Err(Failure::NotAToken) }
}

fn token_in_json(text: &str) -> Result<String, Failure> {
    let object = json::parse_object(text.as_bytes(), JSON_DEPTH).map_err(|_| Failure::NotAToken)?;
    let direct = ["accessToken", "access_token", "token", "value"];
    let direct = direct.iter().find_map(|key| object.get(key)?.as_text());
    let status = || object.get("status")?.as_object()?.get("token")?.as_text();
    direct.or_else(status).map(str::to_owned).ok_or(Failure::NotAToken)
}

/// When a JWT says it ends. It is not verified: whoever is shown the token does that.
fn expiry(token: &str) -> Option<u64> {
    let payload = token.split('.').nth(1)?;
    let payload = URL_SAFE_NO_PAD.decode(payload).ok()?;
    json::parse_object(&payload, JSON_DEPTH).ok()?.unsigned("exp").ok()
}

const JSON_DEPTH: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Source, Failure> {
        Source::parse(text, true, &|name| match name {
            RELAY_TOKEN => Some(" relay-token\n".to_owned()),
            _ => None,
        })
    }

    fn jwt(payload: &str) -> String {
        format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(payload))
    }

    fn printed(text: &str) -> Result<Token, Failure> {
        Token::from_outcome(Outcome::Exec(Ok(Secret::new(text.to_owned()))))
    }

    #[test]
    fn the_sources_are_files_the_environment_and_a_command() {
        let both = Source::Files { relay: Some("/a".into()), cluster: Some("/b".into()) };
        assert_eq!(parse("file:/a,/b"), Ok(both));
        assert_eq!(parse("file:/a"), Ok(Source::Files { relay: Some("/a".into()), cluster: None }));
        let fixed =
            Source::Fixed { relay: Some(Secret::new("relay-token".to_owned())), cluster: None };
        assert_eq!(parse("env"), Ok(fixed));
        assert_eq!(parse("exec: az x "), Ok(Source::Command("az x".to_owned())));
    }

    #[test]
    fn where_the_relay_is_not_asked_no_token_for_it_is_wanted() {
        let parse = |text: &str, has: &'static str| {
            Source::parse(text, false, &|name| (name == has).then(|| "t".to_owned()))
        };
        let lone = Source::Files { relay: None, cluster: Some("/c".into()) };
        assert_eq!(parse("file:/c", ""), Ok(lone));
        let both = Source::Files { relay: Some("/r".into()), cluster: Some("/c".into()) };
        assert_eq!(parse("file:/r,/c", ""), Ok(both));
        let fixed = Source::Fixed { relay: None, cluster: Some(Secret::new("t".to_owned())) };
        assert_eq!(parse("env", CLUSTER_TOKEN), Ok(fixed));
        for (text, has) in [("env", RELAY_TOKEN), ("file:", ""), ("file:/r,", "")] {
            assert!(matches!(parse(text, has), Err(Failure::Incomplete(_))), "{text}");
        }
        let asked = parse("file:/c", "").unwrap().ask(Purpose::Relay, "x");
        assert_eq!(asked.unwrap_err(), Failure::Nothing(Purpose::Relay));
    }

    #[test]
    fn other_sources_are_refused_with_a_sentence() {
        for text in ["file:", "file:,b", "file:a,", "exec:", "exec:  "] {
            assert!(matches!(parse(text), Err(Failure::Incomplete(_))), "{text}");
        }
        for text in ["az", "login", "github", "azure-pipelines", "imds"] {
            assert_eq!(parse(text), Err(Failure::NotAvailable(text.to_owned())));
        }
        for text in ["", "vault", "ENV"] {
            assert_eq!(parse(text), Err(Failure::Unknown(text.to_owned())));
        }
        let shown = parse(&"eyJ".repeat(100)).unwrap_err().to_string();
        assert!(shown.len() < 150, "{shown}");
        let none = Source::parse("env", true, &|_| None);
        assert!(matches!(none, Err(Failure::Incomplete(_))));
        let split = Source::parse("env", true, &|_| Some("a\r\nb".to_owned()));
        assert_eq!(split, Err(Failure::NotAToken));
    }

    #[test]
    fn a_command_is_told_the_audience_and_not_the_other_one() {
        let source = parse("exec:get-token").unwrap();
        let Ok(Ask::Job(Job::Exec(exec))) = source.ask(Purpose::Cluster, "edge") else { panic!() };
        assert_eq!(exec.command, "get-token");
        let env = [(AUDIENCE, "edge"), (PURPOSE, "cluster")];
        assert_eq!(exec.env, env.map(|(a, b)| (a.to_owned(), b.to_owned())));
    }

    #[test]
    fn each_purpose_has_its_own_token() {
        let source = parse("file:/a,/b").unwrap();
        for (purpose, path) in [(Purpose::Relay, "/a"), (Purpose::Cluster, "/b")] {
            let Ok(Ask::Job(Job::Read { path: asked, .. })) = source.ask(purpose, "x") else {
                panic!()
            };
            assert_eq!(asked, PathBuf::from(path));
        }
        let lone = parse("file:/a").unwrap().ask(Purpose::Cluster, "x");
        assert_eq!(lone.unwrap_err(), Failure::Nothing(Purpose::Cluster));
        let lone = parse("env").unwrap().ask(Purpose::Cluster, "x");
        assert_eq!(lone.unwrap_err(), Failure::Nothing(Purpose::Cluster));
    }

    #[test]
    fn tokens_are_found_in_what_tools_print() {
        for text in [
            "abc\n",
            r#"{"accessToken":"abc","expiresOn":"2026-11-23"}"#,
            r#"{"access_token":"abc"}"#,
            r#"{"count":1,"value":"abc"}"#,
            r#"{"kind":"ExecCredential","status":{"token":"abc"}}"#,
        ] {
            assert_eq!(printed(text).unwrap().text.expose(), "abc", "{text}");
        }
        let expires = printed(&jwt(r#"{"exp":1800000000}"#)).unwrap();
        assert_eq!(expires.expires, Some(1_800_000_000));
        assert_eq!(expires.life(1_799_999_990), Some(Duration::from_secs(10)));
        assert_eq!(expires.life(1_900_000_000), Some(Duration::ZERO));
    }

    #[test]
    fn what_is_not_a_token_is_refused_and_not_shown() {
        for text in ["", " \n", "a b", "a\nb", "{}", "{", r#"{"accessToken":1}"#, "tökèn"] {
            assert_eq!(printed(text), Err(Failure::NotAToken), "{text}");
        }
        let bytes = Outcome::Read(Ok(Secret::new(vec![0xff])));
        assert_eq!(Token::from_outcome(bytes), Err(Failure::NotAToken));
        let broken = Outcome::Exec(Err("exit code 1".to_owned()));
        assert_eq!(
            Token::from_outcome(broken).unwrap_err().to_string(),
            "no token could be had: exit code 1"
        );
        assert!(!format!("{:?}", printed("s3cret").unwrap()).contains("s3cret"));
    }

    #[test]
    fn a_token_without_a_readable_end_has_none() {
        for text in
            ["abc", "a.b.c", &jwt("{}"), &jwt(r#"{"exp":"1"}"#), &jwt(r#"{"exp":1,"exp":2}"#)]
        {
            assert_eq!(printed(text).unwrap().expires, None, "{text}");
        }
    }
}
