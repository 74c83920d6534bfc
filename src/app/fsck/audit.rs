//! The audit log, by itself: what only somebody who remembers a head can find is not looked for
//! here.

use super::Check;
use crate::app::audit;

impl Check {
    /// A row that can't be read is a problem like others: what was found before stands beside it.
    pub(super) async fn audit(&mut self) {
        match audit::verify_log(&self.catalog, &[]).await {
            Ok(found) => {
                found
                    .problems
                    .into_iter()
                    .for_each(|line| self.problem(format!("audit log: {line}")));
            }
            Err(error) => self.problem(format!("audit log: {}", error.reason())),
        }
    }
}
