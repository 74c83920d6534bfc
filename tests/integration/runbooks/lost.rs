//! Keys of online roles that nobody has any more.

use std::fs;

use super::drill::Drill;
use super::fleet::Field;
use crate::state::TestState;

const ROLES: [&str; 4] = ["timestamp", "snapshot", "targets", "bins"];
const DIRECTOR_ROLES: [&str; 2] = ["targets", "timestamp"];

#[tokio::test]
async fn online_key_lost() {
    let mut drill = Drill::on(TestState::new());
    drill.shell("systemctl start motorcade");
    drill.client().upload("gw/1/a.bin", "", b"firmware").await;
    let mut field = Field::join(&drill, "VIN1").await;
    Field::refresh(&drill);
    let before = field.poll().await;
    drill.shell("systemctl stop motorcade");
    for role in ROLES {
        fs::remove_file(drill.state.path().join(format!("keys/{role}.pem"))).unwrap();
    }
    for role in DIRECTOR_ROLES {
        fs::remove_file(drill.state.path().join(format!("keys/director-{role}.pem"))).unwrap();
    }
    let (starts, said) = drill.try_shell("systemctl start motorcade");
    assert!(!starts && said.contains("it does not start"), "{said}");
    let (is_taken, said) = drill.try_shell("motorcade recover keys snapshot --repository director");
    assert!(!is_taken && said.contains("nothing is lost"), "{said}");

    drill.set("ROLES", ROLES.join(" "));
    drill.set("DIRECTOR_ROLES", DIRECTOR_ROLES.join(" "));
    let said = drill.follow("online-key-lost.md");
    assert_eq!(said.matches("Taken for lost: ").count(), 6, "{said}");
    assert_eq!(said.matches("Done:").count(), 6, "{said}");
    Field::refresh(&drill);
    assert!(field.poll().await > before);
    drill.client().upload("gw/2/a.bin", "", b"firmware").await;
    Field::refresh(&drill);
    // The next start needs nobody's word any more.
    drill.shell("systemctl restart motorcade; motorcade doctor");
    let (starts, said) = drill.try_shell("motorcade audit list --kind role_keys_lost");
    assert!(starts && said.matches("role_keys_lost").count() == 6, "{said}");
}
