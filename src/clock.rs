//! The one clock. Decisions take time as an input; only the loops and the faces ask here.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// A clock that never goes back and reads like the time of day: milliseconds since 1970, counted on from when it was made.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    started: Instant,
    offset_ms: u64,
}

impl Default for Clock {
    fn default() -> Clock {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Clock { started: Instant::now(), offset_ms: u64::try_from(since.as_millis()).unwrap_or(u64::MAX) }
    }
}

impl Clock {
    /// Now, in milliseconds. Not for a comparison with another machine's clock: ours may have been set since.
    pub fn now_ms(&self) -> u64 {
        let elapsed = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.offset_ms.saturating_add(elapsed)
    }
}

/// The machine's own time of day now, in seconds since 1970.
pub fn time_of_day_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
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
