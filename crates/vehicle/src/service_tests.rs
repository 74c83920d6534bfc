use std::cell::Cell;
use std::os::unix::fs::PermissionsExt;

use motorcade_uptane::verify::fixture::sha256;
use motorcade_uptane::verify::{Attack, Fault};
use serde_json::{Value, json};

use super::*;
use crate::testing::car::{Car, Image, image};
use crate::testing::server::{Manner, Server};

thread_local! {
    /// Seconds since boot.
    static CLOCK: Cell<u64> = const { Cell::new(1000) };
}

fn clock() -> Duration {
    Duration::from_secs(CLOCK.get())
}

/// A vehicle that is run as a service, and a Director that wants a report each hour.
struct Rig {
    car: Car,
    vehicle: Vehicle,
    service: Service,
}

const TIMESTAMP: &str = "/director/timestamp.json";
const LOOK: &str = "GET /director/timestamp.json";

impl Rig {
    /// After its first cycle.
    fn new(prepare: impl FnOnce(&mut Car)) -> Self {
        let mut car = Car::new();
        car.server.behave(TIMESTAMP, Manner::Tagged);
        prepare(&mut car);
        let vehicle = car.vehicle();
        let pace = Pace::new(Duration::from_secs(60));
        let service = Service { pace, clock, unusable: None };
        let mut rig = Self { car, vehicle, service };
        assert!(rig.reported().failure.is_none());
        rig
    }

    fn parked() -> Self {
        Self::new(|car| publish(car, json!({})))
    }

    fn turn(&mut self) -> Option<Outcome> {
        self.car.server.requests();
        self.car.server.etags();
        self.service.turn(&mut self.vehicle)
    }

    /// A turn that ends with a cycle, whose first request is not the report if it has looked.
    fn reported(&mut self) -> Outcome {
        let outcome = self.turn().expect("it reports");
        assert!(self.asked().contains(&"PUT /director/manifest".to_owned()));
        outcome
    }

    /// A turn that finds nothing new.
    fn unchanged(&mut self) {
        let outcome = self.turn();
        assert!(outcome.is_none(), "{:?}", outcome.unwrap().failure);
        assert_eq!(self.asked(), [LOOK]);
    }

    fn asked(&self) -> Vec<String> {
        let content = self.car.server.content.lock().unwrap();
        content.requests.iter().map(|(method, path, _)| format!("{method} {path}")).collect()
    }

    fn pause(&self) -> Duration {
        self.service.pace.pause(clock(), self.vehicle.report_every, 0)
    }
}

/// Publishes targets, and what the Director asks for besides.
fn publish(car: &mut Car, targets: Value) {
    let hour = 3600;
    car.director.targets = json!({ "targets": targets, "report_every": hour });
    car.publish_as_it_is();
}

fn offer(car: &mut Car, path: &str, image: &Image, counter: u64) {
    let custom = image.custom("gateway", counter);
    car.list(path, image, &custom);
    let assigned = car.assign(image, custom, "p-1", "gw");
    publish(car, json!({ path: assigned }));
}

#[test]
fn between_reports_it_asks_for_its_timestamp_alone_and_does_not_get_it_again() {
    let mut rig = Rig::parked();
    for _ in 0..3 {
        rig.unchanged();
    }
    let tag = format!("\"{}\"", sha256(rig.car.director.file("timestamp.json")));
    assert_eq!(rig.car.server.etags(), [Some(tag)]);
    CLOCK.set(CLOCK.get() + 3599);
    rig.unchanged();
    CLOCK.set(CLOCK.get() + 1);
    assert!(rig.reported().failure.is_none(), "the Director wants a report each hour");
    assert_eq!(rig.asked()[0], "PUT /director/manifest", "it does not look before");
    rig.unchanged();
}

/// So is one from before there was a service.
#[test]
fn a_director_that_asks_for_nothing_gets_a_report_each_time() {
    for asks in [json!(null), json!("often"), json!(-1), json!({})] {
        let mut rig = Rig::new(|car| {
            car.director.targets = json!({ "targets": {}, "report_every": asks });
            car.publish_as_it_is();
        });
        assert!(rig.reported().failure.is_none(), "{asks}");
    }
}

