//! The one clock. Decisions take time as an input; only the loops and the faces ask here.
//!
//! Two times are told apart. How long something has taken is asked of a clock that never goes back, the same that the loops'
//! timers run by. What time of day it is, is asked of the machine, whose clock people and NTP may set at any moment: it is only
//! ever shown, written down, or compared with another machine's.

use std::fmt;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

/// A clock that never goes back and reads like the time of day: milliseconds since 1970, counted on from when it was made. Beside
/// it, the machine's own time of day.
#[derive(Clone)]
pub struct Clock {
    started: Instant,
    offset_ms: u64,
    time_of_day: Arc<dyn Fn() -> SystemTime + Send + Sync>,
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Clock({})", self.now_ms())
    }
}

impl Default for Clock {
    fn default() -> Clock {
        Clock::new(SystemTime::now)
    }
}

impl Clock {
    /// A clock on a machine that says its time of day like this.
    pub fn new(time_of_day: impl Fn() -> SystemTime + Send + Sync + 'static) -> Clock {
        let offset_ms = since_1970_ms(time_of_day());
        Clock { started: Instant::now(), offset_ms, time_of_day: Arc::new(time_of_day) }
    }

    /// Now, in milliseconds. Not for a comparison with another machine's clock: ours may have been set since.
    pub fn now_ms(&self) -> u64 {
        let elapsed = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.offset_ms.saturating_add(elapsed)
    }

    /// The machine's own time of day now, in milliseconds since 1970.
    pub fn time_of_day_ms(&self) -> u64 {
        since_1970_ms((self.time_of_day)())
    }

    /// The same in seconds.
    pub fn time_of_day_s(&self) -> u64 {
        self.time_of_day_ms() / 1000
    }

    /// The machine's own time of day now, as RFC 3339 in UTC with seconds, as documents say it.
    pub fn timestamp(&self) -> String {
        rfc3339(since_1970_ms((self.time_of_day)()))
    }
}

fn since_1970_ms(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// A time in milliseconds since 1970, as RFC 3339 in UTC with seconds. A time that has no such form is the first that has.
pub fn rfc3339(ms: u64) -> String {
    let time = i64::try_from(ms).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    time.unwrap_or_default().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// Now, as RFC 3339 in UTC with milliseconds.
pub fn precise_timestamp() -> String {
    jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string()
}

/// Now, as RFC 3339 in UTC with seconds, as documents say it.
pub fn timestamp() -> String {
    jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}
