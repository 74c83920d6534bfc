//! `motorcade vehicle add | list | show | assign | cancel | history | clear | accept |
//! approve-replacement | re-enrol | remove | token`

mod accept;
mod clear;
mod pages;
mod renew;

use std::io::Read;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, bail};
use reqwest::{Body, Method};
use serde_json::{Value, json};
use tokio_util::io::ReaderStream;

use super::api::Api;
use super::output::{self, List, print_line, text};
use crate::config::ClientSettings;
use crate::model::{EcuSerial, ImagePath, VehicleId};
use pages::Pages;

#[derive(clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Registers vehicles from JSON Lines or CSV; what is registered already stays as it is
    Add {
        #[command(flatten)]
        client: ClientSettings,
        /// File with a vehicle a line (JSON Lines) or an ECU a line (CSV, if it ends in .csv); `-`
        /// for standard input
        file: PathBuf,
    },
    /// Lists vehicles
    List {
        #[command(flatten)]
        client: ClientSettings,
        /// Only those in quarantine
        #[arg(long)]
        quarantined: bool,
        /// Only those that have sent no manifest since, such as 2026-11-24T10:00:00Z
        #[arg(long, value_name = "TIME")]
        silent_since: Option<String>,
        /// Only those of which an ECU is to install this image
        #[arg(long, value_name = "IMAGE")]
        assigned: Option<ImagePath>,
        /// Only those with an ECU that runs what nobody gave it
        #[arg(long)]
        unexpected: bool,
        /// Only those with an ECU that fell back to something older
        #[arg(long)]
        fallen_back: bool,
    },
    /// Shows a vehicle, its ECUs, and what they run
    Show {
        #[command(flatten)]
        client: ClientSettings,
        /// Id of the vehicle
        vin: VehicleId,
    },
    /// Assigns images to ECUs, all or none
    Assign {
        #[command(flatten)]
        client: ClientSettings,
        /// Id of the vehicle
        vin: VehicleId,
        /// ECU and image, as in gw-0001=gw/4.2.0/gateway.bin; repeat for more
        #[arg(required = true, value_name = "ECU=IMAGE", value_parser = parse_assignment)]
        assignments: Vec<(EcuSerial, ImagePath)>,
        /// Let release counters go down, and say why; a vehicle that had the higher one refuses all
        /// the same
        #[arg(long, value_name = "REASON")]
        allow_rollback: Option<String>,
    },
    /// Lists a vehicle's assignments
    Assignments {
        #[command(flatten)]
        client: ClientSettings,
        /// Id of the vehicle
        vin: VehicleId,
    },
    /// Takes an assignment back
    Cancel {
        #[command(flatten)]
        client: ClientSettings,
        /// Id of the vehicle
        vin: VehicleId,
        /// Id of the assignment, as listed
        id: String,
    },
    /// Lists what happened to a vehicle, the newest first
    History {
        #[command(flatten)]
        client: ClientSettings,
        /// Id of the vehicle
        vin: VehicleId,
    },
    /// Clears the quarantine of vehicles that have reported an attack, or ran what nobody gave them
    Clear {
        #[command(flatten)]
        client: ClientSettings,
        #[command(flatten)]
        clear: clear::Args,
    },
    /// Accepts what ECUs run although nobody gave it to them, or although it is older than what
    /// they ran before
    Accept {
        #[command(flatten)]
        client: ClientSettings,
        #[command(flatten)]
        accept: accept::Args,
    },
    /// Approves that an ECU is replaced, once and for a while
    ApproveReplacement {
        #[command(flatten)]
        client: ClientSettings,
        /// Id of the vehicle
        vin: VehicleId,
        /// The ECU that goes
        serial: EcuSerial,
        /// Hours for which the approval is valid
        #[arg(long, default_value_t = 24, value_parser = clap::value_parser!(u64).range(1..=720))]
        hours: u64,
    },
    /// Approves that a vehicle enrols anew, once and for a while: with other keys, and with
    /// counters that start again
    ReEnrol {
        #[command(flatten)]
        client: ClientSettings,
        #[command(flatten)]
        approval: renew::ReEnrolArgs,
    },
    /// Takes a vehicle out of the inventory that was sold or scrapped; its history stays
    Remove {
        #[command(flatten)]
        client: ClientSettings,
        #[command(flatten)]
        removal: renew::RemoveArgs,
    },
    /// Makes a bearer token for a vehicle and prints it, and nothing else; the one before stops
    /// working
    Token {
        #[command(flatten)]
        client: ClientSettings,
        /// Id of the vehicle
        vin: VehicleId,
    },
}

impl std::fmt::Debug for Args {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("vehicle::Args") // it may hold a token
    }
}

