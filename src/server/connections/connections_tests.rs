use super::*;

fn connections(change: impl FnOnce(&mut Bounds)) -> Arc<Connections> {
    let patience = Patience {
        handshake: Duration::from_millis(20),
        head: Duration::from_millis(20),
        idle: Duration::from_secs(60),
        body: Duration::from_millis(40),
        response: Duration::from_millis(20),
        linger: Duration::from_millis(20),
    };
    let mut bounds =
        Bounds { total: 8, per_address: 8, handshakes: 4, proxies: Vec::new(), patience };
    change(&mut bounds);
    Connections::new(bounds, Arc::new(Metrics::new("test")))
}

fn is_ended(admitted: &Admitted) -> bool {
    admitted.watch.ended.load(Ordering::Relaxed)
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn pause() {
    std::thread::sleep(Duration::from_millis(3));
}

#[test]
fn whoever_has_waited_longest_for_its_client_makes_room() {
    let connections = connections(|_| ());
    let mut admitted = Vec::new();
    for last in 0..8 {
        admitted.push(connections.admit(ip(&format!("192.0.2.{last}")), Kind::Plain).unwrap());
        pause();
    }
    admitted[0].watch().begin_request(); // the oldest, and busy
    admitted[1].watch().begin_request();
    admitted[1].watch().end_request(); // has just had an answer
    let next = connections.admit(ip("192.0.2.99"), Kind::Plain).unwrap();
    assert_eq!(admitted.iter().position(is_ended), Some(2));
    assert!(!is_ended(&next));
    assert_eq!(connections.table().watches.len(), 8);
    drop((admitted, next));
    assert_eq!(connections.table().watches.len(), 0);
    assert_eq!(connections.table().by_address.len(), 0);
}

#[test]
fn where_all_are_busy_nobody_is_let_in() {
    let connections = connections(|_| ());
    let admitted: Vec<_> =
        (0..8).map(|_| connections.admit(ip("192.0.2.1"), Kind::Plain).unwrap()).collect();
    admitted.iter().for_each(|admitted| admitted.watch().begin_request());
    assert!(connections.admit(ip("192.0.2.2"), Kind::Plain).is_none());
    assert!(!admitted.iter().any(is_ended));
    admitted[5].watch().wait_for_body();
    assert!(connections.admit(ip("192.0.2.2"), Kind::Plain).is_some());
    assert_eq!(admitted.iter().position(is_ended), Some(5));
}

#[test]
fn an_address_makes_room_among_its_own() {
    let connections = connections(|bounds| {
        bounds.per_address = 2;
        bounds.proxies = vec!["10.0.0.0/8".parse().unwrap()];
    });
    let other = connections.admit(ip("2001:db8:2::1"), Kind::Plain).unwrap();
    pause();
    let first = connections.admit(ip("2001:db8:1::1"), Kind::Plain).unwrap();
    pause();
    let second = connections.admit(ip("2001:db8:1::2"), Kind::Plain).unwrap();
    let third = connections.admit(ip("2001:db8:1::3"), Kind::Plain).unwrap();
    assert!(is_ended(&first), "one client has a whole /64");
    assert!(!is_ended(&second) && !is_ended(&third) && !is_ended(&other));
    let behind_proxy: Vec<_> =
        (0..4).map(|_| connections.admit(ip("::ffff:10.0.0.1"), Kind::Plain).unwrap()).collect();
    assert!(!behind_proxy.iter().any(is_ended));
}

#[test]
fn handshakes_make_room_among_themselves() {
    let connections = connections(|_| ());
    let plain: Vec<_> =
        (0..4).map(|_| connections.admit(ip("192.0.2.1"), Kind::Plain).unwrap()).collect();
    pause();
    let silent: Vec<_> =
        (0..4).map(|_| connections.admit(ip("192.0.2.2"), Kind::Tls).unwrap()).collect();
    pause();
    let next = connections.admit(ip("192.0.2.3"), Kind::Tls).unwrap();
    assert!(!plain.iter().any(is_ended), "the other port is not their budget");
    assert_eq!(silent.iter().filter(|admitted| is_ended(admitted)).count(), 1);
    assert!(!is_ended(&next));
}

#[test]
fn what_takes_too_long_is_ended_and_drops_are_no_progress() {
    let connections = connections(|_| ());
    let admit = || connections.admit(ip("192.0.2.1"), Kind::Plain).unwrap();
    let (head, idle, busy, dripping, flowing, reader) =
        (admit(), admit(), admit(), admit(), admit(), admit());
    for admitted in [&idle, &busy, &dripping, &flowing, &reader] {
        admitted.watch().begin_request();
    }
    idle.watch().end_request();
    reader.watch().wait_for_room();
    for _ in 0..8 {
        for (admitted, bytes) in [(&dripping, 1), (&flowing, watch::MILESTONE as usize)] {
            admitted.watch().wait_for_body();
            std::thread::sleep(Duration::from_millis(4));
            admitted.watch().body_came(bytes);
        }
    }
    dripping.watch().wait_for_body();
    flowing.watch().wait_for_body();
    std::thread::sleep(Duration::from_millis(12));
    connections.look_around();
    let ended = [&head, &idle, &busy, &dripping, &flowing, &reader].map(is_ended);
    assert_eq!(ended, [true, false, false, true, false, true]);
}
