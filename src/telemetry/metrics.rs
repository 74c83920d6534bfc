//! Prometheus metrics: every family of the server, and the text that `/metrics` answers with.
//!
//! Handles are atomics that can be touched from any thread. Labels come from enums, route patterns
//! and role names, so the number of series is bounded by the program and never by what clients
//! send.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use prometheus::{
    Counter, CounterVec, Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec,
    Registry, TextEncoder,
};

use super::connections::ConnectionMetrics;
use super::families::{
    PublicationOutcome, UploadOutcome, UploadStage, counters, histogram, histograms, int_counter,
    int_counters, int_gauge, int_gauges, show, unix_secs,
};
use super::keys::KeyMetrics;
use super::process::ProcessMetrics;
use motorcade_model::{RepositorySide, RoleKind};

/// All metric families of one server.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    http: HttpFamilies,
    sealed_bytes: IntCounter,
    uploads_in_progress: IntGauge,
    uploads: IntCounterVec,
    upload_stages: CounterVec,
    publications: IntCounterVec,
    publication_duration: Histogram,
    published_images: IntGauge,
    largest_bin: IntGauge,
    bin_limit: IntGauge,
    metadata_expiry: IntGaugeVec,
    metadata_version: IntGaugeVec,
    awaits_person: IntGaugeVec,
    clock_jumps: IntCounterVec,
    clock_behind: IntGauge,
    corrupt_blobs: IntCounter,
    fleet: FleetFamilies,
    catalog_size: IntGaugeVec,
    connections: ConnectionMetrics,
    keys: KeyMetrics,
    process: ProcessMetrics,
    /// When each role's metadata expires, in seconds since 1970; its gauge depends on the time of
    /// the scrape.
    expiries: Mutex<BTreeMap<(String, String), i64>>,
}

/// Families about what vehicles report and get.
#[derive(Debug)]
struct FleetFamilies {
    manifests: IntCounterVec,
    attack_reports: IntCounter,
    attacks: IntCounterVec,
    faults: IntCounterVec,
    unexpected_images: IntCounter,
    fallbacks: IntCounter,
    director_bundles: IntCounter,
    vehicles: IntGaugeVec,
}

impl FleetFamilies {
    fn register(r: &Registry) -> Self {
        Self {
            manifests: int_counters(
                r,
                "manifests_total",
                "Vehicle version manifests, by what came of them.",
                &["outcome"],
            ),
            attack_reports: int_counter(
                r,
                "attack_reports_total",
                "ECU reports that tell of an attack.",
            ),
            attacks: int_counters(
                r,
                "attacks_total",
                "Attacks that ECUs reported, by kind.",
                &["kind"],
            ),
            faults: int_counters(
                r,
                "vehicle_faults_total",
                "Faults that ECUs reported, by kind.",
                &["kind"],
            ),
            unexpected_images: int_counter(
                r,
                "unexpected_images_total",
                "ECU reports of an image nobody gave to it.",
            ),
            fallbacks: int_counter(
                r,
                "fallbacks_total",
                "ECU reports of an older image than the one before.",
            ),
            director_bundles: int_counter(
                r,
                "director_bundles_total",
                "Metadata signed for a vehicle.",
            ),
            vehicles: int_gauges(r, "vehicles", "Vehicles in the inventory, by state.", &["state"]),
        }
    }
}

