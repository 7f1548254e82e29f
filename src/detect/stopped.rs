//! Why requests were stopped: a client keeps a refused message and sends it again with the user's next words. By then it is
//! history, and must not stop these too. Must never hold what was found, only its `ref`.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

/// Reasons kept, the oldest go first: far more than the sessions of one machine run into between two words of their users.
const KEPT: usize = 1_000;

/// What stopped requests since the proxy runs.
#[derive(Debug, Default)]
pub struct Stopped(Mutex<VecDeque<Reason>>);

/// A finding that stops a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reason {
    /// Whose request it was.
    pub key_id: String,
    /// The `ref` that the refusal and the audit line carry.
    pub reference: String,
    /// How many texts the user said after it in the same turn.
    pub behind: usize,
}

impl Stopped {
    /// Keeps what stops a request now.
    pub fn remember(&self, reasons: Vec<Reason>) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for reason in reasons.into_iter().take(KEPT) {
            // The same prompt, sent again, moves to the end.
            kept.retain(|one| (&one.key_id, &one.reference) != (&reason.key_id, &reason.reference));
            kept.push_back(reason);
        }
        let surplus = kept.len().saturating_sub(KEPT);
        kept.drain(..surplus);
    }

    /// Whether this stopped a request of the same key before, and more stands behind it now: the user has said something since.
    /// The same request again is stopped again.
    pub fn is_history(&self, reason: &Reason) -> bool {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let same = |one: &&Reason| (&one.key_id, &one.reference) == (&reason.key_id, &reason.reference);
        kept.iter().find(same).is_some_and(|one| reason.behind > one.behind)
    }
}
