//! The audit log, by itself: what only somebody who remembers a head can find is not looked for
//! here.

use super::Check;
use crate::app::{Error, audit};

impl Check {
    pub(super) async fn audit(&mut self) -> Result<(), Error> {
        let found = audit::verify_log(&self.catalog, &[]).await?;
        found.problems.into_iter().for_each(|line| self.problem(format!("audit log: {line}")));
        Ok(())
    }
}
