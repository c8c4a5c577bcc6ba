//! Where log lines go. `tracing` events, and entries of the decision record, become [`Line`]s for the sinks that
//! `config/logging` names; with none, or when one fails, they fall back (`fallback`). Never to the client, and a log that
//! blocks, fails or panics never stops mail.
//!
//! In: events and entries, of one thread. Out: lines of at most [`LINE_OCTETS_MAX`] octets, human or JSON, in which nothing
//! from outside can end a line. A line that a sink itself logs is dropped: it could go round for ever.

mod append;
mod fallback;
mod level;
mod strftime;

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::fmt::{self, Write as _};
use std::mem::ManuallyDrop;
use std::panic::{AssertUnwindSafe, catch_unwind};

use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::subscriber::Interest;
use tracing::{Event, Metadata, Subscriber, span};
use tracing_subscriber::layer::{Context, Layer};

pub use append::{AppendFile, cannot_append};
pub use fallback::{FACILITY_MAIL, Fallback, IDENT, SYSLOG_SOCKET, syslog, write_stderr};
pub use level::Level;
pub use strftime::{Moment, check as check_format};

pub use crate::launch::stderr_usable;

use crate::config::LogFormat;
use crate::record::{Entry, LINE_OCTETS_MAX};
use crate::smtp::escape::safe;

/// Room that a sink has in a line for what it puts before the text (time, host, process), in octets.
const SINK_OCTETS: usize = 64;

/// One line for the sinks.
pub struct Line<'a> {
    /// How grave.
    pub level: Level,
    /// The text: one line, control characters made safe; a JSON object if `json`.
    pub text: &'a str,
    /// Whether the text is a JSON object, which nothing may be put before.
    pub json: bool,
    /// The session's id, also at the start of the text; empty before the session has one.
    pub session: &'a str,
    /// The entry of the decision record that the text is made of. Such a line is written whatever the sink's level is.
    pub entry: Option<&'a Entry>,
}

impl<'a> Line<'a> {
    /// A line with this text, and no session.
    pub fn text(level: Level, text: &'a str) -> Self {
        Self { level, text, json: false, session: "", entry: None }
    }
}

/// One way for lines: a logging plugin.
pub struct Sink {
    name: String,
    level: Level,
    put: Put,
    /// It panicked: not asked again.
    broken: bool,
    /// The trouble that was told last, so that one that stays is told once.
    told: Option<String>,
}