#[test]
fn what_is_new_is_reported_and_installed_at_once() {
    let mut rig = Rig::parked();
    rig.unchanged();
    let gateway = image(5000);
    offer(&mut rig.car, "gw/1/gw.bin", &gateway, 1);
    rig.car.server.bodies();
    let outcome = rig.reported();
    assert_eq!((outcome.installed.len(), rig.car.installed("p-1")), (1, Some(gateway.plaintext)));
    assert_eq!(rig.asked()[..2], [LOOK, "PUT /director/manifest"]);
    let reports = rig.car.reports("p-1").into_iter().map(|report| report.installed_image.path);
    assert_eq!(reports.collect::<Vec<_>>(), ["unprovisioned", "gw/1/gw.bin"]);
    rig.unchanged();
}

/// Its entity tags may be anything.
#[test]
fn a_timestamp_that_comes_though_it_is_the_same_is_not_new() {
    let mut rig = Rig::parked();
    rig.car.server.behave(TIMESTAMP, Manner::Well);
    rig.unchanged();
}

/// AT-6: an answer that there is nothing new proves nothing, and is worth as much as the timestamp
/// that is here.
#[test]
fn who_says_for_ever_that_nothing_is_new_is_noticed_when_the_timestamp_expires() {
    let mut rig = Rig::parked();
    let old = rig.car.director.file("timestamp.json").to_vec();
    offer(&mut rig.car, "gw/1/gw.bin", &image(5000), 1); // which is held back
    rig.car.server.put(TIMESTAMP, &old);
    rig.car.server.behave(TIMESTAMP, Manner::Unchanged);
    rig.unchanged();
    rig.car.set_time("2030-12-31T23:59:59Z");
    rig.unchanged();
    rig.car.set_time("2031-01-01T00:00:00Z");
    rig.car.server.bodies();
    for _ in 0..2 {
        let outcome = rig.reported(); // each time again, until it is over
        assert_eq!((outcome.fault(), outcome.installed.len()), (Some(Fault::Expired), 0));
        assert_eq!(rig.car.faults("p-1"), "expired", "the Director hears of it");
    }
}

/// The old timestamp itself, to whoever asks for another one: the same attack, the same answer.
#[test]
fn who_gives_the_old_timestamp_for_ever_is_noticed_as_well() {
    let mut rig = Rig::parked();
    rig.car.server.behave(TIMESTAMP, Manner::Well);
    rig.unchanged();
    rig.car.set_time("2031-01-01T00:00:00Z");
    rig.car.server.bodies();
    let outcome = rig.reported();
    assert_eq!(outcome.fault(), Some(Fault::Expired));
    assert_eq!(rig.car.faults("p-1"), "expired");
}

/// AT-7, TIM-6: also behind a time that only a look has seen.
#[test]
fn a_clock_that_goes_back_is_noticed_between_reports() {
    let mut rig = Rig::parked();
    rig.car.set_time("2030-06-01T00:00:00Z");
    rig.unchanged();
    rig.car.set_time("2030-05-31T00:00:00Z");
    assert_eq!(rig.reported().fault(), Some(Fault::Clock));
    rig.car.set_time("2030-06-02T00:00:00Z");
    assert!(rig.reported().failure.is_none());
    rig.unchanged();
}

#[test]
fn an_older_timestamp_is_refused_as_ever() {
    let mut rig = Rig::parked();
    let old = rig.car.director.file("timestamp.json").to_vec();
    publish(&mut rig.car, json!({}));
    assert!(rig.reported().failure.is_none());
    rig.car.server.put(TIMESTAMP, &old);
    assert_eq!(rig.reported().attack(), Some(Attack::Rollback));
}

/// Bytes without end are an attack, also in an answer to a look, and it is reported.
#[test]
fn what_looks_like_an_attack_is_reported_at_once() {
    let mut rig = Rig::parked();
    rig.car.server.put(TIMESTAMP, format!("{{{}", " ".repeat(1024 * 1024)).as_bytes());
    rig.car.server.bodies();
    assert_eq!(rig.reported().attack(), Some(Attack::EndlessData));
    assert_eq!(rig.car.reported("p-1").1, "endless-data");
}