impl Metrics {
    /// Creates every family, so that a scrape shows them before anything has happened.
    pub fn new(version: &str) -> Self {
        let registry = Registry::new();
        let r = &registry;
        let build_info =
            int_gauges(r, "build_info", "Version of the running server.", &["version"]);
        build_info.with_label_values(&[version]).set(1);
        let until = "Seconds until signed metadata expires; negative once it has.";
        let metrics = Self {
            http: HttpFamilies::new(r),
            sealed_bytes: int_counter(r, "sealed_bytes_total", "Plaintext bytes sealed."),
            uploads_in_progress: int_gauge(r, "uploads_in_progress", "Uploads being received."),
            uploads: int_counters(r, "uploads_total", "Uploads ended.", &["outcome"]),
            upload_stages: counters(
                r,
                "upload_stage_seconds_total",
                "Time spent in each stage.",
                &["stage"],
            ),
            publications: int_counters(
                r,
                "publications_total",
                "Publications ended.",
                &["outcome"],
            ),
            publication_duration: histogram(
                r,
                "publication_duration_seconds",
                "Time to sign and publish.",
                &PUBLICATION_BUCKETS,
            ),
            published_images: int_gauge(r, "published_images", "Images in the Image repository."),
            largest_bin: int_gauge(
                r,
                "largest_bin_bytes",
                "Bytes of entries in the fullest hash bin.",
            ),
            bin_limit: int_gauge(
                r,
                "bin_limit_bytes",
                "Bytes of entries at which a hash bin is full.",
            ),
            metadata_expiry: int_gauges(r, "metadata_expiry_seconds", until, &ROLE_LABELS),
            metadata_version: int_gauges(
                r,
                "metadata_version",
                "Version of signed metadata.",
                &ROLE_LABELS,
            ),
            awaits_person: int_gauges(
                r,
                "metadata_awaits_person",
                "Whether metadata is past half of its life and its keys are not here.",
                &ROLE_LABELS,
            ),
            clock_jumps: int_counters(
                r,
                "clock_jumps_total",
                "Times that the clock has jumped.",
                &["direction"],
            ),
            clock_behind: int_gauge(
                r,
                "clock_behind_seconds",
                "Seconds that the clock is behind the last signing.",
            ),
            corrupt_blobs: int_counter(
                r,
                "corrupt_blobs_total",
                "Blobs that differ from their digest.",
            ),
            fleet: FleetFamilies::register(r),
            catalog_size: int_gauges(
                r,
                "catalog_size_bytes",
                "Size of the catalog's files.",
                &["file"],
            ),
            connections: ConnectionMetrics::register(r),
            keys: KeyMetrics::register(r),
            process: ProcessMetrics::register(r),
            expiries: Mutex::default(),
            registry,
        };
        metrics.show_zeros();
        metrics
    }

    /// Makes each known label appear, since a rate over a series that starts at one misses its
    /// first event.
    fn show_zeros(&self) {
        for outcome in UploadOutcome::ALL {
            self.uploads.with_label_values(&[outcome.label()]);
        }
        for stage in UploadStage::ALL {
            self.upload_stages.with_label_values(&[stage.label()]);
        }
        for outcome in PublicationOutcome::ALL {
            self.publications.with_label_values(&[outcome.label()]);
        }
        for direction in ["forward", "back"] {
            self.clock_jumps.with_label_values(&[direction]);
        }
    }

    /// Handles for one kind of request; keep them, since looking them up costs more than using
    /// them.
    ///
    /// `route` **must** be a route's pattern and `method` one of a few names: **never** what a
    /// client sent.
    pub fn http(&self, route: &str, method: &str, status: u16) -> HttpMetrics {
        HttpMetrics {
            requests: self.http.requests.with_label_values(&[route, method, &status.to_string()]),
            durations: self.http.durations.with_label_values(&[route, method]),
        }
    }

    /// The gauge of requests that have no response yet.
    pub fn http_in_flight(&self) -> IntGauge {
        self.http.in_flight.clone()
    }

    /// Tells how full the fullest hash bin is, and when it is full.
    pub fn set_largest_bin(&self, bytes: u64, limit: u64) {
        self.largest_bin.set(i64::try_from(bytes).unwrap_or(i64::MAX));
        self.bin_limit.set(i64::try_from(limit).unwrap_or(i64::MAX));
    }

    /// Adds plaintext bytes that were sealed.
    pub fn add_sealed_bytes(&self, bytes: u64) {
        self.sealed_bytes.inc_by(bytes);
    }

    /// Counts an upload as in progress until it is finished; dropped before that, it ends as
    /// cancelled.
    pub fn start_upload(&self) -> UploadInProgress {
        self.uploads_in_progress.inc();
        UploadInProgress {
            in_progress: self.uploads_in_progress.clone(),
            uploads: self.uploads.clone(),
            outcome: UploadOutcome::Cancelled,
        }
    }

    /// Adds time spent in one stage; stages run beside each other, so their sum can exceed the wall
    /// time.
    pub fn add_upload_stage(&self, stage: UploadStage, spent: Duration) {
        self.upload_stages.with_label_values(&[stage.label()]).inc_by(spent.as_secs_f64());
    }

