//! Run-time information about a hybrid connection, in the form in which Azure Relay's client for
//! .NET asks for it and reads it: an Atom entry. It is the relay's answer, and not the listener's.

use super::audit::rfc3339;
use super::authority::{Description, Request as Question, Right};
use super::fault::Fault;
use super::open::without_port;
use super::{Arrival, Net, Relay};
use crate::engine::upgrade::refusal;

impl Arrival {
    /// The question is about the entity, and not for its listener.
    pub(super) fn asks_for_description(&self) -> bool {
        let marker = self.request.fields.get("X-PROCESS-AT");
        let mut names = self.target.query.split('&').filter_map(|pair| pair.split_once('='));
        !self.target.is_hc
            && self.request.method == "GET"
            && marker.is_some_and(|value| value.eq_ignore_ascii_case("ServiceBus"))
            && names.any(|(name, _)| name.eq_ignore_ascii_case("api-version"))
    }
}

impl Relay {
    pub(super) fn describe(&mut self, arrival: &Arrival, net: &mut dyn Net) {
        let (status, kind, text) = match self.check_describer(arrival, net) {
            Ok(()) => match self.authority.describe(&arrival.target.path) {
                Some(found) => {
                    let count = self.listeners.get(&found.name.to_lowercase()).map_or(0, Vec::len);
                    (200, "application/atom+xml;type=entry;charset=utf-8", entry(&found, count))
                }
                // The client takes a feed for the absence of an entry.
                None => (200, "application/atom+xml;type=feed;charset=utf-8", FEED.to_owned()),
            },
            Err(fault) => {
                let detail = escape(&fault.phrase(&arrival.tracking));
                let text = format!(
                    "<Error><Code>{}</Code><Detail>{detail}</Detail></Error>",
                    fault.status
                );
                (fault.status, "application/xml; charset=utf-8", text)
            }
        };
        let phrase = crate::wire::h1::reason_phrase(status);
        let fields = format!("Content-Type: {kind}\r\nConnection: close\r\n");
        self.dismiss(arrival.conn, &refusal(status, phrase, &fields, &text), net);
    }

    /// Whoever may listen or send may know. A token is needed even where senders need none.
    fn check_describer(&mut self, arrival: &Arrival, net: &mut dyn Net) -> Result<(), Fault> {
        let mut question = Question {
            right: Right::Send,
            host: without_port(&arrival.tracking.host),
            path: &arrival.target.path,
            token: arrival.token(),
        };
        if self.authority.authorize(&question, net).is_ok() {
            return Ok(());
        }
        question.right = Right::Listen;
        self.authority.authorize(&question, net)?;
        Ok(())
    }
}

const FEED: &str = "<feed xmlns=\"http://www.w3.org/2005/Atom\"></feed>";

/// The order of the elements is that of the data contract: its reader skips what comes too late.
fn entry(of: &Description, listeners: usize) -> String {
    let (name, metadata) = (escape(&of.name), escape(&of.user_metadata));
    let (created, updated) = (rfc3339(of.created_at), rfc3339(of.updated_at));
    format!(
        "<entry xmlns=\"http://www.w3.org/2005/Atom\"><title type=\"text\">{name}</title>\
         <content type=\"application/xml\"><HybridConnectionDescription \
         xmlns=\"http://schemas.microsoft.com/netservices/2010/10/servicebus/connect\" \
         xmlns:i=\"http://www.w3.org/2001/XMLSchema-instance\">\
         <CreatedAt>{created}</CreatedAt><UpdatedAt>{updated}</UpdatedAt>\
         <RequiresClientAuthorization>{}</RequiresClientAuthorization>\
         <UserMetadata>{metadata}</UserMetadata>\
         <ListenerCount>{listeners}</ListenerCount>\
         </HybridConnectionDescription></content></entry>",
        of.needs_token
    )
}

/// Text for XML 1.0, which has no place for most control characters.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\u{fffe}' | '\u{ffff}' => (),
            '\t' | '\n' => out.push(letter),
            letter if letter.is_control() => (),
            letter => out.push(letter),
        }
    }
    out
}