/// Nothing of it is an answer: it waits, longer each time, and looks again.
#[test]
fn a_server_that_is_busy_is_left_alone_for_as_long_as_it_asks() {
    let mut rig = Rig::parked();
    let busy = "503 Service Unavailable\r\nretry-after: 1800\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
    rig.car.server.behave(TIMESTAMP, Manner::Says(busy));
    let outcome = rig.turn().expect("it fails");
    assert_eq!((outcome.attack(), outcome.fault()), (None, Some(Fault::Unreachable)));
    assert_eq!(rig.asked(), [LOOK], "no report, which would ask for more");
    assert_eq!(rig.pause(), Duration::from_secs(1800));
    rig.car.server.behave(TIMESTAMP, Manner::Tagged);
    rig.unchanged();
    assert_eq!(rig.pause(), Duration::from_secs(54));
    // A report gets the same answer.
    CLOCK.set(CLOCK.get() + 3600);
    rig.car.server.answer_reports(Some(busy));
    rig.car.server.behave(TIMESTAMP, Manner::Says(busy));
    assert!(rig.reported().failure.is_some());
    assert_eq!(rig.pause(), Duration::from_secs(1800));
    rig.car.server.answer_reports(None);
    rig.car.server.behave(TIMESTAMP, Manner::Tagged);
    assert!(rig.reported().failure.is_none(), "the report is still due");
}

/// Who says that something is not there, moved or broken has not said that it has too much to do.
#[test]
fn a_wait_that_comes_with_another_status_holds_nobody_up() {
    let mut rig = Rig::parked();
    for answer in [
        "400 Bad Request\r\nretry-after: 86400\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
        "500 Internal Server Error\r\nretry-after: 86400\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
        "302 Found\r\nlocation: /x\r\nretry-after: 86400\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
    ] {
        CLOCK.set(CLOCK.get() + 3600);
        rig.car.server.answer_reports(Some(answer));
        let outcome = rig.reported();
        assert_eq!(
            (outcome.attack(), outcome.fault()),
            (None, Some(Fault::Unreachable)),
            "{answer}"
        );
        assert!(rig.service.pace.may_hurry(), "{answer}");
        assert!(rig.pause() <= Duration::from_secs(3600), "{answer}");
        rig.car.server.answer_reports(None);
        assert!(rig.reported().failure.is_none(), "{answer}");
    }
}

/// What a content delivery network asks for is its own wish.
#[test]
fn a_cdn_is_left_alone_for_as_long_as_it_asks_and_the_director_is_not() {
    let (cdn, gateway) = (Server::start(), image(5000));
    let mut rig = Rig::new(|car| {
        car.configure(&format!("image_url = \"{}\"\n", cdn.url));
        publish(car, json!({}));
    });
    offer(&mut rig.car, "gw/1/gw.bin", &gateway, 1);
    for (path, file) in &rig.car.server.content.lock().unwrap().files {
        cdn.put(path.strip_prefix("/repo").unwrap_or(path), file);
    }
    let busy = "503 Service Unavailable\r\nretry-after: 2\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
    let image = format!("/targets/gw/1/{}.gw.bin", sha256(&gateway.sealed));
    for path in ["/timestamp.json", &image] {
        cdn.behave(path, Manner::Says(busy));
        let start = std::time::Instant::now();
        assert_eq!(rig.reported().fault(), Some(Fault::Unreachable), "{path}");
        assert!(rig.service.pace.may_hurry(), "{path}: nobody has silenced it");
        cdn.behave(path, Manner::Well);
        cdn.requests();
        let outcome = rig.reported();
        if start.elapsed() < Duration::from_secs(2) {
            assert_eq!((outcome.attack(), outcome.fault()), (None, Some(Fault::Unreachable)));
            assert!(cdn.requests().is_empty(), "{path}");
        }
        std::thread::sleep(Duration::from_millis(2100));
    }
    assert_eq!(rig.reported().installed.len(), 1);
}