    /// Adds the time until the timer is dropped to one stage.
    pub fn time_upload_stage(&self, stage: UploadStage) -> StageTimer {
        let seconds = self.upload_stages.with_label_values(&[stage.label()]);
        StageTimer { seconds, started: Instant::now() }
    }

    /// Counts a publication and how long it took.
    pub fn add_publication(&self, outcome: PublicationOutcome, took: Duration) {
        self.publications.with_label_values(&[outcome.label()]).inc();
        self.publication_duration.observe(took.as_secs_f64());
    }

    /// Sets how many images the Image repository holds.
    pub fn set_published_images(&self, images: u64) {
        self.published_images.set(images.try_into().unwrap_or(i64::MAX));
    }

    /// Sets version and expiry of a role's newest metadata.
    ///
    /// All hash bins are one, with the earliest expiry among them.
    pub fn set_metadata(
        &self,
        repository: RepositorySide,
        role: RoleKind,
        version: u64,
        expires: SystemTime,
    ) {
        let (repository, role) = (repository.as_str(), role.as_str());
        let version = version.try_into().unwrap_or(i64::MAX);
        self.metadata_version.with_label_values(&[repository, role]).set(version);
        self.expiries().insert((repository.to_owned(), role.to_owned()), unix_secs(expires));
    }

    /// Forgets a role of which nothing is published any more.
    pub fn forget_metadata(&self, repository: RepositorySide, role: RoleKind) {
        let labels = [repository.as_str(), role.as_str()];
        let [repository, role] = labels.map(str::to_owned);
        self.expiries().remove(&(repository, role));
        // Neither need be there.
        let _ = self.metadata_version.remove_label_values(&labels);
        let _ = self.metadata_expiry.remove_label_values(&labels);
    }

    /// Sets whether a role is past half of its life and waits for a person, whose keys are not here.
    pub fn set_awaits_person(&self, repository: RepositorySide, role: RoleKind, awaits: bool) {
        let labels = [repository.as_str(), role.as_str()];
        self.awaits_person.with_label_values(&labels).set(awaits.into());
    }

    /// Counts a jump of the clock, by the direction of its seconds.
    pub fn add_clock_jump(&self, seconds: i64) {
        self.clock_jumps.with_label_values(&[if seconds < 0 { "back" } else { "forward" }]).inc();
    }

    /// Sets by how many seconds the clock is behind what was signed last, which keeps anything from
    /// being signed.
    pub fn set_clock_behind(&self, seconds: i64) {
        self.clock_behind.set(seconds);
    }

    /// Counts a manifest; `outcome` **must** be `accepted` or the code of a refusal, **never** what
    /// a client sent.
    pub fn add_manifest(&self, outcome: &'static str) {
        self.fleet.manifests.with_label_values(&[outcome]).inc();
    }

