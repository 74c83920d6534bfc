//! Quarantines that end because a person has looked into them: one, a list, or all that a filter
//! leaves.

use std::collections::BTreeSet;

use futures_util::{StreamExt, TryStreamExt, stream};

use super::inventory::check_reason;
use super::register::invalid;
use super::{Fleet, Suspicion};
use crate::app::Error;
use crate::app::access::Principal;
use crate::catalog::Quarantined;
use crate::model::{EventKind, Timestamp, VehicleChange, VehicleId};

/// Which vehicles to clear.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClearSelection {
    /// These; at most [`MAX_CLEARED`].
    Vehicles(Vec<VehicleId>),
    /// Those in quarantine for nothing but these, if any are named, and since then, if that is.
    Filter {
        /// What the quarantine may be for.
        kinds: BTreeSet<Suspicion>,
        /// When it began, at the earliest.
        since: Option<Timestamp>,
    },
}

/// What came of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClearReport {
    /// How many vehicles were cleared.
    pub cleared: u64,
    /// Those of a list that are not in quarantine, or not registered.
    pub not_quarantined: Vec<VehicleId>,
    /// Whether more are left that the filter names: the same again clears those.
    pub more: bool,
}

impl Fleet {
    /// Lets a vehicle have new assignments again, after a person has looked into what it reported.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] if there is no such vehicle, or it is not in quarantine.
    pub async fn clear_quarantine(
        &self,
        vin: &VehicleId,
        reason: &str,
        by: &Principal,
    ) -> Result<(), Error> {
        check_reason(reason)?;
        let cleared = self.vehicles.update(vin, async |vehicle| {
            let mut change = VehicleChange::of(&vehicle.record, self.clock.now());
            let Some(ended) = change.release() else {
                let detail = format!("{vin} is not in quarantine");
                return Err(Error::NotFound { code: "not_quarantined", detail });
            };
            let detail = format!("{reason} (it was: {})", ended.reason);
            change.record(change.event(EventKind::QuarantineCleared, &by.into()).saying(detail));
            Ok(Some(change))
        });
        cleared.await.map(drop)
    }

    /// Clears several vehicles, each for itself; at most [`MAX_CLEARED`] at a time.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] for a list that is too long; [`Error::Full`], [`Error::Busy`] or
    /// [`Error::Internal`], and then some may be cleared: the same can be sent again.
    pub async fn clear_quarantines(
        &self,
        selection: ClearSelection,
        reason: &str,
        by: &Principal,
    ) -> Result<ClearReport, Error> {
        check_reason(reason)?;
        let (vins, more) = match selection {
            ClearSelection::Vehicles(vins) if vins.len() > MAX_CLEARED => {
                return Err(invalid(format!(
                    "at most {MAX_CLEARED} vehicles can be cleared at a time"
                )));
            }
            ClearSelection::Vehicles(vins) => (vins, false),
            ClearSelection::Filter { kinds, since } => {
                self.select_quarantined(&kinds, since).await?
            }
        };
        let mut report = ClearReport { more, ..ClearReport::default() };
        let clearing = stream::iter(vins).map(|vin| async move {
            match self.clear_quarantine(&vin, reason, by).await {
                Ok(()) => Ok(None),
                Err(Error::NotFound { .. }) => Ok(Some(vin)),
                Err(error) => Err(error),
            }
        });
        let mut clearing = clearing.buffered(CLEARED_AT_ONCE);
        while let Some(refused) = clearing.try_next().await? {
            match refused {
                None => report.cleared += 1,
                Some(vin) => report.not_quarantined.push(vin),
            }
        }
        tracing::info!(cleared = report.cleared, by = by.id, "quarantines cleared");
        Ok(report)
    }

    /// The first vehicles that a filter leaves, and whether there are more.
    async fn select_quarantined(
        &self,
        kinds: &BTreeSet<Suspicion>,
        since: Option<Timestamp>,
    ) -> Result<(Vec<VehicleId>, bool), Error> {
        // One that is there for something else, too, has not been looked into by who looked into
        // these.
        let is_meant = |each: &Quarantined| {
            let known = || {
                each.kinds.iter().all(|kind| {
                    Suspicion::from_name(kind).is_some_and(|kind| kinds.contains(&kind))
                })
            };
            since.is_none_or(|since| each.since >= since)
                && (kinds.is_empty() || (!each.kinds.is_empty() && known()))
        };
        let mut selected = Vec::new();
        let mut after = String::new();
        loop {
            let page = self.catalog.list_quarantined(&after, PAGE).await?;
            let Some(last) = page.last() else { return Ok((selected, false)) };
            after = last.vin.to_string();
            selected.extend(page.into_iter().filter(is_meant).map(|each| each.vin));
            if selected.len() > MAX_CLEARED {
                selected.truncate(MAX_CLEARED);
                return Ok((selected, true));
            }
        }
    }
}

/// Most vehicles that one request clears.
pub const MAX_CLEARED: usize = 1000;
const CLEARED_AT_ONCE: usize = 64; // which the writer puts into one transaction
const PAGE: u32 = 1000;