pub(super) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    match args.command {
        Command::Add { client, file } => add(&Api::new(client)?, file).await,
        Command::List { client, quarantined, silent_since, assigned, unexpected, fallen_back } => {
            let flags = [
                ("quarantined", quarantined),
                ("unexpected", unexpected),
                ("fallen_back", fallen_back),
            ];
            let mut filter: Vec<_> = flags
                .into_iter()
                .filter(|(_, is)| *is)
                .map(|(name, _)| (name, "true".to_owned()))
                .collect();
            filter.extend(silent_since.map(|time| ("silent_since", time)));
            filter.extend(assigned.map(|path| ("assigned", path.to_string())));
            list(&Api::new(client)?, &filter).await
        }
        Command::Show { client, vin } => show(&Api::new(client)?, &vin).await,
        Command::Assign { client, vin, assignments, allow_rollback } => {
            assign(&Api::new(client)?, &vin, assignments, allow_rollback).await
        }
        Command::Assignments { client, vin } => assignments(&Api::new(client)?, &vin).await,
        Command::Cancel { client, vin, id } => {
            let api = Api::new(client)?;
            api.send(api.request(Method::DELETE, &format!("vehicles/{vin}/assignments/{id}")))
                .await?;
            done(format_args!("Cancelled {id}"), json!({ "cancelled": id }))
        }
        Command::History { client, vin } => history(&Api::new(client)?, &vin).await,
        Command::Clear { client, clear } => clear::run(&Api::new(client)?, clear).await,
        Command::Accept { client, accept } => accept::run(&Api::new(client)?, accept).await,
        Command::ApproveReplacement { client, vin, serial, hours } => {
            let api = Api::new(client)?;
            let request =
                api.request(Method::POST, &format!("vehicles/{vin}/ecus/{serial}/replacement"));
            let approved =
                api.json(request.json(&json!({ "expires_in_seconds": hours * 3600 }))).await?;
            let until = text(&approved, "expires_at");
            done(format_args!("Approved the replacement of {serial} until {until}"), approved)
        }
        Command::ReEnrol { client, approval } => {
            renew::re_enrol(&Api::new(client)?, approval).await
        }
        Command::Remove { client, removal } => renew::remove(&Api::new(client)?, removal).await,
        Command::Token { client, vin } => {
            let api = Api::new(client)?;
            let issued =
                api.json(api.request(Method::POST, &format!("vehicles/{vin}/token"))).await?;
            print_line(if output::is_json() {
                issued.to_string()
            } else {
                text(&issued, "token")
            })?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn done(line: std::fmt::Arguments<'_>, json: Value) -> anyhow::Result<ExitCode> {
    output::report(line, json)?;
    Ok(ExitCode::SUCCESS)
}

fn parse_assignment(text: &str) -> Result<(EcuSerial, ImagePath), String> {
    let (serial, path) =
        text.split_once('=').ok_or("write the ECU's serial, `=`, and the image's path")?;
    let serial =
        serial.parse().map_err(|error: crate::model::ParseFieldError| error.to_string())?;
    let path =
        path.parse().map_err(|error: crate::model::ParseImagePathError| error.to_string())?;
    Ok((serial, path))
}

async fn add(api: &Api, file: PathBuf) -> anyhow::Result<ExitCode> {
    let is_csv = file.extension().is_some_and(|extension| extension == "csv");
    let body = if file.as_os_str() == "-" {
        let mut text = Vec::new();
        std::io::stdin().lock().read_to_end(&mut text).context("failed to read standard input")?;
        Body::from(text)
    } else {
        let file = tokio::fs::File::open(&file)
            .await
            .with_context(|| format!("failed to open {}", file.display()))?;
        Body::wrap_stream(ReaderStream::with_capacity(file, PIECE_SIZE))
    };
    let content_type = if is_csv { "text/csv" } else { "application/jsonl" };
    let request =
        api.request(Method::POST, "vehicles").header("Content-Type", content_type).body(body);
    let report = api.json(request).await?;
    if output::is_json() {
        print_line(&report)?;
    } else {
        let count = |name: &str| report[name].as_u64().unwrap_or_default();
        eprintln!(
            "Registered {}, unchanged {}, refused {}",
            count("registered"),
            count("unchanged"),
            count("refused")
        );
        for fault in report["faults"].as_array().into_iter().flatten() {
            eprintln!("line {}: {}", fault["line"], text(fault, "detail"));
        }
    }
    let all_in = report["refused"].as_u64() == Some(0);
    Ok(if all_in { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn list(api: &Api, filter: &[(&'static str, String)]) -> anyhow::Result<ExitCode> {
    let mut list =
        List::new([("VEHICLE", 20), ("ECUS", 0), ("TO UPDATE", 0), ("SEEN", 27), ("STATE", 0)]);
    let mut pages = Pages::new(api, filter);
    while let Some(vehicles) = pages.next().await? {
        for vehicle in &vehicles {
            list.item(vehicle, cells)?;
        }
    }
    list.end()?;
    Ok(ExitCode::SUCCESS)
}

fn cells(vehicle: &Value) -> [String; 5] {
    let ecus: &[Value] = vehicle["ecus"].as_array().map_or(&[], Vec::as_slice);
    let waiting = vehicle["to_update"].as_u64().unwrap_or_default();
    let seen = vehicle["seen_at"].as_str().unwrap_or("never").to_owned();
    let states = [
        ("quarantine", !vehicle["quarantine"].is_null()),
        ("fell back", ecus.iter().any(|ecu| !ecu["fallen_from"].is_null())),
        ("unexpected image", ecus.iter().any(|ecu| ecu["unexpected"] == true)),
    ];
    let states: Vec<&str> =
        states.into_iter().filter(|(_, is)| *is).map(|(state, _)| state).collect();
    let state = if states.is_empty() { "ok".to_owned() } else { states.join(", ") };
    [text(vehicle, "vin"), ecus.len().to_string(), waiting.to_string(), seen, state]
}

async fn show(api: &Api, vin: &VehicleId) -> anyhow::Result<ExitCode> {
    let vehicle = api.json(api.request(Method::GET, &format!("vehicles/{vin}"))).await?;
    if output::is_json() {
        print_line(&vehicle)?;
        return Ok(ExitCode::SUCCESS);
    }
    let [vin, _, waiting, seen, state] = cells(&vehicle);
    let ecus = output::count(vehicle["ecus"].as_array().map_or(0, Vec::len), "ECU", "ECUs");
    print_line(format_args!("{vin}: {ecus}, {waiting} to update, seen {seen}, {state}"))?;
    if let Some(reason) = vehicle["quarantine"]["reason"].as_str() {
        print_line(format_args!("  in quarantine: {reason}"))?;
    }
    for ecu in vehicle["ecus"].as_array().into_iter().flatten() {
        let or_dash = |value: &Value| value.as_str().unwrap_or("-").to_owned();
        print_line(format_args!(
            "  {}  {}  {}  runs {}  is to run {}",
            or_dash(&ecu["ecu_serial"]),
            or_dash(&ecu["hardware_id"]),
            or_dash(&ecu["role"]),
            or_dash(&ecu["installed"]["path"]),
            or_dash(&ecu["assigned"]),
        ))?;
        if let Some(path) = ecu["fallen_from"]["path"].as_str() {
            print_line(format_args!(
                "    fell back from {path} ({})",
                ecu["fallen_from"]["release_counter"]
            ))?;
        }
        if ecu["unexpected"] == true {
            print_line(
                "    was not given that: accept it with `motorcade vehicle accept`, or assign an image",
            )?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn assign(
    api: &Api,
    vin: &VehicleId,
    assignments: Vec<(EcuSerial, ImagePath)>,
    allow_rollback: Option<String>,
) -> anyhow::Result<ExitCode> {
    let items: Vec<Value> = assignments
        .iter()
        .map(|(serial, image)| json!({ "ecu_serial": serial, "image": image }))
        .collect();
    let mut body = json!({ "assignments": items });
    if let Some(reason) = allow_rollback {
        if reason.trim().is_empty() {
            bail!("--allow-rollback takes a reason, which is recorded");
        }
        body["rollback_reason"] = reason.into();
    }
    let assigned = api
        .json(api.request(Method::POST, &format!("vehicles/{vin}/assignments")).json(&body))
        .await?;
    let lines: Vec<String> =
        assignments.iter().map(|(serial, image)| format!("Assigned {image} to {serial}")).collect();
    done(format_args!("{}", lines.join("\n")), assigned)
}

async fn assignments(api: &Api, vin: &VehicleId) -> anyhow::Result<ExitCode> {
    let assignments =
        api.json(api.request(Method::GET, &format!("vehicles/{vin}/assignments"))).await?;
    let mut list =
        List::new([("ID", 0), ("CREATED", 20), ("ECU", 12), ("IMAGE", 32), ("OUTCOME", 0)]);
    for assignment in assignments["assignments"].as_array().into_iter().flatten() {
        list.item(assignment, |assignment| {
            let outcome = assignment["outcome"].as_str().unwrap_or("open").to_owned();
            let [id, at, serial, image] =
                ["id", "created_at", "ecu_serial", "image"].map(|name| text(assignment, name));
            [id, at, serial, image, outcome]
        })?;
    }
    list.end()?;
    Ok(ExitCode::SUCCESS)
}

async fn history(api: &Api, vin: &VehicleId) -> anyhow::Result<ExitCode> {
    let mut before = None;
    let mut list = List::new([("AT", 27), ("EVENT", 20), ("ECU", 12), ("DETAIL", 0)]);
    loop {
        let mut request = api
            .request(Method::GET, &format!("vehicles/{vin}/history"))
            .query(&[("limit", "1000")]);
        if let Some(before) = before {
            request = request.query(&[("before", before)]);
        }
        let page = api.json(request).await?;
        for event in page["events"].as_array().into_iter().flatten() {
            list.item(event, |event| {
                let times = event["count"]
                    .as_u64()
                    .filter(|count| *count > 1)
                    .map(|count| format!(" ({count} times)"));
                let serial = event["ecu_serial"].as_str().unwrap_or("-").to_owned();
                let [at, kind, detail] = ["at", "kind", "detail"].map(|name| text(event, name));
                [at, kind, serial, format!("{detail}{}", times.unwrap_or_default())]
            })?;
        }
        match page["next_before"].as_i64() {
            Some(next) => before = Some(next),
            None => {
                list.end()?;
                return Ok(ExitCode::SUCCESS);
            }
        }
    }
}

const PIECE_SIZE: usize = 256 * 1024; // 256 KiB