/// Takes a line; an error makes the line fall back.
pub type Put = Box<dyn FnMut(&Line<'_>) -> Result<(), String>>;

impl Sink {
    /// A sink of this name that takes lines up to this level, and those of the record.
    pub fn new(name: &str, level: Level, put: Put) -> Self {
        Self { name: name.to_owned(), level, put, broken: false, told: None }
    }

    fn put(&mut self, line: &Line<'_>) -> Result<(), String> {
        if self.broken {
            return Err(String::new());
        }
        let put = catch_unwind(AssertUnwindSafe(|| (self.put)(line)));
        put.unwrap_or_else(|payload| {
            self.broken = true;
            Err(format!("panic: {}", panic_text(&*payload)))
        })
    }

    /// What is to be told of a trouble: nothing, if it was told before.
    fn news(&mut self, error: String) -> Option<String> {
        if error.is_empty() || self.told.as_ref() == Some(&error) {
            return None;
        }
        let news = format!("{}: error, {error}", self.name);
        self.told = Some(error);
        Some(news)
    }
}

/// The text of a panic's payload.
fn panic_text(payload: &(dyn Any + Send)) -> &str {
    let text = payload.downcast_ref::<&str>().copied();
    text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("of an unknown kind")
}

struct Log {
    sinks: Vec<Sink>,
    fallback: Fallback,
    /// What the fallback takes while there is no sink.
    level: Level,
}

impl Log {
    /// The least grave level that anybody takes.
    fn widest(&self) -> Level {
        self.sinks.iter().map(|sink| sink.level).max().unwrap_or(self.level)
    }

    fn write(&mut self, line: &Line<'_>) {
        let wanted = |level| line.entry.is_some() || line.level <= level;
        if self.sinks.is_empty() && wanted(self.level) {
            self.fallback.write(line);
        }
        let mut missed = false;
        for sink in self.sinks.iter_mut().filter(|sink| wanted(sink.level)) {
            match sink.put(line) {
                Ok(()) => sink.told = None,
                Err(error) => {
                    missed = true;
                    if let Some(news) = sink.news(error) {
                        let text = compose(line.json, line.session, Level::Error, &news);
                        self.fallback.write(&Line { level: Level::Error, text: &text, entry: None, ..*line });
                    }
                }
            }
        }
        if missed {
            self.fallback.write(line);
        }
    }
}

/// What the lines have in common.
struct Session {
    id: String,
    json: bool,
}

thread_local! {
    /// One process serves one session in one thread. Never dropped (`end` lets go of the sinks): a thread's first value with
    /// a destructor costs six system calls on musl.
    static LOG: ManuallyDrop<RefCell<Option<Log>>> = const { ManuallyDrop::new(RefCell::new(None)) };
    static SESSION: ManuallyDrop<RefCell<Session>> =
        const { ManuallyDrop::new(RefCell::new(Session { id: String::new(), json: false })) };
    /// The least grave level that anybody takes, so that an event that nobody wants costs a comparison.
    static WIDEST: Cell<Level> = const { Cell::new(Level::Error) };
    static MUTE: Cell<bool> = const { Cell::new(false) };
}

/// Begins logging: everything at `level` or graver, to the fallback until `attach` names sinks.
pub fn begin(level: Level, stderr_is_ours: bool) {
    let fallback = Fallback::new(stderr_is_ours);
    set(Log { sinks: Vec::new(), fallback, level });
    // A second call finds one set: tests in one process.
    let _ = tracing::subscriber::set_global_default(subscriber());
    std::panic::set_hook(Box::new(|panic| tracing::error!("{panic}")));
}

fn set(log: Log) {
    WIDEST.set(log.widest());
    LOG.with(|place| *place.borrow_mut() = Some(log));
}

/// Names the sinks. `level` is for when there are none: then lines up to it go to the fallback.
pub fn attach(level: Level, sinks: Vec<Sink>) {
    LOG.with(|log| {
        if let Some(log) = log.borrow_mut().as_mut() {
            log.level = level;
            log.sinks = sinks;
            WIDEST.set(log.widest());
        }
    });
}

/// Begins a session: its id stands in every line from now on, and lines are made in this format.
pub fn session(id: &str, format: LogFormat) {
    SESSION.with(|session| *session.borrow_mut() = Session { id: id.to_owned(), json: format == LogFormat::Json });
}

/// Lets go of the sinks, so that those with something left to do (a command to wait for) do it now. Lines that come after
/// go to the fallback.
pub fn end() {
    // Outside the borrow: a sink that logs on its way out finds the log as it will be.
    let sinks = LOG.with(|log| log.borrow_mut().as_mut().map(|log| std::mem::take(&mut log.sinks)));
    // A panic on the way out would take the exit status with it.
    let _ = catch_unwind(AssertUnwindSafe(|| drop(sinks)));
}

/// Lines go nowhere from now on (`postern try` shows the decisions itself).
pub fn mute() {
    MUTE.with(|mute| mute.set(true));
}

/// Whether anybody takes events of this level, for a caller whose text costs something to make.
pub fn wants(level: Level) -> bool {
    level <= WIDEST.get() && !MUTE.get()
}

/// Writes an entry of the decision record, whatever the level is.
pub fn record(entry: &Entry) {
    if MUTE.with(Cell::get) {
        return;
    }
    SESSION.with(|session| {
        let Ok(session) = session.try_borrow() else { return };
        let text = if session.json { entry.json() } else { entry.human() };
        let (json, session) = (session.json, session.id.as_str());
        write(&Line { level: Level::Info, text: &text, json, session, entry: Some(entry) });
    });
}

fn write(line: &Line<'_>) {
    // While the thread ends there is no log any more.
    let _ = LOG.try_with(|log| {
        // A sink that logs itself finds the log borrowed: that line is dropped.
        let Ok(mut log) = log.try_borrow_mut() else { return };
        if let Some(log) = log.as_mut() {
            log.write(line);
        }
    });
}

/// Writes an event's text, for a caller whose level is known only at run time.
pub fn write_event(level: Level, text: &str) {
    if MUTE.try_with(Cell::get).unwrap_or(true) {
        return;
    }
    let _ = SESSION.try_with(|session| {
        let Ok(session) = session.try_borrow() else { return };
        let (json, session) = (session.json, session.id.as_str());
        let text = compose(json, session, level, text);
        write(&Line { level, text: &text, json, session, entry: None });
    });
}

/// The whole text of a line that is not the record's, made safe.
pub fn compose(json: bool, session: &str, level: Level, text: &str) -> String {
    let octets_max = LINE_OCTETS_MAX - SINK_OCTETS;
    match (json, session) {
        (true, _) => Entry::new("log", session).with("level", level.name()).with("text", text).json(),
        (false, "") => safe(text, octets_max),
        (false, id) => safe(&format!("[{id}] {text}"), octets_max),
    }
}

/// Takes tracing's events.
struct Events;

impl<S: Subscriber> Layer<S> for Events {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut text = Text(String::new());
        event.record(&mut text);
        write_event(level_of(event.metadata()), &text.0);
    }
}