#[test]
fn a_token_that_is_replaced_is_used_at_the_next_turn_and_no_later() {
    let mut rig = Rig::new(|car| {
        put_token(car, "first");
        publish(car, json!({}));
    });
    let used = |rig: &mut Rig| {
        rig.car.server.tokens();
        rig.unchanged();
        rig.car.server.tokens()
    };
    assert_eq!(used(&mut rig), [Some("Bearer first".to_owned())]);
    put_token(&rig.car, "second");
    assert_eq!(used(&mut rig), [Some("Bearer second".to_owned())]);
    put_token(&rig.car, "half\nwritten");
    assert_eq!(used(&mut rig), [Some("Bearer second".to_owned())]);
    assert!(rig.service.unusable().is_some());
    // One that was refused is waited for, for as long as nobody is to be left alone.
    put_token(&rig.car, "second");
    rig.car
        .server
        .answer_reports(Some("401 Unauthorized\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"));
    CLOCK.set(CLOCK.get() + 3600);
    assert!(rig.reported().failure.is_some());
    put_token(&rig.car, "third");
    rig.service.wait_until(clock() + Duration::from_secs(3600), &rig.vehicle).unwrap();
    rig.car.server.answer_reports(None);
    rig.reported();
    assert_eq!(rig.car.server.tokens().last(), Some(&Some("Bearer third".to_owned())));
}

fn put_token(car: &Car, token: &str) {
    let path = car.folder().token();
    std::fs::write(&path, token).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
}

#[test]
fn what_could_not_be_installed_is_tried_again_and_not_only_looked_at() {
    let gateway = image(5000);
    let mut rig = Rig::parked();
    offer(&mut rig.car, "gw/1/gw.bin", &gateway, 1);
    let folder = rig.car.path("ecus/p-1");
    std::fs::remove_dir_all(&folder).unwrap();
    std::fs::write(&folder, "in the way").unwrap();
    assert!(rig.reported().failure.is_some());
    assert!(rig.reported().failure.is_some(), "the next turn is a cycle");
    std::fs::remove_file(&folder).unwrap();
    std::fs::create_dir(&folder).unwrap();
    assert_eq!(rig.reported().installed.len(), 1);
    rig.unchanged();
}

/// A disk that damages what is trusted, or what was installed before it was written down.
#[test]
fn what_does_not_hold_any_more_is_fetched_and_reported() {
    for damaged in ["targets", "snapshot", "timestamp"] {
        let mut rig = Rig::parked();
        rig.unchanged();
        std::fs::write(rig.car.path(&format!("trust/director/{damaged}.json")), "damaged").unwrap();
        assert!(rig.reported().failure.is_none(), "{damaged}");
        rig.unchanged();
    }
    let gateway = image(5000);
    let mut rig = Rig::new(|car| offer(car, "gw/1/gw.bin", &gateway, 1));
    rig.unchanged();
    let serial = "p-1".parse().unwrap();
    rig.vehicle.state.ecu(&serial).installing = Some("gw/1/gw.bin".into());
    assert_eq!(rig.reported().installed.len(), 1, "it is installed again");
}

/// Neither the time nor anything else of a look is written: flash wears out.
#[test]
fn a_look_writes_nothing() {
    let mut rig = Rig::parked();
    let written = |rig: &Rig| {
        let files = ["state.json", "state.json.copy", "trust/director/timestamp.json"];
        files.map(|file| std::fs::metadata(rig.car.path(file)).unwrap().modified().unwrap())
    };
    let before = written(&rig);
    std::thread::sleep(Duration::from_millis(20));
    rig.car.set_time("2030-06-01T00:00:00Z");
    rig.unchanged();
    assert_eq!(written(&rig), before);
    CLOCK.set(CLOCK.get() + 3600);
    rig.reported();
    let state = std::fs::read_to_string(rig.car.path("state.json")).unwrap();
    assert!(state.contains("2030-06-01T00:00:00Z"), "the report has written the time down");
}

#[test]
fn it_wakes_when_the_machine_s_clock_says_so_and_ends_when_it_is_asked_to() {
    let mut rig = Rig::parked();
    rig.service.wait_until(clock(), &rig.vehicle).unwrap();
    rig.vehicle.http.stop_with(crate::stop::Stop::asked_already());
    let stopped = rig.service.wait_until(clock() + Duration::from_secs(3600), &rig.vehicle);
    assert!(matches!(stopped, Err(HttpError::Stopped)));
    let outcome = rig.turn().expect("it could not look");
    assert!(matches!(outcome.failure, Some(Error::Http(HttpError::Stopped))));
}
