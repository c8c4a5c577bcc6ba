//! What time it is.

use std::cell::Cell;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::Deadline;
use crate::sys::{self, wait};

/// A clock.
pub trait Clock {
    /// The date.
    fn now(&self) -> SystemTime;
    /// For measuring: never goes back.
    fn instant(&self) -> Instant;
    /// Waits. Ends early at the deadline, and when we are asked to end (SIGTERM).
    fn sleep(&self, time: Duration);
    /// Seconds that local time is ahead of UTC now.
    fn utc_offset_s(&self) -> i32;
}

/// The machine's clock.
pub struct RealClock {
    deadline: Deadline,
}

impl RealClock {
    /// One that keeps to this deadline.
    pub fn new(deadline: Deadline) -> Self {
        Self { deadline }
    }
}

impl Clock for RealClock {
    fn now(&self) -> SystemTime {
        SystemTime::now()
    }

    fn instant(&self) -> Instant {
        Instant::now()
    }

    fn sleep(&self, time: Duration) {
        let _ = wait::ready_or_terminated(&mut [], Some(self.deadline.step(time)));
    }

    fn utc_offset_s(&self) -> i32 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        sys::utc_offset_s(since.as_secs() as i64)
    }
}

/// A clock that stands until it is moved; sleeping moves it. For tests and replays.
pub struct ManualClock {
    start: Instant,
    date: SystemTime,
    elapsed: Cell<Duration>,
    offset_s: i32,
}

impl ManualClock {
    /// Stands at this date, in a place with this offset from UTC.
    pub fn new(date: SystemTime, offset_s: i32) -> Self {
        Self { start: Instant::now(), date, elapsed: Cell::new(Duration::ZERO), offset_s }
    }

    /// Moves it forward.
    pub fn advance(&self, time: Duration) {
        self.elapsed.set(self.elapsed.get() + time);
    }
}

/// 2030-01-01 00:00:00 UTC.
impl Default for ManualClock {
    fn default() -> Self {
        Self::new(UNIX_EPOCH + Duration::from_secs(1_893_456_000), 0)
    }
}

impl Clock for ManualClock {
    fn now(&self) -> SystemTime {
        self.date + self.elapsed.get()
    }

    fn instant(&self) -> Instant {
        self.start + self.elapsed.get()
    }

    fn sleep(&self, time: Duration) {
        self.advance(time);
    }

    fn utc_offset_s(&self) -> i32 {
        self.offset_s
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: Duration = Duration::from_millis(50);

    #[test]
    fn the_real_one_sleeps_but_not_over_the_deadline() {
        let deadline = Deadline::default();
        let clock = RealClock::new(deadline.clone());
        let start = clock.instant();
        clock.sleep(SHORT);
        assert!(start.elapsed() >= SHORT);
        deadline.replace(Some(Instant::now()));
        clock.sleep(Duration::from_secs(20));
        assert!(start.elapsed() < Duration::from_secs(10));
        assert!(clock.utc_offset_s().abs() <= 15 * 3600);
    }

    #[test]
    fn the_manual_one_moves_only_by_hand() {
        let clock = ManualClock::new(UNIX_EPOCH, 3600);
        let (date, instant) = (clock.now(), clock.instant());
        std::thread::sleep(Duration::from_millis(1));
        assert_eq!((clock.now(), clock.instant()), (date, instant));
        clock.sleep(SHORT);
        clock.advance(SHORT);
        assert_eq!((clock.now(), clock.instant()), (date + SHORT * 2, instant + SHORT * 2));
        assert_eq!(clock.utc_offset_s(), 3600);
    }
}