/// Below the layer: lets events through that somebody wants. No registry of spans: nobody here opens one, and it would cost
/// more than the rest of a short session.
struct Ground;

impl Subscriber for Ground {
    fn register_callsite(&self, _: &'static Metadata<'static>) -> Interest {
        // What is wanted changes when sinks are attached.
        Interest::sometimes()
    }
    fn enabled(&self, meta: &Metadata<'_>) -> bool {
        meta.is_event()
            && !is_chatter(meta)
            && WIDEST.try_with(|widest| level_of(meta) <= widest.get()).unwrap_or(false)
    }
    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(LevelFilter::DEBUG)
    }
    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }
    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn event(&self, _: &Event<'_>) {}
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
}

fn subscriber() -> impl Subscriber {
    Events.with_subscriber(Ground)
}

/// What hickory and tokio say to their own developers, packet by packet.
fn is_chatter(meta: &Metadata<'_>) -> bool {
    *meta.level() > tracing::Level::WARN && (meta.target().starts_with("hickory") || meta.target().starts_with("tokio"))
}

fn level_of(meta: &Metadata<'_>) -> Level {
    match *meta.level() {
        tracing::Level::ERROR => Level::Error,
        tracing::Level::WARN => Level::Warning,
        tracing::Level::INFO => Level::Info,
        _ => Level::Debug,
    }
}

