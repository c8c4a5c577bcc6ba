//! postern: an SMTP front door. One process serves one connection: SMTP in on descriptor 0, replies out on descriptor 1. An
//! ordered chain of compiled-in plugins rules at every hook of the dialog, and accepted mail goes to a queue backend.
//!
//! The rooms, in order; each uses only those before it:
//!
//! | room | holds |
//! |---|---|
//! | [`sys`] | the few system calls that need `unsafe` |
//! | [`smtp`] | the wire: octets to words and back; no I/O |
//! | [`config`] | a qpsmtpd configuration directory: values, lists, maps, typed settings |
//! | [`transport`] | the connection: descriptors, deadlines; or a script, for `postern try` |
//! | [`launch`] | who is at the other end: the launcher's environment, getpeername |
//! | [`mail`] | the mail object: envelope, message, edits, spool, trace fields |
//! | [`world`] | what plugins and backends ask of the outside: clock, random, net, DNS, process, store, configuration |
//! | [`record`] | the decision record: who decided what, on what evidence |
//! | [`log`] | where log lines go, never to the client |
//! | [`hook`] | the contract with plugins: facts in, ruling out; the chain that asks them |
//! | [`plugins`], [`queue`] | the plugins, one file each; the backends |
//! | [`session`] | the conversation: state table, handlers, receiving, hand-over. It sees the chain, no plugin |
//! | [`setup`] | joins configuration and rooms |
//! | [`cli`] | the command line, one file per subcommand |
//!
//! Data goes down this path and comes back once, as a reply:
//! `octets -> smtp::line -> smtp::command -> session::state -> hook::chain -> plugins -> verdict -> smtp::reply -> octets`,
//! `octets after 354 -> smtp::data -> mail::spool -> queue`.

pub mod sys;

pub mod smtp;

pub mod config;

pub mod transport;

pub mod launch;

pub mod mail;

pub mod world;

pub mod record;

pub mod log;

pub mod hook;

pub mod plugins;

pub mod queue;

pub mod session;

pub mod setup;

pub mod cli;
