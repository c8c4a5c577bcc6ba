//! A postern with a plugin that fails on demand, for the tests of what a plugin's failure leads to.
//!
//! ```text
//! faulty at rcpt how panic
//! ```
//! `how`: panic; error; slow (waits inside a call of the world); stuck (waits outside of any); half (asks for a change that the
//! hook takes, then for one that it does not); nonsense (a verdict that is not for the hook).

use std::process::ExitCode;
use std::time::Duration;

use postern::config::{ConfigError, Settings};
use postern::hook::{
    Answer, Change, Command, Connect, Content, Data, Denial, Entry, Hello, Hook, Mail, Plugin, Quit, Rcpt, Receipt, Ruling,
    Trouble,
};
use postern::world::World;
use serde::Deserialize;

const HOOKS: &[Hook] = &[
    Hook::Connect,
    Hook::Ehlo,
    Hook::Mail,
    Hook::Rcpt,
    Hook::Data,
    Hook::DataPostHeaders,
    Hook::DataPost,
    Hook::QueuePre,
    Hook::Queue,
    Hook::Vrfy,
    Hook::Quit,
];

const FAULTY: &Entry = &Entry::plugin("faulty", HOOKS, include_str!("faulty.rs"), build);

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
            "nonsense" => Ok(Ruling::queued(Receipt { id: None, text: String::from("not mine to say") })),
            "deny" => Ok(Ruling::deny(Denial::permanent(""))),
            other => Err(Trouble::new(format!("how {other}?"))),
        }
    }
}

/// Every hook of the table above fails alike.
macro_rules! all {
    ($($method:ident, $hook:ident, $facts:ident;)*) => {
        impl Plugin for Faulty {$(
            fn $method(&mut self, _: &$facts<'_>) -> Answer {
                self.at(Hook::$hook)
            }
        )*}
    };
}
all! {
    connect, Connect, Connect;
    ehlo, Ehlo, Hello;
    mail, Mail, Mail;
    rcpt, Rcpt, Rcpt;
    data, Data, Data;
    data_post_headers, DataPostHeaders, Content;
    data_post, DataPost, Content;
    queue_pre, QueuePre, Content;
    queue, Queue, Content;
    vrfy, Vrfy, Command;
    quit, Quit, Quit;
}

fn main() -> ExitCode {
    postern::cli::run(&[FAULTY])
}
