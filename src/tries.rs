//! How often the present piece of a durable job was refused, before it is passed over.

use std::collections::HashMap;

use parking_lot::Mutex;
use uuid::Uuid;

/// What is refused so often is passed over, as an error of its job.
const MOST: u32 = 5;

/// Jobs whose present piece was refused. They are counted by this process: who takes over
/// counts anew.
#[derive(Debug, Default)]
pub struct Tries(Mutex<HashMap<Uuid, u32>>);

impl Tries {
    /// Notes that a piece of `job` was refused; whether to try it again.
    pub fn is_again(&self, job: Uuid) -> bool {
        let mut tries = self.0.lock();
        let times = tries.entry(job).or_default();
        *times += 1;
        *times < MOST
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
}
