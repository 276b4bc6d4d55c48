//! How many connections are being opened at once.
//!
//! A connection that is being opened costs a processor's time in its first moments (the key exchange); one that still is not
//! open after that is waiting for a machine that does not answer, which costs nothing. So it gives its turn to the next one.
//!
//! **Invariant:** nodes that do not answer delay the others by one turn at most, as long as they are fewer than the wider bound.

use std::pin::pin;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::sleep;

/// How many are in their first moments at once.
const AT_ONCE: usize = 16;

/// How many others may be waited for besides. Each is a process of ssh and some file descriptors.
const WAITING: usize = 256;

/// How long a turn is; far more than a machine that answers needs.
const TURN: Duration = Duration::from_secs(1);

/// Where connecting waits for its turn.
#[derive(Debug)]
pub(super) struct Gate {
    turns: Semaphore,
    waiting: Semaphore,
    turn: Duration,
}

impl Default for Gate {
    fn default() -> Gate {
        Gate::new(AT_ONCE, WAITING, TURN)
    }
}

impl Gate {
    fn new(at_once: usize, waiting: usize, turn: Duration) -> Gate {
        Gate { turns: Semaphore::new(at_once), waiting: Semaphore::new(waiting), turn }
    }

    /// Does this when it is its turn.
    pub(super) async fn pass<T>(&self, connecting: impl Future<Output = T>) -> T {
        // The semaphores are never closed; if they were, it would go on without them.
        let turn = self.turns.acquire().await;
        let mut connecting = pin!(connecting);
        let place = tokio::select! {
            biased;
            done = &mut connecting => return done,
            place = async { sleep(self.turn).await; self.waiting.acquire().await } => place,
        };
        drop(turn);
        let done = connecting.await;
        drop(place);
        done
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::pending;
    use std::sync::Arc;

    /// Lets so many connect to what never answers, each having its turn or waiting for it.
    fn hang(gate: &Arc<Gate>, count: usize) -> tokio::task::JoinSet<()> {
        let mut hanging = tokio::task::JoinSet::new();
        for _ in 0..count {
            let gate = Arc::clone(gate);
            hanging.spawn(async move { gate.pass(pending()).await });
        }
        hanging
    }

    #[tokio::test]
    async fn who_does_not_answer_gives_the_turn_to_the_next() {
        let gate = Arc::new(Gate::new(2, 100, Duration::from_millis(10)));
        let _hanging = hang(&gate, 20);
        assert_eq!(gate.pass(async { 7 }).await, 7);
    }

    #[tokio::test]
    async fn no_more_are_waited_for_than_allowed() {
        let gate = Arc::new(Gate::new(2, 3, Duration::from_millis(1)));
        let mut hanging = hang(&gate, 5);
        // Three wait, and two have kept their turns: there is none for this one until one of them ends.
        while gate.waiting.available_permits() > 0 || gate.turns.available_permits() > 0 {
            tokio::task::yield_now().await;
        }
        let mut next = pin!(gate.pass(async { 7 }));
        assert!(futures_util::poll!(&mut next).is_pending());
        hanging.shutdown().await;
        assert_eq!(next.await, 7);
    }
}
