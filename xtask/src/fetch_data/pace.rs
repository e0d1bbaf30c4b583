//! When a connection is too slow to be waited for.

use std::time::Duration;

/// What a connection must bring, in bytes a second on average over a window.
pub(super) const SLOWEST: f64 = 1000.0;

/// How much a connection brings, looked at once in each window of waiting for it.
pub(super) struct Pace {
    window: Duration,
    waited: Duration,
    bytes: usize,
}

impl Pace {
    pub(super) fn over(window: Duration) -> Self {
        Self { window, waited: Duration::ZERO, bytes: 0 }
    }

    /// Counts a piece and the time it was waited for; whether the window that it ends brought too
    /// little.
    pub(super) fn is_too_slow(&mut self, bytes: usize, waited: Duration) -> bool {
        self.bytes += bytes;
        self.waited += waited;
        if self.waited < self.window {
            return false;
        }
        let slow = (self.bytes as f64) < SLOWEST * self.waited.as_secs_f64();
        *self = Self::over(self.window);
        slow
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_window_has_to_bring_enough() {
        let second = Duration::from_secs(1);
        let mut pace = Pace::over(2 * second);
        assert!(!pace.is_too_slow(1, second), "the window is not over");
        assert!(!pace.is_too_slow(1999, second), "just enough");
        assert!(!pace.is_too_slow(0, second));
        assert!(pace.is_too_slow(1999, second), "too little, whatever came before");
        assert!(!pace.is_too_slow(5000, 5 * second) && pace.is_too_slow(4999, 5 * second));
    }
}