/// An event's message, then its other fields as `name=value`.
struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        // Writing to a string does not fail.
        let _ = match field.name() {
            "message" => write!(self.0, "{value:?}"),
            name => write!(self.0, " {name}={value:?}"),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::rc::Rc;

    /// A sink that writes down what it gets.
    fn listening(level: Level) -> (Sink, Rc<RefCell<Vec<String>>>) {
        let heard = Rc::new(RefCell::new(Vec::new()));
        let ear = Rc::clone(&heard);
        let put = move |line: &Line<'_>| {
            let event = line.entry.map_or("-", Entry::event);
            ear.borrow_mut().push(format!("{} {event} {} {}", line.level.name(), line.session, line.text));
            Ok(())
        };
        (Sink::new("ear", level, Box::new(put)), heard)
    }

    fn log(sinks: Vec<Sink>) {
        set(Log { sinks, fallback: Fallback::new(false), level: Level::Info });
        session("abc", LogFormat::Human);
        MUTE.with(|mute| mute.set(false));
    }

    /// Events of this thread only: other tests have other subscribers.
    fn with_events(work: impl FnOnce()) {
        tracing::subscriber::with_default(subscriber(), work);
    }

    #[test]
    fn each_sink_gets_what_its_level_says_and_the_record_whole() {
        let (quiet, quiet_heard) = listening(Level::Error);
        let (wide, wide_heard) = listening(Level::Debug);
        log(vec![quiet, wide]);
        write_event(Level::Error, "e");
        write_event(Level::Debug, "d\r\n[abc] forged");
        record(&Entry::new("queued", "abc").with("from", "<>"));
        assert_eq!(*quiet_heard.borrow(), ["ERROR - abc [abc] e", "INFO queued abc [abc] queued from=<>"]);
        let all = wide_heard.borrow();
        assert_eq!(all[1], "DEBUG - abc [abc] d??[abc] forged");
        assert_eq!(all.len(), 3);
    }

    #[test]
    fn an_event_that_nobody_wants_is_not_even_made_into_text() {
        struct Never;
        impl fmt::Display for Never {
            fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
                panic!("it was made into text");
            }
        }
        let (sink, heard) = listening(Level::Warning);
        log(vec![sink]);
        with_events(|| {
            tracing::info!("{}", Never);
            tracing::warn!(count = 3, "text");
        });
        assert_eq!(*heard.borrow(), ["WARN - abc [abc] text count=3"]);
    }

    #[test]
    fn json_lines_are_json_whatever_they_say() {
        let (sink, heard) = listening(Level::Debug);
        log(vec![sink]);
        session("abc", LogFormat::Json);
        write_event(Level::Warning, &"\"\\\r\n\u{1b}".repeat(3000));
        record(&Entry::new("queued", "abc"));
        session("", LogFormat::Human);
        for line in heard.borrow().iter() {
            let object = line.splitn(4, ' ').nth(3).unwrap();
            assert!(object.len() <= LINE_OCTETS_MAX - SINK_OCTETS + 32, "{}", object.len());
            let object: serde_json::Value = serde_json::from_str(object).unwrap();
            assert_eq!(object["session"], "abc");
        }
        assert_eq!(heard.borrow().len(), 2);
    }

    #[test]
    fn a_sink_that_fails_panics_or_logs_stops_nothing() {
        let calls = Rc::new(Cell::new(0));
        let count = Rc::clone(&calls);
        let panics = Sink::new(
            "panics",
            Level::Debug,
            Box::new(move |_| {
                count.set(count.get() + 1);
                panic!("no");
            }),
        );
        let fails = Sink::new("fails", Level::Debug, Box::new(|_| Err("full".to_owned())));
        let logs = Sink::new(
            "logs",
            Level::Debug,
            Box::new(|line| {
                tracing::error!("again: {}", line.text);
                Ok(())
            }),
        );
        let (sink, heard) = listening(Level::Debug);
        log(vec![panics, fails, logs, sink]);
        with_events(|| {
            tracing::error!("one");
            tracing::error!("two");
        });
        assert_eq!(*heard.borrow(), ["ERROR - abc [abc] one", "ERROR - abc [abc] two"]);
        assert_eq!(calls.get(), 1, "not asked again after its panic");
    }

    #[test]
    fn a_trouble_that_stays_is_told_once_and_again_after_it_was_over() {
        let mut sink = Sink::new("file", Level::Debug, Box::new(|_| Ok(())));
        assert_eq!(sink.news("full".to_owned()).as_deref(), Some("file: error, full"));
        assert_eq!(sink.news("full".to_owned()), None);
        assert_eq!(sink.news("gone".to_owned()).as_deref(), Some("file: error, gone"));
        sink.told = None;
        assert!(sink.news("gone".to_owned()).is_some());
    }

    #[test]
    fn a_sink_is_let_go_at_the_end_and_its_panic_stays_there() {
        struct Last(Rc<Cell<bool>>);
        impl Drop for Last {
            fn drop(&mut self) {
                self.0.set(true);
                write_event(Level::Error, "on the way out");
                panic!("on the way out");
            }
        }
        let gone = Rc::new(Cell::new(false));
        let last = Last(Rc::clone(&gone));
        let put = move |_: &Line<'_>| {
            let _ = &last;
            Ok(())
        };
        log(vec![Sink::new("last", Level::Debug, Box::new(put))]);
        write_event(Level::Error, "text");
        assert!(!gone.get());
        end();
        assert!(gone.get());
        write_event(Level::Error, "after the end");
        end();
    }

    #[test]
    fn a_muted_log_says_nothing() {
        let (sink, heard) = listening(Level::Debug);
        log(vec![sink]);
        mute();
        write_event(Level::Error, "text");
        record(&Entry::new("queued", "abc"));
        assert!(heard.borrow().is_empty());
        MUTE.with(|mute| mute.set(false));
    }
}