    /// Makes the outcomes of manifests appear before there is one.
    pub fn show_manifest_outcomes(&self, outcomes: &[&'static str]) {
        show(&self.fleet.manifests, outcomes);
    }

    /// Counts an ECU report that tells of an attack.
    pub fn add_attack_report(&self) {
        self.fleet.attack_reports.inc();
    }

    /// Counts metadata that was signed for a vehicle.
    pub fn add_director_bundle(&self) {
        self.fleet.director_bundles.inc();
    }

    /// Counts an attack in an ECU report; `kind` **must** be one of the names that are known here,
    /// **never** what a client sent.
    pub fn add_attack(&self, kind: &'static str) {
        self.fleet.attacks.with_label_values(&[kind]).inc();
    }

    /// Makes a kind of attack appear before there is one.
    pub fn show_attack(&self, kind: &'static str) {
        self.fleet.attacks.with_label_values(&[kind]);
    }

    /// Makes a kind of fault appear before there is one.
    pub fn show_fault(&self, kind: &'static str) {
        self.fleet.faults.with_label_values(&[kind]);
    }

    /// Counts a fault in an ECU report; `kind` as in [`Self::add_attack`].
    pub fn add_fault(&self, kind: &'static str) {
        self.fleet.faults.with_label_values(&[kind]).inc();
    }

    /// Counts an ECU report of an image that the ECU neither had nor was given.
    pub fn add_unexpected_image(&self) {
        self.fleet.unexpected_images.inc();
    }

    /// Counts an ECU report of an image with a lower release counter than the one before.
    pub fn add_fallback(&self) {
        self.fleet.fallbacks.inc();
    }

    /// Sets how many vehicles there are in each state.
    pub fn set_vehicles<const N: usize>(&self, states: [(&'static str, u64); N]) {
        for (state, count) in states {
            self.fleet
                .vehicles
                .with_label_values(&[state])
                .set(count.try_into().unwrap_or(i64::MAX));
        }
    }

    /// Sets the sizes in bytes of the catalog and of its write-ahead log.
    pub fn set_catalog_size(&self, database: u64, log: u64) {
        for (file, bytes) in [("database", database), ("write_ahead_log", log)] {
            self.catalog_size.with_label_values(&[file]).set(bytes.try_into().unwrap_or(i64::MAX));
        }
    }

    /// What is counted of keys.
    pub fn keys(&self) -> &KeyMetrics {
        &self.keys
    }

    /// What is counted of connections and of TLS.
    pub fn connections(&self) -> &ConnectionMetrics {
        &self.connections
    }

    /// Counts a blob that was found to differ from its digest.
    pub fn add_corrupt_blob(&self) {
        self.corrupt_blobs.inc();
    }

    /// The text exposition, version 0.0.4, with every expiry counted from `now`.
    pub fn render(&self, now: SystemTime) -> String {
        let now = unix_secs(now);
        for ((repository, role), expires) in self.expiries().iter() {
            let left = expires.saturating_sub(now);
            self.metadata_expiry.with_label_values(&[repository, role]).set(left);
        }
        self.connections.refresh(now);
        self.process.refresh();
        TextEncoder::new()
            .encode_to_string(&self.registry.gather())
            .expect("every family that is gathered has a name and a sample")
    }

    fn expiries(&self) -> MutexGuard<'_, BTreeMap<(String, String), i64>> {
        self.expiries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What one kind of request, by route, method and status, is counted in.
#[derive(Clone, Debug)]
pub struct HttpMetrics {
    requests: IntCounter,
    durations: Histogram,
}

impl HttpMetrics {
    /// Counts one request.
    pub fn add(&self, took: Duration) {
        self.requests.inc();
        self.durations.observe(took.as_secs_f64());
    }
}

/// A stage of an upload that is being timed.
#[must_use = "dropping it ends the stage"]
#[derive(Debug)]
pub struct StageTimer {
    seconds: Counter,
    started: Instant,
}

impl Drop for StageTimer {
    fn drop(&mut self) {
        self.seconds.inc_by(self.started.elapsed().as_secs_f64());
    }
}

/// An upload that counts as in progress.
#[must_use = "dropping it counts the upload as cancelled"]
#[derive(Debug)]
pub struct UploadInProgress {
    in_progress: IntGauge,
    uploads: IntCounterVec,
    outcome: UploadOutcome,
}

impl UploadInProgress {
    /// Ends the upload.
    pub fn finish(mut self, outcome: UploadOutcome) {
        self.outcome = outcome;
    }
}

impl Drop for UploadInProgress {
    fn drop(&mut self) {
        self.in_progress.dec();
        self.uploads.with_label_values(&[self.outcome.label()]).inc();
    }
}

#[derive(Debug)]
struct HttpFamilies {
    requests: IntCounterVec,
    durations: HistogramVec,
    in_flight: IntGauge,
}

impl HttpFamilies {
    fn new(r: &Registry) -> Self {
        let labels = ["route", "method"];
        let time =
            "Time from a request's head to its response's head; bodies stream on after that.";
        Self {
            requests: int_counters(
                r,
                "http_requests_total",
                "Requests answered.",
                &["route", "method", "status"],
            ),
            durations: histograms(r, "http_request_duration_seconds", time, &HTTP_BUCKETS, &labels),
            in_flight: int_gauge(r, "http_requests_in_flight", "Requests without a response yet."),
        }
    }
}
const ROLE_LABELS: [&str; 2] = ["repository", "role"];
/// Seconds: metadata is answered in tenths of a millisecond, a large upload in many minutes.
const HTTP_BUCKETS: [f64; 13] =
    [0.000_1, 0.000_5, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 30.0, 300.0, 1800.0];
/// Seconds.
const PUBLICATION_BUCKETS: [f64; 10] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0];

#[cfg(test)]
#[path = "metrics_tests.rs"]
mod tests;
