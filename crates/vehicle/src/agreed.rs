//! Step 3 of the cycle: the metadata of both repositories, and what they agree on.
//!
//! The Image repository is asked only if there is something to install (FV-16), but what is
//! installed is always compared, whether the metadata is new or not (AMB-16).

use std::collections::BTreeMap;

use super::Error;
use super::bundle::{self, VerifiedBundle};
use super::config::EcuConfig;
use super::roots;
use super::setup::Vehicle;
use super::source::{GivenSource, HttpSource};
use super::state::State;
use super::store::Store;
use super::updater::Updater;
use motorcade_model::{EcuSerial, Timestamp};
use motorcade_uptane::verify::{KnownEcu, Rules, TrustedSet, VerifyError, check_constraints};

/// What both repositories want installed.
///
/// They are two, and are asked one after the other: what is published in between, such as that an
/// image was yanked or sealed again, makes them differ although nobody attacks. So the Director,
/// which goes by what is published, is asked once more before a difference is believed. Who attacks
/// does so again, or keeps the
/// second answer away: so if that can't be had, the difference is believed.
///
/// A timestamp that was `given` with the answer to the report is verified as if it had been fetched.
pub(super) fn verify(
    vehicle: &mut Vehicle,
    now: Timestamp,
    given: Option<Vec<u8>>,
) -> Result<VerifiedBundle, Error> {
    match verify_once(vehicle, now, given) {
        Err(Error::Verify(first)) if may_be_news(&first) => match verify_once(vehicle, now, None) {
            Err(error) if error.attack().is_none() => Err(first.into()),
            again => again,
        },
        verified => verified,
    }
}

/// Whether it looks like this too when something is published between two requests.
fn may_be_news(error: &VerifyError) -> bool {
    matches!(
        error,
        // A superseded file is removed some time.
        VerifyError::Withheld { .. }
            | VerifyError::NotOnImageRepository { .. }
            | VerifyError::ImageMismatch { .. }
            | VerifyError::CustomMismatch { .. }
    )
}

fn verify_once(
    vehicle: &mut Vehicle,
    now: Timestamp,
    given: Option<Vec<u8>>,
) -> Result<VerifiedBundle, Error> {
    let (director_store, image_store) =
        (vehicle.folder.director_store(), vehicle.folder.image_store());
    let director = refresh_director(vehicle, &director_store, &image_store, now, given)?;
    let wanted = bundle::wanted(&director, |_| true)?;
    if wanted.iter().all(|assignment| vehicle.state.runs(assignment)) {
        return Ok(VerifiedBundle::default());
    }
    let image_url = vehicle.config.image();
    let token = vehicle.token_for(&image_url).cloned();
    let source = HttpSource::new(&vehicle.http, &image_url, token.as_ref());
    let mut image = start_image(&image_store, &source, now)?;
    let records = records(vehicle);
    let bundle =
        bundle::verify(wanted, &director, &mut image, |serial| records.get(serial).cloned())?;
    let installed = vehicle.state.ecus.iter();
    let installed = installed
        .map(|(ecu, state)| (ecu.clone(), state.candidate().into_iter().collect()))
        .collect();
    check_constraints(&installed, &bundle.assignments)?;
    accept(vehicle, &bundle)?;
    Ok(bundle)
}

/// What the Director wants. If anything is wrong with a timestamp that was given, all is asked for
/// as if it had not been.
fn refresh_director(
    vehicle: &mut Vehicle,
    store: &Store,
    image_store: &Store,
    now: Timestamp,
    given: Option<Vec<u8>>,
) -> Result<TrustedSet, Error> {
    let url = vehicle.config.director();
    let rules = vehicle.director_rules();
    let token = vehicle.token_for(&url).cloned();
    let source = HttpSource::director(&vehicle.http, &url, token.as_ref());
    let was_given = given.is_some();
    let source = GivenSource::new(&source, vehicle.state.director_root, given);
    let explained = |error| roots::explain(error, &rules, store, image_store, &source);
    let mut refresh = || {
        let mut director = Updater::start(store, &source, rules.clone(), now).map_err(explained)?;
        check_time(&mut vehicle.state, director.set().root_version(), now)?;
        director.refresh().map_err(explained).map(|()| director.into_set())
    };
    let mut refreshed = refresh();
    if was_given && refreshed.is_err() {
        refreshed = refresh();
    }
    let director = match refreshed {
        // The Director keeps a vehicle's last metadata alone, and may have signed anew since it
        // gave the timestamp. Who withholds a file does so again.
        Err(Error::Verify(VerifyError::Withheld { .. })) => refresh(),
        refreshed => refreshed,
    }?;
    // Not before: what a clock says that is months ahead is refuted by metadata that has expired by
    // it (AT-8).
    vehicle.state.latest_time = vehicle.state.latest_time.max(Some(now));
    vehicle.state.targets_version = director.targets_version().unwrap_or_default();
    vehicle.report_every = director.report_every();
    vehicle.state.save()?;
    Ok(director)
}

fn start_image<'a>(
    store: &'a Store,
    source: &'a HttpSource<'a>,
    now: Timestamp,
) -> Result<Updater<'a>, Error> {
    let mut image = Updater::start(store, source, Rules::Image, now)?;
    image.refresh()?;
    Ok(image)
}

/// TIM-5, TIM-6: the clock must not be behind a time at which metadata was verified, unless the
/// Director's root has changed since: whoever could set the clock ahead would else have locked the
/// vehicle out until that time (AT-8).
fn check_time(state: &mut State, root: u64, now: Timestamp) -> Result<(), Error> {
    if root > state.director_root {
        state.director_root = root;
        state.latest_time = None;
        state.save()?;
    }
    match state.latest_time.filter(|latest| now < *latest) {
        Some(latest) => Err(Error::ClockBehind { now, latest }),
        None => Ok(()),
    }
}

fn records(vehicle: &Vehicle) -> BTreeMap<EcuSerial, KnownEcu> {
    let record = |ecu: &EcuConfig| {
        let state = vehicle.state.ecus.get(&ecu.serial);
        let highest_counter = state.and_then(|state| state.highest_release_counter);
        (ecu.serial.clone(), KnownEcu { hardware_id: ecu.hardware_id.clone(), highest_counter })
    };
    vehicle.config.ecus.iter().map(record).collect()
}

/// Remembers release counters before anything is installed (FV-22).
fn accept(vehicle: &mut Vehicle, bundle: &VerifiedBundle) -> Result<(), Error> {
    for assignment in &bundle.assignments {
        let state = vehicle.state.ecu(&assignment.ecu);
        state.highest_release_counter =
            state.highest_release_counter.max(Some(assignment.custom.image.release_counter));
    }
    vehicle.state.save()
}
