//! How often the present piece of a durable job was refused, before it is passed over.

use std::{collections::HashMap, time::Duration};

use parking_lot::Mutex;
use tokio::time::Instant;
use uuid::Uuid;

/// What is refused so often is passed over, as an error of its job.
const MOST: u32 = 5;
/// What was not tried for so long is not tried any more: it was cancelled or erased, or
/// another node does it.
const KEPT: Duration = Duration::from_secs(60 * 60);

/// Jobs whose present piece was refused. They are counted by this process: who takes over
/// counts anew.
#[derive(Debug, Default)]
pub struct Tries(Mutex<HashMap<Uuid, Tried>>);

#[derive(Debug)]
struct Tried {
    times: u32,
    at: Instant,
}

impl Tries {
    /// Notes that a piece of `job` was refused; whether to try it again.
    pub fn is_again(&self, job: Uuid) -> bool {
        let mut tries = self.0.lock();
        let at = Instant::now();
        tries.retain(|_, tried| at.duration_since(tried.at) < KEPT);
        let tried = tries.entry(job).or_insert(Tried { times: 0, at });
        tried.at = at;
        tried.times += 1;
        tried.times < MOST
    }

    /// `job` goes on with another piece.
    pub fn forget(&self, job: Uuid) {
        self.0.lock().remove(&job);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_piece_is_passed_over_at_the_fifth_refusal() {
        let tries = Tries::default();
        let (job, other) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let refusals: Vec<_> = (0..5).map(|_| tries.is_again(job)).collect();
        assert_eq!(refusals, [true, true, true, true, false]);
        assert!(tries.is_again(other));
        tries.forget(job);
        assert!(tries.is_again(job));
    }

    /// Who is refused and never tried again: cancelled, erased, or done by another node.
    #[tokio::test(start_paused = true)]
    async fn what_is_tried_no_more_is_forgotten() {
        let tries = Tries::default();
        for job in 0..1000 {
            tries.is_again(Uuid::from_u128(job));
        }
        tokio::time::advance(Duration::from_secs(3599)).await;
        assert!(tries.is_again(Uuid::from_u128(0)));
        assert_eq!(tries.0.lock().len(), 1000);
        tokio::time::advance(Duration::from_secs(1)).await;
        tries.is_again(Uuid::from_u128(1));
        assert_eq!(tries.0.lock().len(), 2);
    }
}
