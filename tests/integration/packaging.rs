//! What is beside the program for those who run it (packaging/): what it says of the program is so.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use clap::{Args, FromArgMatches};
use motorcade::config::{ServeSettings, VehicleIdFrom};
use serde_json::Value;

use crate::app::pattern;
use crate::ca::{Ca, TlsFiles};
use crate::director::vehicle::TestVehicle;
use crate::support::{project, run};

fn packaged(name: &str) -> String {
    fs::read_to_string(project("packaging").join(name)).unwrap()
}

fn promtool() -> Command {
    Command::new(run(&mut Command::new(project("scripts/promtool"))).trim())
}

/// Everything in the dashboard that asks Prometheus.
fn dashboard_queries() -> Vec<String> {
    fn collect(value: &Value, queries: &mut Vec<String>) {
        match value {
            Value::Object(members) => {
                queries.extend(members.get("expr").and_then(Value::as_str).map(str::to_owned));
                members.values().for_each(|value| collect(value, queries));
            }
            Value::Array(items) => items.iter().for_each(|value| collect(value, queries)),
            _ => {}
        }
    }
    let mut queries = Vec::new();
    collect(&serde_json::from_str(&packaged("grafana/motorcade.json")).unwrap(), &mut queries);
    assert!(queries.len() > 40);
    queries
}

/// The names of alerts, in the order of the file.
fn alerts() -> Vec<String> {
    let rules = packaged("prometheus/motorcade.rules.yml");
    let names = rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: "));
    names.map(str::to_owned).collect()
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_')
}

#[tokio::test]
async fn every_metric_that_alerts_and_dashboard_name_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let ca = Ca::new("OEM");
    let files = TlsFiles::new(folder.path(), &ca).with_crl(&ca.revoke(&[99], 2099));
    let (server, _) = files.serve(VehicleIdFrom::Cn).await;
    server.upload("gw/1/a.bin", pattern(10_000, 1)).await.expect(201);
    let mut vehicle = TestVehicle::registered(&server, "VIN1").await;
    vehicle.report(&server).await;
    vehicle.targets(&server).await;
    let scraped = server.metrics().await;
    let samples = scraped.lines().filter(|line| !line.starts_with('#'));
    let there: BTreeSet<_> = samples.clone().filter_map(|line| words(line).next()).collect();

    let alerts = packaged("prometheus/motorcade.rules.yml");
    let asked = [alerts.as_str(), &dashboard_queries().join("\n")].join("\n");
    let is_metric = |word: &&str| word.starts_with("motorcade_") || word.starts_with("process_");
    let named: BTreeSet<_> = words(&asked).filter(is_metric).collect();
    assert!(named.len() >= 40, "{named:?}");
    let missing: Vec<_> = named.iter().filter(|name| !there.contains(*name)).collect();
    assert!(missing.is_empty(), "{missing:?} are not in\n{scraped}");

    // What an alert waits for comes under the labels by which it waits.
    for (metric, label, values) in matchers(&alerts) {
        let has = |value: &str| {
            let pair = format!("{label}=\"{value}\"");
            samples.clone().any(|line| line.starts_with(metric) && line.contains(&pair))
        };
        let is_known = values.split('|').any(has);
        assert!(is_known, "{metric} has no {label} of {values} in\n{scraped}");
    }
}

/// Each `metric{label="value"}` or `metric{label=~"one|other"}`, but for what Prometheus adds and
/// for classes of statuses.
fn matchers(text: &str) -> Vec<(&str, &str, &str)> {
    let selectors = text.match_indices("{").filter_map(|(at, _)| {
        let metric = words(&text[..at]).last().filter(|word| word.starts_with("motorcade_"))?;
        Some((metric, text[at + 1..].split('}').next()?))
    });
    let matchers: Vec<_> = selectors
        .filter_map(|(metric, selector)| {
            let (label, value) = selector.split_once('=')?;
            let value = value.trim_start_matches('~').trim_matches('"');
            (!label.ends_with('!') && label != "status").then_some((metric, label, value))
        })
        .collect();
    assert!(matchers.len() > 10, "{matchers:?}");
    matchers
}

#[test]
fn alerts_are_tested_and_what_to_do_about_them_is_written_down() {
    let rules = project("packaging/prometheus/motorcade.rules.yml");
    run(promtool().args(["check", "rules"]).arg(&rules));
    run(promtool().args(["test", "rules"]).arg(rules.with_file_name("motorcade.tests.yml")));
    let (tests, page) = (
        packaged("prometheus/motorcade.tests.yml"),
        fs::read_to_string(project("docs/OPERATIONS.md")).unwrap(),
    );
    for alert in alerts() {
        let (quoted, listed) = (format!("alertname=\"{alert}\""), format!("| `{alert}` |"));
        assert!(tests.contains(&quoted), "{alert} has no test");
        assert!(page.contains(&listed), "docs/OPERATIONS.md does not say what to do about {alert}");
    }
}

#[test]
fn prometheus_understands_the_dashboard() {
    let mut rules = String::from("groups:\n  - name: dashboard\n    rules:\n");
    for (number, query) in dashboard_queries().iter().enumerate() {
        let query = query.replace("$__rate_interval", "5m").replace('\'', "''");
        rules += &format!("      - record: query_{number}\n        expr: '{query}'\n");
    }
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), rules).unwrap();
    run(promtool().args(["check", "rules"]).arg(file.path()));
}

#[test]
fn the_package_s_settings_are_settings() {
    let text = packaged("debian/motorcade.toml");
    let settings: Vec<_> = text.lines().filter_map(|line| line.strip_prefix('#')).collect();
    let settings = settings.into_iter().filter(|line| !line.starts_with(' ') && !line.is_empty());
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), settings.clone().collect::<Vec<_>>().join("\n")).unwrap();
    let command = ServeSettings::augment_args(clap::Command::new("serve"));
    let matches =
        command.get_matches_from(["serve".as_ref(), "--config".as_ref(), file.path().as_os_str()]);
    let resolved = ServeSettings::from_arg_matches(&matches).unwrap().resolve().unwrap();
    assert_eq!(resolved.targets_accel.as_deref(), Some("/blobs"));
    assert!(settings.count() > 10);
}

#[test]
fn the_chart_is_of_this_version() {
    let (chart, version) = (packaged("helm/motorcade/Chart.yaml"), env!("CARGO_PKG_VERSION"));
    assert!(chart.contains(&format!("\nversion: {version}\n")));
    assert!(chart.contains(&format!("\nappVersion: \"{version}\"\n")));
    for (there, here) in [
        ("helm/motorcade/files/motorcade.rules.yml", "prometheus/motorcade.rules.yml"),
        ("helm/motorcade/files/motorcade.json", "grafana/motorcade.json"),
    ] {
        assert_eq!(packaged(there), packaged(here));
    }
}
