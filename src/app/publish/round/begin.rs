//! What a round is to sign, and the numbers for it.

use std::sync::atomic::Ordering;

use super::{Begun, Rounds, Scope};
use crate::app::Error;
use crate::app::publish::{due, signed};
use crate::app::trust::signed_here;
use crate::model::Timestamp;

impl Rounds {
    /// What is due, with numbers for it; none if nothing is. Suppliers and what is due fit each
    /// other: a delegation to other keys is published with the file that they sign. Numbers are
    /// skipped where somebody has changed a supplier meanwhile.
    pub(super) async fn begin(
        &self,
        now: Result<Timestamp, Error>,
        scope: Scope<'_>,
    ) -> Result<Option<Begun>, Error> {
        let mut suppliers = self.catalog.list_suppliers().await?;
        let policy = self.repository.policy();
        loop {
            let states = self.catalog.list_roles().await?;
            let set = self.verifier.current(&states).await?;
            let after = signed::adopted(&set, scope.signed())?;
            let ours = signed::named(signed_here(&states, &suppliers, policy), &after);
            let moment = now.as_ref().copied().unwrap_or_else(|_| self.clock.now());
            let due = match (self.is_overtaken.load(Ordering::Relaxed), scope) {
                (true, Scope::All(_)) => due::all_roles(&ours),
                (false, Scope::All(_)) => due::due_roles(policy, &ours, moment),
                (true, Scope::TimestampAlone) => Vec::new(), // it may list what is not here
                (false, Scope::TimestampAlone) => due::timestamp_alone(policy, &ours, moment),
            };
            let due = signed::due_with(due, &ours, scope.signed(), &suppliers, (&set, &after))?;
            if due.is_empty() {
                return Ok(None); // also while the clock is behind
            }
            let now = match now {
                Ok(now) => now,
                Err(error) => return Err(error),
            };
            self.refuse_lost().await?;
            let reserved = self.catalog.reserve_versions(&due).await?;
            let newest = self.catalog.list_suppliers().await?;
            if newest == suppliers {
                let set = after;
                return Ok(Some(Begun { now, suppliers, states, reserved, set }));
            }
            suppliers = newest;
        }
    }
}
