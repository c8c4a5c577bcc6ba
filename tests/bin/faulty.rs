//! A postern with a plugin that fails on demand, for the tests of what a plugin's failure leads to.
//!
//! ```text
//! faulty at rcpt how panic
//! ```
//! `at`: the hook. `how`: panic; error; slow (waits inside a call of the world); stuck (waits outside of any); half (asks for a
//! change that the hook takes, then for one that it does not); nonsense (a verdict that is not for the hook); deny; hang_up (as
//! deny, and disconnects); note (a line in the log, no failure). Hooks whose answer would be ignored can only panic, wait, be
//! stuck and note.

use std::process::ExitCode;
use std::time::Duration;

use postern::config::{ConfigError, Settings};
use postern::hook::{
    Answer, Change, Command, Connect, Content, Data, Denial, End, Entry, Header, Hello, Hook, Mail, Plugin, Queued,
    Quit, Rcpt, Receipt, ReceivedLine, Refusal, Ruling, Text, Trouble,
};
use postern::world::World;
use serde::Deserialize;

const FAULTY: &Entry = &Entry::plugin("faulty", HOOKS, postern::manual!("faulty.rs"), build);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    at: String,
    how: String,
}

fn build(settings: Settings, world: &World) -> Result<Box<dyn Plugin>, ConfigError> {
    let Wanted { at, how } = settings.read()?;
    Ok(Box::new(Faulty { at, how, world: world.clone() }))
}

struct Faulty {
    at: String,
    how: String,
    world: World,
}

impl Faulty {
    fn at(&mut self, hook: Hook) -> Answer {
        if hook.name() != self.at {
            return Ok(Ruling::decline());
        }
        match self.how.as_str() {
            "panic" => panic!("\r\n250 a panic that looks like a reply\r\n"),
            "error" => Err(Trouble::new("a disk is missing\r\n250 ok")),
            "slow" => {
                self.world.clock.sleep(Duration::from_secs(600));
                Err(Trouble::new("waited in vain"))
            }
            "stuck" => loop {
                std::thread::sleep(Duration::from_secs(1));
            },
            "half" => Ok(Ruling::accept()
                .change(Change::GrantRelaying(String::from("half a change")))
                .change(Change::SetOption(String::from("a"), String::from("b")))
                .change(Change::AddKeyword(String::from("HALF")))),
            // At queue this would be the truth, and at quit an answer is.
            "nonsense" if hook == Hook::Queue => Ok(Ruling::answer("queued")),
            "nonsense" => Ok(Ruling::queued(Receipt { id: None, text: String::from("not mine to say") })),
            "note" => {
                tracing::warn!("faulty: told of {}", hook.name());
                Ok(Ruling::decline())
            }
            "deny" => Ok(Ruling::deny(Denial::permanent(""))),
            "hang_up" => Ok(Ruling::deny(Denial::permanent("").disconnect())),
            other => Err(Trouble::new(format!("how {other}?"))),
        }
    }
}

/// Every hook fails alike.
macro_rules! all {
    ({$($method:ident, $hook:ident, $facts:ident;)*} {$($told:ident, $told_hook:ident, $told_facts:ident;)*}) => {
        const HOOKS: &[Hook] = &[$(Hook::$hook,)* $(Hook::$told_hook,)*];

        impl Plugin for Faulty {
            $(fn $method(&mut self, _: &$facts<'_>) -> Answer {
                self.at(Hook::$hook)
            })*
            $(fn $told(&mut self, _: &$told_facts<'_>) {
                let _ = self.at(Hook::$told_hook);
            })*
        }
    };
}
all! { {
    pre_connection, PreConnection, Connect;
    connect, Connect, Connect;
    helo_parse, HeloParse, Text;
    helo, Helo, Hello;
    ehlo_parse, EhloParse, Text;
    ehlo, Ehlo, Hello;
    mail_parse, MailParse, Text;
    mail_pre, MailPre, Text;
    mail, Mail, Mail;
    rcpt_parse, RcptParse, Text;
    rcpt_pre, RcptPre, Text;
    rcpt, Rcpt, Rcpt;
    data, Data, Data;
    data_headers_end, DataHeadersEnd, Header;
    data_post_headers, DataPostHeaders, Content;
    received_line, ReceivedLine, ReceivedLine;
    data_post, DataPost, Content;
    queue_pre, QueuePre, Content;
    queue, Queue, Content;
    vrfy, Vrfy, Command;
    noop, Noop, Command;
    help, Help, Command;
    quit, Quit, Quit;
    unrecognized_command, UnrecognizedCommand, Command;
} {
    queue_post, QueuePost, Queued;
    deny, Deny, Refusal;
    reset_transaction, ResetTransaction, End;
    disconnect, Disconnect, End;
    post_connection, PostConnection, End;
} }

fn main() -> ExitCode {
    postern::cli::run(&[FAULTY])
}
