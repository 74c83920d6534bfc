//! Assignments: which image an ECU is to run next, as people ask for it.

use std::collections::BTreeSet;

use super::Director;
use super::decide::{Images, Wish, decide, decide_cancellation, images_of};
use crate::app::Error;
use crate::app::access::Principal;
use crate::app::random::random_hex;
use crate::model::{AssignmentRecord, EcuSerial, ImagePath, VehicleId};

/// Images for some of a vehicle's ECUs, which are to be installed together.
#[derive(Debug, Clone)]
pub struct AssignmentRequest {
    /// Each ECU at most once.
    pub assignments: Vec<EcuAssignment>,
    /// Lets release counters go down, and says why. It is recorded. A vehicle that has had the
    /// higher counter refuses all the same (Uptane 2.1.0, 5.4.4.2 step 10): to go back, publish the
    /// old image again with a higher counter.
    pub rollback_reason: Option<String>,
}

/// An image for an ECU.
#[derive(Debug, Clone)]
pub struct EcuAssignment {
    /// The ECU.
    pub ecu_serial: EcuSerial,
    /// Target path of the image.
    pub image: ImagePath,
}

impl Director {
    /// Assigns images to ECUs, all or none. An ECU's earlier assignment ends.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] with everything that speaks against it: quarantine, an ECU that the
    /// vehicle does not have, an image that is not published, another hardware id, a release
    /// counter that goes down, a dependency or conflict with anything that the vehicle may be
    /// running by now. [`Error::NotFound`] for the vehicle, [`Error::Invalid`].
    pub async fn assign(
        &self,
        vin: &VehicleId,
        request: &AssignmentRequest,
        by: &Principal,
    ) -> Result<Vec<AssignmentRecord>, Error> {
        check_request(request)?;
        let wish = self.wish(request, by)?;
        self.vehicles
            .update(vin, async |vehicle| {
                let mut images = self.load_images(images_of(&vehicle.record)).await?;
                for assignment in &wish.assignments {
                    self.load_listed(&assignment.image_path, &mut images).await?;
                }
                let decided = decide(&vehicle.record, &wish, &images);
                decided.map(Some).map_err(|problems| Error::Refused { problems })
            })
            .await?;
        Ok(wish.assignments)
    }

    /// Takes an assignment back. The ECU may have got it already, and then it is running it or
    /// will.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] if the ECU has no such assignment (any more), [`Error::Refused`] if
    /// another one relies on it.
    pub async fn cancel_assignment(
        &self,
        vin: &VehicleId,
        id: &str,
        by: &Principal,
    ) -> Result<(), Error> {
        let cancelled = self.vehicles.update(vin, async |vehicle| {
            let mut assigned = vehicle.record.status.ecus.iter().filter_map(|(serial, state)| {
                Some((serial, state.assigned.as_ref().filter(|known| known.id == id)?))
            });
            let Some((serial, _)) = assigned.next() else {
                let detail = format!("{vin} has no assignment {id:.64} that could be cancelled");
                return Err(Error::NotFound { code: "assignment_not_found", detail });
            };
            let images = self.load_images(images_of(&vehicle.record)).await?;
            let (by, now) = (by.into(), self.clock.now());
            let decided = decide_cancellation(&vehicle.record, serial, &by, now, &images);
            decided.map(Some).map_err(|problems| Error::Refused { problems })
        });
        cancelled.await.map(drop)
    }

    fn wish(&self, request: &AssignmentRequest, by: &Principal) -> Result<Wish, Error> {
        let at = self.clock.now();
        let record = |EcuAssignment { ecu_serial, image }: &EcuAssignment| {
            Ok(AssignmentRecord {
                id: random_hex::<12>()?,
                ecu_serial: ecu_serial.clone(),
                image_path: image.clone(),
                rollback_reason: request.rollback_reason.clone(),
                created_at: at,
                created_by: by.id.clone(),
                ended_at: None,
                outcome: None,
            })
        };
        let assignments = request.assignments.iter().map(record).collect::<Result<_, Error>>()?;
        Ok(Wish { assignments, by: by.into(), at })
    }

    /// Loads images for a decision that does not ask whether they are listed.
    pub(super) async fn load_images(
        &self,
        paths: impl IntoIterator<Item = ImagePath>,
    ) -> Result<Images, Error> {
        let mut images = Images::default();
        for path in paths {
            if let Some(record) = self.catalog.find_image(&path).await? {
                images.insert(record, false);
            }
        }
        Ok(images)
    }

    /// Loads an image with whether the published Image repository lists it.
    async fn load_listed(&self, path: &ImagePath, images: &mut Images) -> Result<(), Error> {
        let Some(record) = self.catalog.find_image(path).await? else { return Ok(()) };
        let listed = match record.yanked_at {
            Some(_) => None,
            None => self.listed.find(path).await?,
        };
        let is_listed = listed.is_some_and(|listed| listed.sha256 == record.sealed.sha256);
        images.insert(record, is_listed);
        Ok(())
    }
}

fn check_request(request: &AssignmentRequest) -> Result<(), Error> {
    let invalid =
        |detail: &str| Err(Error::Invalid { code: "bad_assignment", detail: detail.to_owned() });
    if request.assignments.is_empty() {
        return invalid("name at least one ECU and its image");
    }
    let mut ecus = BTreeSet::new();
    if !request.assignments.iter().all(|assignment| ecus.insert(&assignment.ecu_serial)) {
        return invalid("an ECU can have one image");
    }
    match &request.rollback_reason {
        Some(reason)
            if reason.trim().is_empty() || reason.len() > MAX_REASON || reason.contains('\0') =>
        {
            invalid("`rollback_reason` must have 1 to 500 bytes, and no NUL")
        }
        _ => Ok(()),
    }
}

const MAX_REASON: usize = 500;
