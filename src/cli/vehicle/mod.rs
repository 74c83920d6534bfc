//! `motorcade vehicle add | list | show | assign | cancel | history | clear | accept |
//! approve-replacement | approve-key | re-enrol | remove | token`

mod accept;
mod approve_key;
mod clear;
mod pages;
mod renew;

use std::io::Read;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, bail};
use reqwest::{Body, Method};
use serde_json::json;
use tokio_util::io::ReaderStream;

use super::api::Api;
use super::output::{self, List, done, print_json, print_line};
use crate::api::{
    ApprovalBody, Approved, AssignmentBody, AssignmentList, BulkBody, EcuBody, EventBody, History,
    HistoryQuery, IssuedToken, NewAssignment, NewAssignments, VehicleBody, VehicleQuery,
};
use crate::config::ClientSettings;
use crate::model::{EcuSerial, HardwareId, ImagePath, VehicleId};
use motorcade_host::shown::printable;
use pages::Pages;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
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
        /// Only those with an ECU of this hardware id
        #[arg(long, value_name = "ID")]
        hardware_id: Option<HardwareId>,
        /// Only those with an ECU, of that hardware id if one is given, that runs a release with a
        /// lower counter
        #[arg(long, value_name = "COUNTER")]
        below_release: Option<u64>,
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
    /// Approves that an ECU's encryption key is changed to one that it has asked for, once and for a
    /// while
    ApproveKey {
        #[command(flatten)]
        client: ClientSettings,
        #[command(flatten)]
        approval: approve_key::Args,
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

pub(super) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    match args.command {
        Command::Add { client, file } => add(&Api::new(client)?, file).await,
        Command::List {
            client,
            quarantined,
            silent_since,
            assigned,
            unexpected,
            fallen_back,
            hardware_id,
            below_release,
        } => {
            let filter = VehicleQuery {
                quarantined,
                silent_since,
                assigned: assigned.map(String::from),
                unexpected,
                fallen_back,
                hardware_id: hardware_id.map(String::from),
                below_release,
                ..VehicleQuery::default()
            };
            list(&Api::new(client)?, filter).await
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
            let body = ApprovalBody { expires_in_seconds: hours * 3600 };
            let approved: Approved = api.json(request.json(&body)).await?;
            let until = printable(&approved.expires_at);
            done(format_args!("Approved the replacement of {serial} until {until}"), approved)
        }
        Command::ApproveKey { client, approval } => {
            approve_key::run(&Api::new(client)?, approval).await
        }
        Command::ReEnrol { client, approval } => {
            renew::re_enrol(&Api::new(client)?, approval).await
        }
        Command::Remove { client, removal } => renew::remove(&Api::new(client)?, removal).await,
        Command::Token { client, vin } => {
            let api = Api::new(client)?;
            let request = api.request(Method::POST, &format!("vehicles/{vin}/token"));
            let issued: IssuedToken = api.json(request).await?;
            match output::is_json() {
                true => print_json(&issued)?,
                false => print_line(printable(&issued.token))?,
            }
            Ok(ExitCode::SUCCESS)
        }
    }
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
    let report: BulkBody = api.json(request).await?;
    if output::is_json() {
        print_json(&report)?;
    } else {
        let BulkBody { registered, unchanged, refused, faults } = &report;
        eprintln!("Registered {registered}, unchanged {unchanged}, refused {refused}");
        for fault in faults {
            eprintln!("line {}: {}", fault.line, printable(&fault.detail));
        }
    }
    Ok(if report.refused == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn list(api: &Api, filter: VehicleQuery) -> anyhow::Result<ExitCode> {
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

fn cells(vehicle: &VehicleBody) -> [String; 5] {
    let seen = vehicle.seen_at.as_deref().unwrap_or("never").to_owned();
    let states = [
        ("quarantine", vehicle.quarantine.is_some()),
        ("fell back", vehicle.ecus.iter().any(|ecu| ecu.fallen_from.is_some())),
        ("unexpected image", vehicle.ecus.iter().any(|ecu| ecu.unexpected)),
    ];
    let states: Vec<&str> =
        states.into_iter().filter(|(_, is)| *is).map(|(state, _)| state).collect();
    let state = if states.is_empty() { "ok".to_owned() } else { states.join(", ") };
    let (ecus, to_update) = (vehicle.ecus.len(), vehicle.to_update);
    [vehicle.vin.clone(), ecus.to_string(), to_update.to_string(), seen, state]
}

async fn show(api: &Api, vin: &VehicleId) -> anyhow::Result<ExitCode> {
    let request = api.request(Method::GET, &format!("vehicles/{vin}"));
    let vehicle: VehicleBody = api.json(request).await?;
    if output::is_json() {
        print_json(&vehicle)?;
        return Ok(ExitCode::SUCCESS);
    }
    let [vin, _, waiting, seen, state] = cells(&vehicle).map(|cell| printable(&cell));
    let ecus = output::count(vehicle.ecus.len(), "ECU", "ECUs");
    print_line(format_args!("{vin}: {ecus}, {waiting} to update, seen {seen}, {state}"))?;
    if let Some(quarantine) = &vehicle.quarantine {
        print_line(format_args!("  in quarantine: {}", printable(&quarantine.reason)))?;
    }
    vehicle.ecus.iter().try_for_each(show_ecu)?;
    Ok(ExitCode::SUCCESS)
}

fn show_ecu(ecu: &EcuBody) -> std::io::Result<()> {
    let installed = ecu.installed.as_ref().map_or("-", |image| &image.path);
    let assigned = ecu.assigned.as_deref().unwrap_or("-");
    let [serial, hardware_id, role, installed, assigned] =
        [ecu.ecu_serial.as_str(), &ecu.hardware_id, &ecu.role, installed, assigned].map(printable);
    print_line(format_args!(
        "  {serial}  {hardware_id}  {role}  runs {installed}  is to run {assigned}"
    ))?;
    if let Some(from) = &ecu.fallen_from {
        let (path, counter) = (printable(&from.path), from.release_counter);
        print_line(format_args!("    fell back from {path} ({counter})"))?;
    }
    if ecu.unexpected {
        print_line(
            "    was not given that: accept it with `motorcade vehicle accept`, or assign an image",
        )?;
    }
    Ok(())
}

async fn assign(
    api: &Api,
    vin: &VehicleId,
    assignments: Vec<(EcuSerial, ImagePath)>,
    allow_rollback: Option<String>,
) -> anyhow::Result<ExitCode> {
    if allow_rollback.as_ref().is_some_and(|reason| reason.trim().is_empty()) {
        bail!("--allow-rollback takes a reason, which is recorded");
    }
    let lines: Vec<String> =
        assignments.iter().map(|(serial, image)| format!("Assigned {image} to {serial}")).collect();
    let assignment = |(ecu_serial, image)| NewAssignment { ecu_serial, image };
    let body = NewAssignments {
        assignments: assignments.into_iter().map(assignment).collect(),
        rollback_reason: allow_rollback,
    };
    let request = api.request(Method::POST, &format!("vehicles/{vin}/assignments"));
    let assigned: AssignmentList = api.json(request.json(&body)).await?;
    done(format_args!("{}", lines.join("\n")), assigned)
}

async fn assignments(api: &Api, vin: &VehicleId) -> anyhow::Result<ExitCode> {
    let request = api.request(Method::GET, &format!("vehicles/{vin}/assignments"));
    let listed: AssignmentList = api.json(request).await?;
    let mut list =
        List::new([("ID", 0), ("CREATED", 20), ("ECU", 12), ("IMAGE", 32), ("OUTCOME", 0)]);
    for assignment in &listed.assignments {
        list.item(assignment, |assignment| {
            let outcome = assignment.outcome.as_deref().unwrap_or("open");
            let AssignmentBody { id, created_at, ecu_serial, image, .. } = assignment.clone();
            [id, created_at, ecu_serial, image, outcome.to_owned()]
        })?;
    }
    list.end()?;
    Ok(ExitCode::SUCCESS)
}

async fn history(api: &Api, vin: &VehicleId) -> anyhow::Result<ExitCode> {
    let mut query = HistoryQuery { before: None, limit: 1000 };
    let mut list = List::new([("AT", 27), ("EVENT", 20), ("ECU", 12), ("DETAIL", 0)]);
    loop {
        let request = api.request(Method::GET, &format!("vehicles/{vin}/history"));
        let page: History = api.json(request.query(&query)).await?;
        for event in &page.events {
            list.item(event, |event| {
                let EventBody { at, kind, detail, count, .. } = event;
                let serial = event.ecu_serial.as_deref().unwrap_or("-").to_owned();
                let times = if *count > 1 { format!(" ({count} times)") } else { String::new() };
                [at.clone(), kind.clone(), serial, format!("{}{times}", printable(detail))]
            })?;
        }
        query.before = page.next_before;
        if query.before.is_none() {
            list.end()?;
            return Ok(ExitCode::SUCCESS);
        }
    }
}

const PIECE_SIZE: usize = 256 * 1024; // 256 KiB
