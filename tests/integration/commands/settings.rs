//! Settings, wherever they come from: flags, variables, files.

use std::fs;
use std::process::{Command, Output};

use super::stderr;
use crate::app::TestServer;
use crate::state::TestState;
use crate::support::{motorcade, run};

/// A command that can't be understood: exit code 2, and why.
fn misunderstood(command: &mut Command) -> String {
    let output: Output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{command:?}: {}", stderr(&output));
    stderr(&output)
}

#[tokio::test]
async fn an_empty_variable_is_unset_and_a_flag_wins_over_a_variable() {
    let server = TestServer::start().await;
    let token_file = server.state.path().join("token");
    fs::write(&token_file, &server.state.tokens.viewer).unwrap();
    let list = |variables: &[(&str, &str)]| {
        let mut command = server.motorcade("image list");
        command.envs(variables.iter().copied());
        command
    };
    // The file counts, not the variable beside it.
    run(list(&[("MOTORCADE_TOKEN", "motorcade_wrong")]).arg("--token-file").arg(&token_file));
    run(list(&[("MOTORCADE_TOKEN_FILE", "/nowhere")])
        .args(["--token", &server.state.tokens.viewer])
        .env_remove("MOTORCADE_TOKEN"));
    run(list(&[("MOTORCADE_TOKEN", ""), ("MOTORCADE_TOKEN_FILE", token_file.to_str().unwrap())])
        .env("MOTORCADE_CA_FILE", ""));
    run(list(&[("MOTORCADE_SERVER", "nonsense")]).args(["--server", &server.url("")]));
    let both = misunderstood(list(&[]).env("MOTORCADE_TOKEN_FILE", &token_file));
    assert!(both.contains("MOTORCADE_TOKEN or MOTORCADE_TOKEN_FILE"), "{both}");
    let flags = misunderstood(list(&[]).args(["--token", "x", "--token-file", "y"]));
    assert!(!flags.contains("environment"), "{flags}");

    let folder = tempfile::tempdir().unwrap();
    run(motorcade(["init"]).current_dir(folder.path()).env("MOTORCADE_DATA_DIR", ""));
    assert!(folder.path().join("motorcade-data/catalog.sqlite").exists(), "the default counts");
}

#[test]
fn an_error_names_the_variable_that_it_comes_from() {
    for (name, value, words) in [
        ("MOTORCADE_LISTEN", "nonsense", "serve"),
        ("MOTORCADE_MAX_UPLOADS", "0", "serve"),
        ("MOTORCADE_IDLE_TIMEOUT", "soon", "serve"),
        ("MOTORCADE_SERVER", "h.example", "image list"),
    ] {
        let error = misunderstood(motorcade(words.split(' ')).env(name, value));
        assert!(error.contains(&format!("environment: see the variable {name}")), "{error}");
    }
    let flag = misunderstood(
        motorcade(["serve", "--max-uploads", "0"]).env("MOTORCADE_LISTEN", "127.0.0.1:0"),
    );
    assert!(flag.contains("0 is not in 1..=4096") && !flag.contains("environment"), "{flag}");
    // A flag wins over a variable that is no good.
    let started = motorcade(["serve", "--listen", "127.0.0.1:0", "--data-dir", "/nowhere"])
        .env("MOTORCADE_LISTEN", "x")
        .output();
    assert_eq!(started.unwrap().status.code(), Some(1), "there is no such state directory");
    let vehicle = Command::new(crate::support::vehicle_binary())
        .args(["update", "--dir", "/nowhere"])
        .env("MOTORCADE_VEHICLE_DIR", "")
        .output();
    assert_eq!(vehicle.unwrap().status.code(), Some(1));
}

/// Each of them would count as silent before it is to say anything.
#[test]
fn vehicles_are_not_told_to_be_silent_for_longer_than_they_may() {
    let state = TestState::new();
    let mut command = motorcade(["serve", "--listen", "127.0.0.1:0", "--report-every", "7d"]);
    let refused = crate::support::refused(command.arg("--data-dir").arg(state.path()));
    assert!(refused.contains("report-every has to be less than silent-after"), "{refused}");
}

#[test]
fn numbers_have_bounds_and_none_makes_a_panic() {
    let state = TestState::new();
    let huge = u64::MAX.to_string();
    let serve = |flag: &str, value: &str| {
        misunderstood(motorcade(["serve", flag, value]).arg("--data-dir").arg(state.path()))
    };
    for flag in [
        "--vehicles-in-memory",
        "--max-uploads",
        "--idle-timeout",
        "--shutdown-timeout",
        "--max-image-size",
        "--reserved-space",
        "--silent-after",
        "--report-every",
    ] {
        let error = serve(flag, &huge);
        assert!(error.contains("from ") || error.contains("not in"), "{error}");
    }
    for flag in [
        "--vehicles-in-memory",
        "--max-uploads",
        "--idle-timeout",
        "--max-image-size",
        "--silent-after",
        "--report-every",
    ] {
        serve(flag, "0");
    }
    let token = |lifetime: &str| {
        let mut command = motorcade([
            "token",
            "create",
            "--role",
            "viewer",
            "--expires-in",
            lifetime,
            "--data-dir",
        ]);
        command.arg(state.path());
        command
    };
    for lifetime in ["0", "4000000", "36501", &huge, "-1", "1y"] {
        misunderstood(&mut token(lifetime));
    }
    for lifetime in ["1", "36500", "12h", "90d"] {
        run(&mut token(lifetime));
    }
    misunderstood(motorcade(["fleet", "simulate", "--seconds", &huge]).env("MOTORCADE_TOKEN", "x"));
    misunderstood(Command::new(crate::support::vehicle_binary()).args([
        "run",
        "--interval",
        &huge,
    ]));
}

#[test]
fn a_url_with_a_password_or_a_query_is_refused_and_the_password_is_not_shown() {
    let password = "hunter2";
    for url in [
        format!("http://me:{password}@127.0.0.1:1"),
        format!("http://me:{password}@h:1?x"),
        "http://h:1?x".into(),
        "http://h:1/#f".into(),
    ] {
        let commands = [
            motorcade(["image", "list", "--token", "x", "--server", &url]),
            motorcade(["serve", "--targets-url", &url]),
            motorcade(["serve", "--otlp-endpoint", &url]),
        ];
        for mut command in commands {
            let error = misunderstood(&mut command);
            assert!(
                error.contains("it must not have a user name")
                    || error.contains("it must end with its path"),
                "{error}"
            );
            assert!(!error.contains(password), "{error}");
        }
        let error = misunderstood(
            motorcade(["image", "list", "--token", "x"]).env("MOTORCADE_SERVER", &url),
        );
        assert!(error.contains("MOTORCADE_SERVER") && !error.contains(password), "{error}");
        let mut tuf = Command::new(crate::support::vehicle_binary());
        let error = misunderstood(tuf.args([
            "tuf",
            "refresh",
            "--metadata-dir",
            "/nowhere",
            "--metadata-url",
            &url,
        ]));
        assert!(!error.contains(password), "{error}");
    }
}
